//go:build linux

package trial

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

var (
	soakFor  = flag.Duration("soak", 2*time.Second, "how long TestSoak takes, about")
	soakSeed = flag.Uint64("soak.seed", 0, "what TestSoak does; 0 chooses")
)

const (
	soakSites   = 3  // servers at a time
	soakCallers = 12 // of each
	soakCycle   = 10 * time.Second
	// How much more heap there may be after a cycle, and in the end, than before the first, in bytes. Timers of requests
	// and connections that have ended hold on to them for some seconds more.
	heapMeanwhile = 8 << 20
	heapInTheEnd  = 1 << 20
)

// state is what must return to where it began.
type state struct {
	goroutines, descriptors int
	heap                    uint64 // bytes in use after a collection
}

func stateNow(t *testing.T) state {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC() // what cleanups of the first let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return state{runtime.NumGoroutine(), len(entries), m.HeapAlloc}
}

func (s state) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d KiB of heap", s.goroutines, s.descriptors, s.heap>>10)
}

// TestSoak has one pool use servers that come and go, while they are reloaded and restarted, its requests are cancelled and
// it is itself reset, in cycles of some seconds. After each cycle the pool must be empty, and goroutines, descriptors and
// heap must be back where they began.
//
// The seed says what is done, but not what the machine makes of it in the meantime.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-soak=%v -soak.seed=%d", *soakFor, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var installed []*family
	for _, f := range families {
		if _, ok := lookFor(f.program); ok {
			installed = append(installed, f)
		}
	}
	if len(installed) == 0 {
		missing(t, "no server is installed")
	}
	ws := new(wires)
	cfg := settings(h1, ws)
	cfg.Protocols = nil // both
	pool, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := &soak{pool: pool, wires: ws, installed: installed, verdicts: make(map[verdict]int)}
	for range soakSites {
		s.addrs = append(s.addrs, reserveAddr(t)) // always the same, so that the pool knows as many origins at the end
	}

	began, cycles := time.Now(), 0
	before := stateNow(t)
	for left := *soakFor; left > 0 && !t.Failed(); left = *soakFor - time.Since(began) {
		d := min(soakCycle, left, *soakFor/2)
		t.Run(strconv.Itoa(cycles), func(t *testing.T) { s.cycle(t, r, max(d, time.Second)) })
		s.settle(t, before, heapMeanwhile)
		cycles++
	}
	after := s.settle(t, before, heapInTheEnd)
	t.Logf("%d cycles in %v, %d requests judged: %v; and %d more cancelled, closed early or sent with other headers", cycles,
		time.Since(began).Round(time.Second), s.requests, s.verdicts, s.wild.Load())
	t.Logf("before: %v; after: %v", before, after)
	t.Logf("the pool: %+v", pool.Stats().Origin)
}

// soak is the state of TestSoak.
type soak struct {
	pool      *transport.Transport
	wires     *wires
	installed []*family
	addrs     []string

	requests int
	wild     atomic.Int64
	verdicts map[verdict]int
}

// cycle uses a few servers for a while.
func (s *soak) cycle(t *testing.T, r *rand.Rand, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	var sites []*site
	var loads []*load
	for i, addr := range s.addrs {
		f := s.installed[r.IntN(len(s.installed))]
		p := f.protocols[r.IntN(len(f.protocols))]
		e := events[f.events[r.IntN(len(f.events))]]
		if e.only != "" && e.only != p {
			e.limits = limits{}
		}
		if e.limits.idle > 0 {
			e.limits.idle = max(e.limits.idle, f.granularity)
		}
		site := newSite(t, f, p, e.limits, addr)
		l := &load{
			name: fmt.Sprintf("soak-%d-%s", i, f.name), rt: s.pool, wires: s.wires, url: site.url(), silent: f.silent, sized: f.sized,
			seed: r.Uint64(),
		}
		l.rest = shortly
		if idle := e.limits.idle; idle > 0 && idle < d/3 {
			l.rest = about(idle)
		}
		sites, loads = append(sites, site), append(loads, l)
		wg.Go(func() { disturb(ctx, t, site, rand.New(rand.NewPCG(l.seed, 1))) })
		for caller := range soakCallers {
			r := rand.New(rand.NewPCG(l.seed, uint64(2+caller)))
			wg.Go(func() {
				for ctx.Err() == nil {
					if r.IntN(4) == 0 {
						s.gone(ctx, l, r)
					} else {
						l.request(kind(r.IntN(int(kinds))), 1+r.IntN(8<<10))
					}
					pause(ctx, l.rest(r))
				}
			})
		}
	}
	wg.Go(func() { s.operate(ctx, rand.New(rand.NewPCG(r.Uint64(), 0)), loads) })
	wg.Wait()
	for i, l := range loads {
		y := &l.tally
		y.settle(sites[i].ledger().arrivals(t))
		s.requests += y.requests()
		for v, n := range y.verdicts {
			s.verdicts[verdict(v)] += n
		}
		if y.verdicts[savable]+y.wrong+y.twice+y.unseen > 0 {
			t.Errorf("%s: %d requests failed that could have been saved, %d got another's answer, %d arrived twice, %d were answered without having arrived:\n%s",
				l.name, y.verdicts[savable], y.wrong, y.twice, y.unseen, y.reasons())
		}
	}
}

