package transport

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

func TestSystemClockRunsOnBothSides(t *testing.T) {
	before := systemClock{}.now()
	<-time.After(2 * time.Millisecond)
	after := systemClock{}.now()
	if after.Wall-before.Wall < int64(time.Millisecond) || after.Mono-before.Mono < int64(time.Millisecond) {
		t.Errorf("from %+v to %+v in two milliseconds", before, after)
	}
	if d := time.Since(after.Time()); d < 0 || d > time.Minute {
		t.Errorf("its time is %v away", d)
	}
}

// What became idle last has not been idle longest, though the wall clock was set back before.
func TestClockSetBackKeepsTheOrderOfIdleConnections(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		before, after := serve(t, m), serve(t, m)
		p := newPool(t, m, Config{MaxIdleConns: 1})
		p.mustSend(t, before.request(t.Context(), "POST", "1", noBody))
		p.clock.freeze(-time.Minute, 0)
		p.mustSend(t, after.request(t.Context(), "POST", "2", noBody))
		p.settled(t)
		if st := p.Stats(); st.Open != 1 || st.Idle != 1 {
			t.Fatalf("%+v", st)
		}
		p.mustSend(t, after.request(t.Context(), "POST", "3", noBody))
		if n := p.net.dials(); n != 2 {
			t.Errorf("%d dials: the connection made last was closed as the one idle longest", n)
		}
	})
}

// No timer runs in a frozen environment: whatever its limits are, they hold when a connection is taken.
func TestLimitsHoldAtCheckoutThoughNoTimerRan(t *testing.T) {
	idle := func(c Closed) uint64 { return c.IdleTimeout }
	life := func(c Closed) uint64 { return c.Lifetime }
	for _, c := range []struct {
		name       string
		cfg        Config
		keepAlive  string
		wall, mono time.Duration
		reason     func(Closed) uint64 // nil if the connection is to be used again
	}{
		{"an hour, the monotonic clock stands still", Config{}, "", time.Hour, 0, life},
		{"an hour, both clocks", Config{}, "", time.Hour, time.Hour, life},
		{"an hour, monotonic only", Config{}, "", 0, time.Hour, life},
		{"clock set back", Config{}, "", -time.Second, 0, life},
		{"clock set back, only idle time is limited", Config{MaxConnLifetime: Disabled}, "", -time.Second, 0, idle},
		{"clock set back while the environment ran on", Config{MaxConnLifetime: Disabled}, "", -time.Hour, time.Minute, idle},
		{"SnapStart restore", Config{}, "", 24 * time.Hour, -time.Hour, life},
		{"SnapStart restore within the limits", Config{}, "", time.Second, -time.Hour, nil},
		{"idle for less than IdleTimeout", Config{TrustIdle: Disabled}, "", 5*time.Minute - time.Second, 0, nil},
		{"idle for IdleTimeout", Config{}, "", 5 * time.Minute, 0, idle},
		{"idle for IdleTimeout on the monotonic clock", Config{}, "", 0, 5 * time.Minute, idle},
		{"no idle limit", Config{IdleTimeout: Disabled, TrustIdle: Disabled}, "", 13 * time.Minute, 0, nil},
		{"no limit at all", Config{IdleTimeout: Disabled, MaxConnLifetime: Disabled, TrustIdle: Disabled}, "", 1000 * time.Hour, 0, nil},
		{"below the least lifetime", Config{IdleTimeout: Disabled, TrustIdle: Disabled, MaxConnLifetime: 10 * time.Minute}, "", 9*time.Minute - time.Second, 0, nil},
		{"at the greatest lifetime", Config{IdleTimeout: Disabled, MaxConnLifetime: 10 * time.Minute}, "", 10 * time.Minute, 0, life},
		{"a server's limit, less a margin", Config{}, "5", 4 * time.Second, 0, idle},
		{"within a server's limit", Config{}, "5", 3900 * time.Millisecond, 0, nil},
		{"a server's limit of a second", Config{}, "1", 500 * time.Millisecond, 0, idle},
		{"a server's limit above IdleTimeout", Config{IdleTimeout: time.Minute}, "600", time.Minute, 0, idle},
		{"a server's limit without IdleTimeout", Config{IdleTimeout: Disabled}, "30", 29 * time.Second, 0, idle},
		{"a server that keeps nothing", Config{}, "0", 0, 0, idle},
	} {
		t.Run(c.name, func(t *testing.T) {
			ms := modes
			if c.keepAlive != "" {
				ms = h1Modes // HTTP/2 has no such header
			}
			forModes(t, ms, func(t *testing.T, m mode) {
				s := serve(t, m)
				p := newPool(t, m, c.cfg)
				req := s.request(t.Context(), "GET", "before", noBody)
				if c.keepAlive != "" {
					req.Header.Set("X-Do", "keepalive "+c.keepAlive)
				}
				p.mustSend(t, req)
				p.clock.freeze(c.wall, c.mono)
				p.mustSend(t, s.request(t.Context(), "POST", "after", streamed))
				p.settled(t)
				st := p.Stats()
				switch {
				case c.reason == nil && (st.Dials != 1 || st.Closed != Closed{}):
					t.Errorf("it should have been used again: %+v", st.Origin)
				case c.reason != nil && (st.Dials != 2 || c.reason(st.Closed) != 1):
					t.Errorf("it should have been closed: %+v", st.Origin)
				}
			})
		})
	}
}

