package pool

import "time"

// Conn is what the machine knows of a connection. The driver provides the memory, as a part of its own, and hands it over with
// [Machine.Dialed]; it is used for one connection only, because events about it may come late.
//
// There is one for each connection, so the fields are in the order that takes the least room.
type Conn struct {
	Driver any // the driver's own

	origin   *Origin
	protocol Protocol
	where    place // where it is kept

	// Its life: see close and retire.
	life   life
	reason Reason // why it is retired or closed
	takes  bool   // a place under the limits
	new    bool   // it was made at this moment

	// Its trust: see trust.go.
	trust      trust
	unprovable bool
	restarts   uint8 // of its proof, because the process had stood still

	// Its streams: see streams.go. Of HTTP/1.1 there is one.
	said   bool // its SETTINGS have come, or were waited for long enough
	served bool // a request was answered

	yields   bool // it takes no requests, so that it can be closed for another origin
	stubborn bool // it has yielded in vain

	streams  int32 // requests on it
	limit    int32 // streams that its server allows, or before it has said so, what it allowed last; 0 if that is not known
	allowed  int32 // of these, what was not refused lately
	refusals int32 // in a row
	promise  int32 // requests that it will serve soon

	rtt      time.Duration
	lifetime time.Duration
	idleFor  time.Duration // how long it may be idle
	number   int64         // among the turns of requests: when it was made

	born      moment
	heard     moment        // when a byte of it was read, or it was proven last
	suspected moment        // when there was reason to doubt it: what was heard before is no evidence
	since     moment        // when its proof was asked for, or it began to yield
	resume    moment        // it is paused until then
	idleAt    moment        // when it had its last request
	idled     time.Duration // how long it was idle before the request that took it last

	at        elem[Conn] // in Origin.places
	all       elem[Conn] // in Machine.conns
	idleHere  elem[Conn] // in Origin.idle
	idleThere elem[Conn] // in Machine.idle
	yielding  elem[Conn] // in Machine.yielded
	timer     timer
}

// Made says what a dial has made.
type Made struct {
	Protocol   Protocol
	RTT        time.Duration // an upper bound for a round trip
	Lifetime   time.Duration // with its jitter, or Forever
	Unprovable bool          // nothing can be asked to find out whether the peer is there
	Unwatched  bool          // nor does the driver notice that its peer is not there when a request is sent
	GoneAway   bool          // its server said at once that it takes no requests on it
}

// life says whether a connection takes requests.
type life uint8

const (
	live    life = iota
	retired      // no more than it has
	closed       // it is out of the pool
)

// Reason says why a connection was closed.
type Reason uint8

// The reasons. Those of the package transport are the same.
const (
	NoReason    Reason = iota
	IdleTimeout        // it was idle for too long
	Lifetime           // it is too old
	Stale              // it was found dead, or was idle for as long as one that was
	Unverified         // it was not proven
	ByServer           // its server went away
	Broken             // it failed in use
	Excess             // it is one too many, or in the way of others
	ByReset
	reasons
)

// String says it in words.
func (r Reason) String() string {
	return [...]string{
		NoReason: "unknown", IdleTimeout: "idle timeout", Lifetime: "lifetime", Stale: "stale", Unverified: "unverified",
		ByServer: "server", Broken: "error", Excess: "excess", ByReset: "reset",
	}[r]
}

// Origin returns where c leads to.
func (c *Conn) Origin() *Origin { return c.origin }

// Reason returns why c is closed or retired, or NoReason.
func (c *Conn) Reason() Reason { return c.reason }

// Closed reports whether c is out of the pool.
func (c *Conn) Closed() bool { return c.life == closed }

// RTT returns an upper bound for a round trip, of the dial. It does not change.
func (c *Conn) RTT() time.Duration { return c.rtt }

// Streams returns how many requests c has.
func (c *Conn) Streams() int { return int(c.streams) }

// Ended says that c is dead: its server or an error has closed it. The driver tells those who have requests on it. Freed follows.
func (m *Machine) Ended(now Instant, c *Conn, why Reason) {
	m.advance(now)
	if c.life != closed {
		m.remove(c, why)
		m.pump(c.origin)
	}
}

// Freed says that c is really closed: another one may take its place.
func (m *Machine) Freed(now Instant, c *Conn) {
	m.advance(now)
	if c.life != closed {
		m.remove(c, ByServer)
	}
	m.vacate(c)
	m.pump(c.origin)
}

// GoAway says that the server of c takes no more requests on it.
func (m *Machine) GoAway(now Instant, c *Conn) {
	m.advance(now)
	m.goAway(c)
	m.pump(c.origin)
}

// Retire says that c is to take no more requests than it has, because its server closes it after them ("Connection: close").
func (m *Machine) Retire(now Instant, c *Conn) {
	m.advance(now)
	m.retire(c, ByServer)
	m.pump(c.origin)
}

