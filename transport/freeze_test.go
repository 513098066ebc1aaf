package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// ends are the ways in which a server ends connections that are idle.
var ends = []struct {
	name string
	end  func(*server)
}{{"FIN", (*server).fin}, {"RST", (*server).rst}}

func TestRequestOnConnectionClosedWhileFrozenUsesAFreshOne(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, end := range ends {
			for _, k := range requestKinds {
				for _, frozen := range []bool{true, false} {
					// Frozen, the protocol layer has noticed nothing when the request comes; not frozen, it notices just then.
					t.Run(fmt.Sprintf("%s/%s/frozen=%v", end.name, k.name, frozen), func(t *testing.T) {
						s := serve(t, m)
						p := newPool(t, m, Config{})
						ctx := t.Context()
						for i := range 8 {
							p.mustSend(t, s.request(ctx, "GET", fmt.Sprintf("before-%d", i), noBody))
							if frozen {
								p.net.freeze()
							}
							p.clock.freeze(5*time.Second, 0)
							end.end(s)
							id := fmt.Sprintf("after-%d", i)
							p.mustSend(t, s.request(ctx, k.method, id, k.body))
							if n := s.times(id); n != 1 {
								t.Fatalf("%s was seen %d times", id, n)
							}
							p.net.thaw()
						}
						if st := p.Stats(); st.Closed.Stale+st.Closed.Server+st.Closed.Error < 8 || st.Replayed > 0 && k.method == "POST" {
							t.Errorf("%+v", st.Origin)
						}
						if err := check(p.Transport); err != nil {
							t.Error(err)
						}
					})
				}
			}
		}
	})
}

// doubtful returns how long a connection must be idle for the pool to doubt it.
func (p *testPool) doubtful(m mode) time.Duration {
	if m.h2 {
		return p.cfg.VerifyAfter + time.Second
	}
	return p.cfg.TrustIdle + time.Second
}

func TestConnectionForgottenByANATFailsNoRequest(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds {
			t.Run(k.name, func(t *testing.T) {
				s := serve(t, m)
				p := newPool(t, m, Config{})
				for i := range 10 {
					p.mustSend(t, s.request(t.Context(), "GET", fmt.Sprintf("before-%d", i), noBody))
					s.play(natRST)
					p.clock.freeze(p.doubtful(m), 0)
					id := fmt.Sprintf("after-%d", i)
					p.mustSend(t, s.request(t.Context(), k.method, id, k.body))
					if n := s.times(id); n != 1 {
						t.Fatalf("%s was seen %d times", id, n)
					}
				}
			})
		}
	})
}

func TestConnectionIntoABlackHoleCostsAPOSTNoMoreThanADial(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds[1:] {
			t.Run(k.name, func(t *testing.T) {
				s := serve(t, m)
				p := newPool(t, m, Config{})
				p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
				s.play(hole)
				p.clock.freeze(p.doubtful(m), 0)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				p.mustSend(t, s.request(ctx, k.method, "after", k.body))
				if n := p.net.dials(); n != 2 {
					t.Errorf("%d connections dialled, want 2", n)
				}
			})
		}
	})
}

func TestUnansweredPINGHandsItsRequestsToADialMeanwhile(t *testing.T) {
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds {
			t.Run(k.name, func(t *testing.T) {
				s := serve(t, m)
				const timeout = 400 * time.Millisecond
				p := newPool(t, m, Config{VerifyTimeout: timeout})
				p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
				old := p.onlyConn(t)
				s.play(hole)
				p.clock.freeze(p.doubtful(m), 0)
				began := time.Now()
				p.mustSend(t, s.request(t.Context(), k.method, "after", k.body))
				if took := time.Since(began); took >= timeout {
					t.Errorf("it took %v, as long as VerifyTimeout: no dial took over", took)
				} else if took < answerSlack {
					t.Errorf("it took %v: the PING had no time to be answered", took)
				}
				p.mu.Lock()
				verifying := old.book.Proving()
				p.mu.Unlock()
				if !verifying {
					t.Error("the old connection was given up before VerifyTimeout")
				}
				p.settled(t)
				if st := p.Stats(); st.VerifyFailed != 1 || st.Closed.Unverified != 1 || st.Open != 1 || st.Replayed != 0 {
					t.Errorf("after VerifyTimeout: %+v", st.Origin)
				}
				if n := s.times("after"); n != 1 {
					t.Errorf("seen %d times", n)
				}
			})
		}
	})
}

