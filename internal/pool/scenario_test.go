package pool

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// dark is how long a dial into the dark takes to fail.
const dark = 5 * time.Second

var errDial = errors.New("refused")

// inOrder is a script: the dials take what is said, one after the other, and all further ones what the last does. Those of dark or
// longer fail then, and so do those with a negative time, after its amount.
func inOrder(times ...time.Duration) func(int) (time.Duration, error) {
	return func(n int) (time.Duration, error) {
		switch d := times[min(n, len(times))-1]; {
		case d < 0:
			return -d, errDial
		case d >= dark:
			return dark, fmt.Errorf("%w: timed out", errDial)
		default:
			return d, nil
		}
	}
}

// quiet returns a world in which nothing happens but what a test arranges.
func quiet(t testing.TB, maxConns int) *world {
	w := newWorld(t, Config{
		MaxConns: maxConns, MaxIdleConns: maxConns, MaxWaiters: plenty, VerifyTimeout: time.Second, DialDelay: 250 * ms,
	}, 1)
	w.healthy = true
	return w
}

// speaker is what an origin speaks, and what is known of that.
type speaker struct {
	name  string
	h2    bool
	known Protocol
}

var (
	speaksHTTP2 = speaker{"HTTP/2", true, Unknown}
	speaksHTTP1 = speaker{"HTTP/1.1", false, HTTP1}
	speakers    = []speaker{speaksHTTP2, {"HTTP/1.1 over TLS", false, Unknown}, speaksHTTP1}
)

// origin adds one whose answers take 5 ms, over a path that takes as long.
func (w *world) origin(s speaker, maxConns int, script func(int) (time.Duration, error)) *worldOrigin {
	o := &worldOrigin{
		name: fmt.Sprint("origin ", len(w.origins)), h2: s.h2, limit: 100, really: 100, rtt: 5 * ms, script: script,
		serve: func() time.Duration { return 5 * ms },
	}
	o.Origin = w.m.NewOrigin(Limits{
		MaxConns: maxConns, MaxIdleConns: maxConns, MaxStreams: 1000,
		IdleTimeout: 5 * time.Minute, VerifyAfter: 10 * time.Second, TrustIdle: time.Minute,
	}, s.known, new(Counts))
	o.Driver = o
	w.origins = append(w.origins, o)
	return o
}

// call makes a request after d, which must not be sent twice, and gives it up after patience.
func (w *world) call(o *worldOrigin, d, patience time.Duration) *worldRequest {
	r := w.newRequest(o)
	r.want.Careful = true
	w.after(d, func() {
		r.began = w.mono
		w.after(patience, func() { w.giveUp(r) })
		w.ask(r)
	})
	return r
}

// calls makes n, spread evenly over a time.
func (w *world) calls(o *worldOrigin, n int, over, patience time.Duration) (all []*worldRequest) {
	for i := range n {
		all = append(all, w.call(o, over*time.Duration(i)/time.Duration(n), patience))
	}
	return all
}

// want is what may become of requests at most.
type most struct {
	fail, dials int
	wait        time.Duration // for a connection
}

func (w *world) expect(rs []*worldRequest, most most) {
	w.t.Helper()
	failed, dials, longest := 0, 0, time.Duration(0)
	for _, r := range rs {
		if r.got == 0 {
			failed++
		} else {
			longest = max(longest, time.Duration(r.got-r.began))
		}
	}
	for _, o := range w.origins {
		dials += o.begun
	}
	w.t.Logf("%d of %d failed, the longest waited %v, %d dials", failed, len(rs), longest, dials)
	if failed > most.fail || dials > most.dials || longest > most.wait {
		w.t.Errorf("want at most %+v", most)
	}
}

// answers fails unless all are answered.
func (w *world) answers(rs []*worldRequest) {
	w.t.Helper()
	for _, r := range rs {
		if !r.ended || r.errored != nil {
			w.t.Errorf("a request was not answered: %v", r.errored)
			return
		}
	}
}

