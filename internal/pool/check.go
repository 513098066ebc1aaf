package pool

import (
	"errors"
	"fmt"
)

// EachConn calls f for each connection that is not closed.
func (m *Machine) EachConn(f func(*Conn)) { m.eachConn(f) }

// State describes c, for people.
func (c *Conn) State() string {
	return fmt.Sprintf("%d of %d requests, life %d, trust %d, kept in place %d, %d refusals, settings said %t, closed for reason %v",
		c.streams, c.most(), c.life, c.trust, c.where, c.refusals, c.said, c.reason)
}

// Check looks for contradictions in the books of the machine, in time that grows with all that it holds. It is for tests, of the
// driver too.
func (m *Machine) Check() error {
	var errs []error
	fault := func(format string, a ...any) { errs = append(errs, fmt.Errorf("pool: "+format, a...)) }
	origins := make(map[*Origin]*origin)
	of := func(o *Origin) *origin {
		if origins[o] == nil {
			origins[o] = new(origin)
		}
		return origins[o]
	}
	m.eachConn(func(c *Conn) {
		s := of(c.origin)
		s.open++
		if c.protocol == HTTP2 {
			s.streams += int(c.streams)
		}
		if c.streams == 0 {
			s.unused++
		}
		if c.idleHere.listed() {
			s.idle++
		}
		if c.trust != trusted {
			s.proofs++
		}
		s.soon += int(c.promise)
		switch {
		case c.life == closed:
			fault("a closed connection is among those that are open")
		case c.life == live && c.at.in != &c.origin.places[c.where]:
			fault("a connection is kept in another place than it says")
		case c.life == retired && (c.at.listed() || c.protocol == HTTP2 && c.takes || c.streams == 0):
			fault("a retired connection is in a place, takes one under the limits, or has no request")
		case c.streams < 0, c.protocol == HTTP1 && c.streams > 1:
			fault("a connection has %d requests", c.streams)
		case c.idleHere.listed() != (c.life == live && c.streams == 0 && c.trust == trusted && c.promise == 0):
			fault("a connection is idle, and in use, or neither")
		}
	})
	for e := m.dials.front; e != nil; e = e.next {
		s := of(e.v.origin)
		s.dials++
		if !e.v.late && !e.v.cancelled {
			s.onTime++
		}
	}
	for e := m.waiting.front; e != nil; e = e.next {
		s, r := of(e.v.origin), e.v
		s.waits++
		if r.Want.Fresh {
			s.fresh++
		}
		if !r.waits || !r.queue.queued() || r.dials.n == 0 && !r.cover.queued() && !r.hold.listed() {
			fault("a request waits for nothing")
		}
	}
	var taken, idle int
	for o, s := range origins {
		says := origin{o.open, o.unused, o.streams, o.idle.n, o.proofs, o.soon, o.dials, o.onTime, o.waits, o.fresh}
		if says != *s {
			fault("an origin says %+v, and there is %+v", says, *s)
		}
		if o.taken > o.limits.MaxConns || o.idle.n > o.limits.MaxIdleConns {
			fault("%d connections of %d, %d idle of %d", o.taken, o.limits.MaxConns, o.idle.n, o.limits.MaxIdleConns)
		}
		taken += o.taken
		idle += o.idle.n
	}
	if m.taken < taken || m.taken > m.cfg.MaxConns || m.idle.n != idle || m.idle.n > m.cfg.MaxIdleConns {
		fault("%d connections of %d, %d of them of origins that have any; %d idle of %d, %d of them there", m.taken, m.cfg.MaxConns, taken, m.idle.n, m.cfg.MaxIdleConns, idle)
	}
	if t := m.timers.first(); t != nil && !m.shut && int64(m.wakeAt) > t.key && len(m.decisions) == 0 {
		fault("something is due, and the driver was not told to call")
	}
	return errors.Join(errs...)
}

// origin is what Check counts.
type origin struct {
	open, unused, streams, idle, proofs, soon, dials, onTime, waits, fresh int
}
