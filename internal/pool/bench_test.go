package pool

import (
	"fmt"
	"testing"
	"time"
)

// benchClock is a clock that goes on by a microsecond each time that it is read.
type benchClock int64

func (c *benchClock) now() Instant {
	*c += 1000
	return Instant{1e18 + int64(*c), 1e9 + int64(*c)}
}

// benchPool returns a machine with so many connections at each of so many origins.
func benchPool(b *testing.B, p Protocol, origins, conns int) (*Machine, []*Origin, *benchClock) {
	b.Helper()
	clock := new(benchClock)
	m := New(Config{MaxConns: plenty, MaxIdleConns: plenty, MaxWaiters: plenty, VerifyTimeout: time.Second, DialDelay: 250 * ms})
	all := make([]*Origin, origins)
	for i := range all {
		o := m.NewOrigin(Limits{
			MaxConns: plenty, MaxIdleConns: plenty, MaxStreams: 250,
			IdleTimeout: 5 * time.Minute, VerifyAfter: time.Minute, TrustIdle: time.Minute,
		}, p, new(Counts))
		if p == HTTP2 {
			o.protocol = Unknown
		}
		begun, _, _ := m.Warm(clock.now(), o, conns, true)
		for _, d := range begun {
			c := new(Conn)
			m.Dialed(clock.now(), d, c, Made{Protocol: p, RTT: ms, Lifetime: Forever})
			if p == HTTP2 {
				m.Settings(clock.now(), c, 250)
			}
		}
		all[i] = o
	}
	m.Take(nil)
	return m, all, clock
}

// A request on a connection that is there: asking for it, and giving it back.
func BenchmarkAskAndDone(b *testing.B) {
	for _, p := range []Protocol{HTTP1, HTTP2} {
		for _, n := range []struct{ origins, conns int }{{1, 1}, {1, 100}, {1, 10_000}, {1000, 1}} {
			b.Run(fmt.Sprintf("protocol=%d/origins=%d/conns=%d", p, n.origins, n.conns), func(b *testing.B) {
				m, all, clock := benchPool(b, p, n.origins, n.conns)
				b.ReportAllocs()
				spare := make([]Decision, 0, 8)
				for i := 0; b.Loop(); i++ {
					var w Want
					g, ok := m.Ask(clock.now(), all[i%len(all)], &w)
					if !ok {
						b.Fatal("there is no connection")
					}
					m.Done(clock.now(), g.Conn, Answered, 0)
					if d := m.Take(spare); d != nil {
						spare = d
					}
				}
			})
		}
	}
}

// Requests that come while the only connection is being proven: the cost of each, from asking to having given it back, with few of
// them and with many. It should hardly depend on how many there are.
func BenchmarkABurstDuringAProof(b *testing.B) {
	for _, n := range []int{500, 8000} {
		b.Run(fmt.Sprint("requests=", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m, all, clock := benchPool(b, HTTP2, 1, 1)
				o := all[0]
				o.limits.MaxStreams = plenty
				c := m.conns.first()
				c.limit = plenty
				*clock += benchClock(2 * time.Minute)
				rs := make([]Request, n)
				for i := range rs {
					var w Want
					if _, ok := m.Ask(clock.now(), o, &w); ok {
						b.Fatal("a connection in doubt was given to a request")
					}
					rs[i].Want = w
					if err := m.Wait(clock.now(), o, &rs[i], false); err != nil {
						b.Fatal(err)
					}
				}
				m.Proven(clock.now(), c)
				for i := range rs {
					if rs[i].Grant.Conn == nil {
						b.Fatal("a request still waits")
					}
					m.Done(clock.now(), rs[i].Grant.Conn, Answered, 0)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/request")
		})
	}
}

// Dials without limits: each request of a burst gets one.
func BenchmarkABurstOfDials(b *testing.B) {
	for _, n := range []int{500, 8000} {
		b.Run(fmt.Sprint("requests=", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m, all, clock := benchPool(b, HTTP1, 1, 0)
				rs := make([]Request, n)
				for i := range rs {
					var w Want
					m.Ask(clock.now(), all[0], &w)
					rs[i].Want = w
					if err := m.Wait(clock.now(), all[0], &rs[i], false); err != nil {
						b.Fatal(err)
					}
				}
				for _, d := range m.Take(nil) {
					if d.Kind == DoDial {
						m.Dialed(clock.now(), d.Dial, new(Conn), Made{Protocol: HTTP1, RTT: ms, Lifetime: Forever})
					}
				}
				for i := range rs {
					m.Done(clock.now(), rs[i].Grant.Conn, Answered, 0)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/request")
		})
	}
}

// Requests to many origins while MaxConns is full: the cost of one that comes, and of one that gives up.
func BenchmarkArrivalsUnderAFullMaxConns(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint("origins=", n), func(b *testing.B) {
			m, all, clock := benchPool(b, HTTP1, n, 1)
			m.cfg.MaxConns = n
			for _, o := range all {
				var w Want
				if _, ok := m.Ask(clock.now(), o, &w); !ok {
					b.Fatal("there is no connection")
				}
			}
			waiting := make([]Request, n)
			for i := range waiting {
				m.Ask(clock.now(), all[i], &waiting[i].Want)
				m.Wait(clock.now(), all[i], &waiting[i], false)
			}
			b.ReportAllocs()
			var r Request
			for i := 0; b.Loop(); i++ {
				r.Want = Want{}
				m.Ask(clock.now(), all[i%n], &r.Want)
				if err := m.Wait(clock.now(), all[i%n], &r, false); err != nil {
					b.Fatal(err)
				}
				m.GiveUp(clock.now(), &r)
			}
		})
	}
}
