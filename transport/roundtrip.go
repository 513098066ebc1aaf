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
	"github.com/thawhttp/thaw/internal/pool"
)

// maxDeaths is how many dead connections a request may meet. The next one that it gets is a fresh one, so that a
// pool full of dead ones cannot fail it.
const maxDeaths = 2

// maxFailed is after how many attempts a request is given up, beside those that a server says it did not process.
const maxFailed = 5

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
	key := keyOf(req.URL, proxy, needsHTTP1(req))
	ctx := req.Context()
	trace := httptrace.ContextClientTrace(ctx)
	a := attempt{t: t, req: req, body: req.Body, idempotent: idempotency.Of(req)}
	w := want{req: req, began: time.Now(), Want: pool.Want{Careful: !a.idempotent || hasBody(req) && req.GetBody == nil}}
	for n := 1; ; n++ {
		if trace != nil && trace.GetConn != nil {
			trace.GetConn(firstHop(req.URL, proxy))
		}
		g, err := t.acquire(ctx, key, &w, proxy)
		invalid := false
		if err == nil && g.c.h1 != nil {
			if err = validateHTTP1(req); err != nil {
				invalid = true
				t.giveBackUnused(g)
			}
		}
		if err != nil {
			if a.body != nil {
				a.body.Close()
			}
			if a.last != nil {
				err = fmt.Errorf("%w (the last attempt: %w)", err, a.last)
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
		if ctx.Err() != nil || !a.again(err) || !a.another(ctx, err, w.began) {
			if a.out != nil {
				a.out.body.finish()
			}
			if ctx.Err() != nil {
				return nil, legible.Error(err)
			}
			ownDoing := a.ownDoing(err)
			err = t.interrupted(g.c.explain(err))
			return nil, &verdict{opErrorf(err, "%s %s", methodOf(req), g.c.origin.name), !a.doubtful, ownDoing || gone(err)}
		}
		if body, ok, bodyErr := a.resend(); ok {
			a.body = body
		} else {
			if bodyErr != nil {
				err = fmt.Errorf("%w; %w", err, bodyErr)
			}
			return nil, &verdict{opErrorf(err, "%s %s, which could not be sent again", methodOf(req), g.c.origin.name), !a.doubtful, false}
		}
		a.last = g.c.explain(err)
		if a.died && a.deaths >= maxDeaths {
			w.Fresh = true
			w.Renew()
		}
		if !a.turnedAway(err) {
			w.since = instant{} // it has had a connection that it could use
		}
		t.replaying(g, a.died)
	}
}

// acquire returns a connection for one attempt of w.req, found fit for it, or the error that ends the wait.
func (t *Transport) acquire(ctx context.Context, key originKey, w *want, proxy *url.URL) (grant, error) {
	var waiting *waiter // once it had to wait
	unfit := 0          // fresh connections that could not be used
	for {
		if ctx.Err() != nil {
			return grant{}, context.Cause(ctx)
		}
		t.mu.Lock()
		if t.shut {
			t.unlock()
			return grant{}, ErrClosed
		}
		o := t.originFor(key, w.req.URL, proxy)
		now := t.clock.now()
		if w.since == (instant{}) {
			w.since = now
		}
		var g grant
		if asked, ok := t.machine.Ask(now, o.book, &w.Want); ok {
			g = t.granted(asked)
			t.unlock()
		} else {
			again := waiting != nil
			if !again {
				waiting = &waiter{req: w.req, ctx: ctx, since: w.since}
			}
			waiting.Want = w.Want
			var err error
			if g, err = t.wait(o, waiting, again); err != nil {
				return grant{}, err
			}
		}
		if t.vet(&g) {
			return g, nil
		}
		if g.fresh() && !g.c.goneAway.Load() {
			if unfit++; unfit > maxDeaths {
				return grant{}, opErrorf(errUseless, "connecting to %s", o.name)
			}
		}
	}
}

// granted returns what a request gets that was given a connection. mu is held.
func (t *Transport) granted(g pool.Grant) grant {
	c := g.Conn.Driver.(*conn)
	switch {
	case g.WasIdle:
		c.vetting.Store(true)
	case c.vetting.Load():
		g = g.Again()
	}
	gr := grant{c: c, pool: g, wasIdle: g.WasIdle, idleFor: g.Idle, doubt: g.Doubt}
	gr.reused = c.uses.Add(1) > 1
	if n := len(c.spare); n > 0 {
		gr.lease = c.spare[n-1]
		c.spare[n-1] = nil
		c.spare = c.spare[:n-1]
	}
	return gr
}

// vet looks at a connection that was taken, without a lock, and reports whether it is fit. If it is not, it was given back.
func (t *Transport) vet(g *grant) bool {
	c := g.c
	if g.wasIdle {
		switch seen := c.look(); {
		case seen == alive:
			c.vetting.Store(false)
		case seen == inDoubt && c.h2 != nil: // it can be asked
			t.mu.Lock()
			c.vetting.Store(false)
			t.unused(*g)
			t.machine.Suspect(t.clock.now(), &c.book)
			t.unlock()
			return false
		default:
			t.mu.Lock()
			c.vetting.Store(false) // not before: who closes it may come first, and is to know why
			t.ungrant(*g)
			dead := g.pool
			dead.WasIdle = seen != inDoubt // over HTTP/1.1 an idle connection has nothing to receive, which says nothing of others
			t.machine.FoundDead(t.clock.now(), dead)
			t.unlock()
			return false
		}
	}
	switch {
	case c.h2 == nil && !c.broken(), c.h2 != nil && c.h2.ReserveNewRequest():
		return true
	case c.h2 == nil:
		t.giveBack(*g, pool.Last)
	case c.h2.State().Closing: // it got a GOAWAY, was closed, or is out of stream numbers
		t.mu.Lock()
		t.unused(*g)
		t.machine.GoAway(t.clock.now(), &c.book)
		t.unlock()
	default: // the end of an earlier stream has not reached its books yet
		t.giveBack(*g, pool.Refused)
	}
	return false
}

// giveBack gives back a connection that its request could not use.
func (t *Transport) giveBack(g grant, how pool.How) {
	t.mu.Lock()
	t.ungrant(g)
	t.done(g.c, how)
	t.unlock()
}

// giveBackUnused gives back a connection that its request has not used.
func (t *Transport) giveBackUnused(g grant) {
	t.mu.Lock()
	t.unused(g)
	t.unlock()
}

// unused is giveBackUnused for a caller that holds mu.
func (t *Transport) unused(g grant) {
	t.ungrant(g)
	t.machine.Unused(t.clock.now(), g.pool)
}

// ungrant undoes granted. mu is held.
func (t *Transport) ungrant(g grant) {
	g.c.vetting.Store(false)
	g.c.uses.Add(^uint64(0))
	if g.lease != nil && !g.c.book.Closed() {
		g.c.spare = append(g.c.spare, g.lease)
	}
}

// interrupted adds ErrClosed to the error of a request that Close interrupted.
func (t *Transport) interrupted(err error) error {
	if t.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func methodOf(req *http.Request) string {
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
	g.c.origin.ledger.counts.Replayed++
	if died {
		t.machine.Died(t.clock.now(), g.pool)
	}
	t.unlock()
}

// turnedAway reports whether err says that the server did not process the request.
func (a *attempt) turnedAway(err error) bool { return a.refused || unprocessed(err) }

// another reports whether there may be another attempt. A request that a server has turned away, and did not process, is tried for
// as long as it has time; one without a deadline has what http.Transport would give it.
func (a *attempt) another(ctx context.Context, err error, began time.Time) bool {
	if a.turnedAway(err) {
		_, ok := ctx.Deadline()
		return ok || time.Since(began) < maxTurnedAway
	}
	a.failed++
	return a.failed < maxFailed
}

// attempt is the state of one request over its attempts.
type attempt struct {
	t          *Transport
	req        *http.Request // the caller's
	body       io.ReadCloser // to be sent next
	resent     bool          // body is not that of req
	idempotent bool
	deaths     int   // connections that died under it
	failed     int   // attempts that a server may have processed
	doubtful   bool  // a server may have processed it
	last       error // of the attempt before

	// Of the attempt under way, or the last one:
	g          grant
	out        *outgoing // what is sent, if its body is watched
	began      time.Time
	written    int64 // bytes of the connection before it
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
	a.began, a.written, a.read = time.Now(), c.written.Load(), c.read.Load()
	a.t.hold(&a.g)
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
	how := pool.Aborted
	if se, ok := errors.AsType[http2.StreamError](err); ok && se.Code == http2.ErrCodeRefusedStream && !a.bodyFailed() {
		a.refused = true
		how = pool.Refused
	} else if a.died = a.death(err); a.died {
		a.deaths++
	}
	if c.h2 == nil {
		err = unquoted(err)
	} else {
		a.g.lease.spent = true // the stream may still look at the request
		if how == pool.Aborted && a.t.silent(c, a.read, a.began) {
			how = pool.Silent
		}
	}
	a.t.finish(c, a.g.lease, how)
	return nil, err
}

// death reports whether err says that the connection died, and not just the request.
func (a *attempt) death(err error) bool {
	c := a.g.c
	if c.h2 == nil {
		return c.failure.Load() != nil || a.unverified
	}
	_, oneStream := errors.AsType[http2.StreamError](err)
	return !oneStream && !unprocessed(err)
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
		if a.turnedAway(err) {
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
	if a.turnedAway(err) {
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