func TestOnePINGServesAllWhoWait(t *testing.T) {
	s := serveH2(t, &h2Peer{})
	p := newPool(t, h2c, Config{})
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "before", noBody))
	for round := range 3 {
		p.clock.freeze(time.Minute, 0)
		var wg sync.WaitGroup
		for i := range 20 {
			req := newRequest(t.Context(), "POST", s.url, fmt.Sprintf("%d-%d", round, i), getBody)
			wg.Go(func() {
				if err := p.send(req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() { p.Thaw(t.Context()) })
		wg.Wait()
		if n := s.pings.Load(); n != int64(round)+1 {
			t.Fatalf("%d PINGs after %d rounds", n, round+1)
		}
	}
	if st := p.Stats(); s.accepted() != 1 || st.Verified != 3 || st.VerifyFailed != 0 {
		t.Errorf("%d connections, %+v", s.accepted(), st.Origin)
	}
	// Trusted again, for as long as it was before.
	p.clock.freeze(p.cfg.VerifyAfter-time.Second, 0)
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "trusted", noBody))
	if n := s.pings.Load(); n != 3 {
		t.Errorf("%d PINGs; idle for less than VerifyAfter needs none", n)
	}
}

func TestSlowAnswerOnADoubtfulConnectionIsWaitedFor(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		p.clock.freeze(p.doubtful(m), 0)
		req := s.request(t.Context(), "GET", "slow", noBody)
		req.Header.Set("X-Do", "slow 450")
		p.mustSend(t, req)
		if n := s.times("slow"); n != 1 || p.net.dials() != 1 {
			t.Errorf("seen %d times, on %d connections; want once, on the old one", n, p.net.dials())
		}
		if st := p.Stats(); st.Verified != 1 || st.VerifyFailed != 0 || st.Replayed != 0 {
			t.Errorf("%+v", st.Origin)
		}
	})
}

// deafen lets the pool look at the socket of another connection in place of the one that n dials, one where nothing is
// ever acknowledged because nothing is ever sent: as if packets were lost.
func deafen(t *testing.T, n *network) {
	nc, _ := tcpPair(t)
	n.wrap = func(c *tapped) { c.shown = nc.(syscall.Conn) }
}

// tcpPair returns the two ends of a TCP connection that nobody serves.
func tcpPair(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	return here, there
}

func TestUnacknowledgedRequestOnADoubtfulConnectionIsReplayed(t *testing.T) {
	if !canTellAcknowledged {
		t.Log("this kernel does not tell; a doubtful connection is not used at all")
	}
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		for _, k := range []struct {
			method string
			body   int
		}{{"GET", noBody}, {"PUT", getBody}} {
			t.Run(k.method, func(t *testing.T) {
				s := serve(t, m)
				p := newPool(t, m, Config{})
				deafen(t, p.net)
				p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
				s.play(hole)
				p.clock.freeze(p.doubtful(m), 0)
				began := time.Now()
				p.mustSend(t, s.request(t.Context(), k.method, "after", k.body))
				if took := time.Since(began); took > p.cfg.VerifyTimeout {
					t.Errorf("it took %v, longer than VerifyTimeout", took)
				}
				if n := p.net.dials(); n != 2 || s.times("after") != 1 {
					t.Errorf("%d connections dialled, seen %d times; want 2 and once", n, s.times("after"))
				}
				want := uint64(1)
				if !canTellAcknowledged {
					want = 0
				}
				if st := p.Stats(); st.VerifyFailed != want || st.Replayed != want || st.Closed.Unverified != want {
					t.Errorf("%+v", st.Origin)
				}
			})
		}
	})
}

