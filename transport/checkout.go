package transport

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// acquire returns a connection for one attempt of w.req, found fit for it, or the error that ends the wait.
//
// In this order: HTTP/2 with a free stream; the idle HTTP/1.1 connection used last; the queue, which takes whatever
// comes first of a connection given back and one newly dialled.
func (t *Transport) acquire(ctx context.Context, key originKey, w *want, proxy *url.URL) (grant, error) {
	var ticket *waiter // once it had to wait
	unfit := 0         // fresh connections that could not be used
	turnedAway := 0    // those that others could use
	for {
		if ctx.Err() != nil {
			return grant{}, context.Cause(ctx)
		}
		t.mu.Lock()
		if t.shut {
			t.unlock()
			return grant{}, ErrClosed
		}
		o := t.originFor(key, w.req.URL, proxy)
		if t.shut { // while the origin was made
			t.vacated(o)
			t.unlock()
			return grant{}, ErrClosed
		}
		if w.turn == 0 {
			t.turns++
			w.turn = t.turns
		}
		if o.waiters.len() > 0 {
			t.pump(o) // they came first
		}
		now := t.clock.now()
		g, ok := t.pick(o, *w, now)
		if ok {
			t.unlock()
		} else {
			var err error
			again := ticket != nil
			if !again {
				ticket = &waiter{want: *w, since: now}
				o.counts.Waits++
			}
			ticket.ctx, ticket.done, ticket.dialing = ctx, make(chan struct{}), false
			g, err = t.wait(o, ticket, again)
			if err != nil {
				return grant{}, err
			}
		}
		if t.vet(&g) {
			return g, nil
		}
		switch {
		case !g.fresh():
		case g.c.uses.Load() > 0: // others were quicker, and the server goes away after a few: see attempt.turnedAway
			turnedAway++
		default:
			unfit++
		}
		if unfit > maxDeaths || turnedAway > maxTurnedAway {
			err := errUseless
			if g.c.goneAway.Load() {
				err = fmt.Errorf("%w: the server sent GOAWAY", err)
			}
			return grant{}, opErrorf(err, "connecting to %s", g.c.origin.name)
		}
	}
}

// errUseless ends a request whose server takes connections, and no requests on them.
var errUseless = errors.New("new connections could not be used")

// wait puts ticket in the queue of o, again if it was there before, and returns what comes. mu is held, and released.
func (t *Transport) wait(o *origin, ticket *waiter, again bool) (grant, error) {
	if n := t.cfg.MaxWaitersPerHost; n >= 0 && !again && !t.room(o) && o.waiters.len()-o.expected() >= n {
		err := t.waitError(o, ticket.since, ErrPoolExhausted)
		t.vacated(o)
		t.unlock()
		return grant{}, err
	}
	o.pins++
	o.waiters.push(ticket)
	t.pump(o)
	began := t.clock.now()
	t.unlock()

	var timeout <-chan time.Time
	if d := t.cfg.AcquireTimeout; d >= 0 {
		timer := time.NewTimer(max(0, d-began.waited(ticket.since)))
		defer timer.Stop()
		timeout = timer.C
	}
	var cause error
	select {
	case <-ticket.done:
	case <-timeout:
		cause = ErrPoolExhausted
	case <-ticket.ctx.Done():
		cause = context.Cause(ticket.ctx)
	case <-ticket.want.req.Cancel:
		cause = errRequestCanceled
	}

	t.mu.Lock()
	defer t.unlock()
	defer t.unpin(o)
	o.counts.WaitTime += t.clock.now().waited(began)
	if ticket.queued {
		err := t.waitError(o, ticket.since, cause)
		o.waiters.remove(ticket)
		return grant{}, err
	}
	if cause != nil && ticket.err == nil {
		// It came, but too late.
		t.giveBack(ticket.grant)
		return grant{}, t.waitError(o, ticket.since, cause)
	}
	return ticket.grant, ticket.err
}

// unpin ends the use of o by one of its pins. mu is held.
func (t *Transport) unpin(o *origin) {
	o.pins--
	t.vacated(o)
}

var errRequestCanceled = errors.New("net/http: request canceled") // what net/http says of Request.Cancel

