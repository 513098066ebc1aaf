package pool

import (
	"testing"
	"time"
)

func TestDials(t *testing.T) {
	t.Run("one that fails ends nobody whom another is on its way to", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(-300*ms, 100*ms))
		r := w.call(o, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 2, wait: 360 * ms})
	})
	t.Run("a request has two at most", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(dark))
		w.call(o, 0, long)
		w.pass(4 * time.Second)
		w.dialled(o, 2)
	})
	t.Run("a second one at a time", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(900*ms))
		rs := w.calls(o, 20, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect(rs, most{dials: 24, wait: 920 * ms})
	})
	t.Run("one that is on time is taken over before those that are late", func(t *testing.T) {
		w := quiet(t, 3)
		o, other := w.origin(speaksHTTP1, 64, inOrder(dark, dark, 400*ms, dark)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		w.call(o, 0, 600*ms) // has two, both of them late when it gives up
		w.call(o, 520*ms, 30*ms)
		r := w.call(o, 610*ms, 3*time.Second)
		w.call(other, 620*ms, 3*time.Second) // has one cancelled that is nobody's
		w.pass(700 * ms)
		w.dialled(o, 3)
		w.pass(3 * time.Second)
		w.answers([]*worldRequest{r})
	})
	t.Run("whoever comes takes over that of one that gave up", func(t *testing.T) {
		w := quiet(t, 1)
		a, b := w.origin(speaksHTTP1, 64, inOrder(100*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		w.call(a, 0, 20*ms)
		ra := w.call(a, 30*ms, 3*time.Second)
		rb := w.call(b, 40*ms, 3*time.Second) // would have it cancelled, if it were nobody's
		w.pass(3 * time.Second)
		w.answers([]*worldRequest{ra, rb})
		w.dialled(a, 1)
	})
	t.Run("those who wait take over that of one that gave up", func(t *testing.T) {
		w := quiet(t, 2)
		a, b := w.origin(speaksHTTP1, 64, inOrder(100*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		w.call(a, 0, 20*ms)
		w.call(a, 0, 20*ms)
		ra := w.call(a, 10*ms, 3*time.Second)
		rb := w.call(b, 15*ms, 3*time.Second)
		w.pass(3 * time.Second)
		w.answers([]*worldRequest{ra, rb})
		w.dialled(a, 2)
	})
	t.Run("one that the machine has cancelled fails nobody, and says nothing of the next", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(dark, 10*ms))
		r := w.call(o, 0, 3*time.Second)
		w.pass(20 * ms)
		w.event("reset", func() { w.m.Reset(w.now()) })
		w.pass(ms)
		if o.failures != 0 {
			t.Errorf("%d failures", o.failures)
		}
		w.pass(time.Second)
		w.answers([]*worldRequest{r})
		w.expect([]*worldRequest{r}, most{dials: 2, wait: 40 * ms})
	})
	t.Run("after a success, those before count no more", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(-ms, 10*ms))
		w.call(o, 0, long)
		w.pass(10 * ms)
		w.finish(w.hold(o), Last)
		w.pass(ms)
		rs := w.calls(o, 20, 0, time.Second)
		w.pass(time.Second)
		w.expect(rs, most{dials: 3, wait: 40 * ms})

		w = quiet(t, 256)
		o = w.origin(speaksHTTP2, 64, inOrder(300*ms))
		for range manyLate - 1 {
			r := w.call(o, 0, long)
			w.pass(time.Second)
			w.answers([]*worldRequest{r})
			for _, c := range w.each() {
				w.die(c, ByServer)
			}
			w.pass(ms)
		}
		begun := o.begun
		w.calls(o, 20, 0, time.Second)
		w.pass(290 * ms)
		w.dialled(o, begun+2)
	})
	t.Run("one that hangs after one that failed counts as failed", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(-ms, dark))
		w.calls(o, 100, 0, long)
		w.pass(270 * ms)
		if o.begun < 9 {
			t.Errorf("%d dials; want 1, 2 and then 8, since 2 more are late", o.begun)
		}
	})
	t.Run("each of HTTP/1.1 is one request's, after a failure too", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(-ms, 10*ms))
		w.call(o, 0, long)
		w.pass(10 * ms)
		rs := w.calls(o, 20, 0, time.Second)
		w.pass(12 * ms)
		w.expect(rs, most{dials: 21, wait: 11 * ms})
	})
	t.Run("one for who wants a fresh connection, while others are served soon", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.silent = true
		w.hold(o)
		w.call(o, 0, long) // waits for SETTINGS
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		w.pass(20 * ms)
		if r.got == 0 {
			t.Error("it waits for SETTINGS too")
		}
		w.dialled(o, 2)
	})
	t.Run("the newest is found for who asked before it was made", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		old := w.hold(o)
		other := w.hold(o)
		w.finish(other, Answered)
		w.pass(ms)
		w.done(old, Answered) // is on top now
		old.want.Fresh = true
		w.ask(old)
		if old.grant.Conn != other.grant.Conn {
			t.Error("it was not")
		}
		w.dialled(o, 2)
	})
}

