package transport

import (
	"context"
	"time"
)

// Thaw looks after the pool once a freeze is over: it closes the connections that expired meanwhile and those that
// their servers closed, and sends a PING on the HTTP/2 connections that are not trusted, all at once. It returns when
// all is decided, or when ctx ends; what it has begun goes on then.
//
// Requests need not wait for it. Every connection is checked when it is taken, whether Thaw was called or not; a
// request waits at most for the verification of its own connection.
func (t *Transport) Thaw(ctx context.Context) {
	t.mu.Lock()
	now := t.clock.now()
	t.thawed = now
	pending := t.sweep(nil, now)
	t.unlock()
	for _, v := range pending {
		select {
		case <-v.done:
		case <-ctx.Done():
			return
		}
	}
}

// sweep closes the idle connections of only, or of all origins if that is nil, that have expired or died, and begins
// to verify those that are in doubt. It returns the verifications. mu is held, but not while the sockets are looked at.
func (t *Transport) sweep(only *origin, now instant) []*verification {
	var pending []*verification
	var idle []*conn
	var uses []uint64
	t.each(func(c *conn) {
		if c.state != connIdle || only != nil && c.origin != only {
			return
		}
		switch reason := c.expired(now); {
		case c.verify != nil:
			pending = append(pending, c.verify)
		case reason != closedUnknown:
			c.origin.doom(c, reason)
		default:
			idle = append(idle, c)
			uses = append(uses, c.uses.Load())
		}
	})
	t.unlock()
	seen := make([]liveness, len(idle))
	var s settling // for all of them: what one waits for, the others have waited for too
	for i, c := range idle {
		seen[i] = c.lookWithin(&s)
	}
	s.stop()
	t.mu.Lock()
	now = t.clock.now()
	after := t.cfg.VerifyAfter
	for i, c := range idle {
		switch {
		case c.state != connIdle || c.uses.Load() != uses[i]: // taken meanwhile: its request looks for itself
		case c.verify != nil:
			pending = append(pending, c.verify)
		case seen[i] == dead:
			c.origin.doom(c, closedStale)
		case c.protocol == h2 && (seen[i] == inDoubt || after >= 0 && now.since(c.idleAt) > after && now.since(c.verified) > after):
			pending = append(pending, t.verify(c))
		}
	}
	t.pumpAll()
	return pending
}

// tidyBy sees to it that the pool is tidied when c, which is idle at now, expires. Correctness does not need
// that: timers do not run in a frozen environment, and every limit is enforced when a connection is taken. mu is held.
func (t *Transport) tidyBy(c *conn, now instant) {
	left := time.Duration(Disabled)
	if c.idleLimit >= 0 {
		left = max(c.idleLimit-now.since(c.idleAt), 0)
	}
	if c.lifetime >= 0 {
		if rest := c.lifetime - now.since(c.created); left < 0 || rest < left {
			left = max(rest, 0)
		}
	}
	if left < 0 || t.shut {
		return // it never expires
	}
	left = min(max(left, time.Millisecond), tidyAtLeast)
	at := now.wall + int64(left)
	if t.tidyAt != 0 && t.tidyAt <= at && t.tidyAt >= now.wall {
		return
	}
	t.tidyAt = at
	if t.tidyTimer == nil {
		t.tidyTimer = time.AfterFunc(left, t.tidy)
	} else {
		t.tidyTimer.Reset(left)
	}
}

// tidyAtLeast is how often the pool is tidied if nothing is known to expire before.
const tidyAtLeast = 24 * time.Hour

// tidy closes what has expired and sets the timer for what expires next.
func (t *Transport) tidy() {
	t.mu.Lock()
	defer t.unlock()
	if t.shut {
		return
	}
	now := t.clock.now()
	t.tidyAt = 0
	t.each(func(c *conn) {
		if c.state != connIdle || c.verify != nil {
			return
		}
		if reason := c.expired(now); reason != closedUnknown {
			c.origin.doom(c, reason)
		} else {
			t.tidyBy(c, now)
		}
	})
	t.pumpStarved()
}