// disturb reloads and restarts a server.
func disturb(ctx context.Context, t *testing.T, s *site, r *rand.Rand) {
	for ctx.Err() == nil {
		pause(ctx, 300*time.Millisecond+time.Duration(r.IntN(3000))*time.Millisecond)
		act := s.restart
		if s.family.reload != nil && r.IntN(4) > 0 {
			act = func() error { return s.family.reload(s) }
		}
		if ctx.Err() != nil {
			return
		}
		err := act()
		if err != nil && s.process.ended() {
			// Servers have bugs too: a request with "Expect: 100-continue" that is given up can make Caddy 2.6 panic. That is a
			// restart that nobody asked for.
			t.Logf("%s has ended by itself (%v) and is started again", s.family.name, err)
			err = s.restart()
		}
		if err != nil {
			t.Errorf("%s: %v", s.family.name, err)
			return
		}
	}
}

// operate does to the pool what its methods can do.
func (s *soak) operate(ctx context.Context, r *rand.Rand, loads []*load) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(r.IntN(300))*time.Millisecond)
		switch r.IntN(6) {
		case 0:
			s.pool.Thaw(ctx)
		case 1:
			_ = s.pool.Warm(ctx, loads[r.IntN(len(loads))].url) // its server may be down
		case 2:
			s.pool.CloseIdleConnections()
		case 3:
			s.pool.Reset()
		default:
			s.pool.Stats()
		}
	}
}

// gone sends a request whose caller loses interest, or that asks for something out of the ordinary. All that is known of
// it is that a POST must not arrive twice.
func (s *soak) gone(ctx context.Context, l *load, r *rand.Rand) {
	id := fmt.Sprintf("%s-%d", l.name, l.counter.Add(1))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.IntN(30_000))*time.Microsecond)
	defer cancel()
	size := 1 + r.IntN(64<<10)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(make([]byte, size)))
	if err != nil {
		panic(err) // the URL is the test's own
	}
	req.Header.Set(headerID, id)
	req.Header.Set(headerSize, strconv.Itoa(size))
	req.Close = r.IntN(8) == 0
	if r.IntN(4) == 0 {
		req.Header.Set("Expect", "100-continue")
	}
	l.tally.mayArriveOnce(id)
	s.wild.Add(1)
	resp, err := l.rt.RoundTrip(req)
	if err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, int64(r.IntN(2*answerSize))) // it is given up in the midst of it
	resp.Body.Close()
}

// settle waits until nothing is left of a cycle.
func (s *soak) settle(t *testing.T, before state, growth uint64) state {
	t.Helper()
	s.pool.CloseIdleConnections()
	var now state
	var stats transport.Origin
	if !poll(patience, func() bool {
		now, stats = stateNow(t), s.pool.Stats().Origin
		return now.goroutines <= before.goroutines && now.descriptors <= before.descriptors && now.heap <= before.heap+growth &&
			stats.Open+stats.InUse+stats.Idle+stats.Dialing+stats.Waiting+stats.Streams == 0
	}) {
		stacks := make([]byte, 1<<20)
		t.Errorf("after a cycle: %v; before there were %v; the pool: %+v\n%s", now, before, stats, stacks[:runtime.Stack(stacks, true)])
	}
	return now
}
