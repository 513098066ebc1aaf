package clienttest

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// connKey is the context key of a request's *conn.
type connKey struct{}

// serveHTTP is the HTTP server's handler.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	if c.path.Broken() {
		// What lies beneath goes on reading; to the client, nobody is there.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	rec, r := s.begin(c, r)
	defer s.end(rec)
	if !c.h2.Load() {
		s.announce(c, w.Header())
	}
	if i := s.fault(); i != nil {
		i.serve(&exchange{s, c, w, r, i.undone})
		return
	}
	s.handler.ServeHTTP(w, r)
}

// announce says in a header of HTTP/1.1 how long the connection may be used.
func (s *Server) announce(c *conn, h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keepAlive >= 0 {
		h.Set("Keep-Alive", "timeout="+strconv.FormatInt(int64(s.keepAlive/time.Second), 10))
	}
	if s.perConn >= 0 && len(c.carried) >= s.perConn {
		h.Set("Connection", "close")
	}
}

// CloseIdle closes the connections that are idle now, as servers and load balancers do after their idle timeout: with FIN,
// and on TLS with close_notify ahead of it. It returns how many.
//
// An idle connection is one that a client may use: the answers to its requests have been sent, or it is ready for its first.
// CloseIdle and its siblings first wait for answers that are on their way out, so that they can be called as soon as a
// client has an answer.
func (s *Server) CloseIdle() int { return s.breakIdle(faultnet.Close) }

// ResetIdle resets the connections that are idle now, with RST, as a server does that is killed. It returns how many.
func (s *Server) ResetIdle() int { return s.breakIdle(faultnet.Reset) }

// ForgetIdle forgets the connections that are idle now silently: what comes on them is acknowledged by the kernel and
// never answered, as when a firewall drops a flow. A client notices nothing until it waits for an answer. It returns how
// many. They stay forgotten.
func (s *Server) ForgetIdle() int { return s.breakIdle(faultnet.Swallow) }

// ForgetIdleWithReset forgets the connections that are idle now as a NAT gateway does: nothing is sent until the client
// sends something, which is answered with RST. It returns how many. They stay forgotten.
func (s *Server) ForgetIdleWithReset() int { return s.breakIdle(faultnet.Forget) }

func (s *Server) breakIdle(f faultnet.Fault) int {
	var idle []*conn
	s.mu.Lock()
	s.await(func() bool {
		for _, c := range s.conns {
			if c.settling() {
				return false
			}
		}
		return true
	})
	for _, c := range s.conns {
		if c.idle() {
			idle = append(idle, c)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		c.path.Break(f)
	}
	return len(idle)
}

// GoAway tells the clients on all HTTP/2 connections to send no more requests there, with GOAWAY and NO_ERROR, as a server
// does that is being replaced. Requests that have arrived are answered; those that arrive later are not handled, as
// GOAWAY says. It returns how many connections it told.
func (s *Server) GoAway() int {
	n := 0
	for _, c := range s.all() {
		if c.goAway() {
			n++
		}
	}
	return n
}

// Refuse makes the server refuse new connections, with RST to the SYN; those that are open stay. The function that is
// returned makes it accept again, on the same port, unless another process has taken that meanwhile; it may be called
// more than once.
func (s *Server) Refuse() (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.listener
	if l == nil {
		return func() {} // the first call's undo ends it
	}
	s.listener = nil
	l.Close()
	addr := l.Addr().String()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.listener != nil || s.closed() {
			return
		}
		l, err := relisten(addr)
		if err != nil {
			s.t.Errorf("clienttest: accepting connections again: %v", err)
			return
		}
		s.accept(l)
	}
}

func (s *Server) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// relisten listens on an address that was listened on before. A client's socket may have it for a moment.
func relisten(addr string) (l *faultnet.Listener, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if l, err = faultnet.Listen(addr); err == nil {
			break
		}
	}
	return l, err
}

