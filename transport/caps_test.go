package transport_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/internal/connlife"
	"github.com/thawhttp/thaw/transport"
)

// A cap makes requests wait for each other. Nobody waits for what will not come, and everybody's turn comes.

// Dials that nobody waits for any more leave their places under MaxConns.
func TestDarkHostsWhoseRequestsGaveUpLeaveRoomForASoundOne(t *testing.T) {
	t.Parallel()
	hold(t, contest{name: "h1", mode: modeH1, try: func(m *match) (s score) {
		var wg sync.WaitGroup
		for i := range 4 { // at the defaults they fill MaxConns
			host := fmt.Sprintf("dark%d.test", i)
			m.dials.to(host, dark)
			wg.Go(func() { m.send(fleet{n: 100, patience: 200 * time.Millisecond}, "http://"+host) })
		}
		wg.Wait()
		took, err := m.ask("POST", m.URL, 2*time.Second)
		s.add(err, took, time.Second)
		return s
	}})
}

func TestDialsThatNobodyWaitsForLeaveRoomUnderMaxConnsPerHost(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range allModes {
		list = append(list, contest{
			name: mode.name, mode: mode, config: transport.Config{MaxConnsPerHost: 2},
			try: func(m *match) (s score) {
				m.dials.next(dark, dark)
				m.send(fleet{n: 2, patience: 400 * time.Millisecond}, m.URL)
				for range 2 {
					took, err := m.ask("POST", m.URL, 2*time.Second)
					s.add(err, took, 1500*time.Millisecond)
				}
				return s
			},
			check: func(t *testing.T, scores []score) {
				for _, s := range scores[1:] {
					if s.failed > 0 {
						t.Errorf("%v\nwant none that fails", s)
					}
				}
			},
		})
	}
	hold(t, list...)
}

// A connection that takes no more requests must not keep the place of one that would, for as long as a request on it lasts.
func TestAConnectionThatEndsWithALongRequestOnItHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		for _, c := range []struct {
			name   string
			config transport.Config
			end    func(*match)
		}{
			{"GOAWAY", transport.Config{MaxConnsPerHost: 1}, func(m *match) {
				m.GoAway()
				pause(50 * time.Millisecond) // until the client knows
			}},
			{"GOAWAY under MaxConns", transport.Config{MaxConns: 1}, func(m *match) {
				m.GoAway()
				pause(50 * time.Millisecond)
			}},
			{"lifetime", transport.Config{MaxConnsPerHost: 1, MaxConnLifetime: 100 * time.Millisecond}, func(*match) {
				pause(200 * time.Millisecond)
			}},
		} {
			list = append(list, contest{name: c.name + "/" + mode.name, mode: mode, config: c.config, try: func(m *match) (s score) {
				goOn := m.Next(clienttest.StallBeforeHeader())
				long := make(chan error, 1)
				go func() {
					_, err := m.ask("GET", m.URL+"/long", 20*time.Second)
					long <- err
				}()
				m.await("the long request has come", func() bool { return len(m.Requests()) == 1 })
				c.end(m)
				for range 3 {
					took, err := m.ask("POST", m.URL+"/next", 2*time.Second)
					s.add(err, took, time.Second)
				}
				goOn()
				s.add(<-long, 0, time.Hour)
				return s
			}})
		}
	}
	hold(t, list...)
}

// net/http had requests that waited for ever when all at once met the cap of an HTTP/2 host: see golang/go#34941.
func TestABurstOnOneHTTP2ConnectionUnderItsCap(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{name: mode.name, mode: mode, config: transport.Config{MaxConnsPerHost: 1}, try: func(m *match) score {
			goOn := m.Every(clienttest.StallBeforeHeader())
			time.AfterFunc(300*time.Millisecond, goOn)
			return m.send(fleet{n: 300, patience: 5 * time.Second, late: 4 * time.Second}, m.URL) // more than the server's 250 streams
		}})
	}
	hold(t, list...)
}

