package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/pool"
)

// ConnInfo is what the pool knows of a connection. The net.Conn in httptrace.GotConnInfo.Conn satisfies it. Its
// methods are safe for concurrent use.
type ConnInfo interface {
	// ID is unique among the connections of a [Transport]. The first one is 1.
	ID() uint64
	// Created is when the connection was established, its TLS handshake included.
	Created() time.Time
	// Uses is how many requests the connection was given, this one included.
	Uses() uint64
	// Protocol is "http/1.1" or "h2".
	Protocol() string
	// TLS is the state of the connection after its handshake, or nil without TLS. It must not be changed.
	TLS() *tls.ConnectionState
}

// protocol is what a connection speaks, or what an origin is known to speak.
type protocol = pool.Protocol

const (
	unknown = pool.Unknown
	http1   = pool.HTTP1
	h2      = pool.HTTP2
)

// conn is one connection to an origin. To the protocol layer it is the net.Conn that carries the HTTP messages in
// the clear, above TLS; so it can count what was written and read of them, which decides whether a request may be
// sent again, and it learns by Close that the protocol layer has given up on it.
type conn struct {
	nc     net.Conn // what is read and written: raw, or the *tls.Conn around it
	raw    *rawConn // the transport-layer connection
	origin *origin
	tls    *tls.ConnectionState // nil without TLS
	h1     *http.ClientConn     // exactly one of h1 and h2 is set once the connection is ready
	h2     *http2.ClientConn
	frames *frames // what HTTP/2 says in both directions; nil for HTTP/1.1

	id       uint64
	created  instant
	protocol protocol

	// asked is whether a request was begun to be written since the connection became idle. Bytes that a server sends
	// before answer nothing (RFC 9112, section 9.2).
	asked   atomic.Bool
	closing atomic.Bool
	// goneAway is whether a GOAWAY came. It is set before the protocol layer has seen the frame.
	goneAway atomic.Bool
	// vetting is set while an idle connection that was taken is looked at. If it dies then, it was dead.
	vetting atomic.Bool
	// opened is the highest HTTP/2 stream that a request was begun to be written on. An answer to a later one answers
	// nothing (RFC 9113, section 5.1.1).
	opened atomic.Uint32

	uses    atomic.Uint64
	written atomic.Int64 // bytes of HTTP messages
	read    atomic.Int64
	// When a byte was read last, by both clocks.
	heardWall, heardMono atomic.Int64
	// failure is the first error of reading or writing before the connection was closed on this side, or nil. If an
	// HTTP/1.1 request fails and there was none, the fault is the request's or the response's.
	failure atomic.Pointer[error]

	// The fields below are guarded by Transport.mu.

	book    pool.Conn     // what the machine knows of it, from pooled on
	pooled  bool          // it was told to the machine
	early   earlyWords    // what happened before
	decided chan struct{} // closed when the proof that is out is over, if somebody waits for that; or nil
	spare   []*lease      // for requests to come
}

// earlyWords is what a server says on a connection that is still its dial's.
type earlyWords struct {
	settings, goAway, ended bool
	streams                 int // by the settings
}

var _ ConnInfo = (*conn)(nil)

func (c *conn) ID() uint64                { return c.id }
func (c *conn) Created() time.Time        { return c.created.Time() }
func (c *conn) Uses() uint64              { return c.uses.Load() }
func (c *conn) Protocol() string          { return c.protocol.String() }
func (c *conn) TLS() *tls.ConnectionState { return c.tls }

func (c *conn) LocalAddr() net.Addr               { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr              { return c.raw.RemoteAddr() }
func (c *conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// SetDeadline sets the deadline for reads, and that for writes if it is not the pool's.
func (c *conn) SetDeadline(t time.Time) error {
	if c.raw.bounded() {
		return c.nc.SetReadDeadline(t)
	}
	return c.nc.SetDeadline(t)
}

// SetWriteDeadline sets the deadline for writes, if it is not the pool's.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.raw.bounded() {
		return nil
	}
	return c.nc.SetWriteDeadline(t)
}

// Read is called by the one goroutine that reads the connection.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.readChecked(p)
	if err != nil {
		c.note(err)
	}
	return n, err
}

// readChecked reads, and refuses what answers nothing.
func (c *conn) readChecked(p []byte) (int, error) {
	if c.frames == nil {
		n, err := c.nc.Read(p)
		if n > 0 && !c.asked.Load() {
			// Taking these bytes for the answer to the next request would hand it somebody else's.
			n, err = 0, errUnsolicited
		}
		c.hear(n)
		return n, err
	}
	// The frames of the last read have been processed by now, or Read would not be called again.
	if c.frames.events.any() {
		ev := c.frames.events
		c.frames.events = frameEvents{}
		c.origin.t.frames(c, ev)
	}
	n, err := c.nc.Read(p)
	if n > 0 {
		c.hear(n)
		c.frames.read.scan(p[:n], &c.frames.events)
		if c.frames.events.goAway {
			c.goneAway.Store(true)
		}
		if c.frames.events.stream > c.opened.Load() {
			// The stream would be over, and its request forgotten, before the request is written.
			return 0, errUnsolicited
		}
	}
	return n, err
}

