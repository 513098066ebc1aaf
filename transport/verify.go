package transport

import (
	"context"
	"math"
	"sync"
	"time"
)

// verification is one PING, shared by all who wait for its connection. Its fields are guarded by Transport.mu.
type verification struct {
	late bool          // no answer yet, and it should have come: a dial may take over
	done chan struct{} // closed when it has been decided
}

// The time that a sign of life may take is four round trips and some slack: for a process that has just been thawed
// on a fraction of a CPU, and, for the acknowledgement of a request, for the 40 ms to 200 ms by which a kernel delays
// acknowledgements (RFC 1122, section 4.2.3.2, allows 500 ms).
const (
	pingSlack = 100 * time.Millisecond
	ackSlack  = 250 * time.Millisecond
)

// patience returns how long to wait for a sign of life from c before doing something else.
func (t *Transport) patience(c *conn, slack time.Duration) time.Duration {
	rtt := c.rtt
	if info, ok := c.raw.socket.info(); ok && info.rtt > 0 {
		rtt = info.rtt
	}
	return min(4*rtt+slack, limit(t.cfg.VerifyTimeout, math.MaxInt64))
}

// verify sends a PING on an idle HTTP/2 connection that is not trusted. Until it is answered, no request is given the
// connection; once the answer is late, a dial is begun for those who wait, and whichever comes first serves them.
// mu is held.
func (t *Transport) verify(c *conn) *verification {
	v := &verification{done: make(chan struct{})}
	c.verify = v
	if !t.start(func() { t.ping(c, v) }) {
		c.verify = nil
		close(v.done)
	}
	return v
}

func (t *Transport) ping(c *conn, v *verification) {
	defer close(v.done)
	patience := t.patience(c, pingSlack)
	late := time.AfterFunc(patience, func() {
		t.mu.Lock()
		defer t.unlock()
		v.late = true
		t.pump(c.origin)
	})
	ctx, cancel := context.WithTimeout(t.ctx, limit(t.cfg.VerifyTimeout, 10*patience))
	err := c.h2.Ping(ctx)
	cancel()
	late.Stop()

	t.mu.Lock()
	defer t.unlock()
	c.verify = nil
	o := c.origin
	switch {
	case c.retired == closedExcess || c.retired == closedReset: // the pool itself closed it
	case err == nil:
		o.counts.Verified++
		c.verified = t.clock.now()
		c.suspected = false
		if c.state == connIdle {
			t.tidyBy(c, c.verified) // the timer passes over a connection that is being verified
		}
	default:
		o.counts.VerifyFailed++
		o.condemnUnverified(c, t.clock.now())
	}
	t.pump(o)
	t.pumpStarved()
}

// condemnUnverified closes a connection that did not answer, and those that have been idle for as long.
// Transport.mu is held.
func (o *origin) condemnUnverified(c *conn, now instant) {
	if c.state == connIdle {
		o.doom(c, closedUnverified)
		o.condemn(c.idleAt, now)
		return
	}
	c.retire(closedUnverified) // it has streams, which end on their own
}

// watch guards a request on an HTTP/1.1 connection that has been idle for longer than TrustIdle. If the peer's TCP has
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
		closed bool
		timer  *time.Timer
	)
	written := c.written.Load()
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
		if over = !ok || now.acked > before.acked; over {
			return
		}
		over, closed = true, true
		t.mu.Lock()
		c.origin.doom(c, closedUnverified)
		t.unlock()
	})
	mu.Unlock()
	return func() bool {
		timer.Stop()
		mu.Lock()
		over = true
		mu.Unlock()
		t.mu.Lock()
		if closed {
			c.origin.counts.VerifyFailed++
		} else {
			c.origin.counts.Verified++
		}
		t.unlock()
		return closed
	}
}
