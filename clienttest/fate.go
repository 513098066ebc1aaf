package clienttest

import (
	"slices"
	"sync"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// fate is what becomes of connections that are accepted while it is in force, in the place of being served.
type fate struct {
	befall func(*conn)
	left   int           // connections that it is still to befall, guarded by Server.mu
	undone chan struct{} // closed by end
	once   sync.Once
}

func (f *fate) end() { f.once.Do(func() { close(f.undone) }) }

// SilenceNew makes the server say nothing on the next n connections, as if a load balancer had accepted them for a backend
// that hangs. To a client they are connected, and that is all: a TLS handshake does not end, HTTP/2 has no SETTINGS, and no
// request is handled or answered. Connections of an earlier call, or of an earlier [Server.ResetNew], come first. A request that
// gives up on such a connection was not handled. The function that is returned takes back those of this call that are left, and
// has the silent ones served that their clients have not closed. It may be called more than once, and the end of the test calls it.
func (s *Server) SilenceNew(n int) (undo func()) {
	f := &fate{left: n, undone: make(chan struct{})}
	f.befall = func(c *conn) {
		if err := c.path.Await(f.undone); err != nil || s.closed() {
			s.drop(c)
			return
		}
		s.mu.Lock()
		c.silent = false
		s.mu.Unlock()
		s.handOver(c)
	}
	return s.install("SilenceNew", f)
}

// ResetNew makes the server reset the next n connections, with RST, as soon as they are accepted, as if a load balancer had found
// no backend for them. A client is connected, and then, or even as it connects, the connection is reset. Connections of an
// earlier call, or of an earlier [Server.SilenceNew], come first. The function that is returned takes back those of this call that
// are left; it may be called more than once.
func (s *Server) ResetNew(n int) (undo func()) {
	f := &fate{left: n, undone: make(chan struct{})}
	f.befall = func(c *conn) {
		c.path.Break(faultnet.Reset)
		s.drop(c)
	}
	return s.install("ResetNew", f)
}

func (s *Server) install(name string, f *fate) (undo func()) {
	if f.left < 1 {
		s.t.Errorf("clienttest: %s(%d): want at least 1", name, f.left)
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates = append(s.fates, f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fates = slices.DeleteFunc(s.fates, func(g *fate) bool { return f == g })
		f.end()
	}
}

// fated returns what befalls c, which was accepted just now, or nil.
func (s *Server) fated(c *conn) *fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fates { // those with none left may hold connections up
		if f.left > 0 {
			f.left--
			c.silent = true
			return f
		}
	}
	return nil
}