// Under MaxConns everybody's turn comes, whatever origin others keep busy. (http.Transport has no such cap.) Queues by host let
// a host without a connection starve: see benoitc/hackney#312.
func TestAnOriginThatIsBusyLeavesOthersTheirTurn(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, c := range []struct{ conns, callers int }{{16, 32}, {1, 8}} {
		list = append(list, contest{
			name: fmt.Sprintf("MaxConns %d, %d callers", c.conns, c.callers), mode: modeH1, config: transport.Config{MaxConns: c.conns},
			try: func(m *match) (s score) {
				other := clienttest.Downstream(m.t, clienttest.WithProtocol(clienttest.HTTP1))
				var callers sync.WaitGroup
				done := make(chan struct{})
				var served atomic.Int64
				for range c.callers {
					callers.Go(func() {
						for {
							select {
							case <-done:
								return
							default:
							}
							if took, err := m.ask("POST", m.URL+"/busy", 5*time.Second); err != nil {
								m.t.Errorf("the busy origin, after %v: %v", took, err)
							}
							served.Add(1)
						}
					})
				}
				m.await("the origin is busy", func() bool { return served.Load() > int64(c.callers) })
				for range 3 {
					took, err := m.ask("POST", other.URL, 2*time.Second)
					s.add(err, took, time.Second)
				}
				before := served.Load()
				m.await("the origin is served on", func() bool { return served.Load() > before+500 })
				close(done)
				callers.Wait()
				return s
			},
			check: func(t *testing.T, scores []score) {
				for _, s := range scores[1:] {
					// The other one's turns cost some of the connections, and not one for each request.
					if s.dials > c.conns+30 && s.dials > s.sent/4 {
						t.Errorf("%v\nwant connections that are used again", s)
					}
				}
			},
		})
	}
	hold(t, list...)
}

// Of plain http through a forward proxy the connections are the proxy's, whatever host they were used for.
func TestHostsBehindAForwardProxyShareItsConnections(t *testing.T) {
	t.Parallel()
	p := (&proxy{target: modeH1.serve(t, http.HandlerFunc(echo)).addr()}).serveHTTP(t, false)
	hold(t, contest{
		name: "h1", mode: modeH1, config: transport.Config{Proxy: func(*http.Request) (*url.URL, error) { return p.url, nil }},
		try: func(m *match) (s score) {
			for i := range 60 {
				took, err := m.ask("GET", fmt.Sprintf("http://host%d.test/%d", i%15, i), 5*time.Second)
				s.add(err, took, time.Hour)
			}
			return s
		},
		check: func(t *testing.T, scores []score) {
			for _, s := range scores {
				if s.dials > max(scores[0].dials, 1) {
					t.Errorf("%v\nwant no more connections to the proxy than http.Transport has", s)
				}
			}
		},
	})
}

func TestMaxConnsPerHostAboveMaxConnsIsToldOrWorks(t *testing.T) {
	t.Parallel()
	rt, err := transport.New(transport.Config{MaxConnsPerHost: 500})
	if err != nil {
		if !regexp.MustCompile(`\bMaxConnsPerHost\b`).MatchString(err.Error()) || !regexp.MustCompile(`\bMaxConns\b`).MatchString(err.Error()) {
			t.Errorf("error %v, want one that names both limits", err)
		}
		return
	}
	defer rt.Close()
	if cfg := rt.Config(); cfg.MaxConns >= 0 && cfg.MaxConns < 500 || cfg.MaxIdleConns >= 0 && cfg.MaxIdleConns < 500 {
		t.Errorf("500 connections to a host are accepted, but MaxConns is %d and MaxIdleConns %d", cfg.MaxConns, cfg.MaxIdleConns)
	}
}

// While everything is in use by bodies that were forgotten, and no garbage is collected, a request that waits has that done. (The
// http.Transport of this test has no cap, for with one it would wait for ever.)
func TestRequestsBehindForgottenBodiesHaveGarbageCollected(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // not in parallel: it is the process's
	const conns = 8
	uncapped := side{"reference", func(t testing.TB, cfg transport.Config) http.RoundTripper {
		cfg.MaxConnsPerHost = transport.Disabled
		return sides[0].open(t, cfg)
	}}
	three := []side{uncapped, contestants[1], contestants[2]}
	var forgotten sync.WaitGroup // one collection may serve them all
	forgotten.Add(len(h1Modes) * len(three))
	var list []contest
	for _, mode := range h1Modes {
		list = append(list, contest{
			name: mode.name, mode: mode, sides: three, config: transport.Config{MaxConnsPerHost: conns},
			try: func(m *match) score {
				for range conns {
					m.forget()
				}
				forgotten.Done()
				forgotten.Wait()
				return m.send(fleet{n: 3, patience: 5 * time.Second, late: 4 * time.Second}, m.URL)
			},
		})
	}
	hold(t, list...)
}

// forget sends a request and loses its body.
//
//go:noinline
func (m *match) forget() {
	req, err := http.NewRequestWithContext(m.t.Context(), "GET", m.URL+"/forgotten", nil)
	if err != nil {
		panic(err)
	}
	if _, err := m.rt.RoundTrip(req); err != nil {
		m.t.Errorf("the request that is forgotten: %v", err)
	}
}

// A slowHandler takes its time over each record.
type slowHandler struct{ takes time.Duration }

