package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/dialed"
	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/pool"
)

// dial is one attempt to make a connection. It belongs to the pool: it outlives the request that it was begun for,
// and whoever waits first gets what it makes.
type dial struct {
	origin *origin
	book   *pool.Dial
	id     uint64 // of the connection that it makes, if it does
	method string // of the request that it was begun for, or empty
	began  time.Time
	rtt    time.Duration // an upper bound for a round trip, once it has a connection
	done   chan struct{} // closed when it has ended
	err    error         // valid once done is closed
	cancel context.CancelCauseFunc
	reset  bool // Reset was called since; guarded by Transport.mu, and valid once done is closed
	// What the origin had when the dial was begun.
	tls, proxyTLS *tls.Config
}

var (
	errReset    = errors.New("the pool was reset")                  // ends a dial that was under way when Reset was called
	errUnwanted = errors.New("nobody waits for the connection now") // ends one that is in the way of others
)

// why returns what ends a dial that the machine has cancelled. Transport.mu is held.
func (d *dial) why() error {
	switch {
	case d.origin.t.machine.Closed():
		return ErrClosed
	case d.reset:
		return errReset
	default:
		return errUnwanted
	}
}

// beginDial begins a dial for a request, or for nobody if r is nil. The values of the request's context reach the dialler and the
// hooks of httptrace; its end does not. mu is held.
func (t *Transport) beginDial(book *pool.Dial, r *pool.Request) {
	o := book.Origin().Driver.(*origin)
	from, method := t.dialFor, ""
	if r != nil {
		w := r.Driver.(*waiter)
		from, method = w.ctx, methodOf(w.req)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(from))
	t.lastID++
	d := &dial{
		origin: o, book: book, id: t.lastID, method: method, began: time.Now(), done: make(chan struct{}), cancel: cancel,
		tls: o.tls, proxyTLS: o.proxyTLS,
	}
	book.Driver = d
	o.dials[d] = struct{}{}
	t.start(func() { t.dial(ctx, d) }) // the machine begins none after Close
}

// dial makes a connection and hands it over.
func (t *Transport) dial(ctx context.Context, d *dial) {
	defer close(d.done)
	defer d.cancel(nil)
	defer context.AfterFunc(t.ctx, func() { d.cancel(ErrClosed) })()

	o := d.origin
	c, what, err := t.connect(ctx, d)
	if err == nil {
		dialed.Tell(ctx, d.id)
		if err = t.dialed(d, c); err != nil {
			what = "connecting to"
			c.shut()
		}
	}
	if err == nil {
		return
	}
	// The details have been logged, or are the caller's: which dial it was, for whom, and how long it took.
	whose := ""
	if d.method != "" {
		whose = ", begun for a " + d.method
	}
	err = opErrorf(err, "%s %s (dial %d%s, after %v)", what, o.name, d.id, whose, time.Since(d.began).Round(time.Millisecond))
	t.mu.Lock()
	delete(o.dials, d)
	d.err = err
	t.machine.DialFailed(t.clock.now(), d.book, err)
	t.roomMade()
	t.vacated(o)
	t.unlock()
}

// dialed puts a new connection into the pool, or says why it cannot be.
func (t *Transport) dialed(d *dial, c *conn) error {
	t.mu.Lock()
	defer t.unlock()
	o := d.origin
	switch {
	case t.shut:
		return ErrClosed
	case d.reset:
		return errReset
	case c.early.ended:
		if cause := c.failure.Load(); cause != nil {
			return fmt.Errorf("the connection ended at once: %w", *cause)
		}
		return errors.New("the server closed the connection at once")
	}
	delete(o.dials, d)
	o.ledger.reached = true
	if c.tls != nil {
		o.ledger.counts.Handshakes++
		if c.tls.DidResume {
			o.ledger.counts.Resumed++
		}
	}
	c.pooled = true
	c.book.Driver = c
	t.machine.Dialed(t.clock.now(), d.book, &c.book, pool.Made{
		Protocol: c.protocol, RTT: d.rtt, Lifetime: t.jitteredLifetime(), Unprovable: c.protocol == http1,
		Unwatched: !c.raw.socket.tellsAcknowledged(), GoneAway: c.early.goAway,
	})
	t.debug("connection made", c)
	if c.early.settings {
		t.tellFrames(c, true, false)
	}
	return nil
}

// connect makes a connection to the origin of d: TCP, the proxy, TLS, and what ALPN chose. With an error it says what failed.
func (t *Transport) connect(ctx context.Context, d *dial) (c *conn, what string, err error) {
	o := d.origin
	nc, err := t.dialTCP(ctx, d)
	if err != nil {
		return nil, "dialling", cause(ctx, err)
	}
	c = &conn{nc: nc, origin: o, id: d.id, protocol: t.priorProtocol(o.key)}
	d.rtt = time.Since(d.began)
	raw, ok := innermost(nc).(*rawConn)
	if !ok {
		raw = newRawConn(nc)
		c.nc = raw
	}
	c.raw = raw
	if tc, ok := nc.(*tls.Conn); ok {
		// That of the HTTPS proxy is all the TLS that a request for an http URL gets to see, as with net/http.
		state := tc.ConnectionState()
		c.tls = &state
	}
	if d.tls != nil {
		tc, err := t.handshake(ctx, c.nc, d.tls)
		if err != nil {
			return nil, "TLS handshake with", cause(ctx, err)
		}
		state := tc.ConnectionState()
		c.nc, c.tls = tc, &state
		c.protocol = http1
		if state.NegotiatedProtocol == "h2" {
			c.protocol = h2
		}
	}
	c.created = t.clock.now()
	c.hear(0)
	// HTTP/2 begins with a write, which a peer that reads nothing would hold up.
	speaking, cancel := context.WithTimeout(ctx, limit(t.cfg.DialTimeout, math.MaxInt64))
	defer cancel()
	stop := context.AfterFunc(speaking, func() { raw.Close() })
	err = t.speak(ctx, c)
	if !stop() && err == nil {
		err = context.Cause(speaking)
		c.shut()
	}
	if err != nil {
		return nil, "connecting to", cause(ctx, err)
	}
	return c, "", nil
}

