package pool

import (
	"errors"
	"time"
)

// Want says what kind of connection a request can use.
type Want struct {
	// Careful requests must not be sent twice.
	Careful bool
	// Fresh asks for a connection that is made after the request asked: the last try of one that met dead ones.
	Fresh bool

	turn int64 // its place among all others, from when it first asked
}

// Renew has the request ask as one that comes now, whatever was tried for it before: what is Fresh is made from now on.
func (w *Want) Renew() { w.turn = 0 }

// class is a kind of requests that can use the same connections.
type class uint8

const (
	carefulClass class = 1 << iota
	freshClass
	classes

	anyClass class = 0 // what it cannot use nobody can
)

func (k class) careful() bool { return k&carefulClass != 0 }
func (k class) fresh() bool   { return k&freshClass != 0 }

func (w Want) class() (k class) {
	if w.Careful {
		k |= carefulClass
	}
	if w.Fresh {
		k |= freshClass
	}
	return k
}

// Grant is a connection given to a request. Done or FoundDead gives it back.
type Grant struct {
	Conn    *Conn
	WasIdle bool          // it had no other request, and was not made for this one
	Idle    time.Duration // if so, for how long
	Doubt   bool          // it is in doubt, and what happens to the request on it is to be watched

	alone  bool // it had no other request
	idleAt moment
}

// Request is one that waits. The driver owns it, and may use it again when it has been granted, has failed or was given up.
type Request struct {
	Driver any // the driver's own
	Want   Want
	Grant  Grant // after DoGrant

	origin *Origin
	waits  bool
	since  moment
	mono   int64 // the monotonic clock then
	err    error // of its dial, while it is held for a proof

	queue  slot[Request] // in Origin.queues
	cover  slot[Request] // in Origin.bare or Origin.slow
	hold   elem[Request] // in Origin.held
	all    elem[Request] // in Machine.waiting
	dials  list[Dial]    // its own
	onTime int           // of these, those that are not late
	second bool          // it has had a second one
}

// Ask gives a connection to a request, or returns false if there is none for it now: it may Wait then.
func (m *Machine) Ask(now Instant, o *Origin, w *Want) (Grant, bool) {
	m.advance(now)
	if m.shut {
		return Grant{}, false
	}
	if w.turn == 0 {
		m.turn++
		w.turn = m.turn
	}
	if !m.first(o, w.turn) {
		return Grant{}, false
	}
	c := m.pick(o, w.class(), w.turn)
	if c == nil {
		return Grant{}, false
	}
	return m.take(c), true
}

// first reports whether nobody waits at o who came before turn.
func (m *Machine) first(o *Origin, turn int64) bool {
	if o.waits == 0 {
		return true
	}
	for k := range classes {
		if r := o.queues[k].first(); r != nil && r.Want.turn < turn {
			return false
		}
	}
	return true
}

// ErrExhausted is the error of a request that would wait for a connection to be given back, while as many wait for that as may.
var ErrExhausted = errors.New("pool: too many requests wait")

// Wait puts a request in the queue of o, after Ask has had nothing for it. [DoGrant] or [DoFail] ends the wait, and may be
// among the decisions of this call. again is whether it has waited before.
func (m *Machine) Wait(now Instant, o *Origin, r *Request, again bool) error {
	m.advance(now)
	if m.shut {
		return ErrClosed
	}
	m.enqueue(o, r)
	if !again {
		o.counts.Waits++
	}
	m.pump(o)
	if r.waits && o.waits > m.cfg.MaxWaiters && !again && !m.Coming(r) {
		m.dequeue(r)
		m.pump(o)
		return ErrExhausted
	}
	return nil
}

// Coming reports whether something is on its way to r, which waits, so that it does not merely wait for others to give back what
// they have.
func (m *Machine) Coming(r *Request) bool {
	o := r.origin
	return r.dials.n > 0 || r.hold.listed() || o.freeing > 0 || o.waits <= o.soon+o.onTime*o.each()
}

// GiveUp ends the wait of r. What it was granted is given back, if the driver has not seen that yet.
func (m *Machine) GiveUp(now Instant, r *Request) {
	m.advance(now)
	if r.waits {
		m.dequeue(r)
		m.pump(r.origin)
	}
}

