package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The tests in this file run in bubbles, where time is fake: the connections are pipes, because a bubble cannot see
// that a socket's reader waits.

// pipes is a server on the other end of pipes, and their dialler.
type pipes struct {
	t  *testing.T
	h2 bool
	wg sync.WaitGroup

	mu    sync.Mutex // guards what follows
	dials []time.Duration
	began time.Time
	conns []*piped
	delay time.Duration  // of a dial
	seen  map[string]int // how often a request was given to the handler
}

// piped is the server's end. It can stop hearing, and hear late.
type piped struct {
	net.Conn
	mu   sync.Mutex // guards what follows
	deaf bool
	late chan struct{} // what is read waits for it to be closed
}

func (c *piped) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		c.mu.Lock()
		deaf, late := c.deaf, c.late
		c.mu.Unlock()
		if late != nil {
			<-late
		}
		if err != nil || !deaf {
			return n, err
		}
	}
}

// deafen has the connections of now hear nothing any more.
func (s *pipes) deafen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
	}
}

// hold has the connections of now hear nothing until the function returned is called.
func (s *pipes) hold() (release func()) {
	late := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.mu.Lock()
		c.late = late
		c.mu.Unlock()
	}
	return func() { close(late) }
}

func (s *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s.mu.Lock()
	delay := s.delay
	s.dials = append(s.dials, time.Since(s.began))
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	client, other := net.Pipe()
	c := &piped{Conn: other}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	l := &oneConn{conn: c, closed: make(chan struct{})}
	srv := &http.Server{Handler: http.HandlerFunc(s.handle), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(!s.h2)
	srv.Protocols.SetUnencryptedHTTP2(s.h2)
	srv.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateClosed {
			l.Close()
		}
	}
	s.wg.Go(func() { srv.Serve(l) })
	return client, nil
}

// oneConn is a listener that accepts one connection, and ends with it.
type oneConn struct {
	mu     sync.Mutex // guards conn
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func (s *pipes) handle(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	id := r.Header.Get("X-Id")
	s.mu.Lock()
	s.seen[id]++
	s.mu.Unlock()
	w.Header().Set("X-Id", id)
	word, value, _ := strings.Cut(r.Header.Get("X-Do"), " ")
	d, _ := time.ParseDuration(value)
	switch word {
	case "slow":
		time.Sleep(d)
	case "drip":
		w.Write([]byte(id))
		http.NewResponseController(w).Flush()
		time.Sleep(d)
	}
	io.WriteString(w, id)
}

// bubble runs f in a bubble, over HTTP/1.1 and HTTP/2.
func bubble(t *testing.T, cfg Config, which []mode, f func(t *testing.T, p *Transport, s *pipes)) {
	t.Helper()
	forModes(t, which, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s := &pipes{t: t, h2: m.h2, began: time.Now(), seen: make(map[string]int)}
			cfg := cfg
			cfg.DialContext = s.dial
			if cfg.Logger == nil {
				cfg.Logger = quiet
			}
			cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
			cfg.Protocols = new(http.Protocols)
			cfg.Protocols.SetHTTP1(!m.h2)
			cfg.Protocols.SetUnencryptedHTTP2(m.h2)
			p, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			f(t, p, s)
			p.Close()
			s.mu.Lock()
			for _, c := range s.conns {
				c.Close()
			}
			s.mu.Unlock()
			s.wg.Wait()
			if err := check(p); err != nil {
				t.Error(err)
			}
		})
	})
}

var (
	bubbleH1   = []mode{plain}
	bubbleH2   = []mode{h2c}
	bubbleBoth = []mode{plain, h2c}
)

func ask(p *Transport, method, host, id, do string) error {
	req := newRequest(context.Background(), method, "http://"+host+".test/", id, noBody)
	req.Header.Set("X-Do", do)
	resp, err := p.RoundTrip(req)
	if err != nil {
		return err
	}
	return readOwn(req, resp)
}

