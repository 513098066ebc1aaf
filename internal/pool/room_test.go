package pool

import (
	"errors"
	"testing"
	"time"
)

func TestRoom(t *testing.T) {
	idleAt := func(w *world, o *worldOrigin, n int) {
		var rs []*worldRequest
		for range n {
			rs = append(rs, w.hold(o))
		}
		for _, r := range rs {
			w.finish(r, Answered)
		}
		w.pass(ms)
	}
	t.Run("no more is idle than may be", func(t *testing.T) {
		w := quiet(t, 256)
		a, b := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		a.limits.MaxIdleConns = 3
		w.cfg.MaxIdleConns, w.m.cfg.MaxIdleConns = 4, 4
		idleAt(w, a, 5)
		if a.open != 3 {
			t.Errorf("%d are idle at an origin that may have 3", a.open)
		}
		idleAt(w, b, 4)
		if a.open+b.open != 4 || b.open != 4 {
			t.Errorf("%d and %d are idle, want the 4 that were used last", a.open, b.open)
		}
	})
	t.Run("no more is closed than is wanted", func(t *testing.T) {
		w := quiet(t, 4)
		a, b := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 2, inOrder(10*ms))
		idleAt(w, a, 4)
		r := w.call(b, 0, 3*time.Second)
		w.pass(time.Second)
		w.answers([]*worldRequest{r})
		if a.open != 3 {
			t.Errorf("%d are left of 4, and one was wanted", a.open)
		}
		c := w.origin(speaksHTTP1, 3, inOrder(10*ms))
		w.event("close idle", func() { w.m.CloseIdle(w.now()) })
		w.pass(ms)
		idleAt(w, c, 3)
		q := w.newRequest(c)
		q.want.Fresh = true
		w.ask(q)
		w.pass(time.Second)
		if c.open != 3 || c.begun != 4 {
			t.Errorf("%d open, %d dials; want one of 3 to make room", c.open, c.begun)
		}
	})
	t.Run("what is given back makes room for who wants a fresh connection", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 1, inOrder(10*ms))
		held := w.hold(o)
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		other := w.call(o, ms, long)
		w.pass(2 * ms)
		w.finish(held, Answered)
		w.pass(time.Second)
		w.answers([]*worldRequest{r, other})
		w.dialled(o, 2)
		if r.got > other.got {
			t.Error("who came later was served first")
		}
	})
	t.Run("who wants a fresh connection takes another one where there is no room", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 1, inOrder(10*ms))
		w.hold(o)
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		w.pass(ms)
		if r.got == 0 {
			t.Error("it waits")
		}
	})
	t.Run("and waits where there will be soon", func(t *testing.T) {
		w := quiet(t, 2)
		a, o := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 2, inOrder(10*ms))
		idleAt(w, a, 1)
		held := w.hold(o)
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		w.pass(time.Second)
		w.answers([]*worldRequest{r})
		if r.grant.Conn == held.grant.Conn {
			t.Error("it took the one that was in use")
		}
	})
	t.Run("in a turn of their own", func(t *testing.T) {
		w := quiet(t, 1)
		a, b := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		held := w.hold(a)
		var rs []*worldRequest
		for range 3 {
			rs = append(rs, w.call(b, 0, long))
			w.pass(ms)
			rs = append(rs, w.call(a, 0, long))
			w.pass(ms)
		}
		w.finish(held, Answered)
		w.pass(5 * time.Second)
		w.answers(rs)
		for i, r := range rs[1:] {
			if r.got < rs[i].got {
				t.Errorf("number %d was served before number %d", i+1, i)
			}
		}
	})
	t.Run("in turn when there is much at once", func(t *testing.T) {
		w := quiet(t, 2)
		h2 := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		a, b := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		h2.limit, h2.really = 1, 1
		w.hold(h2)
		w.hold(h2)
		for _, o := range []*worldOrigin{a, b, a} {
			w.call(o, 0, long)
			w.pass(ms)
		}
		w.event("reset", func() { w.m.Reset(w.now()) }) // both leave their places
		if a.begun != 1 || b.begun != 1 {
			t.Errorf("%d and %d dials; want one for each of the first two", a.begun, b.begun)
		}
	})
	t.Run("for a warm-up there are late dials", func(t *testing.T) {
		w := quiet(t, 2)
		o, other := w.origin(speaksHTTP1, 64, inOrder(dark)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		warm := func(o *worldOrigin, n int, beside bool) (begun int) {
			w.event("warm", func() {
				dials, _, _ := w.m.Warm(w.now(), o.Origin, n, beside)
				begun = len(dials)
			})
			return begun
		}
		warm(o, 1, false)
		w.pass(300 * ms)
		if n := warm(o, 1, false); n != 0 {
			t.Errorf("%d dials beside the one that is late", n)
		}
		if n := warm(o, 1, true); n != 1 {
			t.Errorf("%d dials beside the one that is late, want another one", n)
		}
		warm(other, 2, true)
		if o.freeing != 1 || o.onTime != 1 {
			t.Errorf("%d cancelled, %d on time; want room made of the one that is late", o.freeing, o.onTime)
		}
		w.pass(ms)
		if n := warm(other, 1, true); n != 1 {
			t.Errorf("%d dials", n)
		}
		w.event("close idle", func() { w.m.CloseIdle(w.now()) })
		w.pass(ms)
		w.call(o, 0, 2*ms)
		w.call(o, 0, 2*ms)
		w.pass(3 * ms)
		warm(other, 1, true)
		if o.freeing != 1 {
			t.Errorf("%d cancelled, want one whose request has ended", o.freeing)
		}
		w.event("close idle", func() { w.m.CloseIdle(w.now()) })
		w.pass(ms)
		full := w.origin(speaksHTTP1, 1, inOrder(10*ms))
		idleAt(w, other, 1)
		idleAt(w, full, 1)
		warm(full, 2, false)
		if other.open != 1 {
			t.Error("room was made that the limit of the origin does not allow to use")
		}
	})
	t.Run("for a warm-up", func(t *testing.T) {
		w := quiet(t, 4)
		a, b, h2 := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 64, inOrder(10*ms))
		warm := func(o *worldOrigin, n int) (begun, usable, missing int) {
			w.event("warm", func() {
				var dials []*Dial
				dials, usable, missing = w.m.Warm(w.now(), o.Origin, n, false)
				begun = len(dials)
			})
			return begun, usable, missing
		}
		expect := func(o *worldOrigin, n, begun, usable, missing int) {
			t.Helper()
			if b, u, m := warm(o, n); b != begun || u != usable || m != missing {
				t.Errorf("%d begun, %d usable, %d missing; want %d, %d, %d", b, u, m, begun, usable, missing)
			}
		}
		expect(h2, 3, 1, 0, 0)
		expect(h2, 3, 0, 0, 0)
		w.pass(50 * ms)
		expect(h2, 3, 0, 1, 0)
		w.die(w.each()[0], ByServer)
		w.pass(ms)
		expect(a, 4, 4, 0, 0)
		expect(a, 4, 0, 0, 0)
		w.pass(50 * ms)
		expect(b, 1, 0, 0, 1)
		if a.open != 3 {
			t.Errorf("%d are left, want one to be closed", a.open)
		}
		w.pass(ms)
		expect(b, 1, 1, 0, 0)
		w.pass(50 * ms)
		expect(a, 5, 0, 3, 2)
		if a.open != 3 {
			t.Errorf("%d are left, want what it has", a.open)
		}
		w.pass(50 * ms)
		w.event("close idle", func() { w.m.CloseIdle(w.now()) })
		w.pass(ms)
		for range 4 {
			w.hold(a)
		}
		r := w.call(b, 0, long)
		w.pass(ms)
		expect(h2, 1, 0, 0, 1)
		held := w.each()[0]
		for r := range held.on {
			w.finish(r, Answered)
		}
		expect(h2, 1, 0, 0, 1)
		w.pass(50 * ms)
		if r.got == 0 {
			t.Error("who waits was not served before a warm-up")
		}
	})
}

func TestLeaks(t *testing.T) {
	leak := func(t *testing.T) (*world, *worldOrigin, *worldRequest) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 2, inOrder(10*ms))
		r := w.hold(o)
		w.hold(o)
		w.pass(3 * time.Second)
		return w, o, r
	}
	collected := func(w *world, n int) {
		w.t.Helper()
		if w.collected != n {
			w.t.Errorf("garbage was collected %d times, want %d", w.collected, n)
		}
	}
	t.Run("are looked for again after a while", func(t *testing.T) {
		w, o, _ := leak(t)
		w.call(o, 0, long)
		w.pass(900 * ms)
		collected(w, 0)
		w.pass(1200 * ms)
		collected(w, 1)
		w.pass(8 * time.Second)
		collected(w, 1)
		w.pass(3 * time.Second)
		collected(w, 2)
	})
	t.Run("are looked for while others come all the time", func(t *testing.T) {
		w, o, _ := leak(t)
		w.calls(o, 100, 10*time.Second, long)
		w.pass(3 * time.Second)
		collected(w, 1)
	})
	t.Run("are not looked for while connections are given back", func(t *testing.T) {
		w, o, r := leak(t)
		o.serve = func() time.Duration { return 900 * ms }
		w.calls(o, 20, 0, long)
		w.finish(r, Answered)
		w.pass(10 * time.Second)
		collected(w, 0)
	})
	t.Run("are not looked for while a dial is on its way", func(t *testing.T) {
		w := quiet(t, 256)
		w.call(w.origin(speaksHTTP1, 2, inOrder(dark)), 0, long) // and is late
		w.pass(4 * time.Second)
		collected(w, 0)
	})
	t.Run("are not looked for because of one that has just come", func(t *testing.T) {
		w, o, _ := leak(t)
		w.call(o, 0, 900*ms)
		w.call(o, 500*ms, long)
		w.pass(1100 * ms)
		collected(w, 0)
	})
}

func TestClocksAndTimers(t *testing.T) {
	t.Run("time does not go back, whatever the clocks do", func(t *testing.T) {
		m := New(Config{})
		m.advance(Instant{1e18, 1e9})
		m.advance(Instant{1e18 - 1e9, 1e9 - 1e8})
		if m.now != 0 {
			t.Errorf("%v have passed", m.now)
		}
	})
	t.Run("a connection in use is in doubt after the wall clock was set back", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		r := w.hold(o)
		r.grant.Conn.lifetime = Forever
		w.wall -= int64(time.Second)
		next := w.call(o, 0, long)
		w.pass(ms)
		if next.got != 0 || !r.grant.Conn.Proving() {
			t.Error("it is used without a proof")
		}
	})
	idle := func(t *testing.T) (*world, *worldOrigin) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		r := w.hold(o)
		r.grant.Conn.lifetime = Forever
		w.finish(r, Answered)
		return w, o
	}
	t.Run("what the wall clock says after a freeze sets the timer anew", func(t *testing.T) {
		w, o := idle(t)
		w.pass(100 * time.Second)
		w.wall += int64(100 * time.Second)
		w.event("tick", func() { w.m.NewOrigin(Limits{}, Unknown, new(Counts)); w.m.advance(w.now()) })
		w.pass(101 * time.Second)
		if o.open != 0 {
			t.Error("what is due comes too late")
		}
	})
	t.Run("a timer whose time has passed without a tick is set again", func(t *testing.T) {
		w, o := idle(t)
		w.sleep(10 * time.Minute)
		w.event("other", func() { w.m.advance(w.now()) })
		w.pass(ms)
		if o.open != 0 {
			t.Error("what was due is not done")
		}
	})
}

func TestAllAtOnce(t *testing.T) {
	// a request on a connection, one that waits for a dial, a dial that nobody waits for, an idle connection and one in doubt
	busy := func(t *testing.T) (w *world, held, waits *worldRequest, o, h1, dark1 *worldOrigin) {
		w = quiet(t, 256)
		o, h1 = w.origin(speaksHTTP2, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		dark1 = w.origin(speaksHTTP1, 64, inOrder(dark, 2*time.Second))
		held = w.hold(o)
		w.finish(w.hold(h1), Answered)
		waits = w.call(dark1, 0, long)
		w.call(dark1, 0, 10*ms)
		w.pass(20 * ms)
		return w, held, waits, o, h1, dark1
	}
	looked := func(w *world, f func()) (n int) {
		f()
		for _, d := range w.m.decisions {
			if d.Kind == DoLook {
				n++
			}
		}
		return n
	}
	t.Run("a reset", func(t *testing.T) {
		w, held, waits, o, h1, d := busy(t)
		w.event("reset", func() { w.m.Reset(w.now()) })
		if held.grant.Conn.Closed() || held.grant.Conn.life != retired || h1.open != 0 {
			t.Error("want what is in use to be retired, and the rest to be closed")
		}
		w.pass(ms)
		if waits.ended || d.dials != 1 || d.begun != 3 {
			t.Errorf("ended %t, %d dials of %d; want who waits to have another one", waits.ended, d.dials, d.begun)
		}
		if next := w.hold(o); next.grant.Conn == held.grant.Conn {
			t.Error("what is retired is used")
		}
	})
	t.Run("CloseIdle", func(t *testing.T) {
		w, held, _, _, h1, d := busy(t)
		w.event("close idle", func() { w.m.CloseIdle(w.now()) })
		if held.grant.Conn.life != live || h1.open != 0 || d.onTime != 1 || d.freeing != 1 {
			t.Errorf("life %d, %d open, %d dials on time, %d cancelled", held.grant.Conn.life, h1.open, d.onTime, d.freeing)
		}
	})
	t.Run("Close", func(t *testing.T) {
		w, held, waits, o, h1, _ := busy(t)
		w.event("close", func() { w.m.Close(w.now()) })
		if !held.grant.Conn.Closed() || h1.open != 0 || !errors.Is(waits.errored, ErrClosed) {
			t.Errorf("closed %t, %d open, %v", held.grant.Conn.Closed(), h1.open, waits.errored)
		}
		w.pass(time.Second)
		if r := w.call(o, 0, long); r != nil {
			w.pass(ms)
			if !errors.Is(r.errored, ErrClosed) {
				t.Errorf("one that came later: %v", r.errored)
			}
		}
	})
	t.Run("a thaw", func(t *testing.T) {
		w, held, _, o, h1, _ := busy(t)
		if n := looked(w, func() { w.event("thaw", func() { w.m.Thaw(w.now()); w.collected = len(w.m.decisions) }) }); n != 0 || w.collected != 1 {
			t.Errorf("%d decisions, want a look at the idle connection", w.collected)
		}
		w.sleep(30 * time.Second)
		o.ping = long
		h1.limits.IdleTimeout = 0
		w.event("thaw", func() { w.m.Thaw(w.now()) })
		if !held.grant.Conn.Proving() {
			t.Error("what is in doubt is not proven")
		}
		w.sleep(10 * time.Minute)
		w.event("thaw", func() { w.m.Thaw(w.now()) })
		if h1.open != 0 {
			t.Error("what has expired is kept")
		}
		if !w.m.Thawed() {
			t.Error("it is forgotten")
		}
	})
	t.Run("a thaw leaves alone what is retired", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		r := w.hold(o)
		w.goAway(w.conns[r.grant.Conn], false)
		w.sleep(30 * time.Second)
		w.event("thaw", func() { w.m.Thaw(w.now()) })
		if o.proofs != 0 {
			t.Error("it is proven")
		}
	})
	t.Run("who came first is served first", func(t *testing.T) {
		w := quiet(t, 1)
		a, b := w.origin(speaksHTTP1, 64, inOrder(10*ms)), w.origin(speaksHTTP1, 64, inOrder(10*ms))
		held := w.hold(a)
		var rs []*worldRequest
		for range 2 {
			rs = append(rs, w.call(b, 0, long))
			w.pass(ms)
			rs = append(rs, w.call(a, 0, long))
			w.pass(ms)
		}
		w.event("reset", func() { w.m.Reset(w.now()) })
		w.finish(held, Answered)
		w.pass(5 * time.Second)
		w.answers(rs)
		for i, r := range rs[1:] {
			if r.got < rs[i].got {
				t.Errorf("number %d was served before number %d", i+1, i)
			}
		}
	})
}
