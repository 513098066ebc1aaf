package transport

import (
	"math"
	"sync"
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

// prove asks the peer of an HTTP/2 connection for a sign of life, unless it has given one by itself. It belongs to the pool, which
// closes the connection if it takes too long.
func (t *Transport) prove(c *conn) {
	if c.raw.socket != nil && c.raw.socket.peek() == peekedEnd {
		t.mu.Lock()
		t.machine.Discard(t.clock.now(), &c.book, pool.Stale)
		t.unlock()
		return
	}
	if t.heard(c) {
		return
	}
	err := c.h2.Ping(t.ctx)
	t.mu.Lock()
	switch now := t.clock.now(); {
	case err == nil:
		t.machine.Proven(now, &c.book)
	case t.ctx.Err() == nil:
		t.machine.Unproven(now, &c.book)
	}
	t.unlock()
}

// heard tells the machine when a byte of c was read last, and reports whether that is evidence enough.
func (t *Transport) heard(c *conn) bool {
	t.mu.Lock()
	defer t.unlock()
	now := t.clock.now()
	return t.machine.Heard(now, &c.book, c.unheard(now))
}

// The time that a sign of life may take is four round trips and some slack: for a process that has just been thawed
// on a fraction of a CPU, and, for the acknowledgement of a request, for the 40 ms to 200 ms by which a kernel delays
// acknowledgements (RFC 1122, section 4.2.3.2, allows 500 ms).
const (
	answerSlack = 100 * time.Millisecond
	ackSlack    = 250 * time.Millisecond
)

// patience returns how long to wait for a sign of life from c before doing something else.
func (t *Transport) patience(c *conn, slack time.Duration) time.Duration {
	rtt := c.book.RTT()
	if info, ok := c.raw.socket.info(); ok && info.rtt > 0 {
		rtt = info.rtt
	}
	return min(4*rtt+slack, limit(t.cfg.VerifyTimeout, math.MaxInt64))
}

// watch guards a request on an HTTP/1.1 connection that is in doubt. If the peer's TCP has
// not acknowledged anything of the request in time, the connection is closed, so that the request is sent again
// elsewhere. A request that was acknowledged is waited for: a slow answer is not a dead connection.
// The function returned ends the watch, and reports whether it has closed the connection.
func (t *Transport) watch(c *conn) (stop func() (closed bool)) {
	before, ok := c.raw.socket.info()
	if !ok {
		return func() bool { return false }
	}
	var (
		mu     sync.Mutex // guards what follows
		over   bool
		acked  bool
		closed bool
		timer  *time.Timer
	)
	written, read := c.written.Load(), c.read.Load()
	patience := t.patience(c, ackSlack)
	mu.Lock()
	timer = time.AfterFunc(patience, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if c.written.Load() == written {
			timer.Reset(patience) // there is nothing to acknowledge yet
			return
		}
		now, ok := c.raw.socket.info()
		acked = ok && now.acked > before.acked
		if over = !ok || acked; over {
			return
		}
		over, closed = true, true
		t.mu.Lock()
		t.machine.Unproven(t.clock.now(), &c.book)
		t.unlock()
	})
	mu.Unlock()
	return func() bool {
		timer.Stop()
		mu.Lock()
		over = true
		mu.Unlock()
		if !closed && (acked || c.read.Load() > read) {
			t.mu.Lock()
			t.machine.Proven(t.clock.now(), &c.book)
			t.unlock()
		}
		return closed
	}
}

// silent reports whether nothing has come on an HTTP/2 connection during a request, although there was time for an answer. It must answer a PING before it gets another one, however short it was idle: else requests that
// time out, one after the other, would keep a connection in use whose packets are dropped.
func (t *Transport) silent(c *conn, read int64, since time.Time) bool {
	return c.read.Load() == read && time.Since(since) >= t.patience(c, answerSlack)
}

// done gives back a connection after a request. mu is held.
func (t *Transport) done(c *conn, how pool.How) {
	now := t.clock.now()
	t.machine.Done(now, &c.book, how, c.unheard(now))
}