// waitError returns the error of a wait that ends because of err, and says what the pool looked like. mu is held.
func (t *Transport) waitError(o *origin, since instant, err error) error {
	s := o.gauges()
	full := ""
	if t.hostRoom(o) && !t.room(o) {
		full = fmt.Sprintf("; %d to all origins, and MaxConns is %d", t.open+t.dialing+t.closing, t.cfg.MaxConns)
	}
	return opErrorf(err, "no connection to %s within %v: %d open, %d in use, %d dialling, %d waiting%s", o.name,
		t.clock.now().waited(since).Round(time.Millisecond), s.Open, s.InUse, s.Dialing, s.Waiting, full)
}

// pick takes a connection for w if there is one now. mu is held.
func (t *Transport) pick(o *origin, w want, now instant) (grant, bool) {
	if w.fresh || len(o.conns) == 0 {
		return grant{}, false
	}
	if o.protocol == h2 {
		if g, ok := t.pickStream(o, w, now); ok {
			return g, true
		}
	}
	for len(o.idle) > 0 {
		c := o.idle[len(o.idle)-1]
		if reason := c.expired(now); reason != closedUnknown {
			o.doom(c, reason)
			continue
		}
		idle := now.since(c.idleAt)
		doubt := t.cfg.TrustIdle >= 0 && idle > t.cfg.TrustIdle
		if doubt && (!w.replayable || !c.raw.socket.tellsAcknowledged()) {
			return grant{}, false // and so are all that have been idle longer
		}
		g := grant{wasIdle: true, idleFor: idle, idleAt: c.idleAt, doubt: doubt}
		o.unidle(c)
		c.vetting.Store(true)
		c.grant(&g)
		return g, true
	}
	return grant{}, false
}

// pickStream takes a stream on an HTTP/2 connection. mu is held.
func (t *Transport) pickStream(o *origin, w want, now instant) (grant, bool) {
	for i := 0; i < len(o.conns); i++ {
		c := o.conns[i]
		if reason := c.expired(now); reason != closedUnknown {
			if c.state == connIdle && c.verify == nil {
				o.doom(c, reason)
				i--
			} else {
				c.retired = reason
			}
			continue
		}
		if c.protocol != h2 || c.exhausted(now) || !c.admits(w) {
			continue
		}
		g := grant{}
		if c.state == connIdle || c.vetting.Load() {
			// While one request looks at the connection, the others that are given it must not take it for proven.
			g = grant{wasIdle: true, idleFor: now.since(c.idleAt), idleAt: c.idleAt}
		}
		if after := t.cfg.VerifyAfter; c.state == connIdle && after >= 0 && g.idleFor > after && now.since(c.verified) > after {
			c.suspected = true
		}
		if c.suspected {
			t.verify(c)
			continue
		}
		if c.state == connIdle {
			o.unidle(c)
			c.vetting.Store(true)
		}
		c.streams++
		o.streams++
		c.grant(&g)
		return g, true
	}
	return grant{}, false
}

// grant fills in what g says of the connection that it is for. Transport.mu is held.
func (c *conn) grant(g *grant) {
	g.c = c
	g.reused = c.uses.Add(1) > 1
	if n := len(c.spare); n > 0 {
		g.lease = c.spare[n-1]
		c.spare[n-1] = nil
		c.spare = c.spare[:n-1]
	}
}

// vet looks at a connection that was taken, without a lock, and reports whether it is fit. If it is not, it has been
// disposed of.
func (t *Transport) vet(g *grant) bool {
	c := g.c
	if g.wasIdle {
		if seen := c.look(); seen != alive {
			t.mu.Lock()
			c.vetting.Store(false) // not before: who closes it may come first, and is to know why
			t.unfit(g, seen)
			t.unlock()
			return false
		}
		c.vetting.Store(false)
	}
	if c.h2 == nil {
		if c.broken() {
			t.giveBackLocked(*g)
			return false
		}
		return true
	}
	if c.h2.ReserveNewRequest() {
		c.refusals.Store(0)
		return true
	}
	// It got a GOAWAY or was closed just now, or the end of an earlier stream has not reached its books yet.
	t.mu.Lock()
	if now := t.clock.now(); now.since(c.refused) >= refusalPause { // many may be refused at once
		c.refused = now
		if c.refusals.Add(1) > maxRefusals {
			c.retire(closedServer) // out of stream numbers, for example
		}
	}
	t.giveBack(*g)
	t.unlock()
	return false
}

