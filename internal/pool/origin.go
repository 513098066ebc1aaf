package pool

import "time"

// Limits are those of one origin. Each is given: what is unlimited is very large, or [Forever].
type Limits struct {
	MaxConns     int
	MaxIdleConns int
	MaxStreams   int           // of one HTTP/2 connection, beside what its server allows
	IdleTimeout  time.Duration // how long a connection may be idle and still be used
	VerifyAfter  time.Duration // a connection that was not heard for longer is in doubt
	TrustIdle    time.Duration // and if it cannot be proven, serves requests that must not be sent twice for that long
}

// Protocol is what a connection speaks, or what an origin is known to speak.
type Protocol uint8

// The protocols.
const (
	Unknown Protocol = iota
	HTTP1
	HTTP2
)

// String returns the name that ALPN has for p.
func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "http/1.1"
	case HTTP2:
		return "h2"
	default:
		return "unknown"
	}
}

// Origin is where connections lead to. The driver tells origins apart, and makes one for each that it has requests for.
type Origin struct {
	Driver any // the driver's own

	limits Limits
	counts *Counts

	protocol Protocol // what it spoke last, remembered when its connections are gone
	said     int      // streams of a connection, as SETTINGS said last; 0 if that is not known
	allowed  int      // of these, what was not refused lately

	// Its connections that take requests, by where they are kept: see place.
	places [places]list[Conn]
	idle   list[Conn] // of these, those that may be closed for others; the one idle longest first
	newest *Conn      // the one made last
	proofs int        // that are out
	soon   int        // requests that its connections will serve soon, without another one

	// Its requests that wait.
	queues [classes]heap[Request] // by turn
	bare   heap[Request]          // those that nothing is on its way to for certain, by turn
	slow   heap[Request]          // those whose dial is late, by turn
	held   list[Request]          // those whose dial has failed while a proof is out
	waits  int                    // all of them
	fresh  int                    // those that want a connection that is made for them

	// Its dials.
	dials    int        // all that are under way
	onTime   int        // those that are neither late nor cancelled
	orphans  list[Dial] // those that nobody waits for; those on time first
	failures int        // dials that failed since the last that succeeded
	lates    int        // dials that were late since then

	// Of its limit of connections:
	taken   int
	freeing int

	open    int // connections that are not closed
	unused  int // of these, those without a request
	streams int // requests on HTTP/2 connections

	hunger slot[Origin] // in Machine.starved, by the turn of its first request without a dial
	wanted int          // places that it wants under MaxConns

	setbacks int    // connections in a row whose server went away without having served a request
	resume   moment // no dial before
	refusals int    // in a row, on whatever connections
	besides  int    // dials in a row that were begun beside connections that take no requests
	beside   moment // no such dial before
	timer    timer

	marked bool // see pumpAll
}

// NewOrigin returns an origin. p is what is known of its protocol without asking. What happens is counted in counts, which others may
// share.
func (m *Machine) NewOrigin(l Limits, p Protocol, counts *Counts) *Origin {
	o := &Origin{limits: l, counts: counts, protocol: p, allowed: plenty}
	o.timer.of = o
	return o
}

// due looks after those who wait, once a pause is over.
func (o *Origin) due(m *Machine, _ time.Duration) { m.pump(o) }

// Empty reports whether nothing is left of the origin but what it counted and learned.
func (o *Origin) Empty() bool { return o.taken == 0 && o.open == 0 && o.dials == 0 && o.waits == 0 }

// Protocol returns what the origin spoke last.
func (o *Origin) Protocol() Protocol { return o.protocol }

// Counts are what has happened at an origin. They only grow.
type Counts struct {
	Dials, DialErrors uint64
	Waits             uint64
	WaitTime          time.Duration // by the monotonic clock
	Verified          uint64
	VerifyFailed      uint64
	Closed            [reasons]uint64
}

// Gauges are what is there now.
type Gauges struct {
	Open, Idle, InUse int // connections; Idle have no request
	Streams           int // requests on HTTP/2 connections
	Dialing, Waiting  int
}

// Gauges returns what is there now.
func (o *Origin) Gauges() Gauges {
	return Gauges{Open: o.open, Idle: o.unused, InUse: o.open - o.unused, Streams: o.streams, Dialing: o.dials, Waiting: o.waits}
}

// Room reports whether there may be another connection to o by the limit of o, and by MaxConns.
func (m *Machine) Room(o *Origin) (host, all bool) { return o.hostRoom(), m.taken < m.cfg.MaxConns }

// Freeing returns how many places will be free soon, of those that o has taken.
func (o *Origin) Freeing() int { return o.freeing }

// Freeing returns how many places of MaxConns will be free soon.
func (m *Machine) Freeing() int { return m.freeing }

// Taken returns how many places of MaxConns are taken: by connections, by dials, and by what is being closed.
func (m *Machine) Taken() int { return m.taken }