func (m *Machine) enqueue(o *Origin, r *Request) {
	r.origin, r.waits, r.since, r.mono = o, true, m.now, m.read.Mono
	r.Grant, r.err, r.second, r.onTime = Grant{}, nil, false, 0
	o.queues[r.Want.class()].put(&r.queue, r, r.Want.turn)
	o.bare.put(&r.cover, r, r.Want.turn)
	m.waiting.pushBack(&r.all, r)
	o.waits++
	if r.Want.Fresh {
		o.fresh++
	}
	m.adopt(o)
	m.suspectLeaks()
}

// dequeue takes r out of all queues. Its dials find another owner, or none.
func (m *Machine) dequeue(r *Request) {
	o := r.origin
	r.waits = false
	o.counts.WaitTime += time.Duration(max(0, m.read.Mono-r.mono))
	r.queue.leave()
	r.cover.leave()
	r.hold.leave()
	r.all.leave()
	o.waits--
	if r.Want.Fresh {
		o.fresh--
	}
	for d := r.dials.first(); d != nil; d = r.dials.first() {
		m.steps++
		m.disown(d)
	}
	m.adopt(o)
}

// grant gives c to r, which waits.
func (m *Machine) grant(r *Request, c *Conn) {
	m.dequeue(r)
	r.Grant = m.take(c)
	m.decide(Decision{Kind: DoGrant, Request: r})
}

// fail ends the wait of r with an error.
func (m *Machine) fail(r *Request, err error) {
	m.dequeue(r)
	m.decide(Decision{Kind: DoFail, Request: r, Err: err})
}

// Again returns g as it would be if nobody used its connection yet: another request is about to look whether it is dead, and this one
// must not take it for proven.
func (g Grant) Again() Grant {
	g.WasIdle, g.Idle, g.idleAt = true, g.Conn.idled, g.Conn.idleAt
	return g
}

// take gives c to a request.
func (m *Machine) take(c *Conn) Grant {
	g := Grant{Conn: c}
	if c.streams == 0 {
		c.idled = m.age(c.idleAt)
		g.alone, g.WasIdle, g.Idle, g.idleAt = true, !c.new, c.idled, c.idleAt
		g.Doubt = m.doubtful(c) || m.distrusted(c)
		c.origin.unused--
	}
	c.streams++
	if c.protocol == HTTP2 {
		c.origin.streams++
	}
	m.place(c)
	return g
}

// How says how a request has left its connection.
type How uint8

const (
	Answered How = iota // to its end
	Last                // the same, and the server has closed the connection after it
	Aborted             // otherwise, and the connection lives: over HTTP/2
	Silent              // the same, and nothing came meanwhile: the connection is in doubt
	Refused             // the server, or the protocol layer, refused the stream
	Failed              // the connection is dead
)

// Done gives back a connection after a request. A byte of it was read last as long ago as heard. It is nothing if the connection is
// out of the pool.
func (m *Machine) Done(now Instant, c *Conn, how How, heard time.Duration) {
	m.advance(now)
	if c.life == closed {
		return
	}
	m.hear(c, heard)
	m.leaks.gaveBack = m.now
	m.drop(c)
	switch how {
	case Failed:
		m.close(c, Broken)
	case Last:
		m.close(c, ByServer)
	case Answered:
		m.serve(c)
	case Silent:
		m.suspect(c)
	case Refused:
		m.refuse(c)
	}
	if c.life != closed && c.streams == 0 {
		m.idles(c, m.now)
	}
	m.settle(c)
}

// Unused gives back a connection that its request has not used. It has shown nothing meanwhile.
func (m *Machine) Unused(now Instant, g Grant) {
	m.advance(now)
	c := g.Conn
	if c.life == closed {
		return
	}
	m.leaks.gaveBack = m.now
	m.drop(c)
	if c.streams == 0 {
		since := m.now
		if g.WasIdle {
			since = g.idleAt
		}
		m.idles(c, since)
	}
	m.settle(c)
}

// drop takes a request from c.
func (m *Machine) drop(c *Conn) {
	c.streams--
	if c.streams == 0 {
		c.origin.unused++
	}
	if c.protocol == HTTP2 {
		c.origin.streams--
	}
}

// settle draws the consequences for c, and for those who wait, of a request that has left it.
func (m *Machine) settle(c *Conn) {
	if c.life == live {
		m.place(c)
		m.offer(c)
	}
	m.pump(c.origin)
}

// idles notes that c has no request any more, since a time.
func (m *Machine) idles(c *Conn, since moment) {
	c.idleAt, c.stubborn = since, false
	switch why := m.expiry(c); {
	case c.life == retired:
		m.close(c, c.reason)
	case c.yields:
		m.close(c, Excess)
	case why != NoReason:
		m.close(c, why)
	}
}
