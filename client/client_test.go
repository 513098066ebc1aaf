package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/swap"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// roundTripper answers in the network's place and counts what is asked of it.
type roundTripper struct {
	mu       sync.Mutex
	requests int
	idle     int // calls of CloseIdleConnections
	closed   int // calls of Close
	err      error
}

func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.requests++
	if rt.err != nil {
		return nil, rt.err
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("hello")), Request: req}, nil
}

func (rt *roundTripper) CloseIdleConnections() {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.idle++
}

// closer is a roundTripper that can be closed.
type closer struct{ roundTripper }

func (rt *closer) Close() error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.closed++
	return rt.err
}

func newClient(t *testing.T, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// stack is what c's requests go through.
func stack(c *client.Client) http.RoundTripper { return swap.Of(c.Client.Transport).Stack() }

func hello(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(srv.Close)
	return srv
}

func get(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// resetDefault lets the test start without a default client, and the next test too. Such tests do not run in
// parallel.
func resetDefault(t *testing.T) {
	t.Helper()
	client.SetDefault(nil)
	t.Cleanup(func() {
		client.Default().CloseIdleConnections()
		client.SetDefault(nil)
	})
}

func TestDefaultIsMadeOnce(t *testing.T) {
	resetDefault(t)
	const n = 100
	got := make([]*client.Client, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			got[i] = client.Default()
		})
	}
	close(start)
	wg.Wait()
	for i, c := range got {
		if c == nil || c != got[0] {
			t.Fatalf("call %d of Default returned %p, call 0 %p", i, c, got[0])
		}
	}
}

func TestDefaultIsOnTheSharedTransport(t *testing.T) {
	resetDefault(t)
	srv := hello(t)
	c := client.Default()
	if _, err := get(c.Client, srv.URL); err != nil {
		t.Fatal(err)
	}
	if o := transport.Shared().Stats().Origins[srv.URL]; o.Requests != 1 {
		t.Errorf("the shared pool saw %d requests of the default client, want 1", o.Requests)
	}
	if c.Timeout != client.DefaultTimeout {
		t.Errorf("timeout %v, want %v", c.Timeout, client.DefaultTimeout)
	}
}

func TestDefaultWorks(t *testing.T) {
	resetDefault(t)
	srv := hello(t)
	if body, err := get(client.Default().Client, srv.URL); body != "hello" || err != nil {
		t.Errorf("got %q %v", body, err)
	}
}

func TestSetDefaultReplacesIt(t *testing.T) {
	resetDefault(t)
	before := client.Default()
	c := newClient(t, client.WithBase(&roundTripper{}))
	client.SetDefault(c)
	if got := client.Default(); got != c {
		t.Errorf("Default returns %p after SetDefault(%p)", got, c)
	}
	if before == c {
		t.Error("the former default became the new one")
	}
	client.SetDefault(nil)
	srv := hello(t)
	got := client.Default()
	if _, err := get(got.Client, srv.URL); err != nil {
		t.Fatal(err)
	}
	if o := transport.Shared().Stats().Origins[srv.URL]; got == c || got == before || o.Requests != 1 {
		t.Errorf("after SetDefault(nil), Default returns %p, want a new client on transport.Shared()", got)
	}
}

func TestSetDefaultBeforeDefaultMakesNoOther(t *testing.T) {
	resetDefault(t)
	c := newClient(t, client.WithBase(&roundTripper{}))
	client.SetDefault(c)
	if got := client.Default(); got != c {
		t.Errorf("Default returns %p, want %p", got, c)
	}
}

