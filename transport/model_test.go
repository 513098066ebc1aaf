package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

// The model tests drive a pool with random operations and check its books after each. THAW_SEED repeats a run,
// THAW_MODEL_STEPS sets its length.

// modelRand returns the source of a run and how many operations it has.
func modelRand(t *testing.T, steps int) (*rand.Rand, int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("THAW_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("THAW_SEED: %v", err)
		}
		seed = n
	}
	if s := os.Getenv("THAW_MODEL_STEPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("THAW_MODEL_STEPS: %v", err)
		}
		steps = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: THAW_SEED=%d THAW_MODEL_STEPS=%d go test -run '^%s$'", seed, steps, t.Name())
		}
	})
	return rand.New(rand.NewPCG(seed, 0)), steps
}

// modelServers starts servers that allow few streams.
func modelServers(t *testing.T, m mode, n int) []*server {
	t.Helper()
	servers := make([]*server, n)
	for i := range servers {
		servers[i] = serve(t, m, func(s *http.Server) {
			s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 3}
		})
	}
	return servers
}

// jumps are what a freeze, a restore or an operator does to the clocks.
var jumps = []struct{ wall, mono time.Duration }{
	{time.Hour, time.Hour}, {time.Hour, 0}, {-time.Minute, 0}, {30 * time.Second, 30 * time.Second},
	{3 * time.Minute, 0}, {0, 3 * time.Minute}, {2 * time.Hour, -time.Hour},
}

func TestBooksHoldUnderRandomConcurrentUse(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		r, steps := modelRand(t, 1000)
		servers := modelServers(t, m, 3)
		cfg := Config{
			MaxConnsPerHost: 2 + r.IntN(3), MaxConns: 4 + r.IntN(3),
			MaxIdleConnsPerHost: 1 + r.IntN(3), MaxIdleConns: 2 + r.IntN(3),
			VerifyTimeout: 50 * time.Millisecond, TrustIdle: time.Minute, VerifyAfter: 10 * time.Second,
			DrainTime: 5 * time.Millisecond, ResponseHeaderTimeout: 3 * time.Second,
			Logger: quiet,
		}
		p := newPool(t, m, cfg)
		model := &concurrentModel{testPool: p, servers: servers, calm: r.IntN(2) == 0}

		stop := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() { model.watch(t, stop) })
		const workers = 10
		var wg sync.WaitGroup
		for range workers {
			own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
			wg.Go(func() {
				for range steps / workers {
					model.step(t, own)
				}
			})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			wg.Wait()
		}()
		select {
		case <-done:
		case <-time.After(60 * time.Second):
			t.Errorf("requests hang: %+v", p.Stats().Origin)
			p.Close()
			<-done
		}
		close(stop)
		watch.Wait()

		// What was leaked comes back, and then all is at rest.
		if !within(5*time.Second, func() bool {
			runtime.GC()
			return p.Stats().InUse == 0
		}) {
			t.Fatalf("no longer used, and not given back:\n%s", describe(p.Transport))
		}
		p.settled(t)
		if err := check(p.Transport); err != nil {
			t.Error(err)
		}
		for _, s := range servers {
			s.mu.Lock()
			for id, n := range s.seen {
				if strings.HasPrefix(id, "POST") && n > 1 {
					t.Errorf("%s was processed %d times", id, n)
				}
			}
			s.mu.Unlock()
		}
		if !model.calm && m.h2 {
			return // what a GOAWAY, a Reset or the end of a lifetime retires leaves its place before it is closed
		}
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		if p.net.peak > cfg.MaxConns {
			t.Errorf("%d connections were open at once, MaxConns is %d", p.net.peak, cfg.MaxConns)
		}
		for addr, n := range p.net.peaks {
			if n > cfg.MaxConnsPerHost {
				t.Errorf("%d connections to %s were open at once, MaxConnsPerHost is %d", n, addr, cfg.MaxConnsPerHost)
			}
		}
		t.Logf("%d requests, %d failed; %+v", model.requests.Load(), model.failed.Load(), p.Stats().Origin)
	})
}

// concurrentModel is many goroutines that use one pool.
type concurrentModel struct {
	*testPool
	servers  []*server
	calm     bool // nothing is retired
	requests atomic.Int64
	failed   atomic.Int64
}

// watch checks the books all the time, and collects what was leaked.
func (m *concurrentModel) watch(t *testing.T, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Microsecond):
		}
		m.mu.Lock()
		err := checkLocked(m.Transport)
		m.mu.Unlock()
		if err != nil {
			t.Errorf("at look %d: %v", n, err)
			return
		}
		if n%500 == 499 {
			runtime.GC()
		}
	}
}

