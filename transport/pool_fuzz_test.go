package transport

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzPool drives a pool with the operations that its input names, over HTTP/1.1 and HTTP/2, in fake time. After each one the
// books must hold, and at the end nothing may be left.
func FuzzPool(f *testing.F) {
	f.Add([]byte{opRequest, 0, opRequest, 1, opPass, 2, opRequest, 0})
	f.Add([]byte{opRequest, 8, opRequest, 9, opCancel, 0, opPass, 3, opFIN, 0, opRequest, 0, opThaw, 0})
	f.Add([]byte{opRequest, 0, opPass, 4, opDeaf, 0, opRequest, 1, opRequest, 0, opPass, 3, opRequest, 2})
	f.Add([]byte{opWarm, 2, opJump, 1, opRequest, 1, opReset, 0, opDelay, 3, opRequest, 4, opRequest, 5, opCancel, 1, opPass, 3})
	f.Add([]byte{opHold, 0, opHold, 1, opHold, 2, opHold, 3, opHold, 4, opRequest, 0, opLetGo, 0, opLetGo, 1, opCloseIdle, 0, opLetGo, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		ops = ops[:min(len(ops), 80)]
		cfg := Config{
			MaxConnsPerHost: 3, MaxConns: 4, MaxIdleConnsPerHost: 2, MaxIdleConns: 3,
			ResponseHeaderTimeout: 20 * time.Second, AcquireTimeout: 30 * time.Second,
		}
		bubble(t, cfg, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
			r := &poolRun{p: p, s: s, clock: new(shiftedClock), h2: s.h2}
			p.clock = r.clock
			for i := 0; i+1 < len(ops); i += 2 {
				what := r.do(ops[i]%opCount, int(ops[i+1]))
				synctest.Wait()
				if err := check(p); err != nil {
					t.Errorf("operation %d, %s: %v\n%s", i/2, what, err, describe(p))
					break
				}
			}
			r.end(t)
		})
	})
}

// The operations. Each has an argument.
const (
	opRequest   = iota
	opHold      // a request whose body is kept
	opLetGo     // of such a body: closed, or read to its end
	opCancel    // a request under way
	opPass      // time passes
	opJump      // the clocks jump
	opFIN       // the servers close their connections
	opDeaf      // the servers hear nothing any more on them
	opDelay     // of dials from now on
	opThaw      //
	opReset     //
	opCloseIdle //
	opWarm      //
	opCount
)

// poolRun is one run of FuzzPool.
type poolRun struct {
	p     *Transport
	s     *pipes
	clock *shiftedClock
	h2    bool
	n     int
	wg    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	cancels []func()   // of the requests under way
	held    []heldBody
	faults  []string
}

var passes = []time.Duration{time.Millisecond, 60 * time.Millisecond, 900 * time.Millisecond, 15 * time.Second, 3 * time.Minute, time.Hour}

func (r *poolRun) do(op byte, arg int) string {
	host := []string{"a", "b", "c"}[arg%3]
	switch op {
	case opRequest, opHold:
		method := []string{"GET", "POST", "PUT"}[arg/3%3]
		do := []string{"", "slow 50ms", "drip 50ms", "slow 25s"}[arg/9%4]
		r.request(method, host, do, op == opHold)
		return method + " " + host + " " + do
	case opLetGo:
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.held) == 0 {
			return "nothing"
		}
		i := arg / 2 % len(r.held)
		h := r.held[i]
		r.held = append(r.held[:i], r.held[i+1:]...)
		r.wg.Go(func() {
			if arg%2 == 0 {
				h.resp.Body.Close()
			} else {
				r.note(h.req, readOwn(h.req, h.resp))
			}
		})
		return "body let go"
	case opCancel:
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.cancels) > 0 {
			r.cancels[arg%len(r.cancels)]()
		}
		return "cancel"
	case opPass:
		d := passes[arg%len(passes)]
		time.Sleep(d)
		return "pass " + d.String()
	case opJump:
		j := jumps[arg%len(jumps)]
		r.clock.freeze(j.wall, j.mono)
		return fmt.Sprint("jump ", j)
	case opFIN:
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		for _, c := range r.s.conns {
			c.Close()
		}
		return "FIN"
	case opDeaf:
		r.s.deafen()
		return "deaf"
	case opDelay:
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		r.s.delay = []time.Duration{0, time.Millisecond, 2 * time.Second, 7 * time.Second}[arg%4]
		return "delay " + r.s.delay.String()
	case opThaw:
		r.p.Thaw(r.context(time.Second))
		return "thaw"
	case opReset:
		r.p.Reset()
		return "reset"
	case opCloseIdle:
		r.p.CloseIdleConnections()
		return "idle closed"
	default:
		url := "http://" + host + ".test"
		r.p.Warm(r.context(time.Second), url, url)
		return "warm " + host
	}
}

// context returns a context that ends by itself.
func (r *poolRun) context(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancels = append(r.cancels, cancel)
	return ctx
}

func (r *poolRun) request(method, host, do string, hold bool) {
	r.n++
	id := fmt.Sprintf("%s-%d", method, r.n)
	body := noBody
	if method != "GET" {
		body = getBody
	}
	req := newRequest(r.context(time.Minute), method, "http://"+host+".test/", id, body)
	req.Header.Set("X-Do", do)
	r.wg.Go(func() {
		resp, err := r.p.RoundTrip(req)
		switch {
		case err != nil:
			r.note(req, nil)
		case hold:
			r.mu.Lock()
			r.held = append(r.held, heldBody{req, resp})
			r.mu.Unlock()
		default:
			r.note(req, readOwn(req, resp))
		}
	})
}

// note keeps what must not happen: an answer that is another's.
func (r *poolRun) note(_ *http.Request, err error) {
	if err != nil && strings.HasPrefix(err.Error(), "request ") {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults = append(r.faults, err.Error())
	}
}

// end lets all requests end, and looks what is left.
func (r *poolRun) end(t *testing.T) {
	r.mu.Lock()
	held := r.held
	r.held = nil
	for _, cancel := range r.cancels {
		cancel()
	}
	r.mu.Unlock()
	for _, h := range held {
		h.resp.Body.Close()
	}
	r.wg.Wait()
	for _, h := range r.held { // that came meanwhile
		h.resp.Body.Close()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if err := check(r.p); err != nil {
		t.Error(err)
	}
	if st := r.p.Stats(); st.InUse != 0 || st.Streams != 0 || st.Waiting != 0 || st.Dialing != 0 {
		t.Errorf("left: %+v\n%s", st.Origin, describe(r.p))
	}
	for _, fault := range r.faults {
		t.Error(fault)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for id, n := range r.s.seen {
		if n > 1 && strings.HasPrefix(id, "POST") {
			t.Errorf("%s was processed %d times", id, n)
		}
	}
}