func TestServersLimitHoldsForItsConnectionOnly(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	p.fill(t, s, 2)
	req := s.request(t.Context(), "GET", "limited", noBody)
	req.Header.Set("X-Do", "keepalive 5")
	p.mustSend(t, req)
	p.clock.freeze(10*time.Second, 0)
	p.mustSend(t, s.request(t.Context(), "GET", "after", noBody))
	p.settled(t)
	if st := p.Stats(); st.Dials != 2 || st.Open != 1 || st.Closed.IdleTimeout != 1 {
		t.Errorf("%+v", st.Origin)
	}
}

func TestJitterShortensALifetimeByATenthAtMost(t *testing.T) {
	for _, life := range []time.Duration{1, 9, 10, 15 * time.Minute, 24 * 365 * time.Hour} {
		tr := &Transport{cfg: Config{MaxConnLifetime: life}}
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 2000 {
			d := tr.jitteredLifetime()
			least, most = min(least, d), max(most, d)
		}
		if most > life || least < life-life/10 {
			t.Errorf("MaxConnLifetime %v: between %v and %v", life, least, most)
		}
		if life >= time.Minute && (most-least < life/12) {
			t.Errorf("MaxConnLifetime %v: only between %v and %v: a fleet would reconnect at once", life, least, most)
		}
	}
	if d := (&Transport{cfg: Config{MaxConnLifetime: Disabled}}).jitteredLifetime(); d < pool.Forever {
		t.Errorf("without a limit: %v", d)
	}
}

// However the clocks jump, what is counted only grows and no wait is cut short or drawn out.
func TestClockJumpDuringAWaitIsHarmless(t *testing.T) {
	for _, j := range []struct {
		name       string
		wall, mono time.Duration
	}{{"set back", -time.Minute, 0}, {"an hour frozen", time.Hour, 0}, {"restored", time.Hour, -time.Hour}} {
		t.Run(j.name, func(t *testing.T) {
			forModes(t, modes, func(t *testing.T, m mode) {
				s := serve(t, m, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
				p := newPool(t, m, Config{MaxConnsPerHost: 1, AcquireTimeout: 5 * time.Second})
				p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
				open := s.gate("holder")
				defer open()
				done := make(chan error, 2)
				go func() { done <- p.send(s.request(t.Context(), "GET", "holder", noBody)) }()
				eventually(t, "the connection is in use", func() bool { return s.times("holder") == 1 })
				go func() { done <- p.send(s.request(t.Context(), "POST", "waiter", getBody)) }()
				eventually(t, "a request waits", func() bool { return p.Stats().Waiting == 1 })
				before := p.Stats().WaitTime
				p.clock.freeze(j.wall, j.mono)
				open()
				for range 2 {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				if after := p.Stats().WaitTime; after < before || after > 2*time.Hour {
					t.Errorf("WaitTime went from %v to %v", before, after)
				}
			})
		})
	}
}

func TestErrorOfAWaitWithAClockSetBackTellsNoNonsense(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{MaxConnsPerHost: 1, AcquireTimeout: 200 * time.Millisecond})
	open := s.gate("holder")
	defer open()
	done := make(chan error, 1)
	go func() { done <- p.send(s.request(t.Context(), "GET", "holder", noBody)) }()
	eventually(t, "the connection is in use", func() bool { return s.times("holder") == 1 })
	waited := make(chan error, 1)
	go func() { waited <- p.send(s.request(t.Context(), "GET", "waiter", noBody)) }()
	eventually(t, "a request waits", func() bool { return p.Stats().Waiting == 1 })
	p.clock.freeze(-time.Minute, 0)
	if err := <-waited; err == nil || strings.Contains(err.Error(), "2562047h") {
		t.Errorf("error %v", err)
	}
	open()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