// step does one random thing.
func (m *concurrentModel) step(t *testing.T, r *rand.Rand) {
	s := m.servers[r.IntN(len(m.servers))]
	switch n := r.IntN(200); n {
	case 0:
		s.fin()
	case 1:
		s.rst()
	case 2:
		if !m.calm {
			m.Reset()
		}
	case 3:
		m.CloseIdleConnections()
	case 4, 5:
		j := jumps[r.IntN(len(jumps))]
		m.clock.freeze(j.wall, j.mono)
	case 6, 7:
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		m.Thaw(ctx)
		cancel()
	case 8:
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		m.Warm(ctx, s.url, s.url)
		cancel()
	default:
		m.ask(t, r, s)
	}
}

// ask makes one random request and does something random with the answer.
func (m *concurrentModel) ask(t *testing.T, r *rand.Rand, s *server) {
	method := []string{"GET", "POST", "PUT"}[r.IntN(3)]
	id := fmt.Sprintf("%s-%d", method, m.requests.Add(1))
	body := r.IntN(3)
	if method == "GET" {
		body = noBody
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cancelled := false
	if r.IntN(10) == 0 {
		cancelled = true
		ctx2, cancel2 := context.WithCancel(ctx)
		defer cancel2()
		if d := time.Duration(r.IntN(4)) * 500 * time.Microsecond; d == 0 {
			cancel2()
		} else {
			defer time.AfterFunc(d, cancel2).Stop()
		}
		ctx = ctx2
	}
	req := s.request(ctx, method, id, body)
	word := ""
	switch r.IntN(16) {
	case 0:
		if !m.calm {
			word = "close"
		}
	case 1:
		word = "abort"
	case 2:
		word = "cut"
	case 3:
		word = "size 20000"
	case 4:
		word = "size 300000"
	case 5:
		word = "keepalive 1"
	case 6, 7:
		word = fmt.Sprintf("slow %d", r.IntN(4))
	}
	if word != "" {
		req.Header.Set("X-Do", word)
	}
	resp, err := m.RoundTrip(req)
	if (resp == nil) == (err == nil) {
		t.Errorf("%s: response %v and error %v", id, resp, err)
		return
	}
	if err != nil {
		m.failed.Add(1)
		if !cancelled && ctx.Err() != nil {
			t.Errorf("%s got no answer: %v\n%s", id, err, describe(m.Transport))
		}
		return
	}
	if got := resp.Header.Get("X-Id"); got != id {
		t.Errorf("%s got the answer to %q", id, got)
	}
	if n := s.times(id); n == 0 || n > 1 && method == "POST" {
		t.Errorf("%s was answered, the server saw it %d times", id, n)
	}
	switch r.IntN(50) {
	case 0: // leaked
		return
	case 1, 2, 3, 4:
	case 5, 6:
		io.CopyN(io.Discard, resp.Body, 5)
	default:
		b, err := io.ReadAll(resp.Body)
		if err == nil && (word == "cut" || !strings.HasPrefix(string(b), id)) {
			t.Errorf("%s got a body that begins with %q", id, b[:min(len(b), 40)])
		}
	}
	resp.Body.Close()
}

// The step model does one thing at a time, lets the pool come to rest and compares it with what must be there.
func TestBooksMatchTheModelAfterEachStep(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		r, steps := modelRand(t, 300)
		servers := modelServers(t, m, 2)
		p := newPool(t, m, Config{
			MaxConnsPerHost: 4, MaxConns: 6, MaxIdleConnsPerHost: 3, MaxIdleConns: 4,
			VerifyTimeout: 50 * time.Millisecond, TrustIdle: time.Minute, Logger: quiet,
		})
		model := &stepModel{testPool: p, servers: servers, r: r}
		for n := range steps {
			op := model.step(t)
			p.settled(t)
			if err := model.compare(t); err != nil {
				t.Fatalf("step %d, %s: %v", n, op, err)
			}
		}
		model.drop()
	})
}

type stepModel struct {
	*testPool
	servers []*server
	r       *rand.Rand
	n       int
	held    []heldBody // answers whose body was not closed
	last    uint64     // requests so far
}

type heldBody struct {
	req  *http.Request
	resp *http.Response
}

// drop closes all bodies in hand.
func (m *stepModel) drop() {
	for _, h := range m.held {
		h.resp.Body.Close()
	}
	m.held = nil
}

func (m *stepModel) request(s *server) *http.Request {
	m.n++
	m.last++
	switch m.r.IntN(4) {
	case 0:
		return s.request(context.Background(), "POST", fmt.Sprintf("POST-%d", m.n), getBody)
	case 1:
		return s.request(context.Background(), "POST", fmt.Sprintf("POST-%d", m.n), streamed)
	default:
		return s.request(context.Background(), "GET", fmt.Sprintf("GET-%d", m.n), noBody)
	}
}