// TakenOver says that somebody took c for himself (a 101): it leaves its place under the limits, and what it has in
// use is given back when he closes it.
func (m *Machine) TakenOver(now Instant, c *Conn) {
	m.advance(now)
	m.retire(c, ByServer)
	m.vacate(c)
	m.pump(c.origin)
}

// Discard has c closed for a reason of the driver's.
func (m *Machine) Discard(now Instant, c *Conn, why Reason) {
	m.advance(now)
	m.close(c, why)
	m.pump(c.origin)
}

func (m *Machine) goAway(c *Conn) {
	if c.life != live {
		return
	}
	if !c.served {
		m.setBack(c.origin)
	}
	m.retire(c, ByServer)
}

// KeepAlive says for how long c may be idle by what its server said.
func (m *Machine) KeepAlive(now Instant, c *Conn, d time.Duration) {
	m.advance(now)
	c.idleFor = min(c.idleFor, d)
}

// add makes a connection of c.
func (m *Machine) add(o *Origin, c *Conn, made Made) {
	m.turn++
	*c = Conn{
		Driver: c.Driver, origin: o, protocol: made.Protocol, rtt: made.RTT, lifetime: made.Lifetime, number: m.turn,
		takes: true, new: true, born: m.now, heard: m.now, suspected: longAgo, unprovable: made.Unprovable,
		allowed: int32(o.allowed), idleAt: m.now, idleFor: o.limits.IdleTimeout,
	}
	if made.Unprovable && made.Unwatched {
		c.idleFor = min(c.idleFor, o.limits.TrustIdle)
	}
	c.timer.of = c
	o.open++
	o.unused++
	m.conns.pushBack(&c.all, c)
}

// close has the driver close c.
func (m *Machine) close(c *Conn, why Reason) {
	if c.life != closed {
		m.remove(c, why)
		m.decide(Decision{Kind: DoClose, Conn: c, Reason: c.reason})
	}
}

// remove takes c out of the pool. Its place is free once it is closed.
func (m *Machine) remove(c *Conn, why Reason) {
	o := c.origin
	if c.life == live {
		c.reason = why
	}
	o.counts.Closed[c.reason]++
	o.open--
	if c.streams == 0 {
		o.unused--
	}
	if c.takes {
		o.freeing++
		m.freeing++
	}
	if o.newest == c {
		o.newest = nil
	}
	if c.protocol == HTTP2 {
		o.streams -= int(c.streams)
	}
	c.all.leave()
	c.timer.leave()
	m.leaveUse(c, closed)
	c.streams = 0
}

// retire has c take no more requests than it has. It is closed when the last of those is done. That may take for ever if there can
// be many, as over HTTP/2, so such a connection leaves its place under the limits at once.
func (m *Machine) retire(c *Conn, why Reason) {
	switch {
	case c.life != live:
	case c.streams == 0:
		m.close(c, why)
	default:
		c.reason = why
		if c.protocol == HTTP2 {
			m.vacate(c)
		}
		m.leaveUse(c, retired)
	}
}

// leaveUse takes a connection out of those that take requests.
func (m *Machine) leaveUse(c *Conn, l life) {
	wasProving := c.trust != trusted
	c.life, c.trust, c.yields = l, trusted, false
	c.yielding.leave()
	m.place(c)
	if wasProving {
		m.proofOver(c)
	}
}

// vacate has c leave its place under the caps.
func (m *Machine) vacate(c *Conn) {
	if !c.takes {
		return
	}
	c.takes = false
	c.origin.taken--
	m.taken--
	if c.life == closed {
		c.origin.freeing--
		m.freeing--
	}
}

// expiry returns why c, which is idle, has expired, or NoReason.
func (m *Machine) expiry(c *Conn) Reason {
	switch {
	case m.passed(c.born, c.lifetime):
		return Lifetime
	case m.passed(c.idleAt, c.idleFor):
		return IdleTimeout
	}
	return NoReason
}

// untilExpiry returns after how long c expires if it stays idle.
func (m *Machine) untilExpiry(c *Conn) time.Duration {
	left := Forever
	if c.lifetime < Forever {
		left = min(left, c.lifetime-m.age(c.born))
	}
	if c.idleFor < Forever {
		left = min(left, c.idleFor-m.age(c.idleAt))
	}
	return left
}

func (c *Conn) due(m *Machine, overdue time.Duration) {
	if c.life != live {
		return
	}
	m.settingsDue(c)
	m.pauseDue(c)
	m.unwillingDue(c)
	m.yieldDue(c)
	if c.trust != trusted {
		m.proofDue(c, overdue)
	} else if c.streams == 0 {
		if why := m.expiry(c); why != NoReason {
			m.close(c, why)
		} else {
			m.within(&c.timer, m.untilExpiry(c))
		}
	}
	m.place(c)
	m.pump(c.origin)
}
