package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// What only the pool does: no http.Transport to compare with.

// fetch makes a request, reads the response and returns its body. It may be called by any goroutine.
func fetch(t testing.TB, rt http.RoundTripper, req *http.Request) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(req.Context(), 20*time.Second)
	defer cancel()
	resp, err := rt.RoundTrip(req.WithContext(ctx))
	if err != nil {
		t.Errorf("%s: %v", req.Method, err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: reading the body: %v", req.Method, err)
	}
	return string(body)
}

// originOf returns the statistics of the only origin, and checks its name.
func originOf(t testing.TB, rt *transport.Transport, o *origin) transport.Origin {
	t.Helper()
	s := rt.Stats()
	if _, ok := s.Origins[o.URL]; !ok || len(s.Origins) != 1 {
		t.Errorf("the origins are %v, want only %s", s.Origins, o.URL)
	}
	return s.Origins[o.URL]
}

func TestSequentialRequestsUseOneConnection(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			const n = 30
			for i := range n {
				var body io.Reader
				method := []string{"GET", "POST", "HEAD", "PUT", "OPTIONS"}[i%5]
				if method[0] == 'P' {
					body = unsized("payload")()
				}
				fetch(t, rt, request(t, method, o.URL, body))
			}
			if got := o.accepted.Load(); got != 1 {
				t.Errorf("%d connections for %d requests", got, n)
			}
			s := originOf(t, rt, o)
			handshakes := uint64(0)
			if m.tls {
				handshakes = 1
			}
			if s.Open != 1 || s.Idle != 1 || s.InUse != 0 || s.Streams != 0 || s.Dialing != 0 || s.Waiting != 0 {
				t.Errorf("gauges: %+v", s)
			}
			if s.Requests != n || s.Reused != n-1 || s.Dials != 1 || s.DialErrors != 0 || s.Handshakes != handshakes || s.Replayed != 0 {
				t.Errorf("counters: %+v", s)
			}
		})
	}
}

func TestBodyClosedEarlyIsDrainedWithinItsLimits(t *testing.T) {
	for _, x := range []struct {
		name  string
		modes []mode
		drain int64
		size  int
		conns int64
	}{
		{"within DrainBytes", allModes, 0, 20_000, 1},
		{"beyond DrainBytes", h1Modes, 10_000, 5 << 20, 2},
		{"not drained", h1Modes, transport.Disabled, 1 << 20, 2},
		{"HTTP/2 needs no draining", h2Modes, 1000, 5 << 20, 1},
	} {
		for _, m := range x.modes {
			t.Run(x.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, strings.Repeat("x", x.size))
				}))
				cfg := m.config()
				cfg.DrainBytes, cfg.DrainTime = x.drain, 5*time.Second
				rt := newPool(t, cfg)
				for range 2 {
					resp, err := rt.RoundTrip(get(t, o.URL))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Read(make([]byte, 10))
					if err := resp.Body.Close(); err != nil {
						t.Error(err)
					}
				}
				if got := o.accepted.Load(); got != x.conns {
					t.Errorf("%d connections, want %d: %+v", got, x.conns, originOf(t, rt, o))
				}
			})
		}
	}
}

func TestIdleConnectionClosedByTheServerCostsNoRequest(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			for i := range 20 {
				// Neither idempotent nor to be sent again.
				if got := fetch(t, rt, request(t, "POST", o.URL, unsized("payload")())); got != "POST payload" {
					t.Errorf("request %d: %q", i, got)
				}
				o.CloseClientConnections()
			}
			if asked := o.take(t); len(asked) != 20 {
				t.Errorf("the server was asked %d times", len(asked))
			}
		})
	}
}

func TestThawDropsConnectionsThatAreDead(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			fetch(t, rt, get(t, o.URL))
			within(t, 5*time.Second, "Thaw", func() { rt.Thaw(t.Context()) })
			fetch(t, rt, get(t, o.URL))
			if got := o.accepted.Load(); got != 1 {
				t.Errorf("Thaw lost a connection that was alive: %d were made", got)
			}
			o.CloseClientConnections()
			eventually(t, 5*time.Second, "the dead connection is gone", func() bool {
				rt.Thaw(t.Context())
				return originOf(t, rt, o).Open == 0
			})
			fetch(t, rt, get(t, o.URL))
		})
	}
}

func TestColdBurstOnHTTP2DialsWhatItNeeds(t *testing.T) {
	for requests, dials := range map[int]int64{10: 1, 100: 1, 1000: 5} {
		for _, m := range h2Modes {
			t.Run(fmt.Sprint(requests, "/", m.name), func(t *testing.T) {
				o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					<-time.After(20 * time.Millisecond)
					echo(w, r)
				}), func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 250} })
				rt := newPool(t, m.config())
				var wg sync.WaitGroup
				start := make(chan struct{})
				for range requests {
					wg.Go(func() {
						<-start
						fetch(t, rt, request(t, "POST", o.URL, payload()))
					})
				}
				close(start)
				within(t, 30*time.Second, "the burst", wg.Wait)
				if got := o.accepted.Load(); got > dials {
					t.Errorf("%d connections, want at most %d", got, dials)
				}
				if s := originOf(t, rt, o); s.Dials > uint64(dials) || s.Streams != 0 || s.Requests != uint64(requests) {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestColdBurstOnFewStreams has more requests than the origin allows streams, before it had a chance to say so.
func TestColdBurstOnFewStreams(t *testing.T) {
	for _, m := range h2Modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo), func(s *httptest.Server) {
				s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 5}
			})
			cfg := m.config()
			cfg.MaxConnsPerHost = 4
			rt := newPool(t, cfg)
			var wg sync.WaitGroup
			for range 60 {
				wg.Go(func() {
					if got := fetch(t, rt, request(t, "POST", o.URL, unsized("payload")())); got != "POST payload" {
						t.Errorf("answer %q", got)
					}
				})
			}
			within(t, 30*time.Second, "the burst", wg.Wait)
			if got := o.peak.Load(); got > 4 {
				t.Errorf("%d connections at a time, want at most 4", got)
			}
			if asked := o.take(t); len(asked) != 60 {
				t.Errorf("the server was asked %d times", len(asked))
			}
		})
	}
}

