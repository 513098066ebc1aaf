package pool

import (
	"testing"
	"time"
)

func TestExpiry(t *testing.T) {
	t.Run("Keep-Alive of a server makes the idle limit shorter, not longer", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		r := w.hold(o)
		w.event("keep alive", func() { w.m.KeepAlive(w.now(), r.grant.Conn, long) })
		w.event("keep alive", func() { w.m.KeepAlive(w.now(), r.grant.Conn, 4*time.Second) })
		w.event("keep alive", func() { w.m.KeepAlive(w.now(), r.grant.Conn, 6*time.Second) })
		w.finish(r, Answered)
		w.pass(3900 * ms)
		if o.open != 1 {
			t.Error("closed too soon")
		}
		w.pass(200 * ms)
		if o.open != 0 || o.counts.Closed[IdleTimeout] != 1 {
			t.Error("not closed")
		}
	})
	t.Run("a lifetime ends though nobody asks", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		w.finish(w.hold(o), Answered)
		w.pass(41 * time.Second)
		if o.open != 0 || o.counts.Closed[Lifetime] != 1 {
			t.Error("it is kept")
		}
	})
	t.Run("what was given back unused is as old as before", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		o.limits.IdleTimeout = 5 * time.Second
		w.finish(w.hold(o), Answered)
		w.pass(3 * time.Second)
		r := w.hold(o)
		w.end(r, nil)
		w.unused(r)
		w.pass(2100 * ms)
		if o.open != 0 {
			t.Error("its idle limit began anew")
		}
	})
	t.Run("the connection that was used last is used first", func(t *testing.T) {
		for _, s := range []speaker{speaksHTTP1, speaksHTTP2} {
			w := quiet(t, 256)
			o := w.origin(s, 64, inOrder(10*ms))
			o.limit, o.really = 1, 1
			rs := []*worldRequest{w.hold(o), w.hold(o), w.hold(o)}
			for _, i := range []int{0, 2, 1} {
				w.pass(ms)
				w.finish(rs[i], Answered)
			}
			w.pass(ms)
			if r := w.hold(o); r.grant.Conn != rs[1].grant.Conn {
				t.Errorf("%s: another one was used", s.name)
			} else {
				w.end(r, nil)
				w.pass(ms)
				last := w.hold(o) // the one before, which is given back unused
				w.end(last, nil)
				w.done(r, Answered)
				w.unused(last)
			}
			if r := w.hold(o); r.grant.Conn != rs[1].grant.Conn {
				t.Errorf("%s: what was given back unused was used first", s.name)
			}
		}
	})
	t.Run("requests share an HTTP/2 connection, so that the others can be closed", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limit, o.really = 2, 2
		rs := []*worldRequest{w.hold(o), w.hold(o), w.hold(o)}
		w.finish(rs[0], Answered)
		w.finish(rs[2], Answered)
		if r := w.hold(o); r.grant.Conn != rs[1].grant.Conn {
			t.Error("a connection without requests was used, beside one that has room")
		}
	})
	old := func(t *testing.T, script ...time.Duration) (*world, *worldOrigin, *worldRequest) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(script...))
		r := w.hold(o)
		w.pass(41 * time.Second)
		return w, o, r
	}
	t.Run("a lifetime is over, and there is room", func(t *testing.T) {
		w, o, r := old(t, 10*ms)
		if next := w.hold(o); next.grant.Conn == r.grant.Conn {
			t.Error("it was used beyond its lifetime")
		}
		w.dialled(o, 2)
	})
	t.Run("a lifetime is over, and the dial of the successor hangs", func(t *testing.T) {
		w, o, _ := old(t, 10*ms, dark)
		next := w.call(o, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect([]*worldRequest{next}, most{dials: 2, wait: 260 * ms})
	})
	t.Run("a lifetime is over, and a proof does not make it longer", func(t *testing.T) {
		w, o, r := old(t, 10*ms)
		w.finish(r, Silent)
		w.pass(2 * ms)
		if o.open != 0 {
			t.Error("it is kept")
		}
	})
}

