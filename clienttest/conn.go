package clienttest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// conn is the server's end of a connection as the HTTP server sees it: above TLS, in the clear. On HTTP/2 it knows where
// frames begin, so that it can add some of its own: see frames.go.
type conn struct {
	net.Conn // TLS, or the path itself
	path     *faultnet.Conn
	server   *Server
	id       int
	shake    func() error // the handshake, once
	h2       atomic.Bool

	// Owned by the reader.
	in     *bufio.Reader
	sensed bool   // whether the first bytes have been looked at
	left   int    // bytes that are left of the frame that is being read
	acks   int    // SETTINGS acknowledged by the client
	behind []byte // what the HTTP server is to read behind the frame that is being read

	// writing guards what the HTTP server's writer and [conn.insert] share. It is not held while a header is stalled.
	writing sync.Mutex
	out     frameWriter
	stall   *headerStall // if not nil, the next response header is held up in its middle

	ended chan struct{} // closed by Close
	end   sync.Once

	// The fields below are guarded by server.mu.

	tls     *tls.ConnectionState // after the handshake; nil without TLS
	silent  bool                 // a fate has it, and the HTTP server has not
	carried []*request
	// On HTTP/2: how many streams the client has opened, the highest number of one, and the highest that is dealt with,
	// which is negative as long as no GOAWAY was sent.
	streams    int
	last, upTo int64
	open       map[int64]bool // streams whose answer has not ended
	refused    map[int64]bool // streams that were refused
}

// newConn puts a connection that was accepted on record.
func (s *Server) newConn(path *faultnet.Conn) *conn {
	c := &conn{Conn: path, path: path, server: s, ended: make(chan struct{}), upTo: -1, open: make(map[int64]bool), refused: make(map[int64]bool)}
	c.shake = func() error { return nil }
	if s.serving != nil {
		t := tls.Server(path, s.serving)
		c.Conn = t
		c.shake = sync.OnceValue(func() error {
			if err := t.Handshake(); err != nil {
				return err
			}
			state := t.ConnectionState()
			s.mu.Lock()
			defer s.mu.Unlock()
			c.tls = &state
			s.changed.Broadcast()
			return nil
		})
	}
	c.in = bufio.NewReader(c.Conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
	c.id = len(s.conns)
	return c
}

// NetConn is how [faultnet.Beneath] gets to the path.
func (c *conn) NetConn() net.Conn { return c.path }

// Close closes the connection, and lets go of a header that is held up.
func (c *conn) Close() error {
	c.end.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// Read is called by one goroutine at a time.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.shake(); err != nil {
		return 0, err
	}
	if !c.sensed {
		// No HTTP/1.1 request is shorter than this beginning of HTTP/2's preface.
		first, err := c.in.Peek(len(preface))
		if err != nil && len(first) == 0 {
			return 0, err
		}
		c.sensed = true
		if string(first) == preface {
			c.beginHTTP2()
		}
	}
	if c.h2.Load() {
		return c.readFrames(p)
	}
	return c.in.Read(p)
}

// Write is called by one goroutine at a time.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.h2.Load() {
		return len(p), c.writeFrames(p)
	}
	rest := p
	if c.stall != nil {
		header, _, _ := bytes.Cut(p, []byte("\r\n\r\n"))
		half := len(header) / 2
		if err := c.holdUp(p[:half]); err != nil {
			return 0, err
		}
		rest = p[half:]
	}
	if _, err := c.Conn.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

// holdUp writes the beginning of a header, and returns when the rest may follow. writing is held.
func (c *conn) holdUp(part []byte) error {
	stall := c.stall
	c.stall = nil
	if _, err := c.Conn.Write(part); err != nil {
		return err
	}
	c.writing.Unlock()
	defer c.writing.Lock()
	select {
	case <-stall.undone:
	case <-stall.gaveUp:
	case <-c.ended:
	}
	return nil
}

// headerStall says until when a header is held up: until either is closed, or the connection.
type headerStall struct{ undone, gaveUp <-chan struct{} }

// stallHeader holds up the next response header.
func (c *conn) stallHeader(stall *headerStall) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.stall = stall
}

// idle reports whether a client takes the connection for one that it can use and does not. server.mu is held.
func (c *conn) idle() bool {
	if c.silent || c.path.Broken() || c.server.serving != nil && c.tls == nil {
		return false
	}
	state := c.path.State()
	return state == http.StateIdle || state == http.StateNew
}

// settling reports whether the connection is about to be idle: its requests have been handled, and the last bytes of the
// answer are on their way. server.mu is held.
func (c *conn) settling() bool {
	if c.path.Broken() || c.path.State() != http.StateActive || len(c.carried) == 0 {
		return false
	}
	for _, r := range c.carried {
		if !r.ended {
			return false
		}
	}
	return true
}