func TestADialConcernsTheRequestItWasBegunFor(t *testing.T) {
	for _, s := range speakers {
		t.Run("the first hangs, 40 requests in a second, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 64, inOrder(dark, 10*ms))
			rs := w.calls(o, 40, time.Second, 20*time.Second)
			w.pass(21 * time.Second)
			w.expect(rs, most{dials: 45, wait: 280 * ms})
		})
		for _, first := range []time.Duration{100 * ms, 300 * ms} {
			t.Run(fmt.Sprint("the first is given up after ", first, ", four more have a second each, ", s.name), func(t *testing.T) {
				w := quiet(t, 256)
				o := w.origin(s, 64, inOrder(dark, 10*ms))
				w.call(o, 0, first)
				var rs []*worldRequest
				for range 4 {
					w.pass(first + ms)
					rs = append(rs, w.call(o, 0, time.Second))
					w.pass(time.Second)
				}
				w.expect(rs, most{dials: 3, wait: 280 * ms})
			})
		}
		t.Run("one SYN is lost, 20 requests, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 64, inOrder(time.Second, 10*ms))
			rs := w.calls(o, 20, 0, 3*time.Second)
			w.pass(4 * time.Second)
			w.expect(rs, most{dials: 22, wait: 280 * ms})
		})
		t.Run("the first is refused, 100 requests, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 64, inOrder(-ms, 10*ms))
			rs := w.calls(o, 100, 0, 3*time.Second)
			w.pass(4 * time.Second)
			dials := 101
			if s.h2 {
				dials = 3 // one RST does not make a dial for each
			}
			w.expect(rs, most{fail: 1, dials: dials, wait: 100 * ms})
		})
		t.Run("all are refused, 100 requests, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 64, inOrder(-10*ms))
			rs := w.calls(o, 100, 0, 3*time.Second)
			w.pass(100 * ms)
			w.expect(rs, most{fail: 100, dials: 100})
			if len(w.waiting) > 0 {
				t.Errorf("%d still wait", len(w.waiting))
			}
		})
		t.Run("all hang, 100 requests, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 256, inOrder(dark))
			rs := w.calls(o, 100, 0, time.Minute)
			w.pass(dark + 2500*ms)
			w.expect(rs, most{fail: 100, dials: 200})
			if len(w.waiting) > 1 { // who has got a second dial just before the first one failed
				t.Errorf("%d still wait", len(w.waiting))
			}
		})
		t.Run("that of one that was given up fails, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 64, inOrder(-100*ms, 10*ms))
			w.call(o, 0, 20*ms)
			r := w.call(o, 50*ms, time.Second)
			w.pass(time.Second)
			w.expect([]*worldRequest{r}, most{dials: 2, wait: 61 * ms})
		})
	}
	t.Run("the first is slow, and the second refused", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(time.Second, -ms, 10*ms))
		r := w.call(o, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 3, wait: time.Second})
	})
	t.Run("all connections die, and the next dial hangs", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms, dark, 10*ms))
		w.call(o, 0, time.Second)
		w.pass(time.Second)
		for _, c := range w.each() {
			w.die(c, ByServer)
		}
		rs := w.calls(o, 20, 0, 3*time.Second)
		w.pass(4 * time.Second)
		w.expect(rs, most{dials: 3, wait: 280 * ms})
	})
	t.Run("a handshake is slow because the machine is", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(900*ms))
		rs := w.calls(o, 50, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect(rs, most{dials: 4, wait: 920 * ms}) // one more each 250 ms, and not 50
	})
}