func TestWhatIsEvidence(t *testing.T) {
	idle := func(t *testing.T, s speaker) (*world, *worldOrigin, *worldConn) {
		w := quiet(t, 256)
		o := w.origin(s, 64, inOrder(10*ms))
		w.finish(w.hold(o), Answered)
		w.pass(ms)
		return w, o, w.each()[0]
	}
	heard := func(w *world, c *worldConn, ago time.Duration) (yes bool) {
		w.event("heard", func() { yes = w.m.Heard(w.now(), c.Conn, ago) })
		return yes
	}
	t.Run("a byte that comes by itself serves who waits", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		a, b := w.hold(o), w.hold(o)
		w.finish(a, Answered)
		w.finish(b, Answered)
		w.pass(11 * time.Second)
		o.ping = long
		r := w.call(o, 0, long) // one of the two is being proven for it
		w.pass(ms)
		for _, c := range w.each() {
			if !c.Proving() {
				heard(w, c, 0)
			}
		}
		w.pass(ms)
		if r.got == 0 {
			t.Error("it waits for the other")
		}
	})
	t.Run("a byte from before the doubt is none", func(t *testing.T) {
		w, o, c := idle(t, speaksHTTP2)
		w.pass(11 * time.Second)
		o.ping = long
		w.call(o, 0, long)
		w.pass(ms)
		if heard(w, c, 10500*ms) || !c.Proving() {
			t.Error("it is out of doubt")
		}
		if !heard(w, c, ms) || c.Proving() || o.counts.Verified != 1 {
			t.Error("a byte that came since changes nothing")
		}
	})
	t.Run("a byte from before a suspicion is none", func(t *testing.T) {
		w, o, c := idle(t, speaksHTTP2)
		w.pass(time.Second)
		w.event("suspect", func() { w.m.Suspect(w.now(), c.Conn) })
		w.pass(500 * ms)
		if heard(w, c, time.Second) {
			t.Error("it is out of doubt")
		}
		o.ping = long
		w.call(o, 0, long)
		w.pass(ms)
		if !c.Proving() {
			t.Error("it is used without a proof")
		}
	})
	t.Run("silence is a reason to doubt", func(t *testing.T) {
		w, o, _ := idle(t, speaksHTTP2)
		r := w.hold(o)
		w.finish(r, Silent)
		w.pass(ms)
		o.ping = long
		w.call(o, 0, long)
		w.pass(ms)
		if !r.grant.Conn.Proving() {
			t.Error("it is used without a proof")
		}
	})
	t.Run("what a request has read is", func(t *testing.T) {
		w, o, _ := idle(t, speaksHTTP2)
		r := w.hold(o)
		w.pass(11 * time.Second)
		w.finish(r, Aborted)
		next := w.call(o, 0, long)
		w.pass(ms)
		if next.got == 0 {
			t.Error("a proof was asked for, of a connection that was heard just now")
		}
	})
	t.Run("who cannot be asked is not asked again", func(t *testing.T) {
		w, o, c := idle(t, speaksHTTP1)
		w.pass(11 * time.Second)
		o.ping = long
		r := w.call(o, 0, long)
		w.pass(ms)
		if o.proofs != 1 {
			t.Fatalf("%d proofs", o.proofs)
		}
		w.event("prove", func() { w.m.Prove(w.now(), c.Conn) })
		if o.proofs != 1 {
			t.Errorf("%d proofs, want the one that was out", o.proofs)
		}
		w.event("unprovable", func() { w.m.Unprovable(w.now(), c.Conn) })
		if r.grant.Conn != c.Conn || o.proofs != 0 {
			t.Errorf("%d proofs, and %+v", o.proofs, r.grant)
		}
		w.event("prove", func() { w.m.Prove(w.now(), c.Conn) })
		if o.proofs != 0 {
			t.Error("it was asked again")
		}
	})
	t.Run("TrustIdle is for those that cannot be asked", func(t *testing.T) {
		w, o, c := idle(t, speaksHTTP1)
		o.limits.TrustIdle = time.Second
		w.pass(5 * time.Second)
		if r := w.hold(o); r.grant.Conn != c.Conn {
			t.Error("a connection that can be proven was not trusted")
		}
	})
	t.Run("a proof that does not come ends no request under way", func(t *testing.T) {
		w, o, _ := idle(t, speaksHTTP2)
		r := w.hold(o)
		w.pass(11 * time.Second)
		o.ping = long
		w.call(o, 0, long)
		w.pass(2 * time.Second)
		if c := r.grant.Conn; c.life != retired || o.counts.VerifyFailed != 1 {
			t.Errorf("life %d, %d proofs have failed; want it retired", c.life, o.counts.VerifyFailed)
		}
	})
	t.Run("a proof may take four round trips", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.rtt, o.ping = 200*ms, 700*ms
		w.finish(w.hold(o), Answered)
		w.pass(11 * time.Second)
		r := w.call(o, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.answers([]*worldRequest{r})
		w.dialled(o, 1)
	})
	t.Run("a proof begins again after a freeze, three times", func(t *testing.T) {
		w, o, c := idle(t, speaksHTTP2)
		freeze := func(n int) {
			for range n {
				w.sleep(5 * time.Second)
				w.event("tick", func() { w.m.Tick(w.now()) })
			}
		}
		c.lifetime = Forever
		for range 2 {
			w.pass(11 * time.Second)
			o.ping = long
			w.event("prove", func() { w.m.Prove(w.now(), c.Conn) })
			freeze(maxRestarts)
			if !c.Proving() || o.open != 1 {
				t.Fatal("a freeze has ended the proof")
			}
			w.event("proven", func() { w.m.Proven(w.now(), c.Conn) })
		}
		w.event("prove", func() { w.m.Prove(w.now(), c.Conn) })
		freeze(maxRestarts + 1)
		if o.open != 0 || o.counts.VerifyFailed != 1 {
			t.Error("a proof begins again without end")
		}
	})
	t.Run("who was kept for two proofs waits for both", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms, 10*ms, -400*ms))
		o.limit, o.really = 1, 1
		a, b := w.hold(o), w.hold(o)
		w.finish(a, Answered)
		w.finish(b, Answered)
		w.pass(11 * time.Second)
		o.limits.VerifyAfter = time.Second
		o.ping = long
		rs := w.calls(o, 2, 0, 3*time.Second)
		w.pass(700 * ms)
		if o.held.n == 0 {
			t.Fatal("nobody is kept for a proof")
		}
		w.event("unproven", func() { w.m.Unproven(w.now(), a.grant.Conn) })
		w.pass(ms)
		if o.held.n == 0 || rs[0].ended || rs[1].ended {
			t.Error("the first proof that failed ended who was kept for another")
		}
	})
	t.Run("who wants a fresh connection is not kept for a proof", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms, -ms))
		w.finish(w.hold(o), Answered)
		w.pass(11 * time.Second)
		o.ping = long
		w.event("prove", func() { w.m.Prove(w.now(), w.each()[0].Conn) })
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		w.pass(10 * ms)
		if !r.ended {
			t.Error("it still waits")
		}
	})
	t.Run("no proof for who wants a fresh connection", func(t *testing.T) {
		w, o, _ := idle(t, speaksHTTP2)
		w.pass(11 * time.Second)
		r := w.newRequest(o)
		r.want.Fresh = true
		w.ask(r)
		if o.proofs != 0 || o.begun != 2 {
			t.Errorf("%d proofs, %d dials", o.proofs, o.begun)
		}
	})
}