func TestDialOutlivesItsRequest(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			cfg := m.config()
			var dials atomic.Int64
			dialling, release := make(chan struct{}), make(chan struct{})
			cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials.Add(1) == 1 {
					close(dialling)
					<-release
				}
				return o.dial(ctx, network, addr)
			}
			rt := newPool(t, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-dialling
				cancel()
			}()
			within(t, 5*time.Second, "the cancelled request", func() {
				if _, err := rt.RoundTrip(get(t, o.URL).WithContext(ctx)); !errors.Is(err, context.Canceled) {
					t.Errorf("the cancelled request: %v", err)
				}
			})
			close(release)
			eventually(t, 5*time.Second, "the connection is idle", func() bool { return rt.Stats().Idle == 1 })
			fetch(t, rt, get(t, o.URL))
			if got := dials.Load(); got != 1 {
				t.Errorf("%d dials", got)
			}
		})
	}
}

func TestTLSSessionsAreResumed(t *testing.T) {
	for _, m := range tlsModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			for i := range 3 {
				resp, err := rt.RoundTrip(get(t, o.URL))
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.TLS.DidResume != (i > 0) {
					t.Errorf("connection %d: resumed is %t", i, resp.TLS.DidResume)
				}
				rt.CloseIdleConnections()
			}
			if s := originOf(t, rt, o); s.Handshakes != 3 || s.Resumed != 2 || s.Closed.Reset != 3 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestBodyNeverClosedGivesItsConnectionBack(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, strings.Repeat("x", 20_000))
			}))
			rt := newPool(t, m.config())
			func() {
				if _, err := rt.RoundTrip(get(t, o.URL)); err != nil {
					t.Fatal(err)
				}
			}()
			eventually(t, 10*time.Second, "the leak is counted", func() bool {
				runtime.GC()
				return rt.Stats().Leaked == 1
			})
			eventually(t, 5*time.Second, "no connection is in use", func() bool { return rt.Stats().InUse == 0 })
			fetch(t, rt, get(t, o.URL))
		})
	}
}

func TestWarmDialsAhead(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			want := int64(3)
			if m.h2 {
				want = 1
			}
			within(t, 10*time.Second, "Warm", func() {
				if err := rt.Warm(t.Context(), o.URL, o.URL+"/path?q", o.URL); err != nil {
					t.Errorf("Warm: %v", err)
				}
			})
			if s := originOf(t, rt, o); int64(s.Idle) != want || int64(s.Dials) != want || s.Requests != 0 {
				t.Errorf("after Warm: %+v", s)
			}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() { fetch(t, rt, request(t, "POST", o.URL, payload())) })
			}
			wg.Wait()
			if got := o.accepted.Load(); got != want {
				t.Errorf("%d connections, want %d", got, want)
			}
			if asked := o.take(t); len(asked) != 3 {
				t.Errorf("the server was asked %d times, want 3", len(asked))
			}
		})
	}
}

func TestWarmNamesWhatItCannotDo(t *testing.T) {
	o := modeH1.serve(t, http.HandlerFunc(echo))
	cfg := modeH1.config()
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "unknown.test:") {
			return nil, &net.DNSError{Err: "no such host", Name: "unknown.test", IsNotFound: true}
		}
		return o.dial(ctx, network, addr)
	}
	rt := newPool(t, cfg)
	for _, x := range []struct{ url, names string }{
		{"", ""}, {"://", "malformed"}, {"http://[::1", "malformed"}, {"http://", "http:"}, {"relative/path", "relative/path"},
		{"ftp://files.test/", "ftp"}, {"http://a b/", "malformed"}, {"http://unknown.test/?key=secret", "unknown.test"}, {"\x00", ""},
		{"https://joe:sec/secret@api.test/", "malformed"}, {"https://joe:secret%zz@api.test", "malformed"}, {"https:joe:secret", "https:..."},
	} {
		within(t, 5*time.Second, "Warm", func() {
			err := rt.Warm(t.Context(), o.URL, x.url)
			if err == nil || !strings.Contains(err.Error(), x.names) || strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "%zz") {
				t.Errorf("Warm(%q): %v", x.url, err)
			}
			if sent := x.names == "unknown.test"; errors.Is(err, transport.ErrInvalidRequest) == sent {
				t.Errorf("Warm(%q): %v: want ErrInvalidRequest: %t", x.url, err, !sent)
			}
		})
	}
	err := rt.Warm(t.Context(), "http://unknown.test/", "ftp://files.test/")
	if dns := (*net.DNSError)(nil); !errors.As(err, &dns) || !strings.Contains(err.Error(), "ftp") {
		t.Errorf("Warm with two faults: %v", err)
	}
	if err := rt.Warm(t.Context()); err != nil {
		t.Errorf("Warm of nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rt.Warm(ctx, "http://other.test/"); !errors.Is(err, context.Canceled) {
		t.Errorf("Warm with an ended context: %v", err)
	}
	fetch(t, rt, get(t, o.URL))
}
