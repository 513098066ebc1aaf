package pool

import (
	"fmt"
	"time"
)

// check holds the machine against the world after an event, before what it decided is carried out.
func (w *world) check(decisions []Decision) {
	w.t.Helper()
	granted := w.checkDecisions(decisions)
	if !w.checked {
		return
	}
	there := w.checkConns()
	w.checkDials(there)
	w.checkWaiting(there)
	w.checkSums(there)
	if !w.m.shut {
		w.checkProgress()
	}
	for r := range granted {
		for _, other := range w.waiting {
			if r != &other.Request && other.waits && other.Request.origin == r.origin && other.Request.Want.class() == r.Want.class() && other.Request.Want.turn < r.Want.turn {
				w.bad("a connection was given to one that came later")
			}
		}
	}
}

func (w *world) bad(format string, a ...any) {
	w.t.Helper()
	w.t.Fatalf("event %d, %s: %s", w.events, w.what, fmt.Sprintf(format, a...))
}

// checkDecisions checks each decision for itself, and returns the requests that are granted a connection.
func (w *world) checkDecisions(decisions []Decision) map[*Request]bool {
	granted := make(map[*Request]bool)
	for _, d := range decisions {
		switch d.Kind {
		case DoGrant:
			if granted[d.Request] {
				w.bad("a request is granted two connections")
			}
			granted[d.Request] = true
			w.checkGrant(d.Request.Want, d.Request.Grant)
		case DoDial:
			if r := d.Request; r != nil && r.waits && !r.second && w.what != "tick" {
				w.checkOrder(r)
			}
		}
	}
	return granted
}

// checkOrder checks that nobody at another origin, who waits for room under MaxConns, came before r, for which a dial is begun.
func (w *world) checkOrder(r *Request) {
	for _, o := range w.origins {
		if o.Origin != r.origin && o.hunger.queued() && o.hunger.key < r.Want.turn {
			w.bad("a dial was begun for one that came later than another origin's that waits for room")
		}
	}
}

// checkGrant checks that a request can use what it is granted.
func (w *world) checkGrant(want Want, g Grant) {
	w.t.Helper()
	c, m := g.Conn, w.m
	switch {
	case c.life == closed:
	case want.Careful && !c.unprovable && m.age(c.heard) > c.origin.limits.VerifyAfter:
		w.bad("a request that must not be sent twice is given a connection that is in doubt")
	case !c.unprovable && c.protocol == HTTP2 && m.age(c.heard) > c.origin.limits.VerifyAfter:
		w.bad("an HTTP/2 connection in doubt is used")
	case want.Careful && c.unprovable && m.age(c.heard) > c.origin.limits.TrustIdle:
		w.bad("a request that must not be sent twice is given a connection that TrustIdle has passed for")
	case want.Careful && !c.settled() && !g.alone:
		w.bad("a request that must not be sent twice may be one stream too many")
	case c.protocol == HTTP1 && c.streams > 1:
		w.bad("two requests on an HTTP/1.1 connection")
	}
}

// checkUse checks a connection that a request begins to use.
func (w *world) checkUse(r *worldRequest, c *worldConn) {
	if len(c.on) > 0 || r.asked != w.now() {
		return // it waited: how long ago that was decided is not known here
	}
	if idle := time.Duration(max(w.wall-c.free.Wall, w.mono-c.free.Mono)); idle > c.idleFor+ms {
		w.bad("a connection that was idle for %v is used, and %v is allowed", idle, c.idleFor)
	}
}

// sums are what an origin says of itself, or what is there.
type sums struct {
	open, unused, streams, idle, taken, freeing, soon, dials, onTime, waits, fresh, proofs, held int
}

func (o *Origin) sums() sums {
	return sums{o.open, o.unused, o.streams, o.idle.n, o.taken, o.freeing, o.soon, o.dials, o.onTime, o.waits, o.fresh, o.proofs, o.held.n}
}