func TestDoubtfulConnectionServesGETAndIsTrustedThen(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		p.clock.freeze(p.doubtful(m), 0)
		p.mustSend(t, s.request(t.Context(), "GET", "after", noBody))
		p.mustSend(t, s.request(t.Context(), "POST", "post", streamed))
		want := 1
		if !canTellAcknowledged {
			want = 2
		}
		if n := p.net.dials(); n != want {
			t.Errorf("%d connections dialled, want %d", n, want)
		}
	})
}

func TestFirstStaleConnectionRetiresItsGenerationOfThatOriginOnly(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		a, b := serve(t, m), serve(t, m)
		p := newPool(t, m, Config{})
		p.fill(t, a, 4)
		p.fill(t, b, 3)
		p.net.freeze()
		p.clock.freeze(30*time.Second, 0)
		a.rst()
		p.mustSend(t, a.request(t.Context(), "POST", "after", streamed))
		p.net.thaw()
		p.settled(t)
		st := p.Stats()
		if o := st.Origins[a.url]; o.Open != 1 || o.Closed.Stale != 4 || o.Dials != 5 {
			t.Errorf("the origin that was stale: %+v", o)
		}
		if o := st.Origins[b.url]; o.Idle != 3 || o.Dials != 3 {
			t.Errorf("the other origin: %+v", o)
		}
	})
}

// A NAT that forgot the flow shows only when something is sent. What it did to one, it has done to those idle as long.
func TestConnectionFoundDeadByARequestRetiresItsGeneration(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		p.fill(t, s, 5)
		p.clock.freeze(30*time.Second, 0)
		s.play(natRST)
		p.mustSend(t, s.request(t.Context(), "GET", "it", noBody))
		p.settled(t)
		if st := p.Stats(); st.Open != 1 || st.Dials != 6 || st.Replayed != 1 || st.Closed.Stale != 4 {
			t.Errorf("%+v", st.Origin)
		}
	})
}

// A server that closes a connection now and then says nothing about the others. What closed one that had been idle for
// long, or since before a thaw, has closed them too.
func TestConnectionThatWasClosedRetiresThoseIdleForAsLong(t *testing.T) {
	for _, tt := range []struct {
		name   string
		idle   time.Duration
		thaw   bool
		closed uint64
	}{{"quick succession", 0, false, 1}, {"idle for long", 2 * time.Second, false, 3}, {"since before a thaw", 0, true, 3}} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, plain)
			p := newPool(t, plain, Config{})
			p.fill(t, s, 3)
			p.mustSend(t, s.request(t.Context(), "GET", "newest", noBody))
			newest := p.connUsed(t, 2).LocalAddr().String()
			p.clock.freeze(tt.idle, 0)
			if tt.thaw {
				p.Thaw(t.Context())
			}
			p.net.freeze() // so that only a look at the socket can find it closed
			s.each(func(c *served) {
				if c.RemoteAddr().String() == newest {
					c.TCPConn.Close()
				}
			})
			// One that stays does not answer before the thaw.
			done := make(chan error, 1)
			go func() { done <- p.send(s.request(t.Context(), "GET", "after", noBody)) }()
			eventually(t, "the request has come", func() bool { return s.times("after") > 0 })
			p.net.thaw()
			if err := <-done; err != nil {
				t.Error(err)
			}
			p.settled(t)
			if st := p.Stats(); st.Closed.Stale != tt.closed || st.Open != max(1, 3-int(tt.closed)) {
				t.Errorf("%+v", st.Origin)
			}
		})
	}
}