// mustAsk makes a request and lets all that it causes happen.
func mustAsk(t *testing.T, p *Transport, host, id string) {
	t.Helper()
	if err := ask(p, "GET", host, id, ""); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestIdleConnectionsAreTidiedUpInTime(t *testing.T) {
	bubble(t, Config{IdleTimeout: 10 * time.Second, VerifyAfter: Disabled, TrustIdle: Disabled}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		time.Sleep(6 * time.Second)
		mustAsk(t, p, "b", "2")
		time.Sleep(4*time.Second - time.Millisecond)
		synctest.Wait()
		if st := p.Stats(); st.Idle != 2 {
			t.Errorf("just before the first one's time: %+v", st.Origin)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if st := p.Stats(); st.Idle != 1 || st.Closed.IdleTimeout != 1 {
			t.Errorf("just after it: %+v", st.Origin)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if st := p.Stats(); st.Idle != 0 || st.Closed.IdleTimeout != 2 {
			t.Errorf("after the second one's time: %+v", st.Origin)
		}
	})
}

func TestLifetimeEndsIdleConnectionsWithoutARequest(t *testing.T) {
	bubble(t, Config{IdleTimeout: Disabled, MaxConnLifetime: 10 * time.Minute, VerifyAfter: Disabled, TrustIdle: Disabled}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		for range 8 {
			time.Sleep(time.Minute)
			mustAsk(t, p, "a", "1")
		}
		if st := p.Stats(); st.Dials != 1 {
			t.Errorf("within its lifetime: %+v", st.Origin)
		}
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		if st := p.Stats(); st.Open != 0 || st.Closed.Lifetime != 1 {
			t.Errorf("after it: %+v", st.Origin)
		}
	})
}

// A verification that is under way when the tidying comes must not save a connection from it for good.
func TestConnectionThatWasBeingVerifiedIsTidiedUpToo(t *testing.T) {
	bubble(t, Config{IdleTimeout: 20 * time.Second, VerifyTimeout: 5 * time.Second}, bubbleH2, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		time.Sleep(19900 * time.Millisecond)
		release := s.hold()
		go p.Thaw(context.Background())
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if st := p.Stats(); st.Open != 1 || st.Verified != 0 {
			t.Fatalf("while it is being verified: %+v", st.Origin)
		}
		release()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if st := p.Stats(); st.Open != 0 {
			t.Errorf("idle for 50s, IdleTimeout is 20s: %+v", st.Origin)
		}
	})
}

func TestAcquireTimeoutIsOfTheWholeWait(t *testing.T) {
	bubble(t, Config{MaxConnsPerHost: 1, AcquireTimeout: 3 * time.Second, ResponseHeaderTimeout: Disabled, DialTimeout: Disabled}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		s.delay = 10 * time.Second
		began := time.Now()
		err := ask(p, "POST", "a", "1", "")
		if took := time.Since(began); errors.Is(err, ErrPoolExhausted) || took != 3*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Errorf("no timeout: %v", err)
		}
		for _, part := range []string{"http://a.test:80", "within 3s", "0 open", "0 in use", "1 dialling", "1 waiting"} {
			if !strings.Contains(fmt.Sprint(err), part) {
				t.Errorf("the message should say %q: %v", part, err)
			}
		}
		time.Sleep(8 * time.Second) // the dial is the pool's, and goes on
		synctest.Wait()
		if st := p.Stats(); st.Idle != 1 || st.Dials != 1 || st.Waiting != 0 || st.WaitTime != 3*time.Second || st.Waits != 1 {
			t.Errorf("%+v", st.Origin)
		}
	})
}

