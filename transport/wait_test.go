package transport

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

// originOf returns the origin that a request is for, which has connections.
func (p *testPool) originOf(t *testing.T, req *http.Request) *origin {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.aliases[originKey{scheme: req.URL.Scheme, host: req.URL.Host}]
	if o == nil {
		t.Fatal("no such origin")
	}
	return o
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
		g, err := p.acquire(soon, originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req, Want: pool.Want{Careful: true, Fresh: true}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if g.c.id != 1 {
			t.Errorf("connection %d", g.c.id)
		}
		p.giveBackUnused(g)
	})
}

func TestConnectionGivenBackUnusedIsNoYounger(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{VerifyAfter: Disabled})
		req := s.request(t.Context(), "GET", "it", noBody)
		p.mustSend(t, req)
		c := p.onlyConn(t)
		p.clock.freeze(time.Minute, time.Minute)
		g, err := p.acquire(t.Context(), originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req}, nil)
		if err != nil || g.c != c || !g.wasIdle || g.idleFor < time.Minute {
			t.Fatalf("error %v, %+v", err, g)
		}
		p.giveBackUnused(g)
		if uses := c.Uses(); uses != 1 {
			t.Errorf("%d uses", uses)
		}
		again, err := p.acquire(t.Context(), originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req}, nil)
		if err != nil || again.c != c || again.idleFor < g.idleFor {
			t.Fatalf("error %v, %+v", err, again)
		}
		p.giveBackUnused(again)
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
			w := want{req: req}
			asked, ok := p.machine.Ask(p.clock.now(), o.book, &w.Want)
			if !ok {
				t.Fatal("nothing to be had")
			}
			p.machine.Unused(p.clock.now(), asked) // so that it comes during the wait
			g, err := p.wait(o, &waiter{req: req, ctx: ended, since: p.clock.now(), Request: pool.Request{Want: w.Want}}, false)
			if err == nil {
				p.giveBackUnused(g)
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

// A ticker looks every minute whether a request without a deadline waits for a server that takes none. What comes at that moment is
// the request's all the same.
func TestConnectionThatComesAsAMinuteEndsIsTaken(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	req := s.request(context.Background(), "GET", "it", noBody)
	p.mustSend(t, req)
	o := p.originOf(t, req)
	p.mu.Lock()
	w := &waiter{req: req, ctx: req.Context(), since: p.clock.now(), done: make(chan struct{})}
	w.Driver = w
	o.pins++
	o.waiting.Add(1)
	if err := p.machine.Wait(p.clock.now(), o.book, &w.Request, false); err != nil {
		t.Fatal(err)
	}
	p.unlock()
	g, err, over := p.endWait(o, w, errUseless)
	if err != nil || !over {
		t.Fatalf("error %v, over %t", err, over)
	}
	p.giveBackUnused(g)
}