func TestThawClosesWhatIsExpiredOrDeadAndVerifiesTheRest(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		dead, living := serve(t, m), serve(t, m)
		p := newPool(t, m, Config{})
		p.mustSend(t, dead.request(t.Context(), "GET", "before", noBody))
		p.mustSend(t, living.request(t.Context(), "GET", "before", noBody))
		p.net.freeze()
		p.clock.freeze(time.Minute, 0)
		dead.fin()
		thaw := make(chan struct{})
		go func() {
			defer close(thaw)
			p.Thaw(t.Context())
		}()
		eventually(t, "the dead connection is closed", func() bool { return p.Stats().Open == 1 })
		p.net.thaw()
		<-thaw
		st := p.Stats()
		if o := st.Origins[dead.url]; o.Open != 0 || o.Closed.Stale != 1 {
			t.Errorf("dead: %+v", o)
		}
		wantVerified := uint64(0)
		if m.h2 {
			wantVerified = 1
		}
		if o := st.Origins[living.url]; o.Idle != 1 || o.Verified != wantVerified {
			t.Errorf("living: %+v", o)
		}
		p.clock.freeze(time.Hour, time.Hour)
		p.Thaw(t.Context())
		p.settled(t)
		if st := p.Stats(); st.Open != 0 || st.Closed.IdleTimeout+st.Closed.Lifetime != 1 {
			t.Errorf("after an hour: %+v", st.Origin)
		}
	})
}

func TestThawBlocksNeitherOtherOriginsNorLongerThanItsContext(t *testing.T) {
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		silent, other := serve(t, m), serve(t, m)
		p := newPool(t, m, Config{VerifyTimeout: 600 * time.Millisecond})
		p.mustSend(t, silent.request(t.Context(), "GET", "before", noBody))
		p.mustSend(t, other.request(t.Context(), "GET", "before", noBody))
		silent.play(hole)
		p.clock.freeze(time.Minute, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		done := make(chan time.Duration, 1)
		go func() {
			began := time.Now()
			p.Thaw(ctx)
			done <- time.Since(began)
		}()
		eventually(t, "Thaw has begun", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.Transport.machine.Thawed()
		})
		p.mustSend(t, other.request(t.Context(), "POST", "after", streamed))
		select {
		case <-done:
			t.Error("Thaw returned before the silent connection was decided")
		default:
		}
		if took := <-done; took < 150*time.Millisecond || took > 500*time.Millisecond {
			t.Errorf("Thaw took %v, its context 200ms", took)
		}
		p.settled(t)
		if o := p.Stats().Origins[silent.url]; o.Open != 0 || o.Closed.Unverified != 1 {
			t.Errorf("what Thaw began should go on: %+v", o)
		}
	})
}

// Thaw runs beside the first requests of an invocation.
func TestThawBesideRequestsClosesNoHealthyConnection(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		p.fill(t, s, 2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				p.Thaw(ctx)
				<-time.After(20 * time.Microsecond)
			}
		})
		var workers sync.WaitGroup
		var failed atomic.Int64
		for range 2 {
			workers.Go(func() {
				for range 250 {
					if p.send(s.request(t.Context(), "POST", "x", streamed)) != nil {
						failed.Add(1)
					}
				}
			})
		}
		workers.Wait()
		cancel()
		wg.Wait()
		if st := p.Stats(); failed.Load() != 0 || st.Closed != (Closed{}) || st.Verified+st.VerifyFailed != 0 {
			t.Errorf("%d requests failed; %+v", failed.Load(), st.Origin)
		}
	})
}

func TestBusyConnectionsUnderLoadAreNotTakenForStale(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnsPerHost: 8})
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for range 20 {
					if err := p.send(s.request(t.Context(), "POST", "x", getBody)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		st := p.Stats()
		// net/http gives a connection up whose write loop does not get to run within 50 ms of the answer.
		dials, closed := 8+st.Closed.Error, st.Closed
		closed.Error = 0
		if closed != (Closed{}) || st.Dials > dials {
			t.Errorf("%+v", st.Origin)
		}
	})
}

