package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// rawConn is a transport-layer connection that tells whether its reader waits for something to read. Then everything that
// came before has been dealt with, by TLS and by the protocol layer.
type rawConn struct {
	net.Conn

	// turns is odd while the reader waits, and grows whenever it begins to wait or ends.
	turns atomic.Uint32
	// allWritten is whether a write failed although all of it was written. TLS says of such a one that nothing was.
	allWritten atomic.Bool
	// watch is closed when the reader begins to wait. It is nil while nobody watches.
	watch atomic.Pointer[watch]

	socket *socket // for looking at it without reading; nil where that cannot be done
	// A TCP socket is read past Conn, which would have bytes out of the socket, where a look sees them, for a moment before
	// the reader can say that it no longer waits. Another connection may have read ahead, TLS for one; it has no attempt.
	attempt func(fd uintptr) (done bool) // made once, so that reading allocates nothing

	// Owned by the reader.
	p     []byte // to be read into; then what was read
	errno uint32 // a syscall.Errno

	// writeBy is the deadline for writes in seconds since processStart, or zero: see boundWrites.
	writeBy atomic.Uint32
}

type watch struct{ over chan struct{} }

func newRawConn(nc net.Conn) *rawConn {
	r := &rawConn{Conn: nc, socket: newSocket(innermost(nc))}
	if _, ok := nc.(*net.TCPConn); ok && r.socket != nil && canReadSockets {
		r.attempt = r.read
	}
	return r
}

func (r *rawConn) Read(p []byte) (int, error) {
	if r.attempt != nil && len(p) > 0 {
		r.p, r.errno = p, 0
		err := r.socket.raw.Read(r.attempt)
		n := len(r.p)
		r.p = nil
		switch {
		case err != nil:
			r.works() // closed, or a deadline has passed: Conn has the error for it
		case r.errno != 0:
			return 0, &net.OpError{Op: "read", Net: "tcp", Source: r.LocalAddr(), Addr: r.RemoteAddr(), Err: os.NewSyscallError("read", syscall.Errno(r.errno))}
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
	r.waits()
	n, err := r.Conn.Read(p)
	r.works()
	return n, err
}

func (r *rawConn) Write(p []byte) (int, error) {
	r.postpone()
	n, err := r.Conn.Write(p)
	if err != nil {
		n, err = r.goOn(p, n, err)
	}
	return n, err
}

// goOn goes on with a write that failed after n bytes, if the peer is slow and does take something.
//
//go:noinline
func (r *rawConn) goOn(p []byte, n int, err error) (int, error) {
	for wrote := n; wrote > 0 && n < len(p) && r.bounded() && errors.Is(err, os.ErrDeadlineExceeded); n += wrote {
		r.extend(uptime())
		wrote, err = r.Conn.Write(p[n:])
	}
	if err != nil && n == len(p) {
		r.allWritten.Store(true)
	}
	return n, err
}

const (
	// writeTimeout is how long an HTTP/2 server may take nothing of what is written to it, be it an acknowledgement of a
	// PING, before its connection is closed. Whoever writes holds up all others, and the ends of their contexts do not free
	// them. On HTTP/1.1 the end of a request's context closes its connection.
	writeTimeout = 10 * time.Second
	// writeSlack is how much longer it may take, so that the deadline is not moved more often than that.
	writeSlack = 5 * time.Second

	// The least and the most that the deadline is away in whole seconds, in which writeBy counts. A second may be over but for
	// a moment.
	least  = uint32(writeTimeout/time.Second) + 1
	latest = uint32((writeTimeout + writeSlack) / time.Second)
)

// boundWrites has writes fail of which nothing is taken within writeTimeout and writeSlack. What the kernel takes counts, so
// that a peer which is gone can have that time twice. It reports whether it can: the
// deadline stays when a write is done, and what that does to a connection is known of TCP only.
//
// [http2.Transport]'s WriteByteTimeout sets a deadline before each write and clears it after. That costs a request more than
// the look at its connection.
func (r *rawConn) boundWrites() bool {
	if r.attempt == nil {
		return false
	}
	r.extend(uptime())
	return true
}

// bounded reports whether writes are.
func (r *rawConn) bounded() bool { return r.writeBy.Load() != 0 }

// postpone sees to it that the deadline for writes, if they are bounded, is at least writeTimeout away, and not further than
// it can be: the clock may have been set back by the restore of a snapshot.
func (r *rawConn) postpone() {
	by := r.writeBy.Load()
	if by == 0 {
		return
	}
	if now := uptime(); by-now-least > latest-least {
		r.extend(now)
	}
}

//go:noinline
func (r *rawConn) extend(now uint32) {
	r.writeBy.Store(max(1, now+latest))
	_ = r.Conn.SetWriteDeadline(time.Now().Add(writeTimeout + writeSlack)) // if it is closed, the write says so
}

// uptime returns the time since processStart in whole seconds.
func uptime() uint32 { return uint32(time.Since(processStart) / time.Second) }

// SetWriteDeadline sets the deadline that somebody else wants, TLS for its goodbye, and leaves it at that.
func (r *rawConn) SetWriteDeadline(t time.Time) error {
	r.writeBy.Store(0)
	return r.Conn.SetWriteDeadline(t)
}

// SetDeadline is SetWriteDeadline for reads too.
func (r *rawConn) SetDeadline(t time.Time) error {
	r.writeBy.Store(0)
	return r.Conn.SetDeadline(t)
}

// read reads the socket once. The reader waits for it to be readable if there is nothing.
func (r *rawConn) read(fd uintptr) (done bool) {
	r.works()
	n, errno := readSocket(fd, r.p)
	for errno == syscall.EINTR { // there may be something, of which the poller would not tell again
		n, errno = readSocket(fd, r.p)
	}
	switch errno {
	case 0:
		r.p = r.p[:n]
	case syscall.EAGAIN:
		r.waits()
		return false
	default:
		r.errno = uint32(errno)
	}
	return true
}

// waits notes that the reader is about to wait.
func (r *rawConn) waits() {
	if !waiting(r.turns.Load()) {
		r.turns.Add(1)
	}
	r.told()
}

// works notes that the reader no longer waits.
func (r *rawConn) works() {
	if waiting(r.turns.Load()) {
		r.turns.Add(1)
	}
}

// waiting reports whether the reader waits when turns is n.
func waiting(n uint32) bool { return n%2 == 1 }

// watched returns a channel that is closed the next time that the reader begins to wait, or told is called.
func (r *rawConn) watched() <-chan struct{} {
	for {
		if w := r.watch.Load(); w != nil {
			return w.over
		}
		r.watch.CompareAndSwap(nil, &watch{make(chan struct{})})
	}
}

// told ends the watch, if there is one.
func (r *rawConn) told() {
	if w := r.watch.Load(); w != nil && r.watch.CompareAndSwap(w, nil) {
		close(w.over)
	}
}
