package tracing_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file look at exchanges over the pool.

type mode struct {
	name    string
	tls, h2 bool
}

var modes = []mode{{"h1", false, false}, {"h1tls", true, false}, {"h2", true, true}}

func (m mode) protocol() string {
	if m.h2 {
		return "h2"
	}
	return "http/1.1"
}

func eachMode(t *testing.T, f func(t *testing.T, m mode)) {
	t.Helper()
	forModes(t, modes, f)
}

func forModes(t *testing.T, ms []mode, f func(t *testing.T, m mode)) {
	t.Helper()
	for _, m := range ms {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			f(t, m)
		})
	}
}

// serve starts a server.
func (m mode) serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableHTTP2 = m.h2
	if m.tls {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

// pool makes a pool that trusts every server, without a proxy.
func newPool(t testing.TB, cfg transport.Config) *transport.Transport {
	t.Helper()
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	if cfg.Proxy == nil {
		cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	pool, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

// get makes a request and reads the answer.
func get(t testing.TB, rt http.RoundTripper, url string) error {
	resp, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", url))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// names returns the names of phases.
func names(phases []tracing.Phase) (out []string) {
	for _, p := range phases {
		out = append(out, p.Name)
	}
	return out
}

func TestAFreshConnectionAndAReusedOne(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		srv := m.serve(t, hello)
		r := record(t)
		rt := newTraced(t, newPool(t, transport.Config{}), r)
		_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
		scheme, _, _ := strings.Cut(srv.URL, ":")
		byName := scheme + "://localhost:" + port // so that there is a name to resolve
		for range 2 {
			if err := get(t, rt, byName); err != nil {
				t.Fatal(err)
			}
		}
		ends := r.ended(2)
		fresh, reused := ends[0], ends[1]
		want := []string{"dns", "connect"}
		if m.tls {
			want = append(want, "tls")
		}
		if got := names(fresh.Dial); !reflect.DeepEqual(got, want) {
			t.Errorf("the dial has the phases %q, want %q", got, want)
		}
		if w := fresh.Timing; w.DNS <= 0 || w.Connect <= 0 || (w.TLS > 0) != m.tls || w.Wait < w.DNS+w.Connect+w.TLS || w.Write+w.FirstByte <= 0 || w.Total < w.Wait+w.Write+w.FirstByte {
			t.Errorf("the timing of a fresh connection is %+v", w)
		}
		if c := fresh.Conn; c.ID != 1 || c.Reused || c.WasIdle || c.Idle != 0 || c.Uses != 1 || c.Protocol != m.protocol() || !strings.HasSuffix(c.RemoteAddr, ":"+port) {
			t.Errorf("the fresh connection is %+v", c)
		}
		if w := reused.Timing; reused.Dial != nil || w.DNS+w.Connect+w.TLS != 0 || w.Write+w.FirstByte <= 0 {
			t.Errorf("a reused connection has the dial %+v and the timing %+v", reused.Dial, w)
		}
		if c := reused.Conn; c.ID != 1 || !c.Reused || !c.WasIdle || c.Idle <= 0 || c.Age < c.Idle || c.Uses != 2 {
			t.Errorf("the reused connection is %+v", c)
		}
		for _, e := range ends {
			if (e.TLS.Version == tls.VersionTLS13) != m.tls || (e.TLS.CipherSuite != 0) != m.tls || e.TLS.Resumed {
				t.Errorf("TLS is %+v", e.TLS)
			}
			if e.Status != 200 || e.BytesIn != 5 || e.Replays != 0 || e.Err != nil || (e.Proto == "HTTP/2.0") != m.h2 {
				t.Errorf("the exchange is %+v", e)
			}
		}
	})
}

func TestLayersOneUponTheOtherSeeTheSame(t *testing.T) {
	t.Parallel()
	srv := modes[1].serve(t, hello)
	inner, outer := record(t), record(t)
	rt := newTraced(t, newTraced(t, newPool(t, transport.Config{}), inner), outer)
	if err := get(t, rt, srv.URL); err != nil {
		t.Fatal(err)
	}
	for _, e := range []tracing.Exchange{inner.one(), outer.one()} {
		if !reflect.DeepEqual(names(e.Dial), []string{"connect", "tls"}) || e.Conn.ID != 1 || e.TLS.Version == 0 {
			t.Errorf("%+v", e)
		}
	}
}

func TestAResumedHandshake(t *testing.T) {
	t.Parallel()
	srv := modes[1].serve(t, hello)
	r := record(t)
	pool := newPool(t, transport.Config{})
	rt := newTraced(t, pool, r)
	for range 2 {
		if err := get(t, rt, srv.URL); err != nil {
			t.Fatal(err)
		}
		pool.CloseIdleConnections()
	}
	if ends := r.ended(2); ends[0].TLS.Resumed || !ends[1].TLS.Resumed || ends[1].Timing.TLS == 0 {
		t.Errorf("TLS is %+v and then %+v, in %v", ends[0].TLS, ends[1].TLS, ends[1].Timing.TLS)
	}
}

func TestRequestsThatShareADial(t *testing.T) {
	t.Parallel()
	srv := modes[2].serve(t, hello)
	r := record(t)
	gate := make(chan struct{})
	pool := newPool(t, transport.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		<-gate
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	rt := newTraced(t, pool, r)
	const n = 50
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := get(t, rt, srv.URL); err != nil {
				t.Error(err)
			}
		})
	}
	waiting(t, pool, n)
	close(gate)
	wg.Wait()
	dialled, reused := 0, 0
	for _, e := range r.ended(n) {
		if e.Dial != nil {
			dialled++
		}
		if e.Conn.Reused {
			reused++
		}
		if e.Conn.ID != 1 || e.Timing.Wait <= 0 {
			t.Errorf("%+v", e)
		}
	}
	if dialled != 1 || reused != n-1 {
		t.Errorf("%d of %d exchanges dialled and %d were given a used connection; want 1 and %d", dialled, n, reused, n-1)
	}
}

