package clienttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/internal/loopbackca"
)

// Server is a real HTTP server on loopback that keeps a record of its connections and misbehaves on demand.
// [Downstream] makes one. Its methods are safe for concurrent use, while requests run too.
type Server struct {
	// URL is the server's address, such as "https://127.0.0.1:40123", without a slash at its end.
	URL string

	t        testing.TB
	protocol Protocol
	handler  http.Handler
	trust    *tls.Config // nil without TLS
	root     []byte      // PEM; nil without TLS
	serving  *tls.Config // nil without TLS
	http     *http.Server
	incoming chan net.Conn // from the accept loops to http
	owned    sync.WaitGroup
	closing  chan struct{} // closed when the test has ended

	mu       sync.Mutex
	changed  sync.Cond          // told when a connection's state or its handlers change; its L is &mu
	listener *faultnet.Listener // nil while the server refuses
	conns    []*conn            // all that there ever were
	requests []*request         // all that were handled
	next     []*installed       // what the requests to come meet, one each
	every    []*installed       // what all others meet; the last one counts
	fates    []*fate            // what the connections to come meet, in this order
	streams  int                // at once, on an HTTP/2 connection
	refusing int                // calls of RefuseStreams that are in force
	away     int                // calls of TurnAway that are in force
	// Negative for none:
	allowed   int // streams at once, beyond which they are refused
	perConn   int // requests
	keepAlive time.Duration
}

// A DownstreamOption is a setting of [Downstream].
type DownstreamOption interface{ apply(*Server) error }

type downstreamOption func(*Server) error

func (o downstreamOption) apply(s *Server) error { return o(s) }

// WithHandler sets what answers. By default requests are read to their ends and answered with 200 and a line of text,
// the method and the path.
func WithHandler(h http.Handler) DownstreamOption {
	return downstreamOption(func(s *Server) error {
		if h == nil {
			return errors.New("clienttest: WithHandler(nil): want an http.Handler; leave the option out for the default")
		}
		s.handler = h
		return nil
	})
}

// Protocol is what a [Server] speaks.
type Protocol int

// The protocols. The default is HTTPS.
const (
	HTTPS      Protocol = iota // HTTP/2 and HTTP/1.1 over TLS, as ALPN decides
	HTTP1TLS                   // HTTP/1.1 over TLS
	HTTP2TLS                   // HTTP/2 over TLS
	HTTP1                      // HTTP/1.1 without TLS
	HTTP2Plain                 // HTTP/2 without TLS, with prior knowledge ("h2c")
	protocols                  // their number
)

// String is the name of the constant.
func (p Protocol) String() string {
	if p < 0 || p >= protocols {
		return fmt.Sprintf("Protocol(%d)", int(p))
	}
	return [...]string{"HTTPS", "HTTP1TLS", "HTTP2TLS", "HTTP1", "HTTP2Plain"}[p]
}

func (p Protocol) tls() bool   { return p < HTTP1 }
func (p Protocol) http1() bool { return p == HTTPS || p == HTTP1TLS || p == HTTP1 }
func (p Protocol) http2() bool { return p == HTTPS || p == HTTP2TLS || p == HTTP2Plain }

// WithProtocol sets what the server speaks. By default it is HTTPS.
func WithProtocol(p Protocol) DownstreamOption {
	return downstreamOption(func(s *Server) error {
		if p < 0 || p >= protocols {
			return fmt.Errorf("clienttest: WithProtocol(%v): want one of the constants", p)
		}
		s.protocol = p
		return nil
	})
}

var authority = sync.OnceValues(func() (*loopbackca.Authority, error) { return loopbackca.New("clienttest") })

// Downstream starts a server that lasts until the end of the test. Any HTTP client can call it; it has to trust
// [Server.TLS], and for HTTP2Plain to be set up for that: see [Server.Protocols].
//
//	d := clienttest.Downstream(t)
//	api, err := client.New(client.WithTransport(transport.Config{TLS: d.TLS()}))
//	...
//	d.CloseIdle()
//	...
//	d.AssertNoRequestTwice(t)
//
// At the end of the test all connections are closed; a handler that is still running five seconds later fails it.
func Downstream(t testing.TB, opts ...DownstreamOption) *Server {
	t.Helper()
	s := &Server{
		t: t, handler: http.HandlerFunc(answer),
		incoming: make(chan net.Conn), closing: make(chan struct{}),
		streams: maxStreams, allowed: -1, perConn: -1, keepAlive: -1,
	}
	s.changed.L = &s.mu
	var errs []error
	for i, o := range opts {
		if o == nil {
			errs = append(errs, fmt.Errorf("clienttest: option %d of Downstream is nil", i))
			continue
		}
		errs = append(errs, o.apply(s))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := s.start(); err != nil {
		t.Fatalf("clienttest: starting the downstream: %v", err)
	}
	t.Cleanup(s.close)
	return s
}

// answer is the default handler.
func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s\n", r.Method, r.URL.Path)
}

