package transport

import (
	"container/list"
	"sync/atomic"

	"github.com/thawhttp/thaw/internal/pool"
)

// ledger is what was counted of the origins that have one name, "https://host:port": there are several where requests go through
// different proxies, or need HTTP/1.1. It outlives them, so that counters only grow. Its fields are guarded by Transport.mu, but
// for those that are atomic.
type ledger struct {
	name    string
	counts  Origin        // counters of its own
	decided pool.Counts   // those that the machine counts
	origins int           // of that name, that are remembered
	reached bool          // a connection to one of them was made
	vacant  *list.Element // in Transport.vacantLedgers, if there are none

	requests, reused atomic.Uint64 // counters too, for the way of a request that takes no lock there
}

// maxLedgers is how many ledgers without an origin are kept.
const maxLedgers = 256

// ledgerFor returns the ledger of an origin that is made. mu is held.
func (t *Transport) ledgerFor(name string) *ledger {
	l := t.ledgers[name]
	if l == nil {
		l = &ledger{name: name}
		t.ledgers[name] = l
	}
	if l.vacant != nil {
		t.vacantLedgers.Remove(l.vacant)
		l.vacant = nil
	}
	l.origins++
	return l
}

// leaveLedger is called when an origin is forgotten. What was counted of a name that was never reached is kept under no name; of
// those that were reached, there is a name for very many. mu is held.
func (t *Transport) leaveLedger(l *ledger) {
	l.origins--
	switch {
	case l.origins > 0:
	case !l.reached:
		delete(t.ledgers, l.name)
		t.unreached.add(l.counters())
	default:
		l.vacant = t.vacantLedgers.PushBack(l)
		if t.vacantLedgers.Len() > maxLedgers {
			oldest := t.vacantLedgers.Remove(t.vacantLedgers.Front()).(*ledger)
			delete(t.ledgers, oldest.name)
			t.forgotten.add(oldest.counters())
		}
	}
}

// counters returns what was counted. mu is held.
func (l *ledger) counters() Origin {
	s, d := l.counts, &l.decided
	s.Reused = l.reused.Load() // first: a request is counted before its reuse is
	s.Requests = l.requests.Load()
	s.Dials, s.DialErrors, s.Waits, s.WaitTime = d.Dials, d.DialErrors, d.Waits, d.WaitTime
	s.Verified, s.VerifyFailed = d.Verified, d.VerifyFailed
	s.Closed = Closed{
		IdleTimeout: d.Closed[pool.IdleTimeout], Lifetime: d.Closed[pool.Lifetime], Stale: d.Closed[pool.Stale], Unverified: d.Closed[pool.Unverified],
		Server: d.Closed[pool.ByServer], Error: d.Closed[pool.Broken], Excess: d.Closed[pool.Excess], Reset: d.Closed[pool.ByReset],
	}
	return s
}