// waiting waits until n requests wait for a connection.
func waiting(t *testing.T, pool *transport.Transport, n int) {
	t.Helper()
	eventually(t, "requests wait for a connection", func() bool { return pool.Stats().Waiting == n })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10s: %s", what)
		}
	}
}

// gatedDialer holds dials back after their first hook.
type gatedDialer struct{ gates chan chan struct{} }

func (d gatedDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	trace := httptrace.ContextClientTrace(ctx)
	trace.DNSStart(httptrace.DNSStartInfo{})
	gate := make(chan struct{})
	d.gates <- gate
	<-gate
	trace.DNSDone(httptrace.DNSDoneInfo{})
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func TestADialThatCameTooLateIsNotAPartOfTheExchange(t *testing.T) {
	t.Parallel()
	forModes(t, modes[:2], func(t *testing.T, m mode) { // an HTTP/2 origin is not dialled twice
		release := make(chan struct{})
		srv := m.serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-release
			}
			hello(w, r)
		})
		r := record(t)
		d := gatedDialer{make(chan chan struct{}, 2)}
		pool := newPool(t, transport.Config{DialContext: d.dial})
		rt := newTraced(t, pool, r)
		var wg sync.WaitGroup
		ask := func(path string) {
			wg.Go(func() {
				if err := get(t, rt, srv.URL+path); err != nil {
					t.Error(err)
				}
			})
		}
		ask("/slow")
		close(<-d.gates)
		eventually(t, "the first request is under way", func() bool { return pool.Stats().InUse == 1 })
		ask("/")
		late := <-d.gates // the second request dials,
		close(release)    // but is given the connection of the first
		wg.Wait()
		ends := r.ended(2)
		slices.SortFunc(ends, func(a, b tracing.Exchange) int { return cmp.Compare(a.Conn.Uses, b.Conn.Uses) })
		before := slices.Clone(ends)
		close(late)
		eventually(t, "the second dial is done", func() bool { return pool.Stats().Idle == 2 })
		if !reflect.DeepEqual(ends, before) {
			t.Errorf("the exchange changed after its end, from\n%+v to\n%+v", before, ends)
		}
		if first := ends[0]; len(first.Dial) == 0 || first.Conn.ID != 1 {
			t.Errorf("the first exchange is %+v", first)
		}
		if second := ends[1]; second.Dial != nil || second.Timing.DNS != 0 || second.Conn.ID != 1 || !second.Conn.Reused || second.Timing.Wait <= 0 {
			t.Errorf("the second exchange is %+v", second)
		}
	})
}

func TestADialThatServedAnotherRequestIsNotAPartOfEither(t *testing.T) {
	t.Parallel()
	m := modes[0]
	release := make(chan struct{})
	srv := m.serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		hello(w, r)
	})
	r := record(t)
	d := gatedDialer{make(chan chan struct{}, 2)}
	pool := newPool(t, transport.Config{DialContext: d.dial})
	rt := newTraced(t, pool, r)
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			if err := get(t, rt, srv.URL); err != nil {
				t.Error(err)
			}
		})
	}
	ask()
	first := <-d.gates
	ask()
	second := <-d.gates
	close(second) // which goes to the first request, because that has waited longer
	eventually(t, "the first request has the second connection", func() bool { return pool.Stats().InUse == 1 })
	close(first)
	eventually(t, "both are under way", func() bool { return pool.Stats().InUse == 2 })
	close(release)
	wg.Wait()
	ids := map[uint64]bool{}
	for _, e := range r.ended(2) {
		ids[e.Conn.ID] = true
		if e.Conn.Reused || e.Conn.WasIdle || e.Dial != nil || e.Timing.DNS+e.Timing.Connect != 0 {
			t.Errorf("the exchange claims another one's dial: %+v", e)
		}
	}
	if !ids[1] || !ids[2] {
		t.Errorf("the connections were %v", ids)
	}
}

