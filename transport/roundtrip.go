package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/idempotency"
	"github.com/thawhttp/thaw/internal/legible"
)

const (
	// maxDeaths is how many dead connections a request may meet. The next one that it gets is a fresh one, so that a
	// pool full of dead ones cannot fail it.
	maxDeaths = 2
	// maxAttempts bounds the attempts of a request: a server may refuse HTTP/2 streams on fresh connections too.
	maxAttempts = 5
	// maxTurnedAway bounds the attempts beside those: see attempt.turnedAway.
	maxTurnedAway = 100
)

// RoundTrip sends req and returns the response, as [http.RoundTripper] says. It accepts and refuses what
// [http.Transport] does.
//
// If the connection turns out to be dead, the request is sent again on another one, provided that nothing of it was
// written, or that the HTTP/2 server said that it was not processed, or that it is idempotent (RFC 9110, section
// 9.2.2, or an Idempotency-Key header) and not a byte of a response came; and provided that its body was not read or
// can be had again from GetBody. A request that may have been processed and is not idempotent is never sent twice.
//
// Errors name the origin and wrap their cause. Those of a request that was certainly not processed, by any server, have
// a method Unprocessed() bool that returns true; those that another attempt would only meet again have a method
// Permanent() bool that does, and so have ErrClosed and ErrPoolExhausted, which it would make worse. Package retry goes
// by them.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := validate(req); err != nil {
		closeBody(req)
		return nil, &verdict{err, true, true}
	}
	proxy, err := t.proxyOf(req)
	if err != nil {
		closeBody(req)
		return nil, &verdict{err, true, errors.Is(err, errProxyScheme)}
	}
	key := originKey{scheme: req.URL.Scheme, host: req.URL.Host}
	if proxy != nil {
		key.proxy = proxy.String()
	}
	key.http1 = key.scheme == "https" && needsHTTP1(req)

	ctx := req.Context()
	trace := httptrace.ContextClientTrace(ctx)
	a := attempt{t: t, req: req, body: req.Body, idempotent: idempotency.Of(req)}
	w := want{req: req, replayable: a.idempotent && (!hasBody(req) || req.GetBody != nil)}
	for n := 1; ; n++ {
		if trace != nil && trace.GetConn != nil {
			trace.GetConn(firstHop(req.URL, proxy))
		}
		w.fresh = a.deaths >= maxDeaths
		g, err := t.acquire(ctx, key, &w, proxy)
		invalid := false
		if err == nil && g.c.h1 != nil {
			if err = validateHTTP1(req); err != nil {
				invalid = true
				t.giveBackLocked(g)
			}
		}
		if err != nil {
			if a.body != nil {
				a.body.Close()
			}
			return nil, &verdict{err, !a.doubtful, invalid || gone(err)}
		}
		if n == 1 {
			g.c.origin.ledger.requests.Add(1)
			if g.reused {
				g.c.origin.ledger.reused.Add(1)
			}
		}
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: g.c, Reused: g.reused, WasIdle: g.wasIdle, IdleTime: g.idleFor})
		}
		resp, err := a.send(g)
		if err == nil {
			return resp, nil
		}
		a.doubtful = a.doubtful || !a.untouched(err)
		if n-a.turnedAway >= maxAttempts || ctx.Err() != nil || !a.again(err) {
			if a.out != nil {
				a.out.body.finish()
			}
			if ctx.Err() != nil {
				return nil, legible.Error(err)
			}
			ownDoing := a.ownDoing(err)
			err = t.interrupted(g.c.explain(err))
			return nil, &verdict{opErrorf(err, "%s %s", method(req), g.c.origin.name), !a.doubtful, ownDoing || gone(err)}
		}
		if body, ok, bodyErr := a.resend(); ok {
			a.body = body
		} else {
			if bodyErr != nil {
				err = fmt.Errorf("%w; %w", err, bodyErr)
			}
			return nil, &verdict{opErrorf(err, "%s %s, which could not be sent again", method(req), g.c.origin.name), !a.doubtful, false}
		}
		t.replaying(g, a.died)
		if a.refused && n > 1 {
			a.pause(n - a.turnedAway)
		}
	}
}

