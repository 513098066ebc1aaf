package lambdahandler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/metrics"
	"github.com/thawhttp/thaw/transport"
)

func TestTheContextEndsAheadOfTheDeadline(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		opts []lambdahandler.Option
		left time.Duration // for the invocation
		want time.Duration // for the handler
	}{
		{"by default", nil, 3 * time.Second, 3*time.Second - lambdahandler.DefaultDeadlineMargin},
		{"zero is the default", []lambdahandler.Option{lambdahandler.WithDeadlineMargin(0)}, 3 * time.Second, 2900 * time.Millisecond},
		{"with a margin", []lambdahandler.Option{lambdahandler.WithDeadlineMargin(time.Second)}, 3 * time.Second, 2 * time.Second},
		{"by half at most", nil, 100 * time.Millisecond, 50 * time.Millisecond},
		{"not at all", []lambdahandler.Option{lambdahandler.WithDeadlineMargin(lambdahandler.Disabled)}, 3 * time.Second, 3 * time.Second},
		{"too late", nil, -time.Second, -time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, err := client.New()
				if err != nil {
					t.Fatal(err)
				}
				defer api.Close()
				ctx, cancel := context.WithTimeout(t.Context(), c.left)
				defer cancel()
				h := lambdahandler.New(api, func(ctx context.Context) (time.Duration, error) {
					deadline, _ := ctx.Deadline()
					return time.Until(deadline), nil
				}, c.opts...)
				b, err := h.Invoke(ctx, []byte("{}"))
				if got := string(b); err != nil || got != fmt.Sprint(int64(c.want)) {
					t.Errorf("the handler has %s ns, %v; want %v", got, err, c.want)
				}
			})
		})
	}
}

func TestTheContextEndsWithTheInvocation(t *testing.T) {
	t.Parallel()
	var kept context.Context
	h := lambdahandler.New(newClient(t, transport.Config{}), func(ctx context.Context) error {
		kept = ctx
		return ctx.Err()
	})
	mustInvoke(t, h, "{}")
	if kept.Err() == nil {
		t.Error("the context of the handler has not ended")
	}
}

func TestAnInvocationDropsConnectionsThatDied(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	if err := get(t.Context(), c, srv.URL); err != nil {
		t.Fatal(err)
	}
	srv.CloseClientConnections()
	mustInvoke(t, lambdahandler.New(c, func() {}), "{}")
	eventually(t, "the dead connection is dropped", func() bool { return c.Stats().Open == 0 })
}

// silence is a connection that can be made to swallow what is written, and says so.
type silence struct {
	net.Conn
	on        *atomic.Bool
	swallowed chan<- struct{}
}

func (s silence) Write(p []byte) (int, error) {
	if !s.on.Load() {
		return s.Conn.Write(p)
	}
	select {
	case s.swallowed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestTheHandlerDoesNotWaitForThaw(t *testing.T) {
	t.Parallel()
	hole := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	hole.EnableHTTP2 = true
	hole.StartTLS()
	defer hole.Close()
	var mute atomic.Bool
	cfg := transport.Config{VerifyAfter: 1, VerifyTimeout: time.Minute, TLS: hole.Client().Transport.(*http.Transport).TLSClientConfig}
	pinged := make(chan struct{}, 1)
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return silence{nc, &mute, pinged}, err
	}
	c := newClient(t, cfg)
	if err := get(t.Context(), c, hole.URL); err != nil {
		t.Fatal(err)
	}
	mute.Store(true)
	h := lambdahandler.New(c, func() {
		<-pinged // Thaw waits for the answer now
	})
	mustInvoke(t, h, "{}")
	if s := c.Stats(); s.Verified != 0 || s.VerifyFailed != 0 || s.Open != 1 {
		t.Errorf("%d connections verified, %d not, %d open; want the PING to be under way", s.Verified, s.VerifyFailed, s.Open)
	}
}

// stackOf is what a stack must name: the function that made the request.
const stackOf = "lambdahandler_test.TestBodiesLeftOpenAreClosedAndWarnedOf"

func TestBodiesLeftOpenAreClosedAndWarnedOf(t *testing.T) {
	t.Parallel()
	for name, stacks := range map[string]bool{"with stacks": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := downstream(t)
			c := newClient(t, transport.Config{LeakStacks: stacks, DrainTime: time.Minute})
			var l logs
			var kept []*http.Response // or they might be garbage collected before the invocation ends
			h := lambdahandler.New(c, func(ctx context.Context) error {
				for range 2 {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
					if err != nil {
						return err
					}
					resp, err := c.Do(req) //nolint:bodyclose // which is what is tested
					if err != nil {
						return err
					}
					kept = append(kept, resp)
				}
				return nil
			}, lambdahandler.WithLogger(l.logger()))
			const n = 100
			for range n {
				mustInvoke(t, h, "{}")
			}
			for _, resp := range kept {
				if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
					t.Fatal("a body can be read after its invocation")
				}
			}
			if s := c.Stats(); s.Dials != 2 || s.InUse != 0 || s.Reused != 2*n-2 {
				t.Errorf("%d dials, %d in use, %d reused; want 2, 0, %d", s.Dials, s.InUse, s.Reused, 2*n-2)
			}
			want := n
			if stacks {
				want = 2 * n // one for each
			}
			lines := l.lines()
			for _, line := range lines {
				if !strings.Contains(line, "left response bodies open") || !strings.Contains(line, "origin="+srv.URL) || strings.Contains(line, stackOf) != stacks {
					t.Fatalf("logged %q", line)
				}
			}
			if len(lines) != want {
				t.Errorf("%d lines, want %d", len(lines), want)
			}
		})
	}
}