func TestABurstSharesWhatHTTP2Has(t *testing.T) {
	t.Run("1000 requests, 250 streams", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limit, o.really = 250, 250
		o.serve = func() time.Duration { return time.Second }
		rs := w.calls(o, 1000, 0, 10*time.Second)
		w.pass(10 * time.Second)
		w.expect(rs, most{dials: 4, wait: 60 * ms})
	})
	t.Run("200 requests wait for SETTINGS", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limit, o.really = 250, 250
		rs := w.calls(o, 200, 0, 10*time.Second)
		w.pass(10 * time.Second)
		w.expect(rs, most{dials: 1, wait: 60 * ms})
	})
	t.Run("a limit of streams of our own", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limits.MaxStreams = 10
		o.serve = func() time.Duration { return time.Second }
		w.calls(o, 40, 0, 10*time.Second)
		w.pass(500 * ms)
		for _, c := range w.each() {
			if c.streams > 10 {
				t.Errorf("%d requests on a connection", c.streams)
			}
		}
	})
}

func TestAServerThatRefusesIsAskedAgain(t *testing.T) {
	for _, d := range []time.Duration{500 * ms, 3 * time.Second} {
		t.Run(fmt.Sprint("all streams, for ", d), func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
			o.refuses = true
			rs := w.calls(o, 20, 0, 10*time.Second)
			w.pass(d)
			asked := w.events
			o.refuses = false
			w.pass(10 * time.Second)
			w.answers(rs)
			w.expect(rs, most{dials: 5, wait: 10 * time.Second})
			if asked > 1500 {
				t.Errorf("it was asked without a pause: %d events", asked)
			}
		})
	}
	t.Run("those above 5, and said 100", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.really = 5
		rs := w.calls(o, 40, 0, 10*time.Second)
		w.pass(10 * time.Second)
		w.answers(rs)
		w.expect(rs, most{dials: 6, wait: 200 * ms})
	})
	t.Run("with GOAWAY on each new connection, for a second", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.goesAway = true
		o.serve = func() time.Duration { return 50 * ms }
		rs := w.calls(o, 20, 0, 10*time.Second)
		w.pass(time.Second)
		o.goesAway = false
		w.pass(10 * time.Second)
		w.answers(rs)
		w.expect(rs, most{dials: 16, wait: 1400 * ms})
	})
	t.Run("all streams, SETTINGS allow none for a second", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		o.limit, o.really = 0, 0
		rs := w.calls(o, 20, 0, 10*time.Second)
		w.pass(time.Second)
		o.limit, o.really = 100, 100
		for _, c := range w.each() {
			w.event("settings", func() { w.m.Settings(w.now(), c.Conn, 100) })
		}
		w.pass(time.Second)
		w.answers(rs)
		w.expect(rs, most{dials: 4, wait: 1100 * ms})
	})
	for _, says := range []int{0, 100} {
		t.Run(fmt.Sprintf("the first connection takes no requests, and says %d", says), func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
			o.limit = says
			o.script = func(n int) (time.Duration, error) { // asked before each dial
				if n > 1 {
					o.limit = 100
				}
				return 10 * ms, nil
			}
			rs := w.calls(o, 20, 100*ms, time.Second)
			w.pass(11 * ms)
			w.each()[0].refuses = true
			w.pass(2 * time.Second)
			w.answers(rs)
			w.expect(rs, most{dials: 3, wait: 80 * ms})
		})
	}
}

func TestAProofAndADialRaceFairly(t *testing.T) {
	doubtful := func(t *testing.T, script ...time.Duration) (*world, *worldOrigin) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 64, inOrder(script...))
		w.call(o, 0, time.Second)
		w.pass(11 * time.Second)
		return w, o
	}
	t.Run("the answer is late, and the dial refused", func(t *testing.T) {
		w, o := doubtful(t, 10*ms, -ms)
		o.ping = 400 * ms
		rs := w.calls(o, 20, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect(rs, most{dials: 22, wait: 401 * ms})
	})
	t.Run("there is no answer", func(t *testing.T) {
		w, o := doubtful(t, 10*ms)
		w.each()[0].mute = true
		rs := w.calls(o, 20, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.answers(rs)
		w.expect(rs, most{dials: 2, wait: 140 * ms})
	})
	t.Run("the process stands still meanwhile", func(t *testing.T) {
		w, o := doubtful(t, 10*ms)
		o.ping = 20 * ms
		r := w.call(o, 0, time.Hour)
		w.pass(10 * ms)
		w.wall += int64(5 * time.Second) // the answer is there, and nobody has read it
		w.event("tick", func() { w.m.Tick(w.now()) })
		w.pass(time.Second)
		w.expect([]*worldRequest{r}, most{dials: 1, wait: 21 * ms})
	})
	t.Run("with a stream open, and nothing heard", func(t *testing.T) {
		w, o := doubtful(t, 10*ms)
		o.serve = func() time.Duration { return time.Hour }
		w.call(o, 0, 2*time.Hour)
		w.pass(11 * time.Second)
		w.each()[0].mute = true
		o.serve = func() time.Duration { return 5 * ms }
		r := w.call(o, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 2, wait: 140 * ms})
		if n := o.counts.VerifyFailed; n != 1 {
			t.Errorf("%d connections given up, want the one that does not answer", n)
		}
		if w.each()[0].closed {
			t.Error("its request was ended, and nobody knows that it is lost")
		}
	})
}

