package pool

import "time"

// trust says whether there is evidence that the peer of a connection is there.
type trust uint8

const (
	trusted trust = iota // for VerifyAfter since it was heard
	asked                // its proof is out
	late                 // and has been for longer than it should: its requests may have dials
)

// Heard says that a byte of c was read last as long ago as ago, whatever it was for. It reports whether c is out of doubt: a byte from
// before there was reason to doubt is no evidence.
func (m *Machine) Heard(now Instant, c *Conn, ago time.Duration) bool {
	m.advance(now)
	m.hear(c, ago)
	if c.life != live || m.doubtful(c) {
		return false
	}
	switch {
	case c.trust != trusted:
		c.origin.counts.Verified++
		m.trustAgain(c)
	case c.where == doubtful:
		m.place(c)
		m.pump(c.origin)
	}
	return true
}

func (m *Machine) hear(c *Conn, ago time.Duration) {
	if at := m.now - moment(ago); at > c.suspected {
		c.heard = max(c.heard, at)
	}
}

// Proven says that the peer of c has answered a question, or has acknowledged what was sent to it.
func (m *Machine) Proven(now Instant, c *Conn) {
	m.advance(now)
	if c.life == closed {
		return
	}
	if c.trust != trusted || m.doubtful(c) || m.distrusted(c) {
		c.origin.counts.Verified++
	}
	c.heard = m.now
	if c.life == live {
		m.trustAgain(c)
	}
}

// Unproven says that the peer of c is not there.
func (m *Machine) Unproven(now Instant, c *Conn) {
	m.advance(now)
	if c.life != closed {
		m.unproven(c)
		m.pump(c.origin)
	}
}

// Unprovable says that the peer of c cannot be asked. TrustIdle holds for c from now on.
func (m *Machine) Unprovable(now Instant, c *Conn) {
	m.advance(now)
	c.unprovable = true
	if c.life == live {
		m.trustAgain(c)
	}
}

// Prove has the peer of c asked whether it is there, if it is not being asked already.
func (m *Machine) Prove(now Instant, c *Conn) {
	m.advance(now)
	if c.life == live && c.trust == trusted && !c.unprovable {
		m.prove(c)
		m.pump(c.origin)
	}
}

// Proving reports whether the proof of c is out.
func (c *Conn) Proving() bool { return c.trust != trusted }

// Suspect says that there is reason to doubt c, however short ago it was heard.
func (m *Machine) Suspect(now Instant, c *Conn) {
	m.advance(now)
	m.suspect(c)
	m.place(c)
	m.pump(c.origin)
}

func (m *Machine) suspect(c *Conn) {
	c.suspected = m.now
	c.heard = longAgo
}

// doubtful reports whether c must be proven. What cannot be is not in doubt: see Distrusted.
func (m *Machine) doubtful(c *Conn) bool {
	after := c.origin.limits.VerifyAfter
	return !c.unprovable && after < Forever && m.age(c.heard) > after
}

// distrusted reports whether c cannot be proven, and was heard too long ago to be trusted with a request that must not be sent
// twice.
func (m *Machine) distrusted(c *Conn) bool {
	after := c.origin.limits.TrustIdle
	return c.unprovable && after < Forever && m.age(c.heard) > after
}

// prove has the driver ask for a proof of c.
func (m *Machine) prove(c *Conn) {
	c.trust, c.since, c.restarts = asked, m.now, 0
	c.origin.proofs++
	m.place(c)
	m.within(&c.timer, m.patience(c))
	m.decide(Decision{Kind: DoProve, Conn: c})
}

// proofSlack is what is added to the round trips that a proof may take, for a process that has just been thawed on a fraction of a
// CPU.
const proofSlack = 100 * time.Millisecond

// patience returns how long the proof of c may take before it is late: four of its round trips, and some slack.
func (m *Machine) patience(c *Conn) time.Duration {
	return min(4*c.rtt+proofSlack, m.cfg.VerifyTimeout)
}

