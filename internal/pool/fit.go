package pool

// Fit is what a connection is to a request.
type Fit uint8

// What it may be, the first that holds. With none of the others it is Ready.
const (
	Ready      Fit = iota
	Gone           // it is closed or retired
	Expired        // it has been idle for too long, or its lifetime is over, and nobody uses it
	Yielding       // it is to be closed for another origin
	Proving        // its proof is out
	Paused         // it refused a stream just now
	Full           // it has no stream to spare
	Doubtful       // it must be proven first
	Unsettled      // it may turn out to have fewer streams, and the request must not be sent twice
	Old            // the request wants one that was made for it
	Distrusted     // it cannot be proven, and the request must not be sent twice
	Outlived       // its lifetime is over: it is a last resort
)

// fit says what c is to a request of class k that asked at turn. It is the only place that does. What holds for all requests is
// asked first: else a connection would be kept where a request finds it that it serves, and be refused to another.
func (m *Machine) fit(c *Conn, k class, turn int64) Fit {
	over := m.passed(c.born, c.lifetime)
	switch {
	case c.life != live:
		return Gone
	case c.streams == 0 && (over || c.trust == trusted && m.passed(c.idleAt, c.idleFor)):
		return Expired
	case c.yields:
		return Yielding
	case c.trust != trusted:
		return Proving
	case m.now < c.resume:
		return Paused
	case c.streams >= c.most():
		return Full
	case m.doubtful(c) && (c.protocol == HTTP2 || k.careful()):
		// What speaks HTTP/1.1 carries a request that may be sent again at once: the driver watches it.
		return Doubtful
	case k.careful() && c.streams > 0 && !c.settled():
		return Unsettled
	case k.fresh() && c.number < turn:
		return Old
	case k.careful() && m.distrusted(c):
		return Distrusted
	case over:
		return Outlived
	}
	return Ready
}

// place is where a connection that takes requests is kept, so that who looks for one finds it without a search.
type place uint8

const (
	nowhere  place = iota // it is retired or closed
	idle                  // HTTP/1.1 without a request; the one used last first
	free                  // HTTP/2 with requests, and a stream to spare
	spare                 // HTTP/2 without a request; the one used last first, so that the others can be closed
	unsaid                // HTTP/2 with a request, whose SETTINGS have not come
	doubtful              // must be proven before some requests, or all
	proving
	paused
	full
	yielding
	outlived
	places

	firstPlace = idle
)

// place puts c where it belongs after something has changed about it.
func (m *Machine) place(c *Conn) {
	m.steps++
	o := c.origin
	where, promise := m.placeOf(c)
	o.soon += promise - int(c.promise)
	c.promise = int32(promise)
	if where != c.where {
		c.where = where
		switch l := &o.places[where]; {
		case where == nowhere:
			c.at.leave()
		case (where == idle || where == spare) && l.n > 0 && l.first().idleAt > c.idleAt: // given back unused, it has shown nothing
			l.pushBack(&c.at, c)
		default:
			l.pushFront(&c.at, c)
		}
	}
	unused := c.life == live && c.streams == 0 && c.trust == trusted && promise == 0
	switch {
	case unused == c.idleHere.listed():
	case unused:
		o.idle.pushBack(&c.idleHere, c)
		m.idle.pushBack(&c.idleThere, c)
		m.within(&c.timer, m.untilExpiry(c))
	default:
		c.idleHere.leave()
		c.idleThere.leave()
	}
}

// placeOf returns where c belongs, and how many of those who wait it will serve soon, so that nothing is dialled for them.
func (m *Machine) placeOf(c *Conn) (where place, promise int) {
	h1, room := c.protocol == HTTP1, int(max(0, c.most()-c.streams))
	switch f := m.fit(c, anyClass, 0); f {
	case Gone:
		return nowhere, 0
	case Outlived:
		return outlived, 0
	case Yielding:
		return yielding, 0
	case Proving:
		if c.trust == late {
			return proving, 0
		}
		return proving, room
	case Paused, Full:
		if where = full; f == Paused {
			where = paused
		}
		switch said := int(max(0, c.saidMost()-c.streams)); {
		case h1, m.unwilling(c):
			return where, 0
		case c.said && c.limit == 0:
			return where, plenty // its server allows none for now; on another connection it would hardly allow more
		case f == Paused:
			return where, max(1, said)
		case !c.said:
			return where, max(0, c.origin.each()-int(c.streams))
		case c.refusals > 0:
			return where, said // it refuses for now, for all that is known
		}
		return where, 0
	case Doubtful:
		if c.where == doubtful {
			return doubtful, 0
		}
	case Ready, Expired:
		if h1 && c.where == doubtful && m.doubtful(c) {
			return doubtful, 0
		}
		if !h1 && c.streams > 0 && !c.settled() {
			return unsaid, plenty // its SETTINGS will say how many it has
		}
	}
	switch {
	case h1:
		return idle, 0
	case c.streams == 0:
		return spare, 0
	}
	return free, 0
}

// setAside puts c, which is in doubt, where those are kept that a proof would make fit.
func (m *Machine) setAside(c *Conn) {
	c.where = doubtful
	c.origin.places[doubtful].pushBack(&c.at, c)
}

// pick returns the connection for a request of class k that asked at turn, or nil.
func (m *Machine) pick(o *Origin, k class, turn int64) *Conn {
	for _, p := range [...]place{free, spare} {
		if c := m.pickFrom(o, p, k, turn); c != nil {
			return c
		}
	}
	if c := o.newest; k.fresh() && c != nil && m.fit(c, k, turn) == Ready {
		return c
	}
	if c := m.pickFrom(o, idle, k, turn); c != nil {
		return c
	}
	if c := m.pickFrom(o, doubtful, k, turn); c != nil {
		return c
	}
	if c := o.places[unsaid].first(); c != nil && m.fit(c, k, turn) == Ready {
		return c
	}
	if c := o.places[outlived].first(); c != nil && m.fit(c, k, turn) == Outlived && m.lastResort(o, turn) {
		return c
	}
	return nil
}

// pickFrom returns the first connection of a place that is ready for the request, or nil. On the way it closes what has expired
// and sets aside what is in doubt.
func (m *Machine) pickFrom(o *Origin, p place, k class, turn int64) *Conn {
	for c := o.places[p].first(); c != nil; c = o.places[p].first() {
		m.steps++
		switch m.fit(c, k, turn) {
		case Ready:
			return c
		case Expired:
			m.close(c, m.expiry(c))
			continue
		case Doubtful:
			if p == doubtful {
				return nil
			}
			m.setAside(c)
			continue
		}
		if m.place(c); c.where == p {
			return nil // and those below are no better: they have been idle for longer, or are as this one
		}
	}
	return nil
}

// lastResort reports whether a request that asked at turn takes a connection whose lifetime is over: there is no room for its
// successor, or none that comes in time.
func (m *Machine) lastResort(o *Origin, turn int64) bool {
	return o.failures > 0 || o.onTime == 0 && o.dials > 0 || !m.room(o, turn)
}