func TestTrustWherePeersCannotBeAsked(t *testing.T) {
	w := quiet(t, 256)
	o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
	o.unprovable = true
	w.call(o, 0, time.Second)
	w.pass(11 * time.Second)
	w.each()[0].lifetime = Forever
	r := w.call(o, 0, time.Second)
	w.pass(time.Second)
	if o.begun != 1 || r.grant.Doubt {
		t.Errorf("%d dials within TrustIdle, in doubt %t", o.begun, r.grant.Doubt)
	}
	w.pass(70 * time.Second)
	again := w.newRequest(o)
	again.want.Careful = false
	w.ask(again)
	if o.begun != 1 || again.grant.Conn == nil || !again.grant.Doubt {
		t.Errorf("one that may be sent again: %d dials, %+v", o.begun, again.grant)
	}
	w.pass(70 * time.Second)
	r = w.call(o, 0, time.Second)
	w.pass(time.Second)
	w.expect([]*worldRequest{r}, most{dials: 2, wait: 11 * ms})
	if o.begun != 2 {
		t.Errorf("one that must not be sent twice: %d dials", o.begun)
	}
}

// What can be proven need not be, for a request that may be sent again: it goes, and is watched.
func TestOnlyWhatMustNotBeSentTwiceWaitsForAProofOverHTTP1(t *testing.T) {
	w := quiet(t, 256)
	o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
	w.calls(o, 3, 0, time.Second)
	w.pass(11 * time.Second)
	r := w.newRequest(o)
	r.want.Careful = false
	w.ask(r)
	if r.grant.Conn == nil || !r.grant.Doubt || o.proofs != 0 {
		t.Fatalf("one that may be sent again: %+v, %d proofs", r.grant, o.proofs)
	}
	careful := w.call(o, 0, time.Second)
	w.pass(ms)
	if careful.got != 0 || o.proofs != 1 {
		t.Errorf("one that must not be sent twice: %d proofs", o.proofs)
	}
	another := w.newRequest(o) // finds what was set aside for those that wait for a proof
	another.want.Careful = false
	w.ask(another)
	w.pass(ms)
	if another.got == 0 || !another.grant.Doubt {
		t.Errorf("one that may be sent again, beside it: %+v", another.grant)
	}
	w.pass(time.Second)
	w.expect([]*worldRequest{r, careful, another}, most{dials: 3, wait: 6 * ms})
}

func TestADeadConnectionTakesItsGenerationAlong(t *testing.T) {
	w := quiet(t, 256)
	o := w.origin(speaksHTTP1, 64, inOrder(10*ms))
	w.calls(o, 10, 0, time.Second)
	w.pass(5 * time.Second)
	for _, c := range w.each() {
		c.fin = true
	}
	r := w.call(o, 0, time.Second)
	w.pass(time.Second)
	w.expect([]*worldRequest{r}, most{dials: 11, wait: 11 * ms})
	if n := o.counts.Closed[Stale]; n != 10 || r.deaths != 1 {
		t.Errorf("%d closed as stale, of which the request met %d; want 10 and 1", n, r.deaths)
	}
}

