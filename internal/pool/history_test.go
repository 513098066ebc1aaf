package pool

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var (
	histories = flag.Int("histories", 300, "how many random histories a test has")
	firstSeed = flag.Uint64("seed", 1, "of the first random history")
)

// failedBefore are seeds of histories that have found a fault of the machine once.
var failedBefore = []uint64{}

// TestRandomHistories has servers, networks, clocks and callers do what they like, and checks after each event that: no connection is
// in two places; the gauges are what is there; the limits hold; nobody waits while something could serve him or be begun for him;
// those who come first are served first, across origins under MaxConns; each request is answered or fails once; a dial that fails
// fails one request at most; nobody is on a connection that is known to be dead; an event takes a bounded number of steps.
func TestRandomHistories(t *testing.T) {
	began := time.Now()
	var sum world
	run := func(seed uint64) {
		done := false
		defer func() {
			if !done {
				t.Logf("the seed is %d", seed)
			}
		}()
		w := history(t, seed, 400)
		sum.events += w.events
		sum.asked += w.asked
		sum.answered += w.answered
		sum.failed += w.failed
		sum.gaveUp += w.gaveUp
		sum.lost += w.lost
		sum.froze += w.froze
		sum.most = max(sum.most, w.most)
		done = true
	}
	for _, seed := range failedBefore {
		run(seed)
	}
	for i := range *histories {
		run(*firstSeed + uint64(i))
	}
	t.Logf("%d histories, %d events (%.0f a second); of %d requests %d were answered, %d failed, %d were given up, %d were lost; %d freezes; at most %d steps an event beside 6 a decision",
		*histories, sum.events, float64(sum.events)/time.Since(began).Seconds(), sum.asked, sum.answered, sum.failed, sum.gaveUp, sum.lost, sum.froze, sum.most)
	// A connection, a request and a dial each are looked at a few times for each of the places that they can be in.
	if most := 100; sum.most > most {
		t.Errorf("an event took %d steps, want at most %d", sum.most, most)
	}
}

// history is n things that happen at random, and the end of all of them.
func history(t testing.TB, seed uint64, n int) *world {
	w := newWorld(t, Config{}, seed)
	one := func(choices ...int) int { return choices[w.rnd.IntN(len(choices))] }
	cfg := Config{
		MaxConns: one(1, 2, 4, 8, 1000), MaxWaiters: one(3, 1000, 1000, 1000),
		VerifyTimeout: time.Second, DialDelay: 250 * ms,
	}
	cfg.MaxIdleConns = min(one(1, 2, 8, 1000), cfg.MaxConns)
	verifyAfter, trustIdle := time.Duration(one(1, 5, 10))*time.Second, time.Duration(one(2, 20))*time.Second
	w.cfg, w.m = cfg, New(cfg)
	for range 1 + w.rnd.IntN(4) {
		o := &worldOrigin{
			name: fmt.Sprint("origin ", len(w.origins)), h2: w.rnd.IntN(2) == 0, limit: one(1, 3, 5, 100),
			rtt: time.Duration(1+w.rnd.IntN(40)) * ms,
		}
		o.unprovable = !o.h2 && w.rnd.IntN(4) == 0
		o.really = o.limit
		if w.rnd.IntN(4) == 0 {
			o.really = one(1, 2, o.limit)
		}
		p := Unknown
		if !o.h2 {
			p = []Protocol{Unknown, HTTP1}[w.rnd.IntN(2)]
		}
		limits := Limits{
			MaxConns: one(1, 2, 5, 50), MaxStreams: one(2, 1000),
			IdleTimeout: time.Duration(one(2, 30)) * time.Second, VerifyAfter: verifyAfter, TrustIdle: trustIdle,
		}
		limits.MaxIdleConns = one(1, limits.MaxConns)
		o.Origin = w.m.NewOrigin(limits, p, new(Counts))
		o.Driver = o
		w.origins = append(w.origins, o)
	}
	for range n {
		w.happen()
	}

	// The world turns healthy: whatever was asked ends.
	w.healthy = true
	for _, o := range w.origins {
		o.dialling, o.refuses, o.goesAway = dialsWork, false, false
	}
	w.pass(20 * time.Second)
	for r := range w.waiting {
		w.t.Errorf("a request (%+v) still waits 20 s after the world turned healthy: dials %d, held %t; %s: %+v, failures %d, starved %t",
			r.Want, r.dials.n, r.hold.listed(), r.origin.Driver.(*worldOrigin).name, r.origin.sums(), r.origin.failures, r.origin.hunger.queued())
		for _, c := range w.each() {
			if c.Conn.origin == r.origin {
				w.t.Logf("connection %d: life %d, place %d, %d requests, fit %d, yields %t, refusals %d", c.id, c.life, c.where, c.streams, w.m.fit(c.Conn, r.Want.class(), r.Want.turn), c.yields, c.refusals)
			}
		}
	}
	w.event("close", func() { w.m.Close(w.now()) })
	w.pass(10 * time.Second)
	if m := w.m; m.taken != 0 || m.conns.n != 0 || m.dials.n != 0 || m.freeing != 0 || m.waiting.n != 0 {
		t.Errorf("after Close: %d taken, %d open, %d dialling, %d freeing, %d wait", m.taken, m.conns.n, m.dials.n, m.freeing, m.waiting.n)
	}
	if w.t.Failed() {
		t.FailNow()
	}
	return w
}

