// Package faultnet breaks the network under a server's connections: in the ways in which peers, NAT gateways and
// firewalls do while a client does not look. The server lives in the test's or the lab's own process.
package faultnet

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what becomes of the path under a connection.
type Fault int32

// The faults. The zero Fault is none.
const (
	Close   Fault = iota + 1 // FIN is sent, after close_notify on TLS: the client's kernel knows
	Reset                    // RST is sent: the client's kernel knows
	Forget                   // the flow is gone, which the client learns from the RST that answers its next packet
	Swallow                  // packets are acknowledged and never answered
)

// Conn is a server's end of a TCP connection whose path can be broken on demand. It lies beneath TLS. Its methods are
// safe for concurrent use, as those of net.Conn are.
//
// A server goes on reading from a broken path, so that it sees which requests were written into it; what the
// server writes is dropped. To the client the server is gone.
type Conn struct {
	net.Conn               // the TCP connection; not embedded as one, whose ReadFrom and WriteTo would go around this
	in       *bufio.Reader // reads ahead, so that what arrived with the first packet outlives the reset
	home     *Listener
	fault    atomic.Int32
	// state is the http.ConnState last observed.
	state atomic.Int32
	// top is what the HTTP server reads from: the connection itself, or TLS on it. It is set when the server
	// first reports a state, which it does before it serves.
	top   atomic.Pointer[net.Conn]
	reset sync.Once
}

// Broken reports whether the path is not what the client takes it for.
func (c *Conn) Broken() bool { return c.fault.Load() != 0 }

// State is the state that [Observe] was told last.
func (c *Conn) State() http.ConnState { return http.ConnState(c.state.Load()) }

// Read reads from the client. The first bytes on a forgotten flow are answered with RST; they are returned all the same.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if n > 0 {
		c.home.bytes.Add(int64(n))
		if Fault(c.fault.Load()) == Forget {
			c.sendReset()
		}
	}
	return n, err
}

// Write writes to the client, or into the void if the path is broken.
func (c *Conn) Write(p []byte) (int, error) {
	if c.drops() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Await returns when until is closed, or with an error when the client has closed the connection. What the client sends
// meanwhile is there to be read afterwards. Of a client that sends more than the reader holds, the end is not noticed. Await is
// called before the server has the connection.
func (c *Conn) Await(until <-chan struct{}) error {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-until:
			c.Conn.SetReadDeadline(time.Unix(1, 0)) // ends Peek
		case <-over:
		}
	})
	_, err := c.in.Peek(c.in.Size())
	if err == nil {
		<-until
	}
	close(over)
	wg.Wait()
	c.Conn.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// drops reports whether what the server sends gets lost.
func (c *Conn) drops() bool {
	f := Fault(c.fault.Load())
	return f == Forget || f == Swallow
}

// Close closes the connection. On a broken path nothing but a reset is ever sent.
func (c *Conn) Close() error {
	c.home.remove(c)
	if c.drops() {
		c.sendReset()
		return nil
	}
	return c.Conn.Close()
}

// sendReset sends RST, once.
func (c *Conn) sendReset() {
	c.reset.Do(func() {
		_ = c.Conn.(*net.TCPConn).SetLinger(0) // fails only on a closed connection
		c.Conn.Close()
	})
}

// Break breaks the path in the way of f, for good.
func (c *Conn) Break(f Fault) {
	c.fault.Store(int32(f))
	switch f {
	case Close:
		// Closed where the HTTP server closes it: on TLS, close_notify goes before the FIN.
		if top := c.top.Load(); top != nil {
			(*top).Close()
			return
		}
		_ = c.Close()
	case Reset:
		c.sendReset()
	}
}

// Listener accepts connections that can be broken and keeps count of them.
type Listener struct {
	*net.TCPListener
	accepted atomic.Int64
	bytes    atomic.Int64 // read from all clients

	mu    sync.Mutex
	conns map[*Conn]struct{} // the open ones
}

// Listen listens on a loopback address; port 0 lets the kernel choose.
func Listen(addr string) (*Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Listener{TCPListener: l.(*net.TCPListener), conns: make(map[*Conn]struct{})}, nil
}

// Accept waits for the next connection, which is a *[Conn].
func (l *Listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	l.accepted.Add(1)
	c := &Conn{Conn: tcp, in: bufio.NewReader(tcp), home: l}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// Accepted is the number of connections accepted so far.
func (l *Listener) Accepted() int64 { return l.accepted.Load() }

// Received is the number of bytes read from all clients so far.
func (l *Listener) Received() int64 { return l.bytes.Load() }

func (l *Listener) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Open returns the open connections.
func (l *Listener) Open() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	conns := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	return conns
}

// Observe is the http.Server's ConnState hook, or is called by it.
func Observe(nc net.Conn, s http.ConnState) {
	c := Beneath(nc)
	if c.top.Load() == nil {
		c.top.Store(&nc)
	}
	c.state.Store(int32(s))
}

// Beneath returns the Conn beneath what the HTTP server was given: the Conn itself, or what lies on it and says so by
// a method NetConn, as *[crypto/tls.Conn] does.
func Beneath(nc net.Conn) *Conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	return nc.(*Conn)
}