func (s *Server) start() error {
	a, err := authority()
	if err != nil {
		return err
	}
	scheme := "http"
	if s.protocol.tls() {
		scheme = "https"
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(a.PEM)
		s.root = a.PEM
		s.trust = &tls.Config{RootCAs: roots}
		s.serving = &tls.Config{Certificates: []tls.Certificate{a.Server}}
		if s.protocol.http2() {
			s.serving.NextProtos = append(s.serving.NextProtos, "h2")
		}
		if s.protocol.http1() {
			s.serving.NextProtos = append(s.serving.NextProtos, "http/1.1")
		}
	}
	l, err := faultnet.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	s.URL = scheme + "://" + l.Addr().String()
	// TLS is done beneath: to the HTTP server all connections are in the clear.
	s.http = &http.Server{
		Handler:   http.HandlerFunc(s.serveHTTP),
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnState: s.observe,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		// Broken connections are what this server is for: they are no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	s.http.Protocols.SetHTTP1(s.protocol.http1())
	s.http.Protocols.SetUnencryptedHTTP2(s.protocol.http2())
	s.owned.Go(func() { _ = s.http.Serve(handover{s, l.Addr()}) }) // http.ErrServerClosed
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accept(l)
	return nil
}

// accept starts to accept connections from l. mu is held.
func (s *Server) accept(l *faultnet.Listener) {
	s.listener = l
	s.owned.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c := s.newConn(nc.(*faultnet.Conn))
			if f := s.fated(c); f != nil {
				s.owned.Go(func() { f.befall(c) })
				continue
			}
			s.handOver(c)
		}
	})
}

// handOver gives a connection to the HTTP server.
func (s *Server) handOver(c *conn) {
	select {
	case s.incoming <- c:
	case <-s.closing:
		s.drop(c)
	}
}

// drop closes a connection that the HTTP server was not given.
func (s *Server) drop(c *conn) {
	c.Close()
	s.observe(c, http.StateClosed)
}

// handover is the listener of the HTTP server. It outlives those of TCP, which end while connections are refused.
type handover struct {
	s    *Server
	addr net.Addr
}

func (h handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.s.incoming:
		return c, nil
	case <-h.s.closing:
		return nil, net.ErrClosed
	}
}

func (h handover) Close() error   { return nil }
func (h handover) Addr() net.Addr { return h.addr }

// TLS returns what a client needs to trust the server, for transport.Config.TLS or http.Transport.TLSClientConfig. It is
// a copy, and nil without TLS.
func (s *Server) TLS() *tls.Config { return s.trust.Clone() }

// RootPEM returns the certificate that the client has to trust, for clients in other processes: a file with it can be what
// the environment variable SSL_CERT_FILE names. It is nil without TLS.
func (s *Server) RootPEM() []byte { return bytes.Clone(s.root) }

// Protocols returns what a client has to speak, for transport.Config.Protocols or http.Transport.Protocols. Only
// clients of an HTTP2Plain server have to be told.
func (s *Server) Protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(s.protocol.http1())
	p.SetHTTP2(s.protocol.http2() && s.protocol.tls())
	p.SetUnencryptedHTTP2(s.protocol == HTTP2Plain)
	return p
}

// observe is the HTTP server's ConnState hook.
func (s *Server) observe(nc net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	faultnet.Observe(nc, state)
	s.changed.Broadcast()
}

// patience bounds how long the server waits for what should take no time.
const patience = 5 * time.Second

// await waits until ok, which is called with mu held, and reports whether that was in time. mu is held.
func (s *Server) await(ok func() bool) bool {
	late := false
	defer time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	}).Stop()
	for !ok() && !late {
		s.changed.Wait()
	}
	return ok()
}

// close ends the server and waits until nothing is left of it.
func (s *Server) close() {
	s.mu.Lock()
	for _, i := range append(s.next, s.every...) {
		i.undo.Do(func() { close(i.undone) })
	}
	s.next, s.every = nil, nil
	close(s.closing)
	for _, f := range s.fates {
		f.end()
	}
	s.fates = nil
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Unlock()
	s.http.Close()
	for _, c := range s.all() {
		c.Close()
	}
	s.owned.Wait()
	for _, c := range s.all() { // those that came meanwhile
		c.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.await(func() bool { return len(s.running()) == 0 }) {
		s.t.Errorf("clienttest: the downstream's handlers still run %v after its connections were closed:\n%s", patience, strings.Join(s.running(), "\n"))
	}
}

// running names what still goes on. mu is held.
func (s *Server) running() []string {
	var names []string
	for _, r := range s.requests {
		if !r.ended {
			names = append(names, r.Method+" "+r.URI)
		}
	}
	for _, c := range s.conns {
		if st := c.path.State(); st != http.StateClosed && st != http.StateHijacked {
			names = append(names, fmt.Sprintf("connection %d is %v", c.id, st))
		}
	}
	return names
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*conn(nil), s.conns...)
}