func TestWaitWithoutAcquireTimeoutEndsWithTheContext(t *testing.T) {
	bubble(t, Config{MaxConnsPerHost: 1, DialTimeout: Disabled}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		s.delay = time.Hour
		cause := errors.New("the caller's cause")
		ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Minute, cause)
		defer cancel()
		began := time.Now()
		_, err := p.RoundTrip(newRequest(ctx, "GET", "http://a.test/", "1", noBody))
		if took := time.Since(began); took != 20*time.Minute || !errors.Is(err, cause) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestDialTimeoutIsNamed(t *testing.T) {
	bubble(t, Config{DialTimeout: 7 * time.Second}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		s.delay = time.Hour
		began := time.Now()
		err := ask(p, "GET", "a", "1", "")
		ne, ok := errors.AsType[net.Error](err)
		if took := time.Since(began); took != 7*time.Second || !ok || !ne.Timeout() || !strings.Contains(err.Error(), "7s") {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestResponseHeaderTimeoutIsNamedAndNotReplayed(t *testing.T) {
	bubble(t, Config{ResponseHeaderTimeout: 4 * time.Second}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		began := time.Now()
		err := ask(p, "GET", "a", "2", "slow 10s")
		ne, ok := errors.AsType[net.Error](err)
		if took := time.Since(began); took != 4*time.Second || !ok || !ne.Timeout() {
			t.Errorf("after %v: %v", took, err)
		}
		if st := p.Stats(); st.Replayed != 0 {
			t.Error("a slow answer is not a dead connection, but it was replayed")
		}
		if err := ask(p, "GET", "a", "3", "slow 3s"); err != nil {
			t.Errorf("within the limit: %v", err)
		}
		time.Sleep(10 * time.Second) // the slow handler ends
	})
}

func TestUnansweredPING(t *testing.T) {
	const timeout = 2 * time.Second
	bubble(t, Config{VerifyTimeout: timeout, DialDelay: Disabled}, bubbleH2, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		time.Sleep(time.Minute)
		s.deafen()
		// The fresh dial takes 500 ms, and begins when the answer is late: after four round trips, of no time here, and slack.
		s.mu.Lock()
		s.delay = 500 * time.Millisecond
		s.mu.Unlock()
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if err := ask(p, "POST", "a", fmt.Sprint("after", i), ""); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != answerSlack+500*time.Millisecond {
					t.Errorf("served after %v, want %v", took, answerSlack+500*time.Millisecond)
				}
			})
		}
		wg.Wait()
		s.mu.Lock()
		dials := s.dials
		s.mu.Unlock()
		if len(dials) != 2 || dials[1] != time.Minute+answerSlack {
			t.Errorf("dialled at %v: want a second dial once, at %v", dials, time.Minute+answerSlack)
		}
		if st := p.Stats(); st.Open != 2 || st.VerifyFailed != 0 {
			t.Errorf("before the hard deadline: %+v", st.Origin)
		}
		time.Sleep(timeout - time.Since(began) + time.Millisecond)
		synctest.Wait()
		if st := p.Stats(); st.Open != 1 || st.VerifyFailed != 1 || st.Closed.Unverified != 1 {
			t.Errorf("after the hard deadline: %+v", st.Origin)
		}
	})
}

func TestVerifyTimeoutBoundsTheWaitForALateAnswer(t *testing.T) {
	bubble(t, Config{VerifyTimeout: 40 * time.Millisecond}, bubbleH2, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		time.Sleep(time.Minute)
		s.deafen()
		began := time.Now()
		if err := ask(p, "POST", "a", "after", ""); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 40*time.Millisecond {
			t.Errorf("served after %v, VerifyTimeout is 40ms", took)
		}
	})
}