// LimitStreams tells clients that an HTTP/2 connection carries at most n requests at once, by SETTINGS, on open
// connections too. The server does not enforce it. By default, and again when the function that is returned takes it back,
// it is 250, which is enforced.
func (s *Server) LimitStreams(n int) (undo func()) {
	if n < 1 || n > maxStreams {
		s.t.Errorf("clienttest: LimitStreams(%d): want 1 to %d", n, maxStreams)
		return func() {}
	}
	before := s.setStreams(n)
	return func() { s.setStreams(before) }
}

// maxStreams is what the HTTP server allows on an HTTP/2 connection.
const maxStreams = 250

func (s *Server) setStreams(n int) (before int) {
	s.mu.Lock()
	before, s.streams = s.streams, n
	var open []*conn
	for _, c := range s.conns {
		if c.h2.Load() && c.path.State() != http.StateClosed {
			open = append(open, c)
		}
	}
	s.mu.Unlock()
	for _, c := range open {
		c.insert(settings(n))
	}
	return before
}

// AllowStreams makes the server refuse what exceeds n requests at once on an HTTP/2 connection, with RST_STREAM and
// REFUSED_STREAM, on open connections too. SETTINGS does not say so: clients go on believing in what [Server.LimitStreams] says. A
// refused request is not handled. A request counts until its answer has been sent. The function that is returned takes the limit
// back.
func (s *Server) AllowStreams(n int) (undo func()) {
	if n < 1 || n > maxStreams {
		s.t.Errorf("clienttest: AllowStreams(%d): want 1 to %d; RefuseStreams refuses all", n, maxStreams)
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.allowed
	s.allowed = n
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.allowed = before
	}
}

// RefuseStreams makes the server refuse all requests on HTTP/2 connections that come from now on, with RST_STREAM and
// REFUSED_STREAM, as a server does that is overloaded or about to go. The connections stay, and requests that have arrived are
// answered. A refused request is not handled. The function that is returned makes the server take requests again; it may be called
// more than once.
func (s *Server) RefuseStreams() (undo func()) { return s.raise(&s.refusing) }

// TurnAway makes the server send GOAWAY with last stream 0 at the beginning of each HTTP/2 connection that is made from now on, as
// a server does that accepts connections while it is being replaced. To a client that is a connection on which no request was
// or will be processed. Connections that are open stay as they are. The function that is returned has new connections
// served again; it may be called more than once.
func (s *Server) TurnAway() (undo func()) { return s.raise(&s.away) }

// raise adds a call to those in force.
func (s *Server) raise(inForce *int) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*inForce++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		*inForce--
	})
}

// LimitRequests makes a connection carry n requests and no more. On HTTP/1.1 the answer to the last one says "Connection:
// close"; of a connection that is beyond that, the next answer does. On HTTP/2 GOAWAY comes with the last one, or at once,
// and requests after it are not handled. The function that is returned takes the limit back.
func (s *Server) LimitRequests(n int) (undo func()) {
	if n < 1 {
		s.t.Errorf("clienttest: LimitRequests(%d): want at least 1", n)
		return func() {}
	}
	s.mu.Lock()
	before := s.perConn
	s.perConn = n
	var beyond []*conn
	for _, c := range s.conns {
		if c.streams >= n {
			beyond = append(beyond, c)
		}
	}
	s.mu.Unlock()
	for _, c := range beyond {
		c.goAway()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.perConn = before
	}
}

// KeepAlive makes answers over HTTP/1.1 say "Keep-Alive: timeout=", followed by that many whole seconds: how long the
// server keeps an idle connection. It only says so; no test has to wait, because [Server.CloseIdle] closes. The function
// that is returned takes it back.
func (s *Server) KeepAlive(timeout time.Duration) (undo func()) {
	if timeout < 0 {
		s.t.Errorf("clienttest: KeepAlive(%v): want no negative duration", timeout)
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.keepAlive
	s.keepAlive = timeout
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.keepAlive = before
	}
}
