package pool

import "time"

// Dial is a connection on its way. It belongs to the pool: it goes on when the request that it was begun for has ended, and what
// it makes goes to whoever waits first.
type Dial struct {
	Driver any // the driver's own

	origin    *Origin
	owner     *Request // that waits for it, or nil
	liable    bool     // it was begun for its owner, who fails with it
	ahead     bool     // it was begun for nobody, by Warm
	second    bool     // it was begun beside another one of its owner, which is late
	begun     moment
	late      bool // it is not done within DialDelay, and does not count as on its way any more
	cancelled bool
	over      bool

	own    elem[Dial] // in Request.dials or Origin.orphans
	orphan elem[Dial] // in Machine.orphans
	all    elem[Dial] // in Machine.dials
	timer  timer
}

// Origin returns where d leads to.
func (d *Dial) Origin() *Origin { return d.origin }

// Cancelled reports whether the machine has ended d.
func (d *Dial) Cancelled() bool { return d.cancelled }

// dial begins a dial, for r or for nobody.
func (m *Machine) dial(o *Origin, r *Request) *Dial {
	m.steps++
	d := &Dial{origin: o, begun: m.now}
	d.timer.of = d
	o.dials++
	o.onTime++
	o.taken++
	m.taken++
	o.counts.Dials++
	if o.places[paused].n > 0 || o.said == 0 && o.open > 0 {
		m.besides(o)
	}
	m.dials.pushBack(&d.all, d)
	m.within(&d.timer, m.cfg.DialDelay)
	if r == nil {
		d.ahead = true
		m.disown(d)
	} else {
		d.second = r.dials.n > 0
		r.second = d.second
		m.own(d, r)
		d.liable = true
	}
	m.decide(Decision{Kind: DoDial, Dial: d, Request: r})
	return d
}

// own makes r the owner of d.
func (m *Machine) own(d *Dial, r *Request) {
	d.orphan.leave()
	d.owner, d.liable = r, false
	r.dials.pushBack(&d.own, d)
	r.onTime++
	r.cover.leave()
}

// disown leaves d without an owner.
func (m *Machine) disown(d *Dial) {
	if r := d.owner; r != nil && !d.late {
		r.onTime--
	}
	d.owner, d.liable = nil, false
	switch {
	case d.cancelled:
		d.own.leave()
		return
	case d.late:
		d.origin.orphans.pushBack(&d.own, d)
	default:
		d.origin.orphans.pushFront(&d.own, d)
	}
	m.orphans.pushBack(&d.orphan, d)
}

// adopt gives the dials that nobody waits for to those who have none. These are not liable for them: they were begun before, and
// have used up a part of their time.
func (m *Machine) adopt(o *Origin) {
	for {
		d, r := o.orphans.first(), o.bare.first()
		if d == nil || d.late || r == nil {
			return
		}
		m.steps++
		m.own(d, r)
	}
}

// manyLate is how many dials in a row must be late for an origin to be treated as one whose dials fail. Fewer may be slow because
// the machine is: a handshake needs a CPU.
const manyLate = 4

// due notes that a dial is late. Those who wait for it may have another one.
func (d *Dial) due(m *Machine, _ time.Duration) {
	if d.late || d.cancelled {
		return
	}
	if left := m.cfg.DialDelay - m.age(d.begun); left > 0 {
		m.within(&d.timer, left)
		return
	}
	o := d.origin
	d.late = true
	o.onTime--
	if o.lates++; o.lates >= manyLate || o.failures > 0 {
		o.failures++ // it hangs, and that is as good as having failed
	}
	switch r := d.owner; {
	case r == nil:
		o.orphans.pushBack(&d.own, d)
	default:
		r.onTime--
		if r.onTime == 0 && !r.second {
			o.slow.put(&r.cover, r, r.Want.turn)
		}
	}
	m.pump(o)
}

// cancel ends d. Its place is free when its driver has ended it.
func (m *Machine) cancel(d *Dial) {
	if d.cancelled {
		return
	}
	o := d.origin
	d.cancelled = true
	if !d.late {
		o.onTime--
	}
	o.freeing++
	m.freeing++
	d.timer.leave()
	d.orphan.leave()
	if d.owner == nil {
		d.own.leave()
	}
	m.decide(Decision{Kind: DoCancel, Dial: d})
}

// end takes a dial that is over out of everything. It returns its owner if no other dial is on its way to that one: those that are
// late do not count. If it has none at all, it is in no queue for one.
func (m *Machine) end(d *Dial) (bereft *Request) {
	o, r := d.origin, d.owner
	d.over = true
	o.dials--
	if d.cancelled {
		o.freeing--
		m.freeing--
	} else if !d.late {
		o.onTime--
	}
	if r != nil && !d.late {
		r.onTime--
	}
	d.own.leave()
	d.orphan.leave()
	d.all.leave()
	d.timer.leave()
	if r == nil || r.onTime > 0 {
		return nil
	}
	if r.dials.n == 0 {
		r.cover.leave()
	}
	return r
}

// DialFailed ends d. It fails the request that it was begun for, if nothing else is on its way to that one, and nobody else: the
// others get dials of their own. A second dial does not fail it while the first one, which is late, may still succeed.
func (m *Machine) DialFailed(now Instant, d *Dial, err error) {
	m.advance(now)
	if d.over {
		return
	}
	o, liable := d.origin, d.liable && !d.cancelled
	r := m.end(d)
	if r != nil && r.dials.n > 0 && (!liable || d.second) {
		if !r.second {
			o.slow.put(&r.cover, r, r.Want.turn)
		}
		r = nil
	}
	o.taken--
	m.taken--
	if !d.cancelled {
		o.failures++
	}
	o.counts.DialErrors++
	if r != nil && !liable {
		o.bare.put(&r.cover, r, r.Want.turn)
		r = nil
	}
	m.match(o) // what is only a last resort may serve it now
	switch {
	case r == nil || !r.waits:
	case o.proofs > 0 && !r.Want.Fresh:
		r.err = err
		o.held.pushBack(&r.hold, r)
	default:
		m.fail(r, err)
	}
	m.pump(o)
}

// Dialed turns d into the connection c. What happened to c before is told after this.
func (m *Machine) Dialed(now Instant, d *Dial, c *Conn, made Made) {
	m.advance(now)
	o := d.origin
	r := m.end(d)
	m.add(o, c, made)
	if r != nil && r.dials.n == 0 {
		o.bare.put(&r.cover, r, r.Want.turn)
	}
	if d.cancelled || m.shut {
		m.close(c, ByReset)
		m.pump(o)
		return
	}
	o.failures, o.lates, o.newest = 0, 0, c
	o.protocol = made.Protocol
	if made.Protocol == HTTP2 {
		c.limit = int32(min(o.said, plenty))
		m.within(&c.timer, m.settingsTime())
	}
	if made.GoneAway {
		m.goAway(c)
		m.pump(o)
		return
	}
	m.place(c)
	m.offer(c)
	m.pump(o)
	c.new = false
}
