package transport

import (
	"container/list"
	"log/slog"
	"time"
)

// holding is a request that has a connection.
type holding struct {
	record *leaseRecord
	since  instant
	elem   *list.Element // in holdings.leases
}

// holdings are the requests that have a connection, for LeakAfter. They are guarded by Transport.mu.
type holdings struct {
	leases list.List // of *holding, the one that has it for longest first
	timer  *time.Timer
}

// hold notes that the request of g has a connection now, if somebody wants to know when it has it for too long. mu is not held.
func (t *Transport) hold(g *grant) {
	after := t.cfg.LeakAfter
	if after < 0 {
		return
	}
	if g.lease == nil {
		g.lease = newLease(g.c)
	}
	r := g.lease.record
	r.noteStack()
	t.mu.Lock()
	defer t.unlock()
	r.held = &holding{record: r, since: t.clock.now()}
	r.held.elem = t.held.leases.PushBack(r.held)
	switch {
	case t.held.leases.Len() > 1 || t.shut: // the timer is set
	case t.held.timer == nil:
		t.held.timer = time.AfterFunc(after, t.tellHeld)
	default:
		t.held.timer.Reset(after)
	}
}

// letGo is release for a caller that does not hold mu.
func (t *Transport) letGo(l *lease) {
	t.mu.Lock()
	t.release(l.record)
	t.mu.Unlock()
}

// release notes that a request has its connection no more. mu is held.
func (t *Transport) release(r *leaseRecord) {
	if r.held != nil {
		t.held.leases.Remove(r.held.elem)
		r.held = nil
	}
}

// tellHeld warns of those that have had their connections for LeakAfter, once of each.
func (t *Transport) tellHeld() {
	t.mu.Lock()
	defer t.unlock()
	after, now := t.cfg.LeakAfter, t.clock.now()
	for e := t.held.leases.Front(); e != nil && !t.shut; e = t.held.leases.Front() {
		h := e.Value.(*holding)
		r, held := h.record, now.Since(h.since)
		if held < after {
			t.held.timer.Reset(after - held)
			return
		}
		t.release(r)
		t.note(note{
			level: slog.LevelWarn, msg: "a request has its connection for longer than LeakAfter: its body may have been forgotten",
			c: r.c, stack: r.stack.frames(), args: []any{"held", held},
		})
	}
}

func (h *holdings) stop() {
	if h.timer != nil {
		h.timer.Stop()
	}
}