func TestRetiredHTTP2ConnectionFinishesItsStreamsAndIsClosedThen(t *testing.T) {
	retire := []struct {
		name   string
		retire func(*testPool)
		reason func(Closed) uint64
	}{
		{"Reset", func(p *testPool) { p.Reset() }, func(c Closed) uint64 { return c.Reset }},
		{"lifetime", func(p *testPool) { p.clock.freeze(time.Hour, 0) }, func(c Closed) uint64 { return c.Lifetime }},
	}
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		for _, r := range retire {
			t.Run(r.name, func(t *testing.T) {
				s := serve(t, m)
				p := newPool(t, m, Config{})
				open := s.gate("long")
				defer open()
				req := s.request(t.Context(), "GET", "long", noBody)
				req.Header.Set("X-Do", "part")
				resp, err := p.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				r.retire(p)
				for i := range 3 {
					p.mustSend(t, s.request(t.Context(), "POST", fmt.Sprintf("new-%d", i), streamed))
				}
				if st := p.Stats(); st.Dials != 2 || st.Open != 2 || st.Streams != 1 {
					t.Errorf("while the stream goes on: %+v", st.Origin)
				}
				open()
				if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 104 {
					t.Errorf("the stream did not end well: %d bytes, %v", len(b), err)
				}
				resp.Body.Close()
				p.settled(t)
				if st := p.Stats(); st.Open != 1 || r.reason(st.Closed) != 1 {
					t.Errorf("after it: %+v", st.Origin)
				}
			})
		}
	})
}

func TestResetDuringARequestClosesItsHTTP1ConnectionAfterwards(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		p.fill(t, s, 2)
		open := s.gate("long")
		defer open()
		done := make(chan error, 1)
		go func() { done <- p.send(s.request(t.Context(), "POST", "long", streamed)) }()
		eventually(t, "it has come", func() bool { return s.times("long") == 1 })
		p.Reset()
		p.settled(t)
		if st := p.Stats(); st.Open != 1 || st.InUse != 1 || st.Closed.Reset != 1 {
			t.Errorf("while it goes on: %+v", st.Origin)
		}
		open()
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.settled(t)
		if st := p.Stats(); st.Open != 0 || st.Closed.Reset != 2 {
			t.Errorf("after it: %+v", st.Origin)
		}
	})
}

// A connection that was being made at the moment of a snapshot is as dead after its restore as the others.
func TestResetDuringADialHasAnotherOneMade(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		dialling, release := make(chan struct{}, 2), make(chan struct{})
		p.net.before = func(string) error {
			dialling <- struct{}{}
			<-release
			return nil
		}
		done := make(chan error, 1)
		go func() { done <- p.send(s.request(t.Context(), "POST", "it", streamed)) }()
		<-dialling
		p.Reset()
		close(release)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		p.settled(t)
		if c := p.onlyConn(t); c.id != 2 || p.Stats().Dials != 2 || p.net.open() != 1 {
			t.Errorf("connection %d of %d dials, %d are open", c.id, p.Stats().Dials, p.net.open())
		}
	})
}

// The failure of a dial from before a Reset concerns nobody after it.
func TestResetDuringADialThatFails(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for name, use := range map[string]func(*testPool, *server) error{
			"request": func(p *testPool, s *server) error { return p.send(s.request(t.Context(), "POST", "it", streamed)) },
			"Warm":    func(p *testPool, s *server) error { return p.Warm(t.Context(), s.url) },
		} {
			s := serve(t, m)
			p := newPool(t, m, Config{})
			dialling, release := make(chan struct{}, 2), make(chan struct{})
			var dials atomic.Int32
			p.net.before = func(string) error {
				dialling <- struct{}{}
				<-release
				if dials.Add(1) == 1 {
					return errors.New("the network of the snapshot")
				}
				return nil
			}
			done := make(chan error, 1)
			go func() { done <- use(p, s) }()
			<-dialling
			p.Reset()
			close(release)
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			p.settled(t)
			if c := p.onlyConn(t); c.id != 2 || p.Stats().Dials != 2 {
				t.Errorf("%s: connection %d of %d dials", name, c.id, p.Stats().Dials)
			}
		}
	})
}