func TestVerifyTimeoutDisabledLeavesItToTheRoundTripTime(t *testing.T) {
	bubble(t, Config{VerifyTimeout: Disabled}, bubbleH2, func(t *testing.T, p *Transport, s *pipes) {
		s.delay = 200 * time.Millisecond
		mustAsk(t, p, "a", "1")
		time.Sleep(time.Minute)
		s.deafen()
		began := time.Now()
		if err := ask(p, "POST", "a", "after", ""); err != nil {
			t.Error(err)
		}
		// Late after four times the dial's 200 ms and the slack; then another dial.
		if took, want := time.Since(began), 4*200*time.Millisecond+answerSlack+200*time.Millisecond; took != want {
			t.Errorf("served after %v, want %v", took, want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := p.Stats(); st.Closed.Unverified != 1 {
			t.Errorf("never given up: %+v", st.Origin)
		}
	})
}

func TestVerifyAfterDisabledNeverAsks(t *testing.T) {
	bubble(t, Config{VerifyAfter: Disabled}, bubbleH2, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		time.Sleep(4 * time.Minute)
		p.Thaw(context.Background())
		mustAsk(t, p, "a", "2")
		if st := p.Stats(); st.Verified != 0 || st.Dials != 1 {
			t.Errorf("%+v", st.Origin)
		}
	})
}

// A connection that is no socket cannot tell what was acknowledged.
func TestDoubtfulConnectionThatIsNoSocketIsReplaced(t *testing.T) {
	bubble(t, Config{}, bubbleH1, func(t *testing.T, p *Transport, s *pipes) {
		mustAsk(t, p, "a", "1")
		time.Sleep(2*time.Minute + time.Second)
		mustAsk(t, p, "a", "2")
		if st := p.Stats(); st.Dials != 2 {
			t.Errorf("%+v", st.Origin)
		}
	})
}

func TestDrainBytesWithoutBound(t *testing.T) {
	bubble(t, Config{DrainBytes: math.MaxInt64}, bubbleH1, func(t *testing.T, p *Transport, _ *pipes) {
		req := newRequest(context.Background(), "GET", "http://a.test/", "1", noBody)
		req.Header.Set("X-Do", "drip 30ms")
		resp, err := p.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if st := p.Stats(); st.Idle != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestDrainTimeBoundsClose(t *testing.T) {
	bubble(t, Config{DrainTime: 80 * time.Millisecond, ResponseHeaderTimeout: Disabled}, bubbleH1, func(t *testing.T, p *Transport, s *pipes) {
		for _, c := range []struct {
			drip string
			want time.Duration
			kept int
		}{{"30ms", 30 * time.Millisecond, 1}, {"10s", 80 * time.Millisecond, 0}} {
			req := newRequest(context.Background(), "GET", "http://a.test/", "1", noBody)
			req.Header.Set("X-Do", "drip "+c.drip)
			resp, err := p.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			resp.Body.Close()
			if took := time.Since(began); took != c.want {
				t.Errorf("a body that ends in %s: Close took %v, want %v", c.drip, took, c.want)
			}
			synctest.Wait()
			if st := p.Stats(); st.Idle != c.kept {
				t.Errorf("a body that ends in %s: %d idle, want %d", c.drip, st.Idle, c.kept)
			}
		}
		time.Sleep(time.Minute)
	})
}

func TestNothingIsDrainedForAConnectionThatIsClosedInAnyCase(t *testing.T) {
	bubble(t, Config{ResponseHeaderTimeout: Disabled}, bubbleH1, func(t *testing.T, p *Transport, s *pipes) {
		for _, by := range []string{"client", "server"} {
			req := newRequest(context.Background(), "GET", "http://a.test/", "1", noBody)
			req.Header.Set("X-Do", "drip 10s")
			if by == "client" {
				req.Close = true
			} else {
				req.Header.Set("Connection", "close") // which the server repeats
			}
			resp, err := p.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			resp.Body.Close()
			if took := time.Since(began); took != 0 {
				t.Errorf("closed by the %s: Close took %v", by, took)
			}
			synctest.Wait()
			if st := p.Stats(); st.Open != 0 {
				t.Errorf("closed by the %s: %+v", by, st.Origin)
			}
		}
		time.Sleep(time.Minute)
	})
}

// HTTP/2 begins with what the client says, which a server that takes connections and reads nothing would hold up.
func TestDialTimeoutLimitsTheFirstWordsOfHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, h2c, Config{DialTimeout: time.Second, DialContext: func(context.Context, string, string) (net.Conn, error) {
			nc, other := net.Pipe()
			t.Cleanup(func() { other.Close() })
			return nc, nil
		}})
		began := time.Now()
		err := p.send(newRequest(t.Context(), "GET", "http://a.test/", "it", noBody))
		if err == nil || time.Since(began) != time.Second || p.Stats().DialErrors != 1 {
			t.Errorf("after %v: error %v, %+v", time.Since(began), err, p.Stats().Origin)
		}
	})
}