func TestAFailedDialSaysInWhichPhase(t *testing.T) {
	t.Parallel()
	notTLS := modes[0].serve(t, hello)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // which accepts nothing, but the kernel does
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	failing := func(ctx context.Context, network, addr string) (net.Conn, error) {
		trace := httptrace.ContextClientTrace(ctx)
		err := &net.DNSError{Err: "no such host", Name: "nowhere.test", IsNotFound: true}
		trace.DNSStart(httptrace.DNSStartInfo{Host: "nowhere.test"})
		trace.DNSDone(httptrace.DNSDoneInfo{Err: err})
		return nil, err
	}
	for _, tt := range []struct {
		name, url, want string
		cfg             transport.Config
	}{
		{"DNS", "https://nowhere.test/", tracing.PhaseDNS, transport.Config{DialContext: failing}},
		{"Connect", "http://" + closed.Addr().String(), tracing.PhaseConnect, transport.Config{}},
		{"TLS", "https://" + notTLS.Listener.Addr().String(), tracing.PhaseTLS, transport.Config{}},
		{"TLSTimeout", "https://" + silent.Addr().String(), tracing.PhaseTLS, transport.Config{TLSHandshakeTimeout: time.Millisecond}},
		{"AcquireTimeout", "https://" + silent.Addr().String(), tracing.PhaseTLS, transport.Config{AcquireTimeout: 50 * time.Millisecond}},
		{"ResponseHeaderTimeout", "http://" + silent.Addr().String(), tracing.PhaseHeader, transport.Config{ResponseHeaderTimeout: time.Millisecond}},
	} {
		r := record(t)
		rt := newTraced(t, newPool(t, tt.cfg), r)
		err := get(t, rt, tt.url)
		e := r.one()
		if err == nil || !errors.Is(e.Err, err) || e.Failed != tt.want || e.Status != 0 {
			t.Errorf("%s: error %v, failed %q; want %q, in %+v", tt.name, err, e.Failed, tt.want, e)
		}
		if tt.want != tracing.PhaseHeader {
			last := e.Dial[len(e.Dial)-1]
			if last.Name != tt.want || last.Took <= 0 || e.Conn != (tracing.Conn{}) || e.Timing.Wait < last.Took {
				t.Errorf("%s: %+v", tt.name, e)
			}
			if last.Err == nil && tt.name != "AcquireTimeout" {
				t.Errorf("%s: the phase has no error: %+v", tt.name, e)
			}
		}
	}
}

func TestAReplayIsTheSameExchange(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	srv := modes[0].serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
		hello(w, r)
	})
	r := record(t)
	pool := newPool(t, transport.Config{})
	rt := newTraced(t, pool, r)
	for range 2 {
		if err := get(t, rt, srv.URL); err != nil {
			t.Fatal(err)
		}
	}
	pool.CloseIdleConnections()
	e := r.ended(2)[1]
	if e.Replays != 1 || e.Attempt != 1 || e.Conn.ID != 2 || e.Conn.Reused || e.Conn.WasIdle {
		t.Errorf("the replayed exchange is %+v", e)
	}
	if w := e.Timing; !reflect.DeepEqual(names(e.Dial), []string{"connect"}) || w.Connect <= 0 || w.Wait < w.Connect || w.Total < w.Wait+w.Write+w.FirstByte {
		t.Errorf("the last connection's dial is %+v, the timing %+v", e.Dial, w)
	}
}

func TestCancelledAndTimedOutRequestsEnd(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		release := make(chan struct{}) // a handler that ends because its client has gone may end the body, and be heard
		srv := m.serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" {
				w.Write([]byte("hello"))
				w.(http.Flusher).Flush()
			}
			<-release
		})
		t.Cleanup(func() { close(release) })
		r := record(t)
		rt := newTraced(t, newPool(t, transport.Config{}), r)

		ctx, cancel := context.WithCancel(t.Context())
		hooked := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { cancel() }})
		if _, err := rt.RoundTrip(newRequest(t, hooked, "GET", srv.URL)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if e := r.one(); !errors.Is(e.Err, context.Canceled) || e.Failed != tracing.PhaseHeader || e.Conn.ID != 1 {
			t.Errorf("cancelled: %+v", e)
		}

		c := &http.Client{Transport: rt, Timeout: time.Second}
		resp, err := c.Get(srv.URL + "/body")
		if err != nil {
			t.Fatal(err)
		}
		r.ended(0)
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the body has an end")
		}
		resp.Body.Close()
		if e := r.one(); !errors.Is(e.Err, context.DeadlineExceeded) || e.Failed != tracing.PhaseBody || e.BytesIn != 5 || e.Status != 200 {
			t.Errorf("timed out: %+v", e)
		}
	})
}