// Who dials when a snapshot is made does not wait for that dial's time to pass afterwards.
func TestResetGivesUpDialsUnderWay(t *testing.T) {
	s := serve(t, plain)
	var dials atomic.Int32
	p := newPool(t, plain, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return faultnet.DialNever(ctx, network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}, DialTimeout: Disabled})
	done := make(chan error, 1)
	go func() { done <- p.send(s.request(t.Context(), "POST", "it", streamed)) }()
	eventually(t, "the dial is under way", func() bool { return dials.Load() == 1 })
	p.Reset()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who is given another connection leaves a dial behind. Its failure is not that of whoever dials behind him.
func TestFailedDialTellsTheOneThatItWasBegunFor(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	end := p.underWay(t, s)
	var dials atomic.Int32
	fail, succeed := make(chan struct{}), make(chan struct{})
	p.net.before = func(string) error {
		if dials.Add(1) == 1 {
			<-fail
			return errors.New("too late")
		}
		<-succeed
		return nil
	}
	var done [2]chan error
	for i := range done {
		done[i] = make(chan error, 1)
		go func() { done[i] <- p.send(s.request(t.Context(), "POST", fmt.Sprint(i), noBody)) }()
		eventually(t, "it dials", func() bool { return int(dials.Load()) == i+1 })
	}
	holds := s.gate("0")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first has the connection", func() bool { return s.times("0") == 1 })
	close(fail)
	eventually(t, "its dial has failed", func() bool { return p.Stats().DialErrors == 1 })
	close(succeed)
	if err := <-done[1]; err != nil {
		t.Error(err)
	}
	holds()
	if err := <-done[0]; err != nil {
		t.Error(err)
	}
}

// Whoever a dial was begun for may have given up, before a freeze for example. Its timeout, due at the thaw, is none of the
// next request's.
func TestFailedDialOfARequestThatGaveUpFailsNoOther(t *testing.T) {
	forModes(t, []mode{{tls: true, h2: true}, h2c}, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		fail := p.abandonDial(t, s)
		done := make(chan error, 1)
		go func() { done <- p.send(s.request(t.Context(), "POST", "second", streamed)) }()
		eventually(t, "the second waits", func() bool { return p.Stats().Waiting == 1 })
		fail()
		if err := <-done; err != nil {
			t.Errorf("the second: %v", err)
		}
		if n := p.Stats().Dials; n != 2 {
			t.Errorf("%d dials", n)
		}
	})
}

// Else they fail one after the other, each after a dial of its own: on HTTP/1.1 a dial is begun for each.
func TestResetDuringDialsHasEachWaiterToldByADialOfItsOwn(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	const n = 8
	var dials atomic.Int32
	again, release := make(chan struct{}), make(chan struct{})
	p.net.before = func(string) error {
		if dials.Add(1) <= n {
			<-again
		} else {
			<-release
		}
		return errors.New("no network")
	}
	failed := make(chan error, n)
	for i := range n {
		go func() { failed <- p.send(s.request(t.Context(), "POST", fmt.Sprint(i), noBody)) }()
	}
	eventually(t, "all dial", func() bool { return dials.Load() == n })
	p.Reset()
	close(again)
	eventually(t, "all dial again", func() bool { return dials.Load() == 2*n })
	close(release)
	for range n {
		if err := <-failed; err == nil {
			t.Error("answered")
		}
	}
	if got := dials.Load(); got != 2*n {
		t.Errorf("%d dials for %d requests and a Reset", got, n)
	}
}

// An answer that nobody asked for, right behind the one that was, must not be taken for the answer to the next request on
// the connection.
func TestUnsolicitedAnswerIsNeverTakenForTheNext(t *testing.T) {
	quietLog(t)
	const stray = "HTTP/1.1 200 OK\r\nX-Id: stray\r\nContent-Length: 5\r\n\r\nstray"
	for _, k := range requestKinds {
		t.Run(k.name, func(t *testing.T) {
			s := serveH1(t, &h1Peer{converse: func(_ int, c *net.TCPConn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					id := req.Header.Get("X-Id")
					answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
					io.WriteString(c, answer+stray)
				}
			}})
			p := newPool(t, plain, Config{})
			for i := range 70 {
				req := newRequest(t.Context(), k.method, s.url, fmt.Sprintf("request-%d", i), k.body)
				resp, err := p.RoundTrip(req)
				if err != nil {
					continue // better than another's answer
				}
				if err := readOwn(req, resp); err != nil {
					t.Fatal(err)
				}
			}
			if st := p.Stats(); st.Closed.Server+st.Closed.Error+st.Closed.Stale == 0 {
				t.Errorf("no connection was given up: %+v", st.Origin)
			}
		})
	}
}

