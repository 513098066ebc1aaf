package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

func TestWaiterThatComesBackTakesItsOldPlace(t *testing.T) {
	var q waiterQueue
	for _, turn := range []uint64{2, 4, 3, 5, 1} {
		q.push(&waiter{want: want{turn: turn}})
	}
	for next := uint64(1); next <= 5; next++ {
		if w := q.pop(); w == nil || w.want.turn != next {
			t.Fatalf("popped %+v, want turn %d", w, next)
		}
	}
	if q.pop() != nil || q.len() != 0 {
		t.Error("something is left")
	}
}

// originOf returns the origin that a request is for, which has connections.
func (p *pool) originOf(t *testing.T, req *http.Request) *origin {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.aliases[originKey{scheme: req.URL.Scheme, host: req.URL.Host}]
	if o == nil {
		t.Fatal("no such origin")
	}
	return o
}

// Who waits for the first dial to an origin would else find out one after the other, each after a dial of its own.
func TestFailedDialFailsAllWhoWaitedForWhatItWouldSpeak(t *testing.T) {
	forModes(t, []mode{{tls: true, h2: true}, h2c}, func(t *testing.T, m mode) {
		errDial := errors.New("nobody there")
		release := make(chan struct{})
		p := newPool(t, m, Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
			<-release
			return nil, errDial
		}})
		url := "http://a.test/"
		if m.tls {
			url = "https://a.test/"
		}
		const n = 20
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if err := p.send(newRequest(t.Context(), "GET", url, "it", noBody)); !errors.Is(err, errDial) {
					t.Errorf("error %v", err)
				}
			})
		}
		eventually(t, "all wait", func() bool { return p.Stats().Waiting == n })
		close(release)
		wg.Wait()
		if got := p.Stats(); got.Dials != 1 || got.DialErrors != 1 {
			t.Errorf("%+v", got.Origin)
		}
	})
}

// A stream may go on for ever, and no connection is closed for the sake of a request that met dead ones.
func TestRequestThatMetDeadConnectionsTakesAStreamIfNoConnectionCanBeMade(t *testing.T) {
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnsPerHost: 1})
		open := s.gate("long")
		defer open()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { p.send(s.request(ctx, "GET", "long", noBody)) })
		eventually(t, "the stream is open", func() bool { return s.times("long") == 1 })

		req := s.request(t.Context(), "GET", "it", noBody)
		soon, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		g, err := p.acquire(soon, originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req, fresh: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if g.c.id != 1 {
			t.Errorf("connection %d", g.c.id)
		}
		p.giveBackLocked(g)
	})
}

func TestConnectionGivenBackUnusedIsNoYounger(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{VerifyAfter: Disabled})
		req := s.request(t.Context(), "GET", "it", noBody)
		p.mustSend(t, req)
		c := p.onlyConn(t)
		p.mu.Lock()
		since := c.idleAt
		p.mu.Unlock()
		p.clock.freeze(time.Minute, time.Minute)
		g, err := p.acquire(t.Context(), originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req}, nil)
		if err != nil || g.c != c || !g.wasIdle || g.idleFor < time.Minute {
			t.Fatalf("error %v, %+v", err, g)
		}
		p.giveBackLocked(g)
		p.mu.Lock()
		defer p.mu.Unlock()
		if c.state != connIdle || c.idleAt != since || c.Uses() != 1 {
			t.Errorf("state %d, idle since %v, was %v, %d uses", c.state, c.idleAt, since, c.Uses())
		}
	})
}

func TestConnectionThatComesAsItsRequestEndsIsGivenBack(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnsPerHost: 1})
		req := s.request(t.Context(), "GET", "it", noBody)
		p.mustSend(t, req)
		o := p.originOf(t, req)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		late := 0
		for range 50 { // the end of the wait is seen in half of them
			p.mu.Lock()
			ticket := &waiter{want: want{req: req}, ctx: ended, since: p.clock.now(), done: make(chan struct{})}
			g, err := p.wait(o, ticket, false)
			if err == nil {
				p.giveBackLocked(g)
			} else {
				late++
			}
			if st := p.Stats(); st.InUse != 0 || st.Idle != 1 || st.Streams != 0 {
				t.Fatalf("error %v: %+v", err, st.Origin)
			}
		}
		if late == 0 {
			t.Error("none came too late")
		}
	})
}

// What is known to be too long is not read at all.
func TestBodyWithMoreLeftThanDrainBytesIsNotWaitedFor(t *testing.T) {
	s := serveH1(t, &h1Peer{converse: func(_ int, c *net.TCPConn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nthe beginning")
		io.Copy(io.Discard, r)
	}})
	p := newPool(t, plain, Config{DrainTime: time.Minute})
	resp, err := p.RoundTrip(newRequest(t.Context(), "GET", s.url, "it", noBody))
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		resp.Body.Close()
	}()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("Close waits for what it will not read to the end")
	}
}