// checkConns checks that each connection is in one place, and is what it says.
func (w *world) checkConns() map[*Origin]*sums {
	there := make(map[*Origin]*sums)
	for _, o := range w.origins {
		there[o.Origin] = new(sums)
	}
	for c := range w.conns {
		s := there[c.origin]
		kept := 0
		for p := range c.origin.places {
			if c.at.in == &c.origin.places[p] {
				kept++
				if place(p) != c.where {
					w.bad("a connection is kept in another place than it says")
				}
			}
		}
		switch {
		case c.life == live && kept != 1:
			w.bad("a connection is in %d places", kept)
		case c.life != live && (kept != 0 || c.idleHere.listed() || c.idleThere.listed() || c.promise != 0 || c.trust != trusted || c.yields):
			w.bad("a connection that takes no requests is in a list")
		case c.life == closed && (c.streams != 0 || c.all.listed()):
			w.bad("a closed connection has requests")
		case c.idleHere.listed() != c.idleThere.listed():
			w.bad("a connection is idle in one list, and not in the other")
		case c.idleHere.listed() != (c.life == live && c.streams == 0 && c.trust == trusted && c.promise == 0):
			w.bad("a connection is in the list of idle ones, or not, and should not, or should")
		case c.life != closed && int(c.streams) != w.held[c]:
			w.bad("a connection has %d requests, and says %d", w.held[c], c.streams)
		case c.streams < 0, c.protocol == HTTP1 && c.streams > 1:
			w.bad("%d requests on a connection", c.streams)
		case c.protocol == HTTP2 && c.life == retired && c.takes:
			w.bad("a retired HTTP/2 connection takes a place under the limits")
		case c.protocol == HTTP1 && c.life != closed && c.takes == w.taken[c]:
			w.bad("an HTTP/1.1 connection takes a place under the limits %t, and is another's %t", c.takes, w.taken[c])
		}
		if c.life != closed {
			s.open++
			if c.streams == 0 {
				s.unused++
			}
			if c.protocol == HTTP2 {
				s.streams += int(c.streams)
			}
		}
		if c.takes {
			s.taken++
			if c.life == closed {
				s.freeing++
			}
		}
		if c.idleHere.listed() {
			s.idle++
		}
		if c.trust != trusted {
			s.proofs++
		}
		s.soon += int(c.promise)
	}
	return there
}

func (w *world) checkDials(there map[*Origin]*sums) {
	for d := range w.dials {
		s := there[d.origin]
		s.dials++
		s.taken++
		switch {
		case d.cancelled:
			s.freeing++
		case !d.late:
			s.onTime++
		}
		if d.owner != nil && !d.owner.waits {
			w.bad("a dial is owned by one that does not wait")
		}
		if d.owner == nil && !d.cancelled && !d.orphan.listed() {
			w.bad("a dial that nobody waits for is in no list")
		}
	}
}

func (w *world) checkWaiting(there map[*Origin]*sums) {
	for r := range w.waiting {
		if !r.waits {
			continue // it was told just now
		}
		s := there[r.origin]
		s.waits++
		if r.Want.Fresh {
			s.fresh++
		}
		if r.hold.listed() {
			s.held++
		}
		onTime := 0
		for e := r.dials.front; e != nil; e = e.next {
			if !e.v.late {
				onTime++
			}
		}
		if onTime != r.onTime {
			w.bad("a request has %d dials on time, and says %d", onTime, r.onTime)
		}
		if !r.queue.queued() || r.dials.n == 0 && !r.cover.queued() && !r.hold.listed() {
			w.bad("a request waits for nothing")
		}
	}
}

