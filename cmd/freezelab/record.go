package main

import (
	"slices"
	"sync"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// record is what became of each connection of one run of one client. All its methods are safe for concurrent use, and
// do nothing if it is nil: most runs need none.
type record struct {
	mu          sync.Mutex
	lanes       []*lane
	byConn      map[*faultnet.Conn]*lane
	freezes     []span
	invocations []window
	now         func() time.Time // for tests
}

func newRecord() *record {
	return &record{byConn: make(map[*faultnet.Conn]*lane), now: time.Now}
}

// span is from when to when something lasted. A zero end is that of what never ended.
type span struct{ from, to time.Time }

// window is an invocation: from the thaw, or from when the event was sent to a function that was not frozen.
type window struct {
	span
	failed bool
	why    string
}

// lane is one connection, from its dial to its death.
type lane struct {
	target  string
	opened  time.Time // accepted
	hello   time.Time // the handshake began; zero without TLS
	ready   time.Time // the first request could be sent; zero if none ever could
	uses    []use     // in the order in which they began
	broken  time.Time // its path was broken by the lab; zero if it was not
	ended   time.Time // the end of it was seen; zero if it was not
	cause   death     // of whichever of the two came first
	detail  string    // of the cause, if there is more to say
	shaking int64     // bytes of the handshake, both ways
}

// use is a request on a connection, or where none can be seen a burst of bytes and what answered it.
type use struct {
	span
	requests int   // 1 if the request was seen
	lost     bool  // it was written into a broken connection
	out, in  int64 // bytes to the downstream and from it, if they were counted
}

// death is why a connection died.
type death string

const (
	causeFunction   death = "closed by the function"
	causeDownstream death = "closed by the downstream"
	causeDial       death = "the downstream could not be reached"
	causeFIN        death = "closed while frozen (FIN)"
	causeRST        death = "reset while frozen (RST)"
	causeNAT        death = "forgotten while frozen (NAT)"
	causeHole       death = "swallowed while frozen (black hole)"
	causeRestart    death = "closed by a restart of the server"
)

// causeOf is the cause of death by a fault.
func causeOf(f fault) death {
	return map[fault]death{faultFIN: causeFIN, faultRST: causeRST, faultNAT: causeNAT, faultHole: causeHole, faultRestart: causeRestart}[f]
}

// change calls f with the lane of c, if there is one, and the time.
func (r *record) change(c *faultnet.Conn, f func(l *lane, now time.Time)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.byConn[c]; l != nil {
		f(l, r.now())
	}
}

// opened notes a new connection.
func (r *record) opened(c *faultnet.Conn, target string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byConn[c] == nil {
		l := &lane{target: target, opened: r.now()}
		r.lanes, r.byConn[c] = append(r.lanes, l), l
	}
}

// ready notes that c can carry requests. What was noted first counts.
func (r *record) ready(c *faultnet.Conn) {
	r.change(c, func(l *lane, now time.Time) {
		if l.ready.IsZero() {
			l.ready = now
		}
	})
}

// begin notes that a request has come on c. The function it returns notes that it was answered.
func (r *record) begin(c *faultnet.Conn) (end func()) {
	at := -1
	r.change(c, func(l *lane, now time.Time) {
		at = len(l.uses)
		l.uses = append(l.uses, use{span: span{from: now}, requests: 1, lost: c.Broken()})
	})
	return func() {
		if at >= 0 {
			r.change(c, func(l *lane, now time.Time) { l.uses[at].to = now })
		}
	}
}

// died notes why and when a connection ended, or was broken. Only the first cause counts; the end of what was broken is
// noted beside it.
func (r *record) died(c *faultnet.Conn, why death, detail string) {
	r.change(c, func(l *lane, now time.Time) {
		if l.cause == "" {
			l.cause, l.detail = why, detail
		}
		switch why {
		case causeFIN, causeRST, causeNAT, causeHole, causeRestart:
			if l.broken.IsZero() && l.ended.IsZero() {
				l.broken = now
			}
		default:
			if l.ended.IsZero() {
				l.ended = now
			}
		}
	})
}

// frozen notes a freeze.
func (r *record) frozen(from, to time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freezes = append(r.freezes, span{from, to})
}

// invoked notes an invocation, and what it failed with.
func (r *record) invoked(from, to time.Time, why string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.invocations = append(r.invocations, window{span: span{from, to}, failed: why != "", why: why})
}

// finish returns what was noted, which nobody changes any more.
func (r *record) finish() *record {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	done := &record{freezes: slices.Clone(r.freezes), invocations: slices.Clone(r.invocations)}
	for _, l := range r.lanes {
		c := *l
		c.uses = slices.Clone(l.uses)
		done.lanes = append(done.lanes, &c)
	}
	return done
}

// end is when the connection was no good any more, whoever knew; zero if it still is.
func (l *lane) end() time.Time {
	if l.broken.IsZero() || !l.ended.IsZero() && l.ended.Before(l.broken) {
		return l.ended
	}
	return l.broken
}

// during reports whether t is in s. A span that never ended has no end.
func (s span) during(t time.Time) bool {
	return !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to))
}