// unfit disposes of a connection that was idle and is dead or in doubt. One in doubt that speaks HTTP/2 can be asked; one
// that speaks HTTP/1.1 has nothing to receive while it is idle. mu is held.
func (t *Transport) unfit(g *grant, seen liveness) {
	c := g.c
	if seen == inDoubt && c.h2 != nil {
		t.giveBack(*g)
		if c.state == connIdle && c.verify == nil {
			t.verify(c)
		}
		return
	}
	c.origin.doom(c, closedStale) // unless the protocol layer saw it first
	if seen == dead {
		c.origin.condemn(g.idleAt, t.clock.now())
	}
	t.pump(c.origin)
}

// giveBackLocked is giveBack for a caller that does not hold mu.
func (t *Transport) giveBackLocked(g grant) {
	t.mu.Lock()
	t.giveBack(g)
	t.unlock()
}

// giveBack returns a connection that its request has not used. mu is held.
func (t *Transport) giveBack(g grant) {
	c := g.c
	c.uses.Add(^uint64(0))
	c.vetting.Store(false)
	if g.lease != nil && c.state != connClosed {
		c.spare = append(c.spare, g.lease)
	}
	if c.h2 == nil && c.closing.Load() {
		c.origin.doom(c, closedServer)
		return
	}
	since := t.clock.now()
	if g.wasIdle {
		since = g.idleAt // it has proven nothing meanwhile
	}
	t.release(c, since)
}

// release ends the use of a connection: for HTTP/1.1 all of it, for HTTP/2 one stream. If that makes it idle, it is so
// since then. mu is held.
func (t *Transport) release(c *conn, since instant) {
	o := c.origin
	if c.protocol == h2 {
		c.streams--
		if c.state != connClosed {
			o.streams--
		}
	}
	if c.state == connClosed {
		return
	}
	if c.streams == 0 {
		now := t.clock.now()
		if since == (instant{}) {
			since = now
		}
		o.reidle(c, since, now)
		if reason := c.expired(now); reason != closedUnknown {
			o.doom(c, reason)
		}
	}
	t.pump(o)
	if t.idleCount > 0 {
		t.trim(o)
	}
	t.pumpStarved()
}

// trim closes the longest idle connections that are more than allowed. mu is held.
func (t *Transport) trim(o *origin) {
	if o.idleCount > limit(t.cfg.MaxIdleConnsPerHost, maxInt) {
		now := t.clock.now()
		c := o.longestIdle(false, now)
		if c == nil {
			c = o.longestIdle(true, now)
		}
		o.doom(c, closedExcess)
	}
	if t.idleCount > limit(t.cfg.MaxIdleConns, maxInt) {
		now := t.clock.now()
		c := t.longestIdle(false, now)
		if c == nil {
			c = t.longestIdle(true, now)
		}
		c.origin.doom(c, closedExcess)
	}
}

const maxInt = int(^uint(0) >> 1)

// longestIdle returns the connection that has been idle longest of all, or nil. mu is held.
func (t *Transport) longestIdle(verifying bool, now instant) *conn {
	var oldest *conn
	for _, o := range t.origins {
		if c := o.longestIdle(verifying, now); c != nil && c.idlesLonger(oldest, now) {
			oldest = c
		}
	}
	return oldest
}

// pump serves those who wait for o, in their order, with what there is, and begins the dials that the others need.
// It is called after everything that can change either. mu is held.
func (t *Transport) pump(o *origin) {
	if o.waiters.len() == 0 || t.shut {
		return
	}
	now := t.clock.now()
	if w := o.waiters.first; w.want.fresh && o.protocol == http1 && len(o.dials)+o.closing == 0 && !t.room(o) {
		// Those behind it would take every connection that is given back, and it would never get one made.
		if c := o.longestIdle(false, now); c != nil {
			o.doom(c, closedExcess)
		}
	}
	for w := o.waiters.first; w != nil; {
		next := w.next
		g, ok := t.pick(o, w.want, now)
		if ok {
			o.waiters.remove(w)
			w.deliver(g, nil)
		} else if o.idleCount == 0 && !w.want.fresh {
			break // nor is there anything for those behind it
		}
		w = next
	}
	need := t.dialsNeeded(o, now) - len(o.dials)
	for ; need > 0 && t.room(o); need-- {
		w := o.waiters.undialed()
		if w == nil {
			w = o.waiters.first
		}
		w.dialing = true
		t.beginDial(o, w.ctx).waiter = w.done
	}
	if need > 0 {
		t.makeRoom(o, need)
		if o.waiters.fresh > 0 && o.protocol == h2 && o.closing == 0 && len(o.dials) == 0 && len(o.conns) > 0 {
			// There will be no fresh connection until a stream has ended, which can take for ever. Those in use are
			// alive, as far as anybody knows.
			for w := o.waiters.first; w != nil; w = w.next {
				w.want.fresh = false
			}
			o.waiters.fresh = 0
			t.pump(o)
		}
	}
}