func TestWhatADeadConnectionSaysOfOthers(t *testing.T) {
	// three idle HTTP/1.1 connections, of which the last was used a while after the others
	idle := func(t *testing.T) (*world, *worldOrigin, []*worldConn) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
		rs := []*worldRequest{w.hold(o), w.hold(o), w.hold(o)}
		w.finish(rs[0], Answered)
		w.pass(10 * ms)
		w.finish(rs[1], Answered)
		w.pass(100 * ms)
		w.finish(rs[2], Answered)
		return w, o, w.each()
	}
	open := func(w *world, o *worldOrigin, n int) {
		w.t.Helper()
		if o.open != n {
			w.t.Errorf("%d are left, want %d", o.open, n)
		}
	}
	t.Run("what was idle for as long goes with it, and not what was used since", func(t *testing.T) {
		w, o, all := idle(t)
		w.pass(2 * time.Second)
		c := all[1]
		g := Grant{Conn: c.Conn, WasIdle: true, idleAt: c.idleAt}
		w.die(c, ByServer)
		w.event("died", func() { w.m.Died(w.now(), g) })
		open(w, o, 1)
		if all[2].Closed() {
			t.Error("what was used since is closed")
		}
	})
	t.Run("after a moment it says nothing, but for a freeze", func(t *testing.T) {
		for _, thaw := range []bool{false, true} {
			w, o, all := idle(t)
			w.pass(100 * ms)
			if thaw {
				w.event("thaw", func() { w.m.Thaw(w.now()) })
			}
			g := Grant{Conn: all[2].Conn, WasIdle: true, idleAt: all[2].idleAt}
			w.die(all[2], ByServer)
			w.event("died", func() { w.m.Died(w.now(), g) })
			if thaw {
				open(w, o, 0)
			} else {
				open(w, o, 2)
			}
		}
	})
	t.Run("a new one says nothing", func(t *testing.T) {
		w, o, _ := idle(t)
		w.pass(2 * time.Second)
		r := w.newRequest(o)
		r.want.Fresh = true
		o.serve = func() time.Duration { return long }
		w.ask(r)
		w.pass(2 * time.Second)
		if r.grant.WasIdle || !r.grant.Again().WasIdle {
			t.Error("a new connection was idle, or nobody looks at it whom it is passed on to")
		}
		w.end(r, nil)
		w.held[r.grant.Conn]--
		w.event("found dead", func() { w.m.FoundDead(w.now(), r.grant) })
		open(w, o, 3)
	})
	t.Run("a stream that hangs says nothing of idle ones", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limit, o.really = 1, 1
		a, b := w.hold(o), w.hold(o)
		w.finish(b, Answered)
		w.pass(time.Second)
		w.finish(a, Answered)
		w.pass(ms)
		if r := w.hold(o); r.grant.Conn != a.grant.Conn {
			t.Fatal("another one was used")
		}
		w.pass(5 * time.Second)
		w.event("unproven", func() { w.m.Unproven(w.now(), a.grant.Conn) })
		open(w, o, 1)
	})
	t.Run("an idle one that is not proven does", func(t *testing.T) {
		w, o, all := idle(t)
		w.pass(2 * time.Second)
		w.event("unproven", func() { w.m.Unproven(w.now(), all[1].Conn) })
		open(w, o, 1)
	})
}
