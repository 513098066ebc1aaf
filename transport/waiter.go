package transport

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// want says what kind of connection an attempt can use.
type want struct {
	req *http.Request
	// replayable is whether the request may be sent again if the connection turns out to be dead.
	replayable bool
	// fresh asks for a connection that has not been idle: the last attempt of a request that met dead ones.
	fresh bool
	// turn is the request's place in the queue of its origin: when it first asked for a connection.
	turn uint64
}

// grant is a connection given to one attempt.
type grant struct {
	c       *conn
	lease   *lease
	reused  bool          // it had been used before
	wasIdle bool          // it came out of the idle connections
	idleFor time.Duration // if so
	idleAt  instant
	doubt   bool // HTTP/1.1: idle longer than TrustIdle
}

// fresh reports whether the connection was made while the request waited for it.
func (g *grant) fresh() bool { return !g.reused && !g.wasIdle }

// waiter is a request in the queue of its origin. Its fields are guarded by Transport.mu.
type waiter struct {
	want  want
	ctx   context.Context // the request's, for the values that its dial gets to see
	since instant

	next, prev *waiter
	queued     bool
	dialing    bool // a dial that was begun for it is under way

	done  chan struct{} // closed on delivery
	grant grant         // valid once done is closed
	err   error
}

// deliver ends the wait. The waiter is in no queue any more.
func (w *waiter) deliver(g grant, err error) {
	w.grant, w.err = g, err
	close(w.done)
}

// waiterQueue is first come, first served.
type waiterQueue struct {
	first, last *waiter
	count       atomic.Int32 // written with Transport.mu held, and read without
	fresh       int          // of them, those that want a fresh connection
}

// len returns how many wait.
func (q *waiterQueue) len() int { return int(q.count.Load()) }

// push puts w in its place: at the end, unless it comes back because it could not use what it was given.
func (q *waiterQueue) push(w *waiter) {
	w.queued = true
	q.count.Add(1)
	if w.want.fresh {
		q.fresh++
	}
	after := q.last
	for after != nil && after.want.turn > w.want.turn {
		after = after.prev
	}
	w.prev = after
	if after == nil {
		w.next, q.first = q.first, w
	} else {
		w.next, after.next = after.next, w
	}
	if w.next == nil {
		q.last = w
	} else {
		w.next.prev = w
	}
}

func (q *waiterQueue) remove(w *waiter) {
	w.queued = false
	q.count.Add(-1)
	if w.want.fresh {
		q.fresh--
	}
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
}

func (q *waiterQueue) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

// find returns the waiter with that channel, or nil.
func (q *waiterQueue) find(done chan struct{}) *waiter {
	for w := q.first; w != nil; w = w.next {
		if w.done == done {
			return w
		}
	}
	return nil
}

// undialed returns the first waiter without a dial of its own, or nil.
func (q *waiterQueue) undialed() *waiter {
	for w := q.first; w != nil; w = w.next {
		if !w.dialing {
			return w
		}
	}
	return nil
}