// What has reached the socket of an idle connection when a request comes must be seen, whether the reader has got to it
// or is just about to take it.
func TestUnsolicitedAnswerIsSeenBeforeTheNextRequest(t *testing.T) {
	quietLog(t)
	const stray = "HTTP/1.1 200 OK\r\nX-Id: stray\r\nContent-Length: 5\r\n\r\nstray"
	for _, k := range requestKinds {
		t.Run(k.name, func(t *testing.T) {
			s := serve(t, plain)
			p := newPool(t, plain, Config{DialContext: new(net.Dialer).DialContext})
			for i := range 100 {
				p.mustSend(t, s.request(t.Context(), "GET", fmt.Sprintf("before-%d", i), noBody))
				c := p.onlyConn(t)
				eventually(t, "the reader waits", func() bool { return waiting(c.raw.turns.Load()) })
				s.each(func(c *served) { io.WriteString(c.TCPConn, stray) })
				id := fmt.Sprintf("after-%d", i)
				p.mustSend(t, s.request(t.Context(), k.method, id, k.body))
				if n := s.times(id); n != 1 {
					t.Fatalf("%s was seen %d times", id, n)
				}
				p.CloseIdleConnections()
			}
		})
	}
}

// The first request after a freeze looks at the connection. One that comes meanwhile must not be written to it unseen.
func TestStreamTakenWhileItsConnectionIsLookedAtIsNotLost(t *testing.T) {
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		var hook atomic.Pointer[func()]
		p.net.wrap = func(c *tapped) {
			c.shown = lookedAt{c.shown, func() {
				if f := hook.Swap(nil); f != nil {
					(*f)()
				}
			}}
		}
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		p.net.freeze()
		s.fin()
		second := make(chan error, 1)
		f := func() {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				second <- p.send(s.request(ctx, "POST", "second", streamed))
			}()
			within(2*time.Second, func() bool { st := p.Stats(); return st.Streams == 2 || st.Replayed > 0 })
		}
		hook.Store(&f)
		p.mustSend(t, s.request(t.Context(), "POST", "first", streamed))
		if hook.Load() != nil {
			t.Fatal("nobody looked at the connection")
		}
		if err := <-second; err != nil {
			t.Errorf("the request that came meanwhile: %v", err)
		}
		if st := p.Stats(); st.Replayed != 0 {
			t.Errorf("the request that came meanwhile was given to the dead connection: %+v", st.Origin)
		}
	})
}

// lookedAt calls hook when the pool looks at the socket, before it sees anything.
type lookedAt struct {
	syscall.Conn
	hook func()
}

func (l lookedAt) SyscallConn() (syscall.RawConn, error) {
	raw, err := l.Conn.SyscallConn()
	return hookedRaw{raw, l.hook}, err
}

type hookedRaw struct {
	syscall.RawConn
	hook func()
}

func (r hookedRaw) Control(f func(uintptr)) error {
	r.hook()
	return r.RawConn.Control(f)
}

