package clienttest

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Connection is what a [Server] knows of a connection.
type Connection struct {
	ID       int    // in the order in which they were accepted; the first is 1
	Protocol string // "HTTP/1.1" or "HTTP/2.0"; empty before the first request
	TLS      bool   // whether a TLS handshake was completed
	Resumed  bool   // whether that resumed an earlier session
	Open     bool   // false once either side closed it, or its path was broken
	Requests []Request
}

// Request is what a [Server] knows of a request that it handled.
type Request struct {
	Conn   int // the ID of its connection
	Method string
	URI    string // path and query
	Proto  string // "HTTP/1.1" or "HTTP/2.0"
	Header http.Header

	// Length and Digest are of as much of the body as the handler has read: its bytes, and their SHA-256.
	Length int64
	Digest string
}

// request is the record of a request. All but the body's part is guarded by Server.mu.
type request struct {
	Request
	ended bool // its handler has returned
	body  digester
}

// digester reads a body and remembers what it was.
type digester struct {
	io.ReadCloser
	mu  sync.Mutex
	sum hash.Hash // guarded by mu
	n   int64     // guarded by mu
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sum.Write(p[:n])
	d.n += int64(n)
	return n, err
}

// begin puts a request on record, and returns how the handler is to see it.
func (s *Server) begin(c *conn, r *http.Request) (*request, *http.Request) {
	rec := &request{Request: Request{Conn: c.id, Method: r.Method, URI: r.URL.RequestURI(), Proto: r.Proto, Header: r.Header.Clone()}}
	rec.body.ReadCloser, rec.body.sum = r.Body, sha256.New()
	seen := r.WithContext(r.Context())
	if r.Body != http.NoBody {
		seen.Body = &rec.body
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen.TLS = c.tls
	s.requests = append(s.requests, rec)
	c.carried = append(c.carried, rec)
	return rec, seen
}

func (s *Server) end(rec *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec.ended = true
	s.changed.Broadcast()
}

// snapshot returns the record as it is. Server.mu is held.
func (r *request) snapshot() Request {
	out := r.Request
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	out.Length, out.Digest = r.body.n, fmt.Sprintf("%x", r.body.sum.Sum(nil))
	return out
}

// Requests returns the requests that were handled so far, in the order in which they came, those that are being handled
// included. What was sent into a broken connection is not among them.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return snapshots(s.requests)
}

func snapshots(rs []*request) []Request {
	out := make([]Request, len(rs))
	for i, r := range rs {
		out[i] = r.snapshot()
	}
	return out
}

// Connections returns the connections that were accepted so far, in that order.
func (s *Server) Connections() []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Connection, len(s.conns))
	for i, c := range s.conns {
		state := c.path.State()
		out[i] = Connection{
			ID: c.id, TLS: c.tls != nil, Resumed: c.tls != nil && c.tls.DidResume,
			Open:     !c.path.Broken() && state != http.StateClosed,
			Requests: snapshots(c.carried),
		}
		if len(c.carried) > 0 {
			out[i].Protocol = c.carried[0].Proto
		}
	}
	return out
}

// String says what each connection carried, a line each.
func (s *Server) String() string {
	var b strings.Builder
	for _, c := range s.Connections() {
		fmt.Fprintf(&b, "connection %d", c.ID)
		if c.Protocol != "" {
			fmt.Fprintf(&b, ", %s", c.Protocol)
		}
		switch {
		case c.Resumed:
			b.WriteString(", TLS resumed")
		case c.TLS:
			b.WriteString(", TLS")
		}
		if !c.Open {
			b.WriteString(", closed")
		}
		b.WriteString(":")
		for _, r := range c.Requests {
			fmt.Fprintf(&b, " %s %s;", r.Method, r.URI)
		}
		b.WriteString("\n")
	}
	return b.String()
}
