package transport

import (
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// peeked is what a look at a socket showed.
type peeked uint8

const (
	peekedNothing peeked = iota // nothing to read: alive, as far as this kernel knows
	peekedBytes                 // something to read
	peekedEnd                   // closed or reset
)

// tcpInfo is what the kernel knows of a TCP connection.
type tcpInfo struct {
	acked uint64        // bytes that the peer's TCP has acknowledged
	rtt   time.Duration // smoothed round-trip time
}

// socket looks at a connection's socket beside the protocol layer, which waits in Read. RawConn.Read would queue
// behind it; RawConn.Control does not.
type socket struct {
	raw syscall.RawConn

	mu   sync.Mutex    // guards what follows: the owner of a connection and Thaw may look at once
	look func(uintptr) // peeks; made once, so that looking allocates nothing
	seen peeked
	buf  [1]byte
}

// newSocket returns the socket of nc, or nil if it has none that can be looked at.
func newSocket(nc net.Conn) *socket {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.look = func(fd uintptr) { s.seen = peek(fd, &s.buf) }
	return s
}

// peek looks at what the socket has to read.
func (s *socket) peek() peeked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw.Control(s.look) != nil {
		return peekedEnd // closed on this side
	}
	return s.seen
}

// info asks the kernel about the connection. It returns false if the kernel does not say.
func (s *socket) info() (info tcpInfo, ok bool) {
	if s == nil {
		return tcpInfo{}, false
	}
	if s.raw.Control(func(fd uintptr) { info, ok = readTCPInfo(fd) }) != nil {
		return tcpInfo{}, false
	}
	return info, ok
}

// tellsAcknowledged reports whether info can be expected to work.
func (s *socket) tellsAcknowledged() bool { return s != nil && canTellAcknowledged }

// settleTime is how long look waits for the read loop. After a thaw that may have to wait for a CPU itself. The time is
// counted in slices: those that are over when the process goes on after a stop are one, and the read loop gets the others.
const (
	settleTime   = 100 * time.Millisecond
	settleSlices = 10
)

// liveness is what a look at an idle connection showed.
type liveness uint8

const (
	dead liveness = iota
	alive
	inDoubt // there is something to read, and nobody has read it
)

// look looks at an idle connection. Bytes that wait to be read do not tell whether it can be used: they may be a TLS
// session ticket, an HTTP/2 frame, or the TLS close_notify of a server that closes. So the read loop, which the
// scheduler may not have run since the thaw, is given the time to read them and to wait for more.
func (c *conn) look() liveness {
	var s settling
	defer s.stop()
	return c.lookWithin(&s)
}

// lookWithin is look with the time that is left of s, for those who look at many connections.
func (c *conn) lookWithin(s *settling) liveness {
	for clean := true; ; {
		if c.closing.Load() {
			return dead
		}
		turn := c.raw.turns.Load()
		seen := peekedNothing
		if c.raw.socket != nil {
			seen = c.raw.socket.peek()
		}
		// If the reader waited before and after, it has taken nothing out of the socket in between.
		calm := seen == peekedNothing && waiting(turn) && c.raw.turns.Load() == turn
		switch {
		case seen == peekedEnd:
			return dead
		case !calm:
			clean = false
			if !s.wait(c, turn) {
				return inDoubt
			}
		case !clean:
			clean = true
			runtime.Gosched() // and look once more: after a close_notify comes the end
		case c.broken():
			return dead
		default:
			return alive
		}
	}
}

// settling is what is left of settleTime. It begins with the first wait.
type settling struct {
	slice *time.Timer
	used  int // slices
}

func (s *settling) stop() {
	if s.slice != nil {
		s.slice.Stop()
	}
}

// wait waits until the reader of c begins to wait, later than at turn, or c is closed. It returns false if the time is up
// before.
func (s *settling) wait(c *conn, turn uint32) bool {
	if s.slice == nil {
		s.slice = time.NewTimer(settleTime / settleSlices)
	}
	for {
		watched := c.raw.watched()
		if now := c.raw.turns.Load(); now != turn && waiting(now) || c.closing.Load() {
			return true
		}
		if s.used == settleSlices {
			return false
		}
		select {
		case <-watched:
		case <-s.slice.C:
			s.used++
			s.slice.Reset(settleTime / settleSlices)
		}
	}
}