// While Thaw looks at the sockets, requests take connections and give them back.
func TestConnectionUsedWhileThawLooksIsLeftAlone(t *testing.T) {
	t.Run("in use when looked at, idle when decided", func(t *testing.T) {
		s := serve(t, plain)
		p := newPool(t, plain, Config{})
		var hook atomic.Pointer[func(*tapped)]
		p.net.wrap = func(c *tapped) {
			c.shown = lookedAt{c.shown, func() {
				if f := hook.Load(); f != nil {
					(*f)(c)
				}
			}}
		}
		p.fill(t, s, 3)
		// Thaw looks at the first one first. The request is to get the middle one.
		middle := p.connWithID(t, 2)
		p.mustSendOn(t, s, middle)
		first, last := p.connWithID(t, 1).LocalAddr().String(), p.connWithID(t, 3).LocalAddr().String()
		open := s.gate("meanwhile")
		defer open()
		done := make(chan error, 1)
		var began, ended sync.Once
		f := func(c *tapped) {
			switch c.LocalAddr().String() {
			case first:
				began.Do(func() {
					go func() { done <- p.send(s.request(context.Background(), "POST", "meanwhile", streamed)) }()
					within(5*time.Second, func() bool { return s.times("meanwhile") == 1 })
				})
			case last:
				ended.Do(func() {
					open()
					if err := <-done; err != nil {
						t.Error(err)
					}
				})
			}
		}
		hook.Store(&f)
		p.Thaw(t.Context())
		hook.Store(nil)
		p.settled(t)
		if st := p.Stats(); s.times("meanwhile") != 1 || st.Idle != 3 || st.Closed != (Closed{}) {
			t.Errorf("%+v", st.Origin)
		}
	})
	t.Run("idle since a moment ago", func(t *testing.T) {
		servers := []*server{serve(t, h2c), serve(t, h2c)}
		p := newPool(t, h2c, Config{})
		var hook atomic.Pointer[func(*tapped)]
		p.net.wrap = func(c *tapped) {
			c.shown = lookedAt{c.shown, func() {
				if f := hook.Swap(nil); f != nil {
					(*f)(c)
				}
			}}
		}
		for _, s := range servers {
			p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		}
		f := func(c *tapped) {
			for _, s := range servers {
				if s.url != "http://"+c.addr {
					if err := p.send(s.request(context.Background(), "GET", "meanwhile", noBody)); err != nil {
						t.Error(err)
					}
				}
			}
		}
		hook.Store(&f)
		p.Thaw(t.Context())
		if st := p.Stats(); st.Requests != 3 || st.Verified+st.VerifyFailed != 0 {
			t.Errorf("a connection that was just used was verified: %+v", st.Origin)
		}
	})
}

// Between the look at an idle connection and its request's first byte, the request goes from one goroutine to another.
func TestNothingIsWrittenToAConnectionThatEndedSinceItWasLookedAt(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		var hook atomic.Pointer[func(*tapped)]
		p.net.wrap = func(c *tapped) {
			c.shown = lookedAt{c.shown, func() {
				if f := hook.Load(); f != nil {
					(*f)(c)
				}
			}}
		}
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		c := p.onlyConn(t)
		if c.asked.Load() {
			t.Error("the idle connection would take any bytes for an answer")
		}
		p.net.freeze() // its reader notices nothing
		end := func(shown *tapped) {
			if c.vetting.Load() {
				return // this is the look
			}
			hook.Store(nil)
			s.fin()
			real := newSocket(shown.Conn)
			eventually(t, "the end has come", func() bool { return real.peek() == peekedEnd })
		}
		hook.Store(&end)
		done := make(chan error, 1)
		go func() { done <- p.send(s.request(t.Context(), "POST", "it", streamed)) }()
		eventually(t, "the request has come", func() bool { return s.times("it") > 0 || len(done) > 0 })
		p.net.thaw()
		if err := <-done; err != nil || s.times("it") != 1 || hook.Load() != nil {
			t.Errorf("error %v, and the server saw it %d times", err, s.times("it"))
		}
	})
}

// All that may be open are idle, and none can be given a request that may not be sent twice.
func TestDoubtfulConnectionsMakeRoomUnderACap(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnsPerHost: 2})
		p.fill(t, s, 2)
		p.clock.freeze(p.cfg.TrustIdle+time.Second, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		p.mustSend(t, s.request(ctx, "POST", "it", streamed))
		p.settled(t)
		if st := p.Stats(); st.Dials != 3 || st.Open != 2 || st.Closed.Excess != 1 {
			t.Errorf("%+v", st.Origin)
		}
	})
}