// hear notes that n bytes were read now.
func (c *conn) hear(n int) {
	c.read.Add(int64(n))
	now := c.origin.t.clock.now()
	c.heardWall.Store(now.Wall)
	c.heardMono.Store(now.Mono)
}

// unheard returns how long ago a byte was read.
func (c *conn) unheard(now instant) time.Duration {
	return now.Since(instant{Wall: c.heardWall.Load(), Mono: c.heardMono.Load()})
}

// Write is called by one goroutine at a time. What is rare is left to other functions, to keep its stack frame small:
// x/net/http2 writes each request from a goroutine of its own, whose first stack is just large enough.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.ask(); err != nil {
		c.note(err)
		return 0, err
	}
	if c.frames != nil {
		c.noteOpened(p)
	}
	n, err := c.nc.Write(p)
	c.written.Add(int64(n))
	if err != nil {
		err = c.writeFailed(n, err)
	}
	return n, err
}

//go:noinline
func (c *conn) writeFailed(n int, err error) error {
	c.note(err)
	if n == 0 && c.raw.allWritten.Load() {
		c.written.Add(1) // at least
	}
	return &writeError{err: err, nothing: n == 0 && !c.raw.allWritten.Load()}
}

// note notes that the connection has failed, if it has.
//
//go:noinline
func (c *conn) note(err error) {
	if err != nil && !c.closing.Load() {
		first := err
		c.failure.CompareAndSwap(nil, &first)
	}
}

// cause returns what err, of a request on the connection, comes from. If an HTTP/1.1 connection fails, net/http closes it,
// and its other goroutine may be quicker to say that it is closed: a net.Pipe, in tests, by an error of its own.
func (c *conn) cause(err error) error {
	closed := errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
	if failure := c.failure.Load(); c.h2 == nil && failure != nil && closed {
		return *failure
	}
	return err
}

// explain adds to the error of a request that was not processed why, if the protocol layer says no more than that the
// connection cannot be used.
func (c *conn) explain(err error) error {
	switch {
	case c.h2 == nil || !unprocessed(err) || strings.Contains(err.Error(), "GOAWAY"):
		return err
	case c.goneAway.Load():
		return fmt.Errorf("the server sent GOAWAY: %w", err)
	case err.Error() == notEstablished:
		return fmt.Errorf("the server closed the connection at once, or does not speak HTTP/2: %w", err)
	default:
		return err
	}
}

// noteOpened notes on which HTTP/2 streams p begins requests.
//
//go:noinline
func (c *conn) noteOpened(p []byte) {
	ev := frameEvents{stream: c.opened.Load()}
	c.frames.written.scan(p, &ev)
	c.opened.Store(ev.stream)
}

// ask notes that a request is being written, before the first byte of it can be answered. On HTTP/1.1 it looks at the
// socket once more: the request was handed from one goroutine to another since the connection was looked at. If the
// connection has ended, or a server has sent what would be taken for the answer, nothing is written. (Above TLS, what
// has been sent may be a session ticket.)
func (c *conn) ask() error {
	if c.asked.Load() {
		return nil
	}
	if c.frames == nil && c.raw.socket != nil {
		switch seen := c.raw.socket.peek(); {
		case seen == peekedEnd:
			return &writeError{err: io.ErrUnexpectedEOF, nothing: true}
		case seen == peekedBytes && c.tls == nil:
			return &writeError{err: errUnsolicited, nothing: true}
		}
	}
	c.asked.Store(true)
	return nil
}

// CloseWrite is for the connections of upgraded protocols, as [http.Transport] offers it.
func (c *conn) CloseWrite() error {
	nc := c.nc
	if nc == c.raw {
		nc = c.raw.Conn
	}
	if cw, ok := nc.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("transport: CloseWrite: %w", errors.ErrUnsupported)
}

// closeGrace is how long a TLS connection may take to say goodbye to a peer that does not read.
const closeGrace = 250 * time.Millisecond

// Close closes the connection and takes it out of the pool. The protocol layer calls it when the connection has
// failed or ended, holding its own locks.
func (c *conn) Close() error {
	if c.closing.Swap(true) {
		return net.ErrClosed
	}
	c.raw.told() // of the end
	t := c.origin.t
	t.ended(c)
	defer t.freed(c)
	if c.tls != nil {
		defer time.AfterFunc(closeGrace, func() { c.raw.Close() }).Stop()
	}
	return c.nc.Close()
}

// shut closes the connection and ends the protocol layer's goroutines. It must not be called with Transport.mu
// held: it can block, and the protocol layer calls back.
func (c *conn) shut() {
	switch {
	case c.h1 != nil:
		c.h1.Close()
	case c.h2 != nil:
		c.h2.Close()
	}
	c.Close() // an upgraded connection is no longer the protocol layer's
}

// broken reports whether the protocol layer cannot use the connection any more. It must not be called with
// Transport.mu held.
func (c *conn) broken() bool {
	if c.closing.Load() {
		return true
	}
	if c.h1 != nil {
		return c.h1.Available() == 0
	}
	return false
}

// writeError is a failed write to a connection, and whether any of it had been written.
type writeError struct {
	err     error
	nothing bool
}

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }
