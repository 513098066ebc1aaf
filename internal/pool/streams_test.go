package pool

import (
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	silent := func(t *testing.T) (*world, *worldOrigin) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.silent = true
		o.serve = func() time.Duration { return long }
		return w, o
	}
	t.Run("each HTTP/2 connection has its own time for them", func(t *testing.T) {
		w, o := silent(t)
		w.call(o, 0, long)
		w.pass(20 * ms)
		first := w.each()[0]
		w.pass(500 * ms)
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r) // has a connection of its own made
		w.pass(20 * ms)
		if len(w.each()) != 2 {
			t.Fatalf("%d connections, want 2", len(w.each()))
		}
		second := w.each()[1]
		for _, c := range []struct {
			d             time.Duration
			first, second bool
		}{{460 * ms, false, false}, {40 * ms, true, false}, {460 * ms, true, false}, {50 * ms, true, true}} {
			w.pass(c.d)
			if first.settled() != c.first || second.settled() != c.second {
				t.Errorf("after %v they are known to have streams: %t, %t; want %t, %t",
					time.Duration(w.mono-1e9), first.settled(), second.settled(), c.first, c.second)
			}
		}
	})
	t.Run("that do not come are waited for as long as a proof may take", func(t *testing.T) {
		w, o := silent(t)
		rs := w.calls(o, 20, 0, 3*time.Second)
		w.pass(900 * ms)
		if got := w.each()[0].Streams(); got != 1 {
			t.Errorf("%d careful requests on a connection before its SETTINGS, want the first", got)
		}
		w.pass(2 * time.Second)
		w.expect(rs, most{dials: 1, wait: 1020 * ms})
	})
	t.Run("that do not come are waited for a second if proofs may take for ever", func(t *testing.T) {
		w, o := silent(t)
		w.m.cfg.VerifyTimeout = Forever
		rs := w.calls(o, 20, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect(rs, most{dials: 1, wait: 1020 * ms})
	})
	t.Run("that do not come are not waited for less because something else is due", func(t *testing.T) {
		w, o := silent(t)
		w.hold(o)
		r := w.newRequest(o)
		r.want.Careful = false
		w.ask(r)
		w.finish(r, Refused)
		w.pass(5 * ms)
		if r.grant.Conn.settled() {
			t.Error("the end of a pause has ended the wait for SETTINGS")
		}
	})
	t.Run("that did not come stand for as many streams as the protocol layer opens", func(t *testing.T) {
		w, o := silent(t)
		rs := w.calls(o, 150, 0, 3*time.Second)
		w.pass(3 * time.Second)
		if n := w.each()[0].Streams(); n != 100 {
			t.Errorf("%d streams", n)
		}
		w.expect(rs, most{dials: 2, wait: 2050 * ms})
	})
	t.Run("before them no more streams than the protocol layer opens", func(t *testing.T) {
		w, o := silent(t)
		o.silent, o.limit, o.really = false, 250, 250
		w.hold(o)
		w.pass(20 * ms)
		w.die(w.each()[0], ByServer)
		w.pass(ms)
		o.silent = true
		w.calls(o, 150, 0, 3*time.Second)
		w.pass(30 * ms)
		for _, c := range w.each() {
			if c.Streams() > 100 {
				t.Errorf("%d streams before SETTINGS", c.Streams())
			}
		}
	})
	t.Run("of one connection hold for those that wait for theirs", func(t *testing.T) {
		w, o := silent(t)
		w.hold(o)
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		w.pass(20 * ms)
		all := w.each()
		w.event("settings", func() { w.m.Settings(w.now(), all[0].Conn, 7) })
		if all[1].most() != 7 {
			t.Errorf("the other has %d streams, want 7", all[1].most())
		}
	})
	t.Run("that allow more serve who came first, at whatever origin", func(t *testing.T) {
		w := quiet(t, 1)
		a, b := w.origin(speaksHTTP2, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 64, inOrder(10*ms))
		a.limit, a.really = 1, 100
		held := w.hold(a)
		w.pass(20 * ms)
		older := w.call(b, 0, 10*time.Second)
		w.pass(ms)
		newer := w.call(a, 0, 10*time.Second)
		w.pass(ms)
		w.event("settings", func() { w.m.Settings(w.now(), held.grant.Conn, 100) })
		w.pass(ms)
		w.finish(held, Answered)
		w.pass(time.Second)
		w.answers([]*worldRequest{older, newer})
		if older.got > newer.got {
			t.Error("who came later was served first")
		}
	})
	t.Run("that a dial does not know of are those that came last", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limit, o.really, o.limits.MaxStreams = 250, 250, 10
		w.finish(w.hold(o), Last)
		w.pass(ms)
		o.serve = func() time.Duration { return long }
		rs := w.calls(o, 40, 0, 3*time.Second)
		w.pass(12 * ms)
		w.expect(rs, most{dials: 5, wait: 11 * ms})
	})
}

func TestRefusals(t *testing.T) {
	serving := func(t *testing.T) (*world, *worldOrigin) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		return w, o
	}
	holds := func(w *world, o *worldOrigin, n int) (rs []*worldRequest) {
		for range n {
			rs = append(rs, w.hold(o))
		}
		return rs
	}
	t.Run("of most streams do not keep requests from another backend", func(t *testing.T) {
		w, o := serving(t)
		holds(w, o, 2)
		r := w.hold(o)
		o.really = 2
		o.serve = func() time.Duration { return long }
		w.done(r, Refused)
		w.ask(r)
		w.pass(100 * ms)
		if o.begun != 2 || r.on == nil {
			t.Errorf("%d dials, want another one for who is refused", o.begun)
		}
	})
	t.Run("begin no dial while one more is let in", func(t *testing.T) {
		w, o := serving(t)
		holds(w, o, 2)
		r := w.hold(o)
		rs := append(w.calls(o, 5, 0, 3*time.Second), r)
		w.done(r, Refused)
		w.ask(r)
		w.pass(4 * ms)
		w.dialled(o, 1)
		w.pass(time.Second)
		w.answers(rs)
	})
	t.Run("a connection that allows no streams has another one beside it after a while", func(t *testing.T) {
		w, o := serving(t)
		o.silent = true
		held := w.hold(o)
		w.call(o, 0, long)
		w.pass(ms)
		none := func() {
			w.event("settings", func() { w.m.Settings(w.now(), held.grant.Conn, 0) })
			begun := o.begun
			w.pass(firstBeside - 2*ms)
			w.dialled(o, begun)
			w.pass(4 * ms)
			w.dialled(o, begun+1)
		}
		none()
		w.pass(20 * ms)
		w.event("settings", func() { w.m.Settings(w.now(), held.grant.Conn, 100) })
		w.finish(w.hold(o), Answered)
		if o.besides != 0 {
			t.Errorf("%d dials beside it count, after an answer", o.besides)
		}
	})
	t.Run("a server that allows no streams gets dials with pauses", func(t *testing.T) {
		w, o := serving(t)
		o.limit, o.really = 0, 0
		w.calls(o, 20, 0, 3*time.Second)
		w.pass(time.Second)
		if o.begun < 2 || o.begun > 4 {
			t.Errorf("%d dials in a second, want a second one at once, and each further one later than the one before", o.begun)
		}
	})
	t.Run("many at once count as one", func(t *testing.T) {
		w, o := serving(t)
		rs := holds(w, o, 20)
		for _, r := range rs {
			w.finish(r, Refused)
		}
		if n := rs[0].grant.Conn.Refusals(); n != 1 {
			t.Errorf("%d refusals, want 1", n)
		}
	})
	t.Run("are not counted over an answer", func(t *testing.T) {
		w, o := serving(t)
		rs := holds(w, o, 3)
		w.finish(rs[0], Refused)
		w.finish(rs[1], Answered)
		c := rs[0].grant.Conn
		if n := c.Refusals(); n != 0 {
			t.Errorf("%d refusals after an answer", n)
		}
		w.pass(ms)
		w.finish(rs[2], Refused)
		if d := time.Duration(c.resume - w.m.now); d != firstPause {
			t.Errorf("a pause of %v after one, want %v", d, firstPause)
		}
	})
	t.Run("without end cost the connection", func(t *testing.T) {
		w, o := serving(t)
		c := w.hold(o).grant.Conn
		n := 0
		for ; c.life == live && n < 20; n++ {
			w.event("refused", func() {
				w.m.advance(w.now())
				w.m.refuse(c)
			})
			w.sleep(lastPause)
		}
		if n != maxRefusals+1 {
			t.Errorf("retired after %d refusals, want %d", n, maxRefusals+1)
		}
	})
	t.Run("teach the limit to the next connection, which is tried again", func(t *testing.T) {
		w, o := serving(t)
		rs := holds(w, o, 6)
		w.finish(rs[5], Refused)
		c := w.each()[0]
		if n := c.most(); n != 5 {
			t.Errorf("%d streams allowed after the sixth was refused", n)
		}
		w.pass(2 * ms)
		if n := c.most(); n != 6 {
			t.Errorf("%d streams allowed after the pause, want one more", n)
		}
		w.die(c, ByServer)
		w.pass(10 * ms)
		w.hold(o)
		for _, next := range w.each() {
			if n := next.most(); !next.closed && n != 5 {
				t.Errorf("%d streams allowed on the next connection, want what was learned", n)
			}
		}
	})
	t.Run("the limit rises with answers", func(t *testing.T) {
		w, o := serving(t)
		rs := holds(w, o, 6)
		w.finish(rs[5], Refused)
		for _, r := range rs[:3] {
			w.finish(r, Answered)
		}
		if n := w.each()[0].most(); n != 8 {
			t.Errorf("%d streams allowed, want 5 and one for each of 3 answers", n)
		}
	})
	t.Run("who asks at the end of a pause does not overtake", func(t *testing.T) {
		w, o := serving(t)
		r := w.hold(o)
		w.done(r, Refused)
		w.ask(r)
		if r.on != nil {
			t.Fatal("no pause")
		}
		w.sleep(time.Duration(r.grant.Conn.resume - w.m.now))
		other := w.newRequest(o)
		w.ask(other)
		if other.got != 0 {
			t.Error("who came later was served first")
		}
	})
}

