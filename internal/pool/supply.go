package pool

import "time"

// pump draws the consequences of a change at o: who waits and can be served is served; what the others need is proven or dialled;
// and what is free under MaxConns goes to whoever has waited for it longest, at whatever origin.
func (m *Machine) pump(o *Origin) {
	if m.shut {
		return
	}
	m.match(o)
	m.trim(o)
	m.supply(o)
	m.feed()
}

// match serves those who wait at o, in their order.
func (m *Machine) match(o *Origin) {
	var blocked class // a bit for each class, of those who cannot be served
	for o.waits > 0 {
		m.steps++
		var r *Request
		for k := range classes {
			if w := o.queues[k].first(); w != nil && blocked&(1<<k) == 0 && (r == nil || w.Want.turn < r.Want.turn) {
				r = w
			}
		}
		if r == nil {
			return
		}
		k := r.Want.class()
		if c := m.pick(o, k, r.Want.turn); c != nil {
			m.grant(r, c)
			blocked = 0 // what was below c may be fit for others
		} else {
			blocked |= 1 << k // nor can those of its class behind it be
		}
	}
}

// supply has proven or dialled what those who wait at o need.
func (m *Machine) supply(o *Origin) {
	dials, provable := o.need()
	for provable > 0 {
		c := o.places[doubtful].first()
		if c == nil {
			break
		}
		m.prove(c)
		dials, provable = o.need()
	}
	for dials > 0 {
		m.steps++
		r, second := o.nextToDial()
		if r == nil || o.onTime >= o.width() {
			break // when one ends, or is late, the next one begins
		}
		if m.now < o.resume {
			m.within(&o.timer, time.Duration(o.resume-m.now))
			break
		}
		if !m.room(o, r.Want.turn) {
			if !second {
				m.makeRoom(o, min(dials, o.bare.len()))
				return
			}
			if d := o.orphans.first(); d != nil && o.freeing == 0 {
				m.cancel(d)
			}
			break
		}
		m.dial(o, r)
		if next := o.bare.first(); next != nil && o.hunger.queued() {
			m.starved.put(&o.hunger, o, next.Want.turn)
		}
		dials, _ = o.need()
	}
	m.wantNothing(o)
}

// need returns how many more dials those who wait at o need, and for how many of them a proof would do as well.
func (o *Origin) need() (dials, provable int) {
	each := o.each()
	coming := o.onTime * each
	up := func(n int) int { return max(0, n+each-1) / each }
	waits := o.waits - o.held.n - o.soon
	return max(up(waits-coming), up(o.fresh-coming)), max(0, waits-o.fresh-max(0, coming-o.fresh))
}

// each returns how many of those who wait a dial that is under way will serve, as far as is known.
func (o *Origin) each() int {
	switch {
	case o.failures > 0, o.protocol == HTTP1:
		return 1
	case o.said > 0:
		return min(o.said, o.limits.MaxStreams)
	}
	return plenty // they wait for what ALPN and SETTINGS say
}

// width returns how many dials may be on their way at once. After one that failed, those who wait do not share the next one: there
// are two then, and twice as many after each further one that fails or is late, until one succeeds. So a server that refuses one connection does not get
// a dial for each request that waits, and one that is down fails all of them soon. HTTP/1.1 has a dial for each anyway.
func (o *Origin) width() int {
	if o.failures == 0 || o.protocol == HTTP1 {
		return plenty
	}
	return 1 << min(o.failures, 20)
}

// nextToDial returns the request that is to have the next dial: the first that has none; or else, while none is on time, the first
// whose own is late, and whether that is so. One at a time: a handshake can be slow because the machine is.
func (o *Origin) nextToDial() (r *Request, second bool) {
	if r = o.bare.first(); r != nil {
		return r, false
	}
	if o.onTime > 0 {
		return nil, false
	}
	return o.slow.first(), true
}

// Warm begins dials until o has n connections, or one if it does not speak HTTP/1.1, with the dials that are under way; beside is
// whether without those of them that are late. It returns those that it began, how many connections take requests, and how many are
// still missing because there is no room.
func (m *Machine) Warm(now Instant, o *Origin, n int, beside bool) (begun []*Dial, usable, missing int) {
	m.advance(now)
	if o.protocol != HTTP1 {
		n = min(n, 1)
	}
	for p := firstPlace; p < places; p++ {
		usable += o.places[p].n
	}
	missing = n - usable - o.onTime
	for e := m.dials.front; e != nil && !beside; e = e.next {
		if d := e.v; d.origin == o && d.late && !d.cancelled {
			missing--
		}
	}
	for ; missing > 0 && m.room(o, m.turn+1); missing-- {
		begun = append(begun, m.dial(o, nil))
	}
	if missing > 0 {
		m.evictFor(o, missing)
	}
	m.adopt(o)
	m.pump(o)
	return begun, usable, max(0, missing)
}