// happen has one thing happen.
func (w *world) happen() {
	one := func(choices ...int) int { return choices[w.rnd.IntN(len(choices))] }
	o := w.origins[w.rnd.IntN(len(w.origins))]
	var c *worldConn
	if all := w.each(); len(all) > 0 {
		c = all[w.rnd.IntN(len(all))]
	}
	switch x := w.rnd.IntN(100); {
	case x < 55: // somebody asks
		for range one(1, 1, 1, 2, 8) {
			r := w.newRequest(o)
			if w.rnd.IntN(3) == 0 {
				w.after(time.Duration(w.rnd.IntN(3000))*ms, func() { w.giveUp(r) })
			}
			w.ask(r)
		}
	case x < 60: // the network changes
		o.dialling = dialling(one(0, 0, 1, 2, 3))
	case x < 63: // a server changes
		o.refuses = o.h2 && w.rnd.IntN(3) == 0
	case x < 65:
		o.goesAway = o.h2 && w.rnd.IntN(3) == 0
	case x < 66:
		if o.h2 {
			o.limit = one(0, 1, 3, 100)
			o.really = o.limit
			for _, c := range w.each() {
				if c.origin == o && !c.closed && !c.mute {
					w.event("settings", func() { w.m.Settings(w.now(), c.Conn, o.limit) })
				}
			}
			if o.limit == 0 {
				w.after(time.Second, func() {
					o.limit, o.really = 10, 10
					for _, c := range w.each() {
						if c.origin == o && !c.closed {
							w.event("settings", func() { w.m.Settings(w.now(), c.Conn, o.limit) })
						}
					}
				})
			}
		}
	case x < 70: // a server closes a connection, and this side has seen it or not
		if c != nil {
			c.fin = true
			if w.rnd.IntN(2) == 0 {
				w.die(c, ByServer)
			}
		}
	case x < 73: // a NAT forgets one
		if c != nil {
			c.mute = true
		}
	case x < 76: // a server wants to be rid of one
		if c != nil && c.origin.h2 {
			w.goAway(c, w.rnd.IntN(2) == 0)
		}
	case x < 78: // a freeze, in which the clocks go on or not
		w.froze++
		d := int64(w.rnd.IntN(40)) * int64(time.Second)
		w.wall += d
		if w.rnd.IntN(2) == 0 {
			w.mono += d
		} else if w.rnd.IntN(2) == 0 {
			w.jump(d)
		}
		for _, c := range w.each() {
			c.fin = c.fin || w.rnd.IntN(3) == 0
			c.mute = c.mute || w.rnd.IntN(6) == 0
		}
		if w.rnd.IntN(2) == 0 {
			w.event("thaw", func() { w.m.Thaw(w.now()) })
		}
	case x < 79: // the program does something else
		switch w.rnd.IntN(8) {
		case 0:
			w.event("reset", func() { w.m.Reset(w.now()) })
		case 1:
			w.event("close idle", func() { w.m.CloseIdle(w.now()) })
		case 2:
			w.wall -= int64(w.rnd.IntN(3000)) * int64(ms)
		case 3:
			w.event("warm", func() { w.m.Warm(w.now(), o.Origin, 3, w.rnd.IntN(2) == 0) })
		case 4:
			w.event("thaw", func() { w.m.LookAfter(w.now(), o.Origin) })
		case 5:
			if c != nil {
				w.event("suspect", func() { w.m.Suspect(w.now(), c.Conn) })
			}
		case 6:
			if c != nil && !c.mute {
				w.event("heard", func() { w.m.Heard(w.now(), c.Conn, time.Duration(w.rnd.IntN(2000))*ms) })
			}
		case 7:
			if c != nil && !c.closed {
				if retire := w.m.Retire; w.rnd.IntN(4) > 0 {
					w.event("retire", func() { retire(w.now(), c.Conn) })
				} else {
					w.taken[c.Conn] = c.Streams() > 0
					w.event("take over", func() { w.m.TakenOver(w.now(), c.Conn) })
				}
			}
		}
	default: // time passes
		w.pass(time.Duration(one(1, 10, 100, 400, 2000)) * ms)
	}
}