// interrupted adds ErrClosed to the error of a request that Close interrupted.
func (t *Transport) interrupted(err error) error {
	if t.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func method(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

// firstHop returns the address that a connection for u is dialled to.
func firstHop(u, proxy *url.URL) string {
	if proxy != nil {
		return hostport.Of(proxy)
	}
	return hostport.Of(u)
}

// replaying counts a request that is sent again. If the connection that failed it was dead and had been idle, so are
// those that had been idle for as long.
func (t *Transport) replaying(g grant, died bool) {
	t.mu.Lock()
	o := g.c.origin
	o.counts.Replayed++
	if g.wasIdle && died {
		o.condemn(g.idleAt, t.clock.now())
	}
	t.pump(o)
	t.unlock()
}

// pause waits before a request that a server keeps refusing is sent again, for longer each time.
func (a *attempt) pause(n int) {
	timer := time.NewTimer(refusalPause << n)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.req.Context().Done():
	}
}

// attempt is the state of one request over its attempts.
type attempt struct {
	t          *Transport
	req        *http.Request // the caller's
	body       io.ReadCloser // to be sent next
	resent     bool          // body is not that of req
	idempotent bool
	deaths     int  // connections that died under it
	doubtful   bool // a server may have processed it
	// turnedAway counts attempts beside the others: the server went away, without processing this request, on a connection
	// that others had been given too. A server that goes away after each few requests serves some of them, and those that
	// were turned away come first on the next connection, in their order.
	turnedAway int

	// Of the attempt under way, or the last one:
	g          grant
	out        *outgoing // what is sent, if its body is watched
	written    int64     // bytes of the connection before it
	read       int64
	unverified bool // closed by the pool because nothing was acknowledged
	refused    bool // the server refused the stream, and the connection lives
	died       bool // the connection died, as far as the error says
}

// prepare returns the request to be handed to the protocol layer.
func (a *attempt) prepare() *http.Request {
	a.out = nil
	if a.g.c.h2 != nil {
		return a.prepareStream()
	}
	req := a.req
	if req.Cancel != nil || req.Context().Done() != nil {
		req = a.bound()
	}
	if !hasBody(req) {
		return req
	}
	length, inMemory := inMemory(a.body)
	// Of a body that is short and in memory, net/http sends nothing before it has found that its length is another.
	wrong := inMemory && req.ContentLength > 0 && req.ContentLength != length && len(req.TransferEncoding) == 0
	switch {
	case !inMemory, req.GetBody == nil && !wrong:
		a.out = &outgoing{Request: *req}
		a.out.body.rc = a.body
		a.out.Body = &a.out.body
		return &a.out.Request
	case !a.resent:
		return req
	default:
		out := *req
		out.Body = a.body
		return &out
	}
}

// bound returns the request with a context that ends with it, and when its Cancel says so. If a request fails,
// net/http's ClientConn forgets to end the context that it derives from the request's, and with it the goroutine that
// waits for Cancel; both would stay for as long as the caller's context.
func (a *attempt) bound() *http.Request {
	if a.g.lease == nil {
		a.g.lease = newLease(a.g.c)
	}
	record := a.g.lease.record
	ctx, cancel := context.WithCancelCause(a.req.Context())
	record.done = cancel
	if a.req.Cancel != nil {
		go legacyCancel(a.req.Cancel, ctx.Done(), func() { cancel(errRequestCanceled) })
	}
	// The copy is free for the next request once this one's response has ended.
	record.req = *a.req.WithContext(ctx)
	record.req.Cancel = nil
	return &record.req
}

// prepareStream returns the request for an HTTP/2 connection.
func (a *attempt) prepareStream() *http.Request {
	if a.g.lease == nil {
		a.g.lease = newLease(a.g.c)
	}
	record := a.g.lease.record
	if a.req.Cancel != nil {
		a.g.lease.spent = true
		done := make(chan struct{})
		record.done = func(error) { close(done) }
		go legacyCancel(a.req.Cancel, done, record.abort)
	}
	if wantsClose(a.req) {
		a.t.retire(a.g.c)
	}
	if !hasBody(a.req) {
		// The copy is free for the next request once this one's response has ended, as the RoundTripper's contract has it.
		record.req = *a.req
		record.req.Cancel, _ = record.await(true)
		return &record.req
	}
	a.out = &outgoing{Request: *a.req}
	body := &a.out.body
	body.rc, body.lease = a.body, record
	a.out.Cancel, body.turn = record.await(false)
	a.out.Body = body
	if until, ctx := a.t.expectContinue(a.req.Context(), a.req); until != nil {
		a.out.Request = *a.out.WithContext(ctx)
		a.out.Body = &expectingBody{body, until}
	}
	return &a.out.Request
}

// legacyCancel has abort called when a Request.Cancel says so. It ends with the request.
func legacyCancel(cancel, done <-chan struct{}, abort func()) {
	select {
	case <-cancel:
		abort()
	case <-done:
	}
}

// resend returns the body for another attempt, or false if there is none.
func (a *attempt) resend() (io.ReadCloser, bool, error) {
	switch {
	case !hasBody(a.req):
		return a.body, true, nil
	case a.out != nil:
		a.resent = a.resent || a.out.body.touched()
		return a.out.body.resend(a.req)
	default:
		a.resent = true
		return again(a.req)
	}
}

// send sends the request on the connection of g and returns the response.
func (a *attempt) send(g grant) (*http.Response, error) {
	c := g.c
	a.g, a.unverified, a.refused, a.died = g, false, false, false
	a.written, a.read = c.written.Load(), c.read.Load()
	out := a.prepare()
	var resp *http.Response
	var err error
	switch {
	case c.h2 != nil:
		resp, err = c.h2.RoundTrip(out)
		resp, err = a.awaited(resp, err)
	case g.doubt:
		stop := a.t.watch(c)
		resp, err = c.h1.RoundTrip(out)
		if a.unverified = stop(); a.unverified && err == nil {
			resp.Body.Close() // it came at the moment that the connection was closed
			err = net.ErrClosed
		}
	default:
		resp, err = c.h1.RoundTrip(out)
	}
	if err == nil {
		return a.t.response(a, resp), nil
	}
	err = c.cause(err)
	if se, ok := errors.AsType[http2.StreamError](err); ok && se.Code == http2.ErrCodeRefusedStream && !a.bodyFailed() {
		a.refused = true
	} else if a.died = c.h2 != nil && !unprocessed(err) || c.h2 == nil && (c.failure.Load() != nil || a.unverified); a.died {
		a.deaths++
	} else if c.h2 != nil && c.uses.Load() > 1 && a.turnedAway < maxTurnedAway {
		a.turnedAway++
	}
	if c.h2 == nil {
		err = unquoted(err)
	} else {
		a.g.lease.spent = true // the stream may still look at the request
		if c.read.Load() == a.read {
			a.t.suspect(c)
		}
	}
	a.t.finish(c, a.g.lease, closedError)
	return nil, err
}

// awaited looks whether an HTTP/2 request ended because ResponseHeaderTimeout passed.
func (a *attempt) awaited(resp *http.Response, err error) (*http.Response, error) {
	if !a.g.lease.record.awaited() {
		return resp, err
	}
	a.g.lease.spent = true
	if err == nil {
		resp.Body.Close()
	}
	select {
	case <-a.req.Cancel:
		return nil, errRequestCanceled
	default:
		return nil, timedOutAfter("response header", a.t.cfg.ResponseHeaderTimeout)
	}
}

// again reports whether the request may be sent again after err, as far as that does not depend on its body.
func (a *attempt) again(err error) bool {
	if a.ownDoing(err) {
		return false
	}
	if a.unverified {
		return a.idempotent
	}
	if a.g.c.h2 != nil {
		if a.refused || unprocessed(err) {
			return true
		}
		if a.g.fresh() || timedOut(err) {
			return false
		}
		if a.untouched(err) {
			return true
		}
		if se, ok := errors.AsType[http2.StreamError](err); ok {
			// Servers answer so to a stream beyond a limit that they have only just announced, Go issue 47635.
			return a.idempotent && se.Code == http2.ErrCodeProtocol
		}
		return a.idempotent && !a.g.c.h2.CanTakeNewRequest()
	}
	if a.g.fresh() || timedOut(err) || !a.died {
		return false
	}
	if a.untouched(err) {
		return true
	}
	return a.idempotent && a.g.c.read.Load() == a.read
}

// ownDoing reports whether it was the caller who ended the attempt: by a body that failed, or by Request.Cancel.
func (a *attempt) ownDoing(err error) bool {
	return a.bodyFailed() || errors.Is(err, errRequestCanceled)
}

// bodyFailed reports whether the caller's body ended the attempt. Its error says nothing of this connection, even if it is one
// of HTTP/2's: the body may be that of another response.
func (a *attempt) bodyFailed() bool { return a.out != nil && a.out.body.failed() }

// untouched reports whether err proves that no server did anything with the request on this attempt: nothing was
// written, or it says so.
func (a *attempt) untouched(err error) bool {
	nothing := a.g.c.written.Load() == a.written
	if a.g.c.h2 == nil {
		return nothing
	}
	if a.bodyFailed() {
		return false
	}
	if a.refused || unprocessed(err) {
		return true
	}
	// Others write to the connection too. If nothing was written since the attempt began, its HEADERS were not, which come
	// before its body is read.
	w, ok := errors.AsType[*writeError](err)
	return ok && w.nothing && nothing
}

// timedOut reports whether err is a timeout of the protocol layer: a slow answer is not a dead connection. The
// kernel's own ETIMEDOUT is one.
func timedOut(err error) bool {
	if errors.Is(err, syscall.ETIMEDOUT) {
		return false
	}
	return isTimeout(err) || errors.Is(err, context.DeadlineExceeded)
}

// unprocessed reports whether err says that an HTTP/2 server did not process the request, beside refusing its stream
// (RFC 9113, section 8.7): a GOAWAY whose last stream is below this one, or a stream that was never opened.
func unprocessed(err error) bool {
	// The protocol layer exports no value for these, in x/net/http2 and net/http alike. Tests against real GOAWAYs
	// notice if it changes the words.
	switch err.Error() {
	case "http2: Transport received Server's graceful shutdown GOAWAY",
		"http2: client conn not usable",
		notEstablished:
		return true
	}
	return false
}

// notEstablished is the error of a request on a connection that ended before it had begun its first stream.
const notEstablished = "http2: client conn could not be established"