func TestLimits(t *testing.T) {
	t.Run("four dark hosts fill MaxConns, and nobody waits for them", func(t *testing.T) {
		w := quiet(t, 256)
		for range 4 {
			w.calls(w.origin(speaksHTTP1, 64, inOrder(dark)), 100, 0, 200*ms)
		}
		sound := w.origin(speaksHTTP2, 64, inOrder(10*ms))
		w.pass(220 * ms)
		if w.m.taken != 256 {
			t.Fatalf("%d places are taken", w.m.taken)
		}
		r := w.call(sound, 0, 3*time.Second)
		w.pass(3 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 1000, wait: 20 * ms})
	})
	for _, s := range []speaker{speaksHTTP1, speaksHTTP2} {
		for _, n := range []int{1, 16} {
			t.Run(fmt.Sprint("MaxConns ", n, ", 32 callers keep A busy, B asks once, ", s.name), func(t *testing.T) {
				w := quiet(t, n)
				a, b := w.origin(s, 64, inOrder(10*ms)), w.origin(s, 64, inOrder(10*ms))
				a.limit, a.really = 2, 2
				var again func()
				again = func() {
					r := w.newRequest(a)
					r.then = again
					w.ask(r)
				}
				for range 32 {
					w.after(0, again)
				}
				w.pass(time.Second)
				begun := a.begun
				r := w.call(b, 0, 3*time.Second)
				w.pass(3 * time.Second)
				w.expect([]*worldRequest{r}, most{dials: plenty, wait: 250 * ms})
				if more := a.begun - begun; more > n+2 {
					t.Errorf("A dialled %d times more, since B asked once", more)
				}
			})
		}
	}
	t.Run("MaxConns 1, a long stream of A, B asks, and A goes on", func(t *testing.T) {
		w := quiet(t, 1)
		a, b := w.origin(speaksHTTP2, 64, inOrder(10*ms)), w.origin(speaksHTTP2, 64, inOrder(10*ms))
		a.serve = func() time.Duration { return time.Minute }
		w.call(a, 0, 2*time.Minute)
		w.pass(100 * ms)
		a.serve = func() time.Duration { return 5 * ms }
		w.call(b, 0, 10*time.Second)
		r := w.call(a, 0, 10*time.Second)
		w.pass(10 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 1, wait: yieldTime + 10*ms})
	})
	t.Run("MaxConnsPerHost 1, a long stream, GOAWAY", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 1, inOrder(10*ms))
		o.serve = func() time.Duration { return time.Minute }
		w.call(o, 0, 2*time.Minute)
		w.pass(time.Second)
		w.goAway(w.each()[0], false)
		r := w.call(o, 0, 3*time.Second)
		w.pass(4 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 2, wait: 20 * ms})
	})
	t.Run("MaxConnsPerHost 1, a long stream, its lifetime is over", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 1, inOrder(10*ms))
		o.serve = func() time.Duration { return time.Minute }
		w.call(o, 0, 2*time.Minute)
		w.pass(45 * time.Second)
		r := w.call(o, 0, 3*time.Second)
		w.pass(4 * time.Second)
		w.expect([]*worldRequest{r}, most{dials: 1, wait: 20 * ms})
	})
	t.Run("a lifetime is over, and the dial of the successor fails", func(t *testing.T) {
		w := quiet(t, 256)
		o := w.origin(speaksHTTP2, 10, inOrder(10*ms, -ms))
		o.serve = func() time.Duration { return time.Minute }
		w.call(o, 0, 2*time.Minute)
		w.pass(45 * time.Second)
		rs := w.calls(o, 10, 0, 3*time.Second)
		w.pass(4 * time.Second)
		w.expect(rs, most{dials: 30, wait: 20 * ms})
	})
	for _, s := range []speaker{speaksHTTP1, speaksHTTP2} {
		t.Run("a fresh one is wanted, and there is no room, "+s.name, func(t *testing.T) {
			w := quiet(t, 256)
			o := w.origin(s, 1, inOrder(10*ms))
			w.call(o, 0, time.Second)
			w.pass(time.Second)
			r := w.newRequest(o)
			r.want.Fresh = true
			w.ask(r)
			w.pass(time.Second)
			w.expect([]*worldRequest{r}, most{dials: 2, wait: 20 * ms})
			if o.begun != 2 {
				t.Errorf("%d dials, want a second one", o.begun)
			}
		})
	}
	t.Run("more wait than may", func(t *testing.T) {
		w := quiet(t, 256)
		w.m.cfg.MaxWaiters = 2
		o := w.origin(speaksHTTP1, 1, inOrder(10*ms))
		o.serve = func() time.Duration { return time.Second }
		w.call(o, 0, time.Minute)
		w.pass(100 * ms)
		rs := w.calls(o, 3, 0, time.Minute)
		w.pass(ms)
		if !errors.Is(rs[2].errored, ErrExhausted) || rs[0].ended || rs[1].ended {
			t.Errorf("%v, %v, %v; want the third to fail", rs[0].errored, rs[1].errored, rs[2].errored)
		}
	})
}