func TestGoAway(t *testing.T) {
	t.Run("from a connection that has served, no pause", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		w.finish(w.hold(o), Answered)
		w.goAway(w.each()[0], false)
		if o.Setbacks() != 0 || o.resume > w.m.now {
			t.Errorf("%d setbacks", o.Setbacks())
		}
	})
	t.Run("pauses grow, until one is answered", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		for i := range 3 {
			r := w.hold(o)
			w.goAway(w.conns[r.grant.Conn], false)
			if d := time.Duration(o.resume - w.m.now); o.Setbacks() != i+1 || d != ms<<i {
				t.Errorf("%d setbacks, a pause of %v; want %d, %v", o.Setbacks(), d, i+1, ms<<i)
			}
			w.pass(10 * ms)
		}
		w.finish(w.hold(o), Answered)
		if o.Setbacks() != 0 {
			t.Errorf("%d setbacks after an answer", o.Setbacks())
		}
	})
	t.Run("the requests that a connection has go on", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		r := w.hold(o)
		w.goAway(w.conns[r.grant.Conn], false)
		if r.grant.Conn.Closed() {
			t.Error("the connection was closed under its request")
		}
		w.finish(r, Failed)
		if n := o.counts.Closed; n[ByServer] != 1 || n[Broken] != 0 {
			t.Errorf("closed for %v, want the reason why it was retired", n)
		}
	})
	t.Run("at once", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		w.call(o, 0, long)
		w.pass(ms)
		for _, d := range w.dials {
			c := &worldConn{Conn: new(Conn), origin: o, on: make(map[*worldRequest]bool)}
			delete(w.dials, d.Dial)
			w.conns[c.Conn] = c
			w.event("dialed", func() {
				w.m.Dialed(w.now(), d.Dial, c.Conn, Made{Protocol: HTTP2, RTT: ms, Lifetime: Forever, GoneAway: true})
			})
			if !c.Closed() || o.Setbacks() != 1 {
				t.Errorf("closed %t, %d setbacks", c.Closed(), o.Setbacks())
			}
		}
	})
}