func TestTheCallersHooksGoOnFiring(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		srv := m.serve(t, hello)
		fired := func(rt http.RoundTripper) map[string]int {
			var mu sync.Mutex
			n := make(map[string]int)
			count := func(hook string) {
				mu.Lock()
				defer mu.Unlock()
				n[hook]++
			}
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn:              func(string) { count("GetConn") },
				GotConn:              func(httptrace.GotConnInfo) { count("GotConn") },
				ConnectStart:         func(string, string) { count("ConnectStart") },
				ConnectDone:          func(string, string, error) { count("ConnectDone") },
				TLSHandshakeStart:    func() { count("TLSHandshakeStart") },
				TLSHandshakeDone:     func(tls.ConnectionState, error) { count("TLSHandshakeDone") },
				WroteHeaderField:     func(string, []string) { count("WroteHeaderField") },
				WroteHeaders:         func() { count("WroteHeaders") },
				WroteRequest:         func(httptrace.WroteRequestInfo) { count("WroteRequest") },
				GotFirstResponseByte: func() { count("GotFirstResponseByte") },
			})
			resp, err := rt.RoundTrip(newRequest(t, ctx, "GET", srv.URL))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			return n
		}
		want := fired(newPool(t, transport.Config{}))
		got := fired(newTraced(t, newPool(t, transport.Config{}), record(t), record(t)))
		if len(want) < 8 || !reflect.DeepEqual(got, want) {
			t.Errorf("traced, the hooks were called %v times; untraced %v", got, want)
		}
	})
}

func TestALeakedBodyGivesItsConnectionBackWhenTraced(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		srv := m.serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, 1<<20))
		})
		ended := make(chan tracing.Exchange, 1)
		pool := newPool(t, transport.Config{Logger: slog.New(slog.DiscardHandler)})
		rt := newTraced(t, pool, teller(ended))
		forget(t, tracing.CountAttempts(rt), srv.URL)
		eventually(t, "the pool has found the leak", func() bool {
			runtime.GC()
			s := pool.Stats()
			return s.Leaked == 1 && s.InUse == 0
		})
		if e := <-ended; !errors.Is(e.Err, tracing.ErrLeaked) || e.Status != 200 || e.Conn.ID != 1 {
			t.Errorf("%+v", e)
		}
	})
}

//go:noinline
func forget(t *testing.T, rt http.RoundTripper, url string) {
	c := &http.Client{Transport: rt}
	if _, err := c.Get(url); err != nil {
		t.Fatal(err)
	}
}

func TestTrailersArriveWhenTraced(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		srv := m.serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			hello(w, r)
			w.Header().Set("X-Sum", "42")
		})
		rt := newTraced(t, newPool(t, transport.Config{}), record(t))
		resp, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", srv.URL))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		if got := resp.Trailer.Get("X-Sum"); got != "42" {
			t.Errorf("the trailer is %q", got)
		}
	})
}

func TestOverAnHTTPTransport(t *testing.T) {
	t.Parallel()
	srv := modes[1].serve(t, hello)
	next := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer next.CloseIdleConnections()
	r := record(t)
	rt := newTraced(t, next, r)
	for range 2 {
		if err := get(t, rt, srv.URL); err != nil {
			t.Fatal(err)
		}
	}
	ends := r.ended(2)
	if c := ends[0].Conn; c.Reused || c.RemoteAddr != srv.Listener.Addr().String() || c.ID != 0 || c.Age != 0 || c.Protocol != "" {
		t.Errorf("the fresh connection is %+v", c)
	}
	if got := names(ends[0].Dial); !reflect.DeepEqual(got, []string{"connect", "tls"}) || ends[0].TLS.Version != tls.VersionTLS13 {
		t.Errorf("it was dialled in %q, with %+v", got, ends[0].TLS)
	}
	if c := ends[1].Conn; !c.Reused || !c.WasIdle || ends[1].Dial != nil || ends[1].TLS.Version != tls.VersionTLS13 {
		t.Errorf("the reused connection is %+v, dial %+v", c, ends[1].Dial)
	}
}