func (h slowHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h slowHandler) Handle(context.Context, slog.Record) error {
	pause(h.takes)
	return nil
}
func (h slowHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h slowHandler) WithGroup(string) slog.Handler      { return h }

// What a log handler does is its own affair, and what a watcher of connections does: no request waits for it, and it holds no
// room.
func TestSlowLogHandlersAndWatchersHoldUpNobody(t *testing.T) {
	t.Parallel()
	const slow = 800 * time.Millisecond
	var list []contest
	for _, mode := range []mode{modeH1, modeH2} {
		for _, end := range []struct {
			name   string
			config transport.Config
			f      func(*match)
		}{
			{"idle for too long", transport.Config{IdleTimeout: 20 * time.Millisecond}, func(*match) { pause(50 * time.Millisecond) }},
			{"closed by the server", transport.Config{}, func(m *match) {
				_, reference := m.rt.(*http.Transport) // which may close it itself, as the request's context ends
				m.await("the connection is idle on the server's side", func() bool { return m.CloseIdle() > 0 || reference })
				pause(20 * time.Millisecond) // for http.Transport to notice
			}},
			{"retired", transport.Config{}, func(m *match) { m.rt.(interface{ CloseIdleConnections() }).CloseIdleConnections() }},
		} {
			end.config.MaxConnsPerHost = 1
			try := func(m *match) (s score) {
				for range 3 {
					took, err := m.ask("POST", m.URL, 5*time.Second)
					s.add(err, took, 600*time.Millisecond)
					end.f(m)
				}
				return s
			}
			c := contest{name: "watcher/" + end.name + "/" + mode.name, mode: mode, config: end.config, try: func(m *match) score {
				if rt, ok := m.rt.(*transport.Transport); ok {
					rt.WatchConns(func(connlife.End) { pause(slow) })
				}
				return try(m)
			}}
			list = append(list, c)
			c.name, c.try = "log handler/"+end.name+"/"+mode.name, try
			c.config.Logger = slog.New(slowHandler{slow})
			list = append(list, c)
		}
	}
	hold(t, list...)
}

// A request that waited for a dial has met no cap: the pool is not exhausted, and another attempt may help.
func TestAcquireTimeoutDuringAHungDialSaysSo(t *testing.T) {
	t.Parallel()
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			d := &dialer{end: t.Context().Done()}
			d.next(dark)
			server := m.serve(t, http.HandlerFunc(echo))
			cfg := m.config()
			cfg.DialContext, cfg.AcquireTimeout = d.dial, 200*time.Millisecond
			rt := newPool(t, cfg)
			resp, err := rt.RoundTrip(get(t, server.URL))
			if err == nil {
				resp.Body.Close()
				t.Fatal("answered, but the dial hung")
			}
			if errors.Is(err, transport.ErrPoolExhausted) {
				t.Errorf("the pool is said to be exhausted: %v", err)
			}
			if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
				t.Errorf("no timeout: %v", err)
			}
			if e, ok := errors.AsType[interface {
				error
				Unprocessed() bool
			}](err); !ok || !e.Unprocessed() {
				t.Errorf("not certainly unprocessed: %v", err)
			}
			if !strings.Contains(err.Error(), "dial") {
				t.Errorf("no word of the dial: %v", err)
			}

			// So a client tries again.
			d.next(dark)
			c, err := client.New(client.WithTransport(cfg))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			resp, err = c.Post(server.URL, "", strings.NewReader("a body"))
			if err != nil {
				t.Fatalf("the client: %v", err)
			}
			resp.Body.Close()
		})
	}
}

// When every connection is in use, the pool is exhausted, and says so.
func TestAcquireTimeoutAtTheCapIsAPoolThatIsExhausted(t *testing.T) {
	t.Parallel()
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			server, release := held(t, m)
			defer release()
			cfg := m.config()
			cfg.MaxConnsPerHost, cfg.AcquireTimeout = 1, 200*time.Millisecond
			rt := newPool(t, cfg)
			fetch(t, rt, request(t, "HEAD", server.URL, nil)) // which tells how many streams there are
			var wg sync.WaitGroup
			wg.Go(func() { fetch(t, rt, get(t, server.URL)) })
			eventually(t, 5*time.Second, "the first request has the connection", func() bool { return rt.Stats().InUse == 1 })
			if resp, err := rt.RoundTrip(get(t, server.URL)); !errors.Is(err, transport.ErrPoolExhausted) {
				if err == nil {
					resp.Body.Close()
				}
				t.Errorf("error %v, want %v", err, transport.ErrPoolExhausted)
			}
			release()
			wg.Wait()
		})
	}
}
