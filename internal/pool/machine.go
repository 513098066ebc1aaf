package pool

import (
	"errors"
	"time"
)

// Config has the limits that hold for all origins together. Each is given: what is unlimited is very large, or [Forever].
type Config struct {
	MaxConns      int
	MaxIdleConns  int
	MaxWaiters    int           // of one origin, beside those that something is on its way to
	VerifyTimeout time.Duration // the most that a proof may take
	DialDelay     time.Duration // a dial that takes longer does not count as on its way any more
}

// Machine decides for all connections of a pool. It is not safe for concurrent use: its driver has a lock, and reads the time
// that it passes while it holds that.
type Machine struct {
	cfg  Config
	read Instant // the clocks at the last event
	now  moment
	shut bool

	conns   list[Conn] // all that are not closed
	idle    list[Conn] // of these, those that may be closed for others; the one idle longest first
	yielded list[Conn] // that take no requests, for the sake of other origins
	dials   list[Dial]
	orphans list[Dial]    // dials that nobody waits for; the oldest first
	waiting list[Request] // all that wait, the one that has waited longest first

	// Of MaxConns:
	taken   int // places: of connections, of dials, of what is being closed
	freeing int // of these, those that will be free soon
	starved heap[Origin]
	wanted  int // places that the starved want

	timers heap[timer]
	wakeAt moment // when the driver will call Tick, or never

	turn   int64  // of the last request that asked, or connection that was made
	thawed moment // when Thaw was called last
	leaks  leaks

	decisions []Decision
	steps     int // counted for the tests: how much work an event was
}

// New returns a machine without connections.
func New(cfg Config) *Machine {
	m := &Machine{cfg: cfg, wakeAt: never, thawed: longAgo, leaks: leaks{collected: longAgo}}
	m.leaks.timer.of = &m.leaks
	return m
}

// ErrClosed is the error of requests that wait when the machine is closed, and of those that come later.
var ErrClosed = errors.New("pool: closed")

// Closed reports whether Close was called.
func (m *Machine) Closed() bool { return m.shut }

// Close ends everything. What is under way still has its answers, which change nothing any more.
func (m *Machine) Close(now Instant) {
	m.advance(now)
	m.shut = true
	for r := m.waiting.first(); r != nil; r = m.waiting.first() {
		m.fail(r, ErrClosed)
	}
	for e := m.dials.front; e != nil; e = e.next {
		m.cancel(e.v)
	}
	for c := m.conns.first(); c != nil; c = m.conns.first() {
		m.close(c, ByReset)
	}
}

// Reset retires all connections, and ends all dials. Those who wait for one of these get another.
func (m *Machine) Reset(now Instant) {
	m.advance(now)
	for e := m.dials.front; e != nil; e = e.next {
		m.cancel(e.v)
	}
	m.eachConn(func(c *Conn) { m.retire(c, ByReset) })
	m.pumpAll()
}

// CloseIdle closes the connections that have no requests, and ends the dials that nobody waits for.
func (m *Machine) CloseIdle(now Instant) {
	m.advance(now)
	for d := m.orphans.first(); d != nil; d = m.orphans.first() {
		m.cancel(d)
	}
	m.eachConn(func(c *Conn) {
		if c.streams == 0 {
			m.close(c, ByReset)
		}
	})
	m.pumpAll()
}

// eachConn calls f for each connection that is not closed. f may close it.
func (m *Machine) eachConn(f func(*Conn)) {
	var next *elem[Conn]
	for e := m.conns.front; e != nil; e = next {
		next = e.next
		f(e.v)
	}
}

// Thaw looks after all connections once a freeze is over: those that have expired are closed, those in doubt are proven, and the
// others are looked at.
func (m *Machine) Thaw(now Instant) {
	m.advance(now)
	m.thawed = m.now
	m.eachConn(m.lookAfter)
	m.pumpAll()
}

// Thawed reports whether Thaw was ever called.
func (m *Machine) Thawed() bool { return m.thawed > longAgo }

// LookAfter does what Thaw does for the connections of one origin.
func (m *Machine) LookAfter(now Instant, o *Origin) {
	m.advance(now)
	for p := firstPlace; p < places; p++ {
		var next *elem[Conn]
		for e := o.places[p].front; e != nil; e = next {
			next = e.next
			m.lookAfter(e.v)
		}
	}
	m.pump(o)
}

func (m *Machine) lookAfter(c *Conn) {
	switch m.fit(c, anyClass, 0) {
	case Gone, Proving:
	case Expired:
		m.close(c, m.expiry(c))
	case Doubtful:
		m.prove(c)
	default:
		if c.streams == 0 {
			m.decide(Decision{Kind: DoLook, Conn: c})
		}
	}
}

// pumpAll looks after all who wait.
func (m *Machine) pumpAll() {
	var origins []*Origin
	for e := m.waiting.front; e != nil; e = e.next {
		if o := e.v.origin; !o.marked {
			o.marked = true
			origins = append(origins, o)
		}
	}
	for _, o := range origins {
		o.marked = false
		if r := o.bare.first(); r != nil {
			m.starved.put(&o.hunger, o, r.Want.turn) // until it is known what it needs, nobody who came later gets a place
		}
	}
	for _, o := range origins {
		m.pump(o)
	}
	m.feed()
}