// Two requests share a dial into the dark, get a second one, and give up while that is on time.
func TestADialThatNobodyWaitsForGivesWayToASecondOne(t *testing.T) {
	w := quiet(t, 256)
	o := w.origin(speaksHTTP2, 2, inOrder(dark, dark, 10*ms))
	for range 2 {
		w.call(o, 0, 400*ms)
	}
	next := w.call(o, 500*ms, 2*time.Second)
	w.pass(5 * time.Second)
	w.expect([]*worldRequest{next}, most{dials: 3, wait: 50 * ms})
	w.answers([]*worldRequest{next})
}

func TestForgottenBodiesAreLookedForOnce(t *testing.T) {
	w := quiet(t, 256)
	o := w.origin(speaksHTTP1, 64, inOrder(ms))
	o.serve = func() time.Duration { return time.Hour }
	w.calls(o, 64, 0, 2*time.Hour)
	w.pass(time.Second)
	w.calls(o, 3, 0, 5*time.Second)
	w.pass(5 * time.Second)
	if w.collected != 1 {
		t.Errorf("garbage was collected %d times, want once", w.collected)
	}
}

// A timer that runs by the monotonic clock comes too late if only the wall clock went on in a freeze.
func TestWhatIsDueAfterAFreezeIsNotForgotten(t *testing.T) {
	w := quiet(t, 256)
	o := w.origin(speaksHTTP2, 64, inOrder(10*ms))
	w.call(o, 0, time.Second)
	w.pass(2 * time.Second)
	w.each()[0].lifetime = Forever
	w.wall += int64(298500 * ms) // the idle limit has all but passed, and its timer is set for much later
	o.refuses = true
	r := w.call(o, 0, 10*time.Second)
	w.pass(time.Second)
	o.refuses = false
	w.pass(time.Second)
	w.answers([]*worldRequest{r})
}

// long is longer than any test.
const long = time.Hour

// hold makes a request that has its connection until it is given back by hand.
func (w *world) hold(o *worldOrigin) *worldRequest {
	w.t.Helper()
	serve := o.serve
	o.serve = func() time.Duration { return long }
	r := w.call(o, 0, 2*long)
	w.pass(20 * ms)
	o.serve = serve
	if r.on == nil {
		w.t.Fatal("a request has no connection")
	}
	return r
}

// finish gives back what a request has.
func (w *world) finish(r *worldRequest, how How) {
	w.end(r, nil)
	w.done(r, how)
}

// dialled fails unless so many dials were begun at o.
func (w *world) dialled(o *worldOrigin, n int) {
	w.t.Helper()
	if o.begun != n {
		w.t.Errorf("%d dials, want %d", o.begun, n)
	}
}

// sleep has time pass without anything that is arranged, as if the process had not run.
func (w *world) sleep(d time.Duration) {
	w.jump(int64(d))
	w.wall += int64(d)
}
