package pool

import "time"

// hostRoom reports whether the limit of o allows another connection.
func (o *Origin) hostRoom() bool { return o.taken < o.limits.MaxConns }

// room reports whether there may be another connection to o for a request that asked at turn. Under MaxConns, whoever has waited
// for longer comes first, at whatever origin.
func (m *Machine) room(o *Origin, turn int64) bool {
	if !o.hostRoom() || m.taken >= m.cfg.MaxConns {
		return false
	}
	first := m.starved.first()
	return first == nil || first == o || first.hunger.key > turn
}

// makeRoom ends what is in the way of n connections to o, for those who have no dial.
func (m *Machine) makeRoom(o *Origin, n int) {
	if o.hostRoom() {
		m.wanted += n - o.wanted
		o.wanted = n
		m.starved.put(&o.hunger, o, o.bare.first().Want.turn)
		m.evict()
	} else {
		m.wantNothing(o)
		m.evictOwn(o, n)
	}
	m.settleForUsed(o)
}

// wantNothing takes o out of those that wait for room under MaxConns.
func (m *Machine) wantNothing(o *Origin) {
	m.wanted -= o.wanted
	o.wanted = 0
	o.hunger.leave()
}

// evictOwn ends what nobody uses at o until n places become free. Those who wait cannot use it, or they would.
func (m *Machine) evictOwn(o *Origin, n int) {
	for o.freeing < n {
		m.steps++
		if d := o.orphans.first(); d != nil {
			m.cancel(d)
		} else if c := o.idle.first(); c != nil {
			m.close(c, Excess)
		} else {
			return
		}
	}
}

// evict ends what nobody uses, at whatever origin, for those that wait for room under MaxConns: dials first, which may be into
// the dark, then what has been idle longest.
func (m *Machine) evict() {
	for m.freeing+m.yielded.n < m.wanted {
		m.steps++
		if d := m.orphans.first(); d != nil {
			m.cancel(d)
		} else if c := m.idle.first(); c != nil {
			m.close(c, Excess)
		} else {
			return
		}
	}
}

// evictFor ends what nobody uses for n connections to o that are wanted ahead of requests: first dials that are late, or whose
// requests have ended, then idle connections of other origins.
func (m *Machine) evictFor(o *Origin, n int) {
	var next *elem[Dial]
	for e := m.orphans.front; e != nil && m.freeing < n; e = next {
		next = e.next
		if d := e.v; (d.late || !d.ahead) && (o.hostRoom() || d.origin == o) {
			m.cancel(d)
		}
	}
	var after *elem[Conn]
	for e := m.idle.front; e != nil && m.freeing < n && o.hostRoom(); e = after {
		after = e.next
		if e.v.origin != o {
			m.close(e.v, Excess)
		}
	}
}

// feed gives what is free under MaxConns to those that wait for it.
func (m *Machine) feed() {
	for m.taken < m.cfg.MaxConns {
		m.steps++
		o, before := m.starved.first(), m.taken
		if o == nil {
			break
		}
		m.supply(o)
		if m.taken == before && m.starved.first() == o {
			break
		}
	}
	m.evict()
	m.stopYielding()
}

// offer looks, for a connection that has room for a request, whether somebody is to have its place who came before all that could
// use it.
func (m *Machine) offer(c *Conn) {
	o := c.origin
	switch {
	case m.starved.len() == 0 && o.fresh == 0, c.life != live, c.trust != trusted, c.yields:
		return
	case c.streams > 0 && (c.protocol == HTTP1 || c.stubborn):
		return
	}
	mine := int64(never) // the turn of the first that can use it
	for k := range classes {
		if r := o.queues[k].first(); r != nil && m.fit(c, k, r.Want.turn) == Ready {
			mine = min(mine, r.Want.turn)
		}
	}
	if s := m.starved.first(); s != nil && m.freeing+m.yielded.n < m.wanted && s.hunger.key < mine {
		if c.streams == 0 {
			m.close(c, Excess)
		} else if s != o {
			m.yield(c)
		}
		return
	}
	if c.streams > 0 || o.freeing > 0 {
		return
	}
	for k := range classes {
		if r := o.queues[k].first(); r != nil && k.fresh() && r.Want.turn < mine && r.onTime == 0 && !m.room(o, r.Want.turn) {
			m.close(c, Excess)
			return
		}
	}
}

// yieldTime is how long a connection takes no requests for the sake of another origin. If it has requests still then, they may
// last for ever, and it serves its own origin again.
const yieldTime = time.Second

// yield has an HTTP/2 connection take no requests: while it always has one, it would never be closed.
func (m *Machine) yield(c *Conn) {
	c.yields, c.since = true, m.now
	m.yielded.pushBack(&c.yielding, c)
	m.within(&c.timer, yieldTime)
	m.place(c)
}

// yieldDue ends the yielding of a connection that has yielded in vain.
func (m *Machine) yieldDue(c *Conn) {
	if !c.yields {
		return
	}
	if left := yieldTime - m.age(c.since); left > 0 {
		m.within(&c.timer, left)
		return
	}
	m.serveAgain(c)
	c.stubborn = true
}

func (m *Machine) serveAgain(c *Conn) {
	c.yields = false
	c.yielding.leave()
	m.place(c)
}

// stopYielding has connections serve their origins again that yield for nobody, or for their own.
func (m *Machine) stopYielding() {
	for c := m.yielded.first(); c != nil; c = m.yielded.first() {
		if s := m.starved.first(); s != nil && s != c.origin {
			return
		}
		m.steps++
		m.serveAgain(c)
		m.pump(c.origin)
	}
}

// settleForUsed has those who want a fresh connection, to an HTTP/2 origin that has no room for one, take any: there will be none
// until a stream has ended, which can take for ever, and those in use are alive as far as anybody knows.
func (m *Machine) settleForUsed(o *Origin) {
	if o.fresh == 0 || o.protocol != HTTP2 || o.open == 0 || o.dials > 0 || o.freeing > 0 || m.freeing > 0 && o.hostRoom() {
		return
	}
	for k := range classes {
		for r := o.queues[k].first(); k.fresh() && r != nil; r = o.queues[k].first() {
			m.steps++
			r.Want.Fresh = false
			o.fresh--
			o.queues[r.Want.class()].put(&r.queue, r, r.Want.turn)
		}
	}
	m.pump(o)
}

// trim closes the longest idle connections that are more than may be.
func (m *Machine) trim(o *Origin) {
	for o.idle.n > o.limits.MaxIdleConns {
		m.close(o.idle.first(), Excess)
	}
	for m.idle.n > m.cfg.MaxIdleConns {
		m.close(m.idle.first(), Excess)
	}
}