func (m *stepModel) step(t *testing.T) string {
	s := m.servers[m.r.IntN(len(m.servers))]
	switch op := m.r.IntN(24); {
	case op < 6 && len(m.held) < 3:
		req := m.request(s)
		resp, err := m.RoundTrip(req)
		if err != nil {
			t.Fatalf("request in hand: %v", err)
		}
		m.held = append(m.held, heldBody{req, resp})
		return "request, body held"
	case op < 10 && len(m.held) > 0:
		i := m.r.IntN(len(m.held))
		h := m.held[i]
		m.held = slices.Delete(m.held, i, i+1)
		if op < 8 {
			h.resp.Body.Close()
			return "body closed early"
		}
		if err := readOwn(h.req, h.resp); err != nil {
			t.Fatalf("body: %v", err)
		}
		return "body read"
	case op < 12:
		m.drop()
		m.settled(t)
		if op == 10 {
			s.fin()
			return "server closes"
		}
		s.rst()
		return "server resets"
	case op == 12:
		m.Reset()
		return "reset"
	case op == 13:
		m.CloseIdleConnections()
		if idle := m.Stats().Idle; idle != 0 {
			t.Fatalf("%d idle after CloseIdleConnections", idle)
		}
		return "idle closed"
	case op < 16:
		j := jumps[m.r.IntN(len(jumps))]
		m.clock.freeze(j.wall, j.mono)
		return fmt.Sprintf("clock jumps by %v, %v", j.wall, j.mono)
	case op == 16:
		m.Thaw(t.Context())
		return "thaw"
	case op == 17 && len(m.held) == 0:
		if err := m.Warm(t.Context(), s.url, s.url); err != nil {
			t.Fatalf("Warm: %v", err)
		}
		return "warm"
	case op == 18:
		ctx, cancel := context.WithCancel(context.Background())
		id := fmt.Sprintf("cancelled-%d", m.n)
		m.n++
		m.last++
		open := s.gate(id)
		defer open()
		done := make(chan error, 1)
		go func() { done <- m.send(s.request(ctx, "POST", id, noBody)) }()
		eventually(t, "the request has come", func() bool { return s.times(id) == 1 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled request: %v", err)
		}
		return "request cancelled"
	case op == 19:
		if s.mode.h2 {
			m.drop() // the whole connection ends
			m.settled(t)
		}
		req := m.request(s)
		req.Header.Set("X-Do", "close")
		m.mustSend(t, req)
		return "request, Connection: close"
	case op == 20:
		req := s.request(context.Background(), "POST", fmt.Sprintf("POST-a%d", m.n), getBody)
		m.n++
		m.last++
		req.Header.Set("X-Do", "abort")
		if err := m.send(req); err == nil {
			t.Fatal("an aborted request succeeded")
		}
		if n := s.times(req.Header.Get("X-Id")); n != 1 {
			t.Fatalf("an aborted POST was seen %d times", n)
		}
		return "request aborted"
	default:
		req := m.request(s)
		m.mustSend(t, req)
		if n := s.times(req.Header.Get("X-Id")); n != 1 {
			t.Fatalf("%s was seen %d times", req.Header.Get("X-Id"), n)
		}
		return "request"
	}
}

// compare says how the pool differs from the model.
func (m *stepModel) compare(t *testing.T) error {
	t.Helper()
	if err := check(m.Transport); err != nil {
		return err
	}
	s := m.Stats()
	var errs []error
	fault := func(what string, got, want any) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", what, got, want))
		}
	}
	var sum Origin
	for _, o := range s.Origins {
		sum.add(o)
	}
	fault("sum of origins", sum, s.Origin)
	fault("open", s.Open, s.Idle+s.InUse)
	fault("waiting", s.Waiting, 0)
	fault("dialling", s.Dialing, 0)
	fault("requests", s.Requests, m.last)
	if m.servers[0].mode.h2 {
		fault("streams", s.Streams, len(m.held))
	} else {
		fault("in use", s.InUse, len(m.held))
	}
	// The server may be closing connections at this very moment, which the pool and the network note one after another.
	for end := time.Now().Add(2 * time.Second); ; {
		open, really := m.Stats().Open, m.net.open()
		if open == really {
			break
		}
		if time.Now().After(end) {
			fault("really open", really, open)
			break
		}
		<-time.After(100 * time.Microsecond)
	}
	return errors.Join(errs...)
}

