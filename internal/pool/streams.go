package pool

import "time"

// plenty is more than ever wait.
const plenty = 1 << 20

// unsaidStreams is how many streams x/net/http2 opens before it has seen the SETTINGS of the server.
const unsaidStreams = 100

// Settings says how many streams the server of c allows.
func (m *Machine) Settings(now Instant, c *Conn, streams int) {
	m.advance(now)
	o := c.origin
	if streams == 0 && (!c.said || c.limit > 0) {
		o.beside = max(o.beside, m.now+moment(firstBeside))
		m.within(&c.timer, time.Duration(o.beside-m.now))
	}
	c.said, c.limit, o.said = true, int32(min(streams, plenty)), streams
	for other := o.places[unsaid].first(); other != nil && streams > 0; other = o.places[unsaid].first() {
		other.limit = c.limit // what it says of one connection holds for the others, until it says otherwise
		m.place(other)
	}
	if c.life == live {
		m.place(c)
		m.offer(c)
	}
	m.pump(o)
}

// settingsDue ends the wait for SETTINGS.
func (m *Machine) settingsDue(c *Conn) {
	if c.protocol != HTTP2 || c.said {
		return
	}
	if left := m.settingsTime() - m.age(c.born); left > 0 {
		m.within(&c.timer, left)
	} else {
		c.said, c.limit = true, unsaidStreams
	}
}

// settingsTime is how long the SETTINGS of a connection are waited for.
func (m *Machine) settingsTime() time.Duration {
	if m.cfg.VerifyTimeout < Forever {
		return m.cfg.VerifyTimeout
	}
	return time.Second
}

// settled reports whether it is known how many streams c has.
func (c *Conn) settled() bool { return c.protocol == HTTP1 || c.said || c.limit > 0 }

// most returns how many requests c may have at once, by what its server said and by what it has refused.
func (c *Conn) most() int32 { return min(c.allowed, c.saidMost()) }

// saidMost returns how many requests c may have at once by what its server said.
func (c *Conn) saidMost() int32 {
	most := int32(min(c.origin.limits.MaxStreams, plenty))
	switch {
	case c.protocol == HTTP1:
		return 1
	case c.said:
		return min(c.limit, most)
	case c.limit > 0:
		return min(c.limit, unsaidStreams, most)
	}
	return min(unsaidStreams, most)
}

// The pauses after a refusal grow from the first to the last.
const (
	firstPause = time.Millisecond
	lastPause  = 256 * time.Millisecond
)

// maxRefusals is after how many refusals in a row, each after the pause of the one before, a connection is given up: it may be out
// of stream numbers, for example.
const maxRefusals = 12

// One connection that takes no requests, because it refuses them or allows no stream, may lead to the one bad backend of many: those
// who wait for it have another one dialled beside it. If the whole server is like that, this would make ever more of them. So each next
// one comes 16 times later than the one before, until a request is answered.
const (
	patientRefusals = 5 // in a row before the first one: 15 ms
	firstBeside     = firstPause << 4
	lastBeside      = firstPause << 12
)

// unwilling reports whether those who wait may have another connection beside c, which takes no requests.
func (m *Machine) unwilling(c *Conn) bool {
	return (c.refusals >= patientRefusals || c.said && c.limit == 0) && m.now >= c.origin.beside
}

// besides notes that a dial was begun beside connections that take no requests.
func (m *Machine) besides(o *Origin) {
	o.besides++
	o.beside = m.now + moment(min(firstPause<<min(4*o.besides, 20), lastBeside))
}

// unwillingDue has the timer run when those who wait for c may have another connection.
func (m *Machine) unwillingDue(c *Conn) {
	if left := time.Duration(c.origin.beside - m.now); c.said && c.limit == 0 && left > 0 {
		m.within(&c.timer, left)
	}
}

// Refusals returns how many streams c has refused in a row.
func (c *Conn) Refusals() int { return int(c.refusals) }

// pause returns how long the pause after n refusals in a row is: 1 ms, 2 ms, 4 ms, and so on.
func pause(n int) time.Duration { return min(firstPause<<min(n-1, 20), lastPause) }

// refuse notes that c has refused a stream that it should have had room for. Its server is at its limit, which may be lower than
// it said, or busy. A pause gives it time; and what it has accepted beside is the limit from now on, until it is seen to take more.
func (m *Machine) refuse(c *Conn) {
	if m.now >= c.resume { // many may be refused at once
		c.refusals++
		c.origin.refusals++
		p := pause(max(int(c.refusals), c.origin.refusals))
		c.resume = m.now + moment(p)
		m.within(&c.timer, p)
	}
	if c.streams > 0 {
		c.allowed = min(c.allowed, c.streams)
		c.origin.allowed = int(c.allowed)
	}
	if c.refusals > maxRefusals {
		m.goAway(c)
	}
}

// serve notes that c has answered a request.
func (m *Machine) serve(c *Conn) {
	c.served = true
	c.refusals = 0
	o := c.origin
	o.setbacks, o.refusals, o.besides, o.beside = 0, 0, 0, 0
	if c.allowed < plenty {
		c.allowed++
		c.origin.allowed = int(c.allowed)
	}
}

// pauseDue has the timer run at the end of a pause. One more request is let in then, to see whether the server takes it.
func (m *Machine) pauseDue(c *Conn) {
	if m.now < c.resume {
		m.within(&c.timer, time.Duration(c.resume-m.now))
	} else if c.refusals > 0 {
		c.allowed = max(c.allowed, c.streams+1)
	}
}

// Setbacks returns from how many connections in a row the server of o went away without having served a request.
func (o *Origin) Setbacks() int { return o.setbacks }

// setBack notes that a server went away without having served a request on a connection. There is a pause before the next dial:
// a server that is going down takes connections, and no requests, for a while.
func (m *Machine) setBack(o *Origin) {
	o.setbacks++
	o.resume = m.now + moment(pause(o.setbacks))
	m.within(&o.timer, pause(o.setbacks))
}