// checkSums checks that all numbers add up, and that the limits hold.
func (w *world) checkSums(there map[*Origin]*sums) {
	m := w.m
	var all sums
	wanted := 0
	for _, o := range w.origins {
		s := there[o.Origin]
		if says := o.sums(); says != *s {
			w.bad("%s says %+v, and there is %+v", o.name, says, *s)
		}
		if o.taken > o.limits.MaxConns || o.idle.n > o.limits.MaxIdleConns {
			w.bad("%s: %d connections of %d, %d idle of %d", o.name, o.taken, o.limits.MaxConns, o.idle.n, o.limits.MaxIdleConns)
		}
		if o.proofs == 0 && o.held.n > 0 {
			w.bad("%s: a request is kept for a proof, and none is out", o.name)
		}
		if is := (Gauges{s.open, s.unused, s.open - s.unused, s.streams, s.dials, s.waits}); o.Gauges() != is {
			w.bad("%s says %+v, and is %+v", o.name, o.Gauges(), is)
		}
		if is := s.taken == 0 && s.open == 0 && s.waits == 0; o.Empty() != is {
			w.bad("%s says that it is empty: %t", o.name, o.Empty())
		}
		if host, all := m.Room(o.Origin); host != (s.taken < o.limits.MaxConns) || all != (m.taken < w.cfg.MaxConns) {
			w.bad("%s says that there is room: %t by its own limit, %t by MaxConns; %d are taken, %d in all", o.name, host, all, s.taken, m.taken)
		}
		all.taken += o.taken
		all.freeing += o.freeing
		all.idle += o.idle.n
		all.waits += o.waits
		wanted += o.wanted
	}
	if m.taken != all.taken || m.freeing != all.freeing || m.idle.n != all.idle || m.waiting.n != all.waits || m.wanted != wanted {
		w.bad("in all %d taken, %d freeing, %d idle, %d wait, %d wanted: says %d, %d, %d, %d, %d",
			all.taken, all.freeing, all.idle, all.waits, wanted, m.taken, m.freeing, m.idle.n, m.waiting.n, m.wanted)
	}
	if m.taken > w.cfg.MaxConns || m.idle.n > w.cfg.MaxIdleConns {
		w.bad("%d connections of %d in all, %d idle of %d", m.taken, w.cfg.MaxConns, m.idle.n, w.cfg.MaxIdleConns)
	}
}

// checkProgress checks that nobody waits while something could serve him, or should be begun for him.
func (w *world) checkProgress() {
	m := w.m
	if t := m.timers.first(); t != nil && t.key <= int64(m.now) {
		return // a tick is to come first
	}
	for c := range w.conns {
		// One whose clock was set back is closed when somebody asks.
		expired := c.idleAt != longAgo && (m.age(c.born) > c.lifetime || m.age(c.idleAt) > c.idleFor)
		if c.idleHere.listed() && expired && (!c.timer.queued() || c.timer.key > int64(m.now+1)) {
			w.bad("an idle connection has expired, and no timer closes it")
		}
	}
	for r := range w.waiting {
		if !r.waits {
			continue
		}
		o := r.origin
		for c := range w.conns {
			if c.origin == o && (!r.Want.Fresh || c == o.newest) && m.fit(c, r.Want.class(), r.Want.turn) == Ready && !w.blocked(o, r) {
				w.bad("one waits (%+v), and a connection is ready for him (place %d, number %d)", r.Want, c.where, c.number)
			}
		}
		switch {
		case r.dials.n > 0, r.hold.listed(), // something is on its way to him
			o.soon > 0, o.onTime > 0, // or to whoever comes first
			m.now < o.resume: // or is to be
		case m.room(o, r.Want.turn):
			w.bad("one waits, nothing is on its way, and there is room (%+v)", o.sums())
		case o.hostRoom() && m.freeing+m.yielded.n == 0 && (m.idle.n > 0 || m.orphans.n > 0):
			w.bad("one waits, nothing is on its way, and room could be made (%+v)", o.sums())
		case !o.hostRoom() && o.freeing == 0 && (o.idle.n > 0 || o.orphans.n > 0):
			w.bad("one waits, nothing is on its way, and room could be made at his origin (%+v)", o.sums())
		}
		if first := o.bare.first(); first == r && o.failures > 0 && o.soon == 0 && o.onTime < min(o.waits-o.held.n, o.width()) && m.now >= o.resume && m.room(o, r.Want.turn) {
			w.bad("those who wait share a dial after one has failed (%+v)", o.sums())
		}
	}
}

// blocked reports whether the first idle HTTP/1.1 connection is none for r: then those below, which were heard before, are not
// looked at.
func (w *world) blocked(o *Origin, r *Request) bool {
	c := o.places[idle].first()
	return c != nil && w.m.fit(c, r.Want.class(), r.Want.turn) != Ready
}