func TestWaitersAreServedInTheOrderTheyCame(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
		p := newPool(t, m, Config{MaxConnsPerHost: 1})
		p.mustSend(t, s.request(t.Context(), "GET", "first", noBody))
		open := s.gate("holder")
		defer open()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.send(s.request(t.Context(), "GET", "holder", noBody)); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the connection is in use", func() bool { return s.times("holder") == 1 })
		want := []string{"first", "holder"}
		for i := range 30 {
			id := fmt.Sprintf("waiter-%d", i)
			req := s.request(t.Context(), "GET", id, noBody)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			wg.Go(func() {
				err := p.send(req.WithContext(ctx))
				if gaveUp := i%5 == 4; gaveUp != errors.Is(err, context.Canceled) || !gaveUp && err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
			eventually(t, "it waits", func() bool { return p.Stats().Waiting == i-i/5+1 })
			if i%5 == 4 { // it gives up, and those behind it move up
				cancel()
				eventually(t, "it waits no more", func() bool { return p.Stats().Waiting == i-i/5 })
				continue
			}
			want = append(want, id)
		}
		open()
		wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Equal(s.order, want) {
			t.Errorf("served in the order\n%v, want\n%v", s.order, want)
		}
	})
}

// A request that met dead connections gets one made for it though no more may be: those behind it would take every
// connection that is given back, and it would wait for as long as they come.
func TestWaiterForAFreshConnectionIsServedInItsTurnUnderACap(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnsPerHost: 1})
		open := s.gate("holder")
		defer open()
		var wg sync.WaitGroup
		defer wg.Wait()
		send := func(id string) {
			wg.Go(func() {
				if err := p.send(s.request(t.Context(), "GET", id, noBody)); err != nil {
					t.Error(err)
				}
			})
		}
		send("holder")
		eventually(t, "the connection is in use", func() bool { return s.times("holder") == 1 })

		req := s.request(t.Context(), "GET", "it", noBody)
		got := make(chan grant, 1)
		wg.Go(func() {
			g, err := p.acquire(t.Context(), originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req, Want: pool.Want{Fresh: true}}, nil)
			if err != nil {
				t.Error(err)
			}
			got <- g
		})
		eventually(t, "it waits", func() bool { return p.Stats().Waiting == 1 })
		send("behind")
		eventually(t, "another waits behind it", func() bool { return p.Stats().Waiting == 2 })
		open()
		g := <-got
		if !g.fresh() || g.c.id != 2 || s.times("behind") != 0 {
			t.Errorf("it got connection %d, fresh %v, and the one behind it was served %d times", g.c.id, g.fresh(), s.times("behind"))
		}
		p.giveBackUnused(g)
	})
}

// A connection takes its place under the caps until it is closed, whoever closes it: a server with room for one more
// would refuse the next.
func TestConnectionBeingClosedTakesItsPlaceUnderTheCap(t *testing.T) {
	closings := []struct {
		name  string
		close func(t *testing.T, p *testPool, s *server)
	}{
		{"Reset", func(_ *testing.T, p *testPool, _ *server) { p.Reset() }},
		{"CloseIdleConnections", func(_ *testing.T, p *testPool, _ *server) { p.CloseIdleConnections() }},
		{"the server closes it", func(_ *testing.T, _ *testPool, s *server) { s.fin() }},
		{"a request on it is cancelled", func(t *testing.T, p *testPool, s *server) {
			ctx, cancel := context.WithCancel(t.Context())
			open := s.gate("cancelled")
			t.Cleanup(open)
			go p.send(s.request(ctx, "POST", "cancelled", noBody))
			eventually(t, "the request has come", func() bool { return s.times("cancelled") == 1 })
			cancel()
		}},
		{"the server aborts a request", func(t *testing.T, p *testPool, s *server) {
			req := s.request(t.Context(), "POST", "aborted", noBody)
			req.Header.Set("X-Do", "abort")
			go p.send(req)
		}},
	}
	for _, caps := range []struct {
		name string
		cfg  Config
	}{{"MaxConnsPerHost", Config{MaxConnsPerHost: 1}}, {"MaxConns", Config{MaxConns: 1}}} {
		for _, c := range closings {
			t.Run(caps.name+"/"+c.name, func(t *testing.T) {
				forModes(t, h1Modes, func(t *testing.T, m mode) {
					s := serve(t, m)
					p := newPool(t, m, caps.cfg)
					p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
					closing := make(chan struct{})
					release := sync.OnceFunc(func() { close(closing) })
					t.Cleanup(release)
					p.net.last().slowClose.Store(&closing)
					c.close(t, p, s)
					eventually(t, "the pool has let go of it", func() bool { return p.Stats().Open == 0 })
					done := make(chan error, 1)
					go func() { done <- p.send(s.request(t.Context(), "GET", "after", noBody)) }()
					select {
					case <-done:
						t.Error("another connection was made before the first was closed")
						release()
						return
					case <-time.After(30 * time.Millisecond):
					}
					release()
					if err := <-done; err != nil {
						t.Error(err)
					}
					p.net.mu.Lock()
					defer p.net.mu.Unlock()
					if p.net.peak > 1 {
						t.Errorf("%d connections were open at once", p.net.peak)
					}
				})
			})
		}
	}
}