// innermost returns the connection beneath the TLS of an HTTPS proxy, or of a dialler's.
func innermost(nc net.Conn) net.Conn {
	if tc, ok := nc.(*tls.Conn); ok {
		return tc.NetConn()
	}
	return nc
}

// cause returns why a dial ended, if it was the pool that ended it.
func cause(ctx context.Context, err error) error {
	switch c := context.Cause(ctx); c {
	case ErrClosed, errReset, errUnwanted: //nolint:errorlint // these values themselves
		return c
	}
	return err
}

// jitteredLifetime returns MaxConnLifetime less a random share of up to a tenth.
func (t *Transport) jitteredLifetime() time.Duration {
	d := limit(t.cfg.MaxConnLifetime, pool.Forever)
	if d < 10 || d >= pool.Forever {
		return d
	}
	return d - rand.N(d/10+1)
}

// speak hands the ready connection to the protocol layer.
func (t *Transport) speak(ctx context.Context, c *conn) (err error) {
	if c.protocol == h2 {
		c.frames = &frames{written: frameScanner{left: uint32(len(http2.ClientPreface))}}
		protocol := t.h2
		if !c.raw.boundWrites() {
			protocol = t.h2Timed
		}
		c.h2, err = protocol.NewClientConn(c)
	} else {
		ctx := context.WithValue(context.WithoutCancel(t.ctx), readyKey{}, ready{c, c.origin.key.scheme, c.origin.proxy})
		c.h1, err = t.http1.NewClientConn(ctx, "http", c.origin.addr())
	}
	if err != nil {
		c.Close()
	}
	return err
}

// ready is a connection on its way through [http.Transport.NewClientConn], which then has nothing left to dial, and
// the proxy that it must know of.
type ready struct {
	c      *conn
	scheme string
	proxy  *url.URL
}

type readyKey struct{}

// readyConn is the DialContext of the template.
func readyConn(ctx context.Context, _, _ string) (net.Conn, error) {
	return ctx.Value(readyKey{}).(ready).c, nil
}

// readyProxy is the Proxy of the template. Requests for http URLs are sent to an HTTP proxy in absolute form and with
// its credentials; the connection to it is ready, TLS included.
func readyProxy(req *http.Request) (*url.URL, error) {
	r := req.Context().Value(readyKey{}).(ready)
	if r.scheme == "https" || r.proxy == nil || !isHTTPProxy(r.proxy) {
		return nil, nil
	}
	return &url.URL{Scheme: "http", Host: hostport.Of(r.proxy), User: r.proxy.User}, nil
}

// http1Template returns the [http.Transport] that makes HTTP/1.1 connections out of ready ones.
func http1Template(cfg Config) *http.Transport {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Transport{
		DialContext:            readyConn,
		Proxy:                  readyProxy,
		Protocols:              p,
		ResponseHeaderTimeout:  limit(cfg.ResponseHeaderTimeout, 0),
		ExpectContinueTimeout:  limit(cfg.ExpectContinueTimeout, 0),
		MaxResponseHeaderBytes: limit(cfg.MaxResponseHeaderBytes, math.MaxInt64),
		DisableCompression:     cfg.DisableCompression,
		// A request's head fits, and its body goes past the buffer; a KiB less is what the pool's own bookkeeping of an
		// idle connection takes.
		WriteBufferSize: 3 << 10,
	}
}

// http2Template returns the [http2.Transport] that makes HTTP/2 connections out of ready ones. Its ConfigureTransports
// would give it the other settings of an [http.Transport] too, but links 24 KiB for it; ResponseHeaderTimeout and
// ExpectContinueTimeout are honoured by attempt. If timeout is zero, conn bounds the writes.
func http2Template(cfg Config, timeout time.Duration) *http2.Transport {
	return &http2.Transport{
		AllowHTTP:          true,
		DisableCompression: cfg.DisableCompression,
		WriteByteTimeout:   timeout,
		// Its unit is another: 32 bytes are added for each field (RFC 9113, section 6.5.2), here for ten of them.
		MaxHeaderListSize: uint32(min(limit(cfg.MaxResponseHeaderBytes, math.MaxUint32), math.MaxUint32-320) + 320),
	}
}

// handshake makes a TLS connection of raw, and closes raw if that fails.
func (t *Transport) handshake(ctx context.Context, raw net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	if d := t.cfg.TLSHandshakeTimeout; d >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, timedOutAfter("TLS handshake", d))
		defer cancel()
	}
	tc := tls.Client(raw, cfg)
	err := tc.HandshakeContext(ctx)
	var state tls.ConnectionState
	if err != nil {
		raw.Close()
		if timeout, ok := errors.AsType[*timeoutError](context.Cause(ctx)); ok {
			err = timeout
		}
	} else {
		state = tc.ConnectionState()
	}
	if trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(state, err)
	}
	return tc, err
}

// timeoutDialer returns dial limited to d.
func timeoutDialer(d time.Duration, dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if d < 0 {
		return dial
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return dial(ctx, network, addr)
	}
}
