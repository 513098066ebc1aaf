package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A failpoint makes the nth call of an operation fail, counted over all connections of a pool.
type failpoint struct {
	op  string // dial, write, read or close
	how string
	nth int

	mu    sync.Mutex // guards what follows
	calls int
	done  bool // the call has failed
}

// failures are the ways in which operations fail.
var failures = []struct{ op, how string }{
	{"dial", "refused"},
	{"write", "nothing written"},
	{"write", "half written"},
	{"write", "all written"},
	{"read", "nothing read"},
	{"read", "lost"}, // what came is thrown away
	{"read", "EOF"},
	{"close", "closed nevertheless"},
}

// now counts a call, and reports whether it is the one to fail.
func (f *failpoint) now(op string) bool {
	if op != f.op {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return f.calls == f.nth
}

// fail notes that the call fails now, and returns its error.
func (f *failpoint) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = true
	if f.how == "EOF" {
		return io.EOF
	}
	return errInjected
}

// reached reports whether the call that is to fail has begun, and whether it has failed.
func (f *failpoint) reached() (begun, failed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls >= f.nth, f.done
}

// failing is a connection with a failpoint in it.
type failing struct {
	*tapped
	f *failpoint
}

func (c failing) SyscallConn() (syscall.RawConn, error) { return c.tapped.SyscallConn() }

func (c failing) Write(p []byte) (int, error) {
	if !c.f.now("write") {
		return c.tapped.Write(p)
	}
	n := 0
	switch c.f.how {
	case "half written":
		n, _ = c.tapped.Write(p[:len(p)/2])
	case "all written":
		n, _ = c.tapped.Write(p)
	}
	return n, c.f.fail()
}

func (c failing) Read(p []byte) (int, error) {
	if !c.f.now("read") {
		return c.tapped.Read(p)
	}
	if c.f.how == "lost" {
		c.tapped.Read(p)
	}
	return 0, c.f.fail()
}

func (c failing) Close() error {
	err := c.tapped.Close()
	if c.f.now("close") {
		return c.f.fail()
	}
	return err
}

// Each call of the network fails once, in a conversation of some requests. Whatever fails, at most one request does, with
// the network's error; no POST is sent twice; the books hold; and the next request succeeds.
func TestEveryFailureOfTheNetworkOnce(t *testing.T) {
	forModes(t, modes[:3], func(t *testing.T, m mode) {
		s := serve(t, m)
		for _, failure := range failures {
			points := 0
			for nth := 1; ; nth++ {
				f := &failpoint{op: failure.op, how: failure.how, nth: nth}
				name := fmt.Sprintf("%s, %s/%d", f.op, f.how, nth)
				t.Run(name, func(t *testing.T) { converseUnder(t, m, s, f) })
				if begun, _ := f.reached(); !begun {
					break
				}
				points++
			}
			t.Logf("%s, %s: %d points", failure.op, failure.how, points)
			if points < 2 {
				t.Errorf("%s, %s: only %d points, so the failures are not where they should be", failure.op, failure.how, points)
			}
		}
	})
}

func converseUnder(t *testing.T, m mode, s *server, f *failpoint) {
	cfg := Config{ResponseHeaderTimeout: 5 * time.Second, Logger: quiet}
	var p *testPool
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if f.now("dial") {
			return nil, f.fail()
		}
		nc, err := p.net.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return failing{nc.(*tapped), f}, nil
	}
	p = newPool(t, m, cfg)

	failed := 0
	for i, k := range []struct {
		method string
		body   int
		do     string
		idle   bool // close the idle connections before
	}{
		{"GET", noBody, "", false},
		{"POST", getBody, "size 20000", false},
		{"POST", streamed, "", false},
		{"GET", noBody, "", true},
		{"POST", noBody, "", false},
		{"PUT", getBody, "", false},
	} {
		if k.idle {
			p.CloseIdleConnections()
			p.settled(t)
		}
		id := fmt.Sprintf("%s-%d", t.Name(), i)
		req := s.request(t.Context(), k.method, id, k.body)
		req.Header.Set("X-Do", k.do)
		err := p.send(req)
		switch n := s.times(id); {
		case n > 1 && k.method == "POST":
			t.Errorf("request %d, %s, was processed %d times", i, k.method, n)
		case err == nil && n == 0:
			t.Errorf("request %d, %s, was answered and never seen", i, k.method)
		}
		if err == nil {
			continue
		}
		failed++
		if f.how == "EOF" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "server closed idle connection")) {
			continue
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("request %d, %s: %v: want the network's error", i, k.method, err)
		}
	}
	_, hit := f.reached()
	if failed > 1 || failed > 0 && !hit {
		t.Errorf("%d requests failed, and one call of the network", failed)
	}
	p.settled(t)
	if err := check(p.Transport); err != nil {
		t.Error(err)
	}
	if st := p.Stats(); st.InUse != 0 || st.Streams != 0 || st.Waiting != 0 || st.Dialing != 0 {
		t.Errorf("left: %+v", st.Origin)
	}
	if _, hit := f.reached(); !hit {
		return // the next request would be the one to fail
	}
	id := t.Name() + "-next"
	p.mustSend(t, s.request(t.Context(), http.MethodPost, id, getBody))
	if n := s.times(id); n != 1 {
		t.Errorf("the next request was processed %d times", n)
	}
}