// dialsNeeded returns how many dials should be under way for those who wait. mu is held.
func (t *Transport) dialsNeeded(o *origin, now instant) int {
	n := o.waiters.len()
	switch {
	case n == 0:
		return 0
	case o.protocol == http1:
		return n
	case o.protocol == unknown:
		return 1 // the others wait for what ALPN says
	}
	limit := o.limit
	if limit == 0 {
		limit = n // it will be known by the time one dial is done
	}
	need := (n + limit - 1) / limit
	if o.waiters.fresh > 0 {
		return need
	}
	for _, c := range o.conns {
		switch {
		case c.protocol != h2 || c.retired != closedUnknown: // whoever it could serve does not wait
		case c.verify != nil && !c.verify.late:
			return 0 // its PING will be answered, or given up on, soon
		case !c.settled:
			t.awaitSettings(o)
			return 0 // its SETTINGS will say how many streams it has
		case c.limit == 0:
			return 0 // the server allows no streams for now; another connection would hardly have more
		case c.streams < c.limit && c.verify == nil:
			// It refused a stream, but should have room in a moment.
			t.nudge(o)
			return 0
		}
	}
	return need
}

// awaitSettings sees to it that those who wait for the SETTINGS of an HTTP/2 connection do not wait for long. mu is held.
func (t *Transport) awaitSettings(o *origin) {
	if o.holding {
		return
	}
	o.holding = true
	late := slices.Clone(o.conns) // later ones have their time too
	time.AfterFunc(limit(t.cfg.VerifyTimeout, DefaultVerifyTimeout), func() {
		t.mu.Lock()
		defer t.unlock()
		o.holding = false
		for _, c := range late {
			c.settled = true
		}
		t.pump(o)
	})
}

// nudge has the waiters of o looked after once a refusal is over. mu is held.
func (t *Transport) nudge(o *origin) {
	if o.nudging {
		return
	}
	o.nudging = true
	time.AfterFunc(2*refusalPause, func() {
		t.mu.Lock()
		defer t.unlock()
		o.nudging = false
		t.pump(o)
	})
}

// room reports whether another connection to o may be made. One that is still being closed takes its place until it
// is. mu is held.
func (t *Transport) room(o *origin) bool {
	return t.hostRoom(o) && t.open+t.dialing+t.closing < limit(t.cfg.MaxConns, maxInt)
}

// hostRoom reports whether MaxConnsPerHost allows it. mu is held.
func (t *Transport) hostRoom(o *origin) bool {
	return len(o.conns)+len(o.dials)+o.closing < limit(t.cfg.MaxConnsPerHost, maxInt)
}

// makeRoom closes up to n idle connections in the way of connections to o, which are dialled once those are closed:
// its own, which are of no use to those who wait, or they would not wait; and under MaxConns those of other origins.
// If nothing is idle, o is looked after when something is. mu is held.
func (t *Transport) makeRoom(o *origin, n int) {
	now := t.clock.now()
	if !t.hostRoom(o) {
		for c := o.longestIdle(false, now); c != nil && o.closing < n; c = o.longestIdle(false, now) {
			o.doom(c, closedExcess)
		}
		return
	}
	for c := t.longestIdle(false, now); c != nil && t.closing < n; c = t.longestIdle(false, now) {
		c.origin.doom(c, closedExcess)
	}
	if !o.starved {
		o.starved = true
		t.starved = append(t.starved, o)
	}
}

// pumpStarved looks after the origins that wait for room under MaxConns. mu is held.
func (t *Transport) pumpStarved() {
	for range len(t.starved) {
		if t.open+t.dialing+t.closing >= limit(t.cfg.MaxConns, maxInt) && t.idleCount == 0 {
			return
		}
		o := t.starved[0]
		t.starved = t.starved[1:]
		o.starved = false
		t.pump(o)
	}
}

// pumpAll looks after everyone. mu is held.
func (t *Transport) pumpAll() {
	for _, o := range t.origins {
		t.pump(o)
	}
}