// hardPatience returns how long the proof of c may take before its peer is not there.
func (m *Machine) hardPatience(c *Conn) time.Duration {
	if m.cfg.VerifyTimeout < Forever {
		return m.cfg.VerifyTimeout
	}
	return 10 * m.patience(c)
}

// trustAgain ends the proof of c in its favour, if one is out.
func (m *Machine) trustAgain(c *Conn) {
	wasProving := c.trust != trusted
	c.trust = trusted
	m.place(c)
	m.match(c.origin) // before those are told whose dials have failed meanwhile
	if wasProving {
		m.proofOver(c)
	}
	m.pump(c.origin)
}

// proofOver notes that the proof of c has ended. With the last one end those who were kept for it.
func (m *Machine) proofOver(c *Conn) {
	o := c.origin
	o.proofs--
	m.decide(Decision{Kind: DoSettle, Conn: c})
	for o.proofs == 0 && o.held.n > 0 {
		m.steps++
		r := o.held.first()
		m.fail(r, r.err)
	}
}

const (
	// stoodStill is how late a deadline must be noticed to mean that the process did not run: the answer may have come, and
	// nobody has read it.
	stoodStill = 500 * time.Millisecond
	// maxRestarts is how often a proof begins again for that reason.
	maxRestarts = 3
)

// proofDue does what is due for a proof.
func (m *Machine) proofDue(c *Conn, overdue time.Duration) {
	since := m.age(c.since)
	switch {
	case overdue > stoodStill && c.restarts < maxRestarts:
		c.restarts++
		c.since, c.trust = m.now, asked
		m.within(&c.timer, m.patience(c))
	case since >= m.hardPatience(c):
		m.unanswered(c)
	case since >= m.patience(c):
		c.trust = late
		m.within(&c.timer, m.hardPatience(c)-since)
	default:
		m.within(&c.timer, m.patience(c)-since)
	}
}

// unanswered gives up a connection whose proof did not come. With requests on it, it is retired: its server may be busy with those,
// and nobody knows that they are lost.
func (m *Machine) unanswered(c *Conn) {
	if c.streams == 0 {
		m.unproven(c)
		return
	}
	c.origin.counts.VerifyFailed++
	m.retire(c, Unverified)
}

// unproven closes a connection whose peer is not there, and with it those that have been idle for as long.
func (m *Machine) unproven(c *Conn) {
	c.origin.counts.VerifyFailed++
	unused := c.streams == 0
	m.close(c, Unverified)
	if unused {
		m.condemn(c.origin, c.idleAt)
	}
}

// FoundDead says that the connection of g was dead when it was looked at. It is closed, and with it those that have been idle for
// as long: what closed that one, a freeze mostly, has closed them too. The request is to ask again.
func (m *Machine) FoundDead(now Instant, g Grant) {
	m.advance(now)
	m.close(g.Conn, Stale)
	m.condemnWith(g)
	m.pump(g.Conn.origin)
}

// Died says that the connection of g, which has ended, turned out to have been dead when it was granted. Those that have been idle
// for as long go with it.
func (m *Machine) Died(now Instant, g Grant) {
	m.advance(now)
	m.condemnWith(g)
	m.pump(g.Conn.origin)
}

func (m *Machine) condemnWith(g Grant) {
	if g.WasIdle {
		m.condemn(g.Conn.origin, g.idleAt)
	}
}

// condemnAfter is how long a dead connection must have been idle to say something of others. Below it, a server more likely
// closed just the one, after so many requests for example.
const condemnAfter = time.Second

// condemn closes the idle connections that have been idle for as long as one that is dead, or longer. Those that have carried a
// request since are another generation.
func (m *Machine) condemn(o *Origin, idleAt moment) {
	if m.age(idleAt) < condemnAfter && idleAt > m.thawed {
		return
	}
	for c := o.idle.first(); c != nil && c.idleAt <= idleAt; c = o.idle.first() {
		m.steps++
		m.close(c, Stale)
	}
}
