package transport

import (
	"cmp"
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
)

// dial is one attempt to make a connection. It belongs to the pool: it outlives the request that it was begun for,
// and whoever waits first gets what it makes.
type dial struct {
	origin *origin
	done   chan struct{} // closed when it has ended
	err    error         // valid once done is closed
	cancel context.CancelCauseFunc
	waiter chan struct{} // done of the one that it was begun for, or nil; guarded by Transport.mu
	// What the origin had when the dial was begun.
	tls, proxyTLS *tls.Config
	reset         bool // Reset was called since; guarded by Transport.mu, and valid once done is closed
}

// errReset ends a dial that was under way when Reset was called.
var errReset = errors.New("the pool was reset")

// beginDial begins a dial to o. The values of ctx reach the dialler and the hooks of httptrace; its end does not.
// mu is held.
func (t *Transport) beginDial(o *origin, ctx context.Context) *dial {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	d := &dial{origin: o, done: make(chan struct{}), cancel: cancel, tls: o.tls, proxyTLS: o.proxyTLS}
	o.dials = append(o.dials, d)
	t.dialing++
	o.counts.Dials++
	t.lastID++
	id := t.lastID
	if !t.start(func() { t.dial(ctx, d, id) }) {
		cancel(ErrClosed)
		d.remove()
		d.err = ErrClosed
		close(d.done)
	}
	return d
}

// remove takes a dial that has ended out of its origin's. Transport.mu is held.
func (d *dial) remove() {
	o := d.origin
	if w := o.waiters.find(d.waiter); w != nil {
		w.dialing = false
	}
	for i, other := range o.dials {
		if other == d {
			last := len(o.dials) - 1
			o.dials[i], o.dials[last] = o.dials[last], nil
			o.dials = o.dials[:last]
			break
		}
	}
	o.t.dialing--
}

// dial makes a connection and hands it over.
func (t *Transport) dial(ctx context.Context, d *dial, id uint64) {
	defer close(d.done)
	defer d.cancel(nil)
	defer context.AfterFunc(t.ctx, func() { d.cancel(ErrClosed) })()

	o := d.origin
	c, err := t.connect(ctx, d, id)
	if err == nil {
		dialed.Tell(ctx, id)
	}

	t.mu.Lock()
	d.remove()
	if err == nil && c.state == connClosed {
		err = errors.New("the server closed the connection at once")
		if cause := c.failure.Load(); cause != nil {
			err = fmt.Errorf("the connection ended at once: %w", *cause)
		}
		err = opErrorf(err, "connecting to %s", o.name)
	}
	useless := false
	if err == nil {
		switch useless = true; {
		case t.shut:
			err = ErrClosed
		case d.reset:
			err = opErrorf(errReset, "connecting to %s", o.name)
		case c.retired != closedUnknown:
			err = opErrorf(errors.New("the server sent GOAWAY at once"), "connecting to %s", o.name)
		default:
			useless = false
		}
	}
	if useless {
		o.discard(c)
	}
	d.err = err
	switch {
	case err == nil:
		t.dialed(o, c)
	case t.shut || d.reset:
		o.counts.DialErrors++
		t.pump(o) // those who wait get another one
	default:
		o.counts.DialErrors++
		t.dialFailed(d)
	}
	t.pumpStarved()
	t.vacated(o)
	t.unlock()
	if useless {
		c.shut()
	}
}

// discard counts a connection that never was in the pool as being closed. Transport.mu is held.
func (o *origin) discard(c *conn) {
	c.state = connClosed
	c.leaving = true
	o.closing++
	o.t.closing++
}

// dialFailed tells those whom a failed dial concerns: the one that it was begun for, and all others too if there is no other
// connection that could serve them and they waited for this one. If the one that it was begun for has given up, before a
// freeze for example, nobody is told: those who came later get a dial with all of its time. mu is held.
func (t *Transport) dialFailed(d *dial) {
	o := d.origin
	owner := o.waiters.find(d.waiter)
	if owner != nil {
		everyone := o.protocol != http1 && o.usable() == 0 && len(o.dials) == 0
		o.waiters.remove(owner)
		owner.deliver(grant{}, d.err)
		for everyone && o.waiters.len() > 0 {
			o.waiters.pop().deliver(grant{}, d.err)
		}
	}
	t.pump(o)
}

// dialed hands a new connection to those who wait first, or makes it idle. mu is held.
func (t *Transport) dialed(o *origin, c *conn) {
	o.add(c)
	if c.tls != nil {
		o.counts.Handshakes++
		if c.tls.DidResume {
			o.counts.Resumed++
		}
	}
	if c.protocol == h2 && !c.settled {
		c.limit = int32(min(cmp.Or(o.limit, initialStreams), initialStreams))
	}
	t.debug("connection made", c, closedUnknown)
	now := t.clock.now()
	served := false
	for w := o.waiters.first; w != nil && c.retired == closedUnknown && (!served || c.protocol == h2); {
		next := w.next
		if c.protocol != h2 || c.streams < c.limit && c.admits(w.want) {
			var g grant
			if c.protocol == h2 {
				c.streams++
				o.streams++
			}
			c.grant(&g)
			served = true
			o.waiters.remove(w)
			w.deliver(g, nil)
		}
		w = next
	}
	if !served {
		o.reidle(c, now, now)
		if c.retired != closedUnknown {
			o.doom(c, c.retired)
		}
		t.trim(o)
	}
	t.pump(o)
}

// connect makes a connection to the origin of d: TCP, the proxy, TLS, and what ALPN chose.
func (t *Transport) connect(ctx context.Context, d *dial, id uint64) (*conn, error) {
	o := d.origin
	began := time.Now()
	nc, err := t.dialTCP(ctx, d)
	if err != nil {
		return nil, opErrorf(cause(ctx, err), "dialling %s", o.name)
	}
	c := &conn{nc: nc, origin: o, id: id, protocol: t.priorProtocol(o.key), lifetime: t.jitteredLifetime(), idleLimit: t.cfg.IdleTimeout}
	c.rtt = time.Since(began)
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
			return nil, opErrorf(cause(ctx, err), "TLS handshake with %s", o.name)
		}
		state := tc.ConnectionState()
		c.nc, c.tls = tc, &state
		c.protocol = http1
		if state.NegotiatedProtocol == "h2" {
			c.protocol = h2
		}
	}
	c.created = t.clock.now()
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
		return nil, opErrorf(cause(ctx, err), "connecting to %s", o.name)
	}
	return c, nil
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
	if c := context.Cause(ctx); c != nil && errors.Is(c, ErrClosed) {
		return c
	}
	return err
}

// jitteredLifetime returns MaxConnLifetime less a random share of up to a tenth.
func (t *Transport) jitteredLifetime() time.Duration {
	d := t.cfg.MaxConnLifetime
	if d < 10 {
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
		c.h1, err = t.http1.NewClientConn(ctx, "http", c.origin.key.host)
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