// A hedged request is not left open: it ends with the context, and has a moment to do so.
func TestRequestsThatEndWithTheirContextAreNotWarnedOf(t *testing.T) {
	t.Parallel()
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			came := make(chan struct{})
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					came <- struct{}{}
					<-r.Context().Done()
				}
			}))
			srv.EnableHTTP2 = h2
			srv.StartTLS()
			defer srv.Close()
			c := newClient(t, transport.Config{TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
			var l logs
			var slow sync.WaitGroup
			h := lambdahandler.New(c, func(ctx context.Context) error {
				slow.Go(func() { _ = get(ctx, c, srv.URL+"/slow") })
				<-came
				return get(ctx, c, srv.URL)
			}, lambdahandler.WithLogger(l.logger()))
			for range 50 {
				mustInvoke(t, h, "{}")
			}
			slow.Wait()
			if lines := l.lines(); lines[0] != "" {
				t.Errorf("%d warnings, the first: %s", len(lines), lines[0])
			}
		})
	}
}

func TestConnectionsOfBodiesThatNobodyCanCloseComeBack(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{MaxConnsPerHost: 4, AcquireTimeout: 5 * time.Second})
	var l logs
	h := lambdahandler.New(c, func() error {
		_, err := c.Get(srv.URL) //nolint:bodyclose,noctx // which is what is tested
		return err
	}, lambdahandler.WithLogger(l.logger()))
	const n = 20
	for i := range n {
		if _, err := h.Invoke(t.Context(), []byte("{}")); err != nil {
			t.Fatalf("invocation %d: %v", i, err)
		}
	}
	eventually(t, "all connections are idle", func() bool { return c.Stats().InUse == 0 })
	if lines := l.lines(); len(lines) == 0 || !strings.Contains(lines[0], "origin="+srv.URL) {
		t.Errorf("logged %q, want a warning", lines)
	}
}

func TestNothingOfThePoolIsLostToHandlersThatMisbehave(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	for name, misbehave := range map[string]func(context.Context, *client.Client) error{
		"panics": func(ctx context.Context, c *client.Client) error {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
			c.Do(req) //nolint:bodyclose // it is the end
			panic("cannot go on")
		},
		"outlives its deadline": func(ctx context.Context, c *client.Client) error {
			<-ctx.Done()
			return get(context.WithoutCancel(ctx), c, srv.URL)
		},
		"is cut off by its deadline": func(ctx context.Context, c *client.Client) error {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
			resp, err := c.Do(req)
			if err != nil {
				return err
			}
			<-ctx.Done()
			return resp.Body.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, transport.Config{MaxConnsPerHost: 4})
			var l logs
			h := lambdahandler.New(c, func(ctx context.Context) error { return misbehave(ctx, c) }, lambdahandler.WithLogger(l.logger()))
			for range 100 {
				func() {
					defer func() { _ = recover() }()
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					defer cancel()
					_, _ = h.Invoke(ctx, []byte("{}"))
				}()
			}
			eventually(t, "nothing is in use", func() bool { s := c.Stats(); return s.InUse == 0 && s.Waiting == 0 && s.Dialing == 0 })
			before := c.Stats()
			good := lambdahandler.New(c, func(ctx context.Context) error { return get(ctx, c, srv.URL) })
			for range 10 {
				mustInvoke(t, good, "{}")
			}
			if s := c.Stats(); s.Dials-before.Dials > 1 || s.Reused-before.Reused < 9 || s.Open > 4 {
				t.Errorf("then 10 requests made %d connections and used %d again, %d are open", s.Dials-before.Dials, s.Reused-before.Reused, s.Open)
			}
		})
	}
}