func TestDefaultIsNeverNilWhileItIsBeingReplaced(t *testing.T) {
	resetDefault(t)
	c := newClient(t, client.WithBase(&roundTripper{}))
	const n = 200000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range n {
				if i%2 == 0 {
					client.SetDefault(nil)
				} else {
					client.SetDefault(c)
				}
			}
		})
		wg.Go(func() {
			for range n {
				if client.Default() == nil {
					t.Error("Default returned nil")
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestCloseOfTheDefaultLeavesTheSharedPoolToOthers(t *testing.T) {
	resetDefault(t)
	srv := hello(t)
	c := client.Default()
	if _, err := get(c.Client, srv.URL); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if o := transport.Shared().Stats().Origins[srv.URL]; o.Open != 0 {
		t.Errorf("%d connections to %s open after Close", o.Open, srv.URL)
	}
	if body, err := get(&http.Client{Transport: transport.Shared()}, srv.URL); body != "hello" || err != nil {
		t.Errorf("the shared pool after Close of the default client: %q %v", body, err)
	}
	if body, err := get(c.Client, srv.URL); body != "hello" || err != nil {
		t.Errorf("the default client after its Close: %q %v", body, err)
	}
}

func TestClientsOfNewHavePoolsOfTheirOwn(t *testing.T) {
	t.Parallel()
	srv := hello(t)
	a, b := newClient(t), newClient(t)
	for range 3 {
		if _, err := get(a.Client, srv.URL); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.Stats().Requests; n != 3 {
		t.Errorf("Stats of the client that was used: %d requests, want 3", n)
	}
	if n := b.Stats().Requests; n != 0 {
		t.Errorf("Stats of the other client: %d requests, want 0", n)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if body, err := get(b.Client, srv.URL); body != "hello" || err != nil {
		t.Errorf("a client after another one's Close: %q %v", body, err)
	}
}

func TestARequestAfterCloseFails(t *testing.T) {
	t.Parallel()
	srv := hello(t)
	c := newClient(t)
	if _, err := get(c.Client, srv.URL); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := get(c.Client, srv.URL)
	var ue *url.Error
	if !errors.Is(err, transport.ErrClosed) || !errors.As(err, &ue) {
		t.Errorf("error %v, want a *url.Error that wraps transport.ErrClosed", err)
	}
}

func TestCloseFailsRequestsUnderWay(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	c := newClient(t)
	failed := make(chan error)
	go func() {
		_, err := get(c.Client, srv.URL)
		failed <- err
	}()
	<-arrived
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, transport.ErrClosed) {
		t.Errorf("the request under way ended with %v, want ErrClosed", err)
	}
}

func TestWithBaseIsThePoolsPlace(t *testing.T) {
	t.Parallel()
	base := &roundTripper{}
	c := newClient(t, client.WithBase(base))
	if body, err := get(c.Client, "https://api.test"); body != "hello" || err != nil {
		t.Errorf("got %q %v", body, err)
	}
	c.CloseIdleConnections()
	if base.requests != 1 || base.idle != 1 {
		t.Errorf("the base saw %d requests and %d calls of CloseIdleConnections, want 1 and 1", base.requests, base.idle)
	}
	if err := c.Warm(t.Context(), "https://api.test"); err != nil {
		t.Errorf("Warm: %v", err)
	}
	c.Thaw(t.Context())
	if s := c.Stats(); s.Requests != 0 || s.Origins != nil {
		t.Errorf("Stats: %+v, want nothing", s)
	}
	if base.requests != 1 {
		t.Errorf("Warm or Thaw made %d requests", base.requests-1)
	}
}

func TestRetriesAreOnUnlessTheyAreTurnedOff(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such luck")
	for name, tt := range map[string]struct {
		opts     []client.Option
		requests int
	}{
		"Default": {nil, 3},
		"More":    {[]client.Option{client.WithRetry(retry.Policy{MaxAttempts: 5})}, 5},
		"Once":    {[]client.Option{client.WithRetry(retry.Policy{MaxAttempts: 1})}, 1},
		"Off":     {[]client.Option{client.WithRetry(retry.Policy{MaxAttempts: retry.Disabled})}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			base := &roundTripper{err: cause}
			c := newClient(t, append(tt.opts, client.WithBase(base))...)
			_, err := get(c.Client, "https://api.test")
			if !errors.Is(err, cause) || base.requests != tt.requests {
				t.Errorf("%s: %d requests, error %v; want %d", name, base.requests, err, tt.requests)
			}
			if bare := stack(c) == http.RoundTripper(base); bare != (tt.requests == 1) {
				t.Errorf("%s: the base is used without a layer: %t", name, bare)
			}
		})
	}
}

func TestWithoutRetriesTheLayerStaysIfItHasSomethingToDo(t *testing.T) {
	t.Parallel()
	for _, p := range []retry.Policy{
		{MaxAttempts: 1, AttemptTimeout: time.Second},
		{MaxAttempts: 1, IdempotencyKeyHosts: []string{"api.test"}},
	} {
		base := &roundTripper{}
		if c := newClient(t, client.WithBase(base), client.WithRetry(p)); stack(c) == http.RoundTripper(base) {
			t.Errorf("%+v has no effect", p)
		}
	}
}

func TestTheDefaultClientRetries(t *testing.T) {
	resetDefault(t)
	var requests atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "hello")
	}))
	t.Cleanup(srv.Close)
	if body, err := get(client.Default().Client, srv.URL); body != "hello" || err != nil || requests.Load() != 2 {
		t.Errorf("got %q %v after %d requests, want the second one's answer", body, err, requests.Load())
	}
}

// For a RoundTripper that it does not know, http.Client starts a goroutine for each request that has a time limit.
func TestTheTimeoutOfARequestTakesNoGoroutine(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- true
		<-leave
	}))
	t.Cleanup(srv.Close)
	c := newClient(t)
	done := make(chan error)
	go func() {
		_, err := get(c.Client, srv.URL)
		done <- err
	}()
	<-entered
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if strings.Contains(string(stacks), "setRequestCancel") {
		t.Errorf("a goroutine waits for the timeout of the request:\n%s", stacks)
	}
}

