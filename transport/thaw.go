package transport

import (
	"context"

	"github.com/thawhttp/thaw/internal/pool"
)

// Thaw looks after the pool once a freeze is over: it closes the connections that expired meanwhile and those that
// their servers closed, and sends a PING on the HTTP/2 connections that are not trusted, all at once. It returns when
// all is decided, or when ctx ends; what it has begun goes on then.
//
// Requests need not wait for it. Every connection is checked when it is taken, whether Thaw was called or not; a
// request waits at most for the verification of its own connection.
func (t *Transport) Thaw(ctx context.Context) {
	t.mu.Lock()
	t.machine.Thaw(t.clock.now())
	pending := t.lookAround(nil)
	waitFor(ctx, pending)
}

// lookAround carries out what the machine has decided about connections that nobody uses, of only or of all origins if that is nil:
// it looks at those that are to be looked at. It returns what ends when the proofs have that are out. mu is held, and released.
func (t *Transport) lookAround(only *origin) (pending []<-chan struct{}) {
	w, any := t.carry()
	looks := t.looks
	t.looks = nil
	uses := make([]uint64, len(looks))
	for i, c := range looks {
		uses[i] = c.uses.Load()
	}
	t.mu.Unlock()
	if any {
		w.finish()
	}
	seen := make([]liveness, len(looks))
	var s settling // for all of them: what one waits for, the others have waited for too
	for i, c := range looks {
		seen[i] = c.lookWithin(&s)
	}
	s.stop()

	t.mu.Lock()
	now := t.clock.now()
	for i, c := range looks {
		switch {
		case c.book.Closed() || c.book.Streams() > 0 || c.uses.Load() != uses[i]: // taken meanwhile: its request looks for itself
		case seen[i] == dead:
			t.machine.Discard(now, &c.book, pool.Stale)
		case seen[i] == inDoubt && c.h2 != nil:
			t.machine.Suspect(now, &c.book)
			t.machine.Prove(now, &c.book)
		}
	}
	t.machine.EachConn(func(book *pool.Conn) {
		c := book.Driver.(*conn)
		if book.Proving() && (only == nil || c.origin == only) {
			if c.decided == nil {
				c.decided = make(chan struct{})
			}
			pending = append(pending, c.decided)
		}
	})
	t.unlock()
	return pending
}

// waitFor waits for all of them, or until ctx ends. It reports whether they are all over.
func waitFor(ctx context.Context, all []<-chan struct{}) bool {
	for _, one := range all {
		select {
		case <-one:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