func TestEachInvocationWritesItsLineOfMetrics(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	var out bytes.Buffer
	m, err := metrics.EMF(&out)
	if err != nil {
		t.Fatal(err)
	}
	work := true
	h := lambdahandler.New(c, func(ctx context.Context) error {
		if !work {
			return nil
		}
		return get(ctx, c, srv.URL)
	}, lambdahandler.WithMetrics(m))
	for i := range 3 {
		out.Reset()
		work = i != 1
		mustInvoke(t, h, "{}")
		if !work {
			if out.Len() != 0 {
				t.Errorf("an invocation that did nothing wrote %s", &out)
			}
			continue
		}
		var line struct{ Requests, Dials float64 }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Requests != 1 {
			t.Errorf("invocation %d wrote %s, %v", i, &out, err)
		}
	}
}

func TestAWriterOfMetricsThatFailsFailsNoInvocation(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	m, err := metrics.EMF(failing{})
	if err != nil {
		t.Fatal(err)
	}
	var l logs
	h := lambdahandler.New(c, func(ctx context.Context) error { return get(ctx, c, srv.URL) }, lambdahandler.WithMetrics(m), lambdahandler.WithLogger(l.logger()))
	mustInvoke(t, h, "{}")
	if line := l.lines()[0]; !strings.Contains(line, "metrics") || !strings.Contains(line, "disk full") {
		t.Errorf("logged %q", line)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }

// The connections of a snapshot are dead in the environments that are restored from it, or shared by all of them.
func TestConnectionsOfASnapshotAreNeverUsed(t *testing.T) {
	t.Setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	if err := get(t.Context(), c, srv.URL); err != nil { // before the snapshot
		t.Fatal(err)
	}
	if err := lambdahandler.Init(c, time.Second, srv.URL); err != nil {
		t.Fatal(err)
	}
	h := lambdahandler.New(c, func(ctx context.Context) error { return get(ctx, c, srv.URL) })
	for range 3 {
		mustInvoke(t, h, "{}")
	}
	if s := c.Stats(); s.Dials != 2 || s.Closed.Reset != 1 || s.Reused != 2 {
		t.Errorf("%d dials, %d closed by Reset, %d reused; want 2, 1, 2: one ahead of the snapshot, one for all invocations", s.Dials, s.Closed.Reset, s.Reused)
	}
}

func TestInvocationsAtOnceAreToldApart(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	var l logs
	var left *http.Response // or it might be garbage collected before the invocation ends
	var all sync.WaitGroup
	const n = 8
	all.Add(n)
	h := lambdahandler.New(c, func(ctx context.Context, leave bool) error {
		defer all.Wait() // all run at once
		defer all.Done()
		if !leave {
			return get(ctx, c, srv.URL)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		if err != nil {
			return err
		}
		left, err = c.Do(req) //nolint:bodyclose // which is what is tested
		return err
	}, lambdahandler.WithLogger(l.logger()))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := h.Invoke(t.Context(), []byte(fmt.Sprint(i == 3))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if lines := l.lines(); len(lines) != 1 || !strings.Contains(lines[0], "bodies=1") {
		t.Errorf("logged %q, want one warning of one body", lines)
	}
	if s := c.Stats(); s.InUse != 0 {
		t.Errorf("%d in use", s.InUse)
	}
	if _, err := left.Body.Read(make([]byte, 1)); err == nil {
		t.Error("the body can be read after its invocation")
	}
}