func TestErrorsOfTheBaseReachTheCaller(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such luck")
	c := newClient(t, client.WithBase(&roundTripper{err: cause}))
	_, err := c.Post("https://api.test", "text/plain", strings.NewReader("x"))
	var re *retry.Error
	if !errors.Is(err, cause) || !errors.As(err, &re) || re.Attempts != 1 {
		t.Errorf("error %v does not wrap its cause, or does not tell that it was sent once", err)
	}
}

func TestAPoolAsTheBaseIsTheClientsPool(t *testing.T) {
	t.Parallel()
	srv := hello(t)
	pool, err := transport.New(transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, client.WithBase(pool))
	if err := c.Warm(t.Context(), srv.URL); err != nil {
		t.Fatal(err)
	}
	if body, err := get(c.Client, srv.URL); body != "hello" || err != nil {
		t.Errorf("got %q %v", body, err)
	}
	if s := c.Stats(); s.Dials != 1 || s.Requests != 1 {
		t.Errorf("%d dials, %d requests, want 1 and 1", s.Dials, s.Requests)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := get(&http.Client{Transport: pool}, srv.URL); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("the pool after Close of its client: %v, want ErrClosed", err)
	}
}

func TestCloseLeavesTheSharedPoolToOthersAsABaseToo(t *testing.T) {
	srv := hello(t)
	c, err := client.New(client.WithBase(transport.Shared()))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if body, err := get(&http.Client{Transport: transport.Shared()}, srv.URL); body != "hello" || err != nil {
		t.Errorf("the shared pool after Close: %q %v", body, err)
	}
	transport.Shared().CloseIdleConnections()
}

func TestCloseClosesABaseThatCanBeClosed(t *testing.T) {
	t.Parallel()
	base := &closer{}
	base.err = errors.New("half closed")
	c, err := client.New(client.WithBase(base))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); !errors.Is(err, base.err) || base.closed != 1 {
		t.Errorf("Close returned %v and called the base's Close %d times", err, base.closed)
	}

	if err := newClient(t, client.WithBase(&roundTripper{})).Close(); err != nil {
		t.Errorf("Close on a base that cannot be closed: %v", err)
	}
}

// What follows are libraries that take a client in their own ways.

func sdkWithClient(c *http.Client) (string, error) { return get(c, "https://api.test") }

func sdkWithTransport(rt http.RoundTripper) (string, error) {
	return get(&http.Client{Transport: rt}, "https://api.test")
}

// doer is what the AWS SDK for Go asks for, and Stripe's with another name.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

func sdkWithDoer(d doer) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), "GET", "https://api.test", nil)
	if err != nil {
		return "", err
	}
	resp, err := d.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func sdkThatCopiesTheClient(c *http.Client) (string, error) {
	own := *c
	own.Jar, _ = cookiejar.New(nil)
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return get(&own, "https://api.test")
}

func TestClientGoesWhereverOneIsTaken(t *testing.T) {
	t.Parallel()
	base := &roundTripper{}
	c := newClient(t, client.WithBase(base))
	for name, call := range map[string]func() (string, error){
		"*http.Client":      func() (string, error) { return sdkWithClient(c.Client) },
		"http.RoundTripper": func() (string, error) { return sdkWithTransport(c.Client.Transport) },
		"Do, embedded":      func() (string, error) { return sdkWithDoer(c) },
		"Do, *http.Client":  func() (string, error) { return sdkWithDoer(c.Client) },
		"a copy":            func() (string, error) { return sdkThatCopiesTheClient(c.Client) },
		"Get, promoted": func() (string, error) {
			resp, err := c.Get("https://api.test")
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return string(body), err
		},
	} {
		if body, err := call(); body != "hello" || err != nil {
			t.Errorf("%s: got %q %v", name, body, err)
		}
	}
	if base.requests != 6 {
		t.Errorf("the base saw %d requests, want 6: the others went around it", base.requests)
	}
}

func TestClientIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	srv := hello(t)
	c := newClient(t, client.WithTransport(transport.Config{MaxConnsPerHost: 4}))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if body, err := get(c.Client, srv.URL); body != "hello" || err != nil {
					t.Errorf("got %q %v", body, err)
				}
				c.Thaw(t.Context())
				c.Stats()
				if err := c.Warm(t.Context(), srv.URL); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := c.Stats()
	if s.Requests != 160 || s.InUse != 0 || s.Waiting != 0 || s.Open > 4 {
		t.Errorf("afterwards: %d requests, %d in use, %d waiting, %d open; want 160, 0, 0, at most 4", s.Requests, s.InUse, s.Waiting, s.Open)
	}
}