func TestWaiters(t *testing.T) {
	full := func(t *testing.T, maxConns int) (*world, *worldOrigin) {
		w := quiet(t, 256)
		w.m.cfg.MaxWaiters = 1
		return w, w.origin(speaksHTTP1, maxConns, inOrder(10*ms))
	}
	t.Run("as many as may", func(t *testing.T) {
		w, o := full(t, 1)
		w.hold(o)
		rs := w.calls(o, 2, 0, long)
		w.pass(ms)
		if rs[0].ended || !rs[1].ended {
			t.Error("want one to wait, and one to be turned away")
		}
	})
	t.Run("beside those who have a dial", func(t *testing.T) {
		w, o := full(t, 64)
		rs := w.calls(o, 10, 0, long)
		w.pass(time.Second)
		w.answers(rs)
	})
	t.Run("beside those whose dials are late", func(t *testing.T) {
		w, o := full(t, 64)
		o.script = inOrder(time.Second)
		w.call(o, 0, long)
		r := w.call(o, 300*ms, long)
		w.pass(3 * time.Second)
		w.answers([]*worldRequest{r})
	})
	t.Run("beside those who share a dial", func(t *testing.T) {
		w := quiet(t, 256)
		w.m.cfg.MaxWaiters = 1
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		rs := w.calls(o, 10, 0, long)
		w.pass(time.Second)
		w.answers(rs)
	})
	t.Run("beside those who wait for what is being closed", func(t *testing.T) {
		w, o := full(t, 2)
		rs := []*worldRequest{w.hold(o), w.hold(o)}
		w.call(o, 0, long)
		w.pass(ms)
		for _, r := range rs {
			w.event("discard", func() { w.m.Discard(w.now(), r.grant.Conn, Excess) })
		}
		more := w.calls(o, 2, 0, long)
		for len(w.todo) > 0 && more[1].asked == (Instant{}) {
			w.pass(0)
		}
		w.pass(time.Second)
		w.answers(more)
	})
	t.Run("and those who have waited before", func(t *testing.T) {
		w, o := full(t, 1)
		held := w.hold(o)
		r := w.call(o, 0, long)
		w.pass(ms)
		o.serve = func() time.Duration { return long }
		w.finish(held, Answered)
		w.pass(ms)
		w.call(o, 0, 2*long)
		w.pass(ms)
		w.m.cfg.MaxWaiters = 0
		w.done(r, Answered)
		w.ask(r) // is sent again
		if r.ended {
			t.Errorf("it was turned away: %v", r.errored)
		}
		if n := o.counts.Waits; n != 3 {
			t.Errorf("%d waits, want one for each that waited", n)
		}
	})
	t.Run("their time is counted", func(t *testing.T) {
		w, o := full(t, 1)
		held := w.hold(o)
		before := o.counts.WaitTime
		w.call(o, 0, long)
		w.pass(time.Second)
		w.finish(held, Answered)
		w.pass(time.Second)
		if d := o.counts.WaitTime - before; d < 990*ms || d > 1010*ms {
			t.Errorf("waited for %v, want 1 s", d)
		}
	})
}

func TestYielding(t *testing.T) {
	// A has one connection under MaxConns, with a long stream and a short one, and B wants its place.
	yields := func(t *testing.T) (w *world, a, b *worldOrigin, held *worldRequest, rb *worldRequest) {
		w = quiet(t, 1)
		a, b = w.origin(speaksHTTP2, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 64, inOrder(10*ms))
		held = w.hold(a)
		short := w.hold(a)
		rb = w.call(b, 0, 20*time.Second)
		w.pass(ms)
		w.finish(short, Answered)
		if !held.grant.Conn.yields {
			t.Fatal("it does not yield")
		}
		return w, a, b, held, rb
	}
	t.Run("ends after a while, and does not begin again", func(t *testing.T) {
		w, a, _, held, _ := yields(t)
		r := w.call(a, 0, 10*time.Second)
		w.pass(2 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 1, wait: yieldTime + 10*ms})
		if held.grant.Conn.yields {
			t.Error("it yields again, though it has yielded in vain")
		}
		w.finish(w.hold(a), Answered)
		if held.grant.Conn.yields {
			t.Error("it yields again, though it has yielded in vain")
		}
	})
	t.Run("ends when the last request is done", func(t *testing.T) {
		w, a, _, held, rb := yields(t)
		w.call(a, 0, 10*time.Second)
		w.pass(100 * ms)
		w.finish(held, Answered)
		w.pass(20 * ms)
		if rb.got == 0 {
			t.Error("nobody got its place")
		}
	})
	t.Run("ends when nobody wants its place any more", func(t *testing.T) {
		w, a, _, _, rb := yields(t)
		r := w.call(a, 0, 10*time.Second) // wants another connection of its own meanwhile
		w.pass(ms)
		w.giveUp(rb)
		w.pass(time.Second)
		w.expect([]*worldRequest{r}, most{dials: 1, wait: 2 * ms})
	})
	t.Run("begins again once the connection was idle", func(t *testing.T) {
		w := quiet(t, 2)
		a, b := w.origin(speaksHTTP2, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 1, inOrder(10*ms))
		c := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		held, short := w.hold(a), w.hold(a)
		w.hold(b)
		rc := w.call(c, 0, long)
		w.pass(ms)
		w.finish(short, Answered)
		w.pass(2 * time.Second)
		if !held.grant.Conn.stubborn {
			t.Fatal("it has not yielded")
		}
		w.giveUp(rc)
		w.finish(held, Answered)
		held, short = w.hold(a), w.hold(a)
		w.dialled(a, 1)
		w.call(c, 0, long)
		w.pass(ms)
		w.finish(short, Answered)
		if !held.grant.Conn.yields {
			t.Error("it does not")
		}
	})
	t.Run("is for as many as are wanted", func(t *testing.T) {
		w := quiet(t, 2)
		a, b := w.origin(speaksHTTP2, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 64, inOrder(10*ms))
		a.limit, a.really = 2, 2
		rs := []*worldRequest{w.hold(a), w.hold(a), w.hold(a), w.hold(a)}
		w.call(b, 0, 20*time.Second)
		w.pass(ms)
		w.finish(rs[1], Answered)
		w.finish(rs[3], Answered)
		if n := w.m.yielded.n; n != 1 {
			t.Errorf("%d connections yield for one", n)
		}
	})
}
