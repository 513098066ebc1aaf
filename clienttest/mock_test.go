package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

const api = "https://api.example.com"

// unavailable answers 503, and asks for a pause.
func unavailable(pause string) httpmock.Responder {
	return httpmock.NewStringResponder(503, "").HeaderSet(http.Header{"Retry-After": {pause}})
}

func TestRetriesOverAMockTakeNoTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, mock := clienttest.New(t)
		mock.RegisterResponder("GET", api+"/", unavailable("2").Then(unavailable("1")).Then(httpmock.NewStringResponder(200, "at last")))
		start := time.Now()
		if status, body, err := get(t.Context(), c.Client, api+"/"); status != 200 || body != "at last" || err != nil {
			t.Errorf("%d %q %v", status, body, err)
		}
		if n := mock.GetTotalCallCount(); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestRetriesOverAMockFollowThePolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			opts     []client.Option
			method   string
			deadline time.Duration
			calls    int
		}{
			"the default":                     {nil, "GET", time.Minute, 3},
			"more attempts":                   {[]client.Option{client.WithRetry(retry.Policy{MaxAttempts: 5})}, "GET", time.Minute, 5},
			"none":                            {[]client.Option{client.WithRetry(retry.Policy{MaxAttempts: 1})}, "GET", time.Minute, 1},
			"not of a POST":                   {nil, "POST", time.Minute, 1},
			"not if the deadline came sooner": {nil, "GET", time.Second, 1},
		} {
			c, mock := clienttest.New(t, tt.opts...)
			mock.RegisterResponder(tt.method, api+"/", unavailable("2"))
			ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
			req, err := http.NewRequestWithContext(ctx, tt.method, api+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			resp.Body.Close()
			cancel()
			if n := mock.GetTotalCallCount(); resp.StatusCode != 503 || n != tt.calls {
				t.Errorf("%s: status %d after %d calls, want 503 after %d", name, resp.StatusCode, n, tt.calls)
			}
		}
	})
}

func TestMocksOfParallelTestsStayApart(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			c, mock := clienttest.New(t)
			mock.RegisterResponder("GET", api+"/", httpmock.NewStringResponder(200, strconv.Itoa(i)))
			for range 20 {
				if _, body, err := get(t.Context(), c.Client, api+"/"); body != strconv.Itoa(i) || err != nil {
					t.Fatalf("got %q %v, the answer of another test", body, err)
				}
			}
			if n := mock.GetTotalCallCount(); n != 20 {
				t.Errorf("%d calls, want 20", n)
			}
		})
	}
}

func TestAnUnregisteredRequestFailsTheTestAndIsNotRetried(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*httpmock.MockTransport){
		"registered":      func(m *httpmock.MockTransport) {},
		"after Reset":     func(m *httpmock.MockTransport) { m.Reset() },
		"by the default":  func(m *httpmock.MockTransport) { m.RegisterNoResponder(httpmock.ConnectionFailure) },
		"nothing matches": func(m *httpmock.MockTransport) { m.RegisterNoResponder(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &tb{TB: t}
			f.run(func() {
				c, mock := clienttest.New(f)
				mock.RegisterResponder("GET", api+"/orders", httpmock.NewStringResponder(200, ""))
				mock.RegisterResponder("POST", api+"/orders", httpmock.NewStringResponder(201, ""))
				prepare(mock)
				_, _, err := get(t.Context(), c.Client, api+"/ordres?page=2")
				re, ok := errors.AsType[*retry.Error](err)
				if !errors.Is(err, httpmock.NoResponderFound) || !ok || re.Attempts != 1 {
					t.Errorf("error %v, want NoResponderFound after one attempt", err)
				}
				get(t.Context(), c.Client, api+"/ordres?page=2")
			})
			want := "\n\tGET " + api + "/orders\n\tPOST " + api + "/orders"
			if name == "after Reset" {
				want = " none"
			}
			got := f.take()
			if !strings.HasPrefix(got, "clienttest: GET "+api+"/ordres?page=2: ") || !strings.HasSuffix(got, "; registered are:"+want) {
				t.Errorf("the test failed with\n%s", got)
			}
			if n := strings.Count(got, "registered are"); n != 1 {
				t.Errorf("the test was told %d times", n)
			}
		})
	}
}

func TestANoResponderOfTheTestsOwnAnswers(t *testing.T) {
	t.Parallel()
	c, mock := clienttest.New(t)
	mock.RegisterNoResponder(httpmock.NewStringResponder(404, "no such thing"))
	if status, body, err := get(t.Context(), c.Client, api+"/any"); status != 404 || body != "no such thing" || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
}

func TestAResponderThatPanicsFailsTheTestAndIsNotRetried(t *testing.T) {
	t.Parallel()
	f := &tb{TB: t}
	f.run(func() {
		c, mock := clienttest.New(f)
		mock.RegisterResponder("GET", api+"/", func(*http.Request) (*http.Response, error) { panic("no such fixture") })
		_, _, err := get(t.Context(), c.Client, api+"/")
		if re, ok := errors.AsType[*retry.Error](err); !ok || re.Attempts != 1 {
			t.Errorf("error %v, want one attempt", err)
		}
	})
	if got := f.take(); !strings.HasPrefix(got, "clienttest: GET "+api+"/: panic in responder: ") || !strings.Contains(got, "no such fixture") {
		t.Errorf("the test failed with %q", got)
	}
}

func TestErrorsOfRespondersAreThoseOfADownstream(t *testing.T) {
	t.Parallel()
	c, mock := clienttest.New(t)
	cause := errors.New("connection reset by peer")
	mock.RegisterResponder("GET", api+"/", httpmock.NewErrorResponder(cause))
	if _, _, err := get(t.Context(), c.Client, api+"/"); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if n := mock.GetTotalCallCount(); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestAMockClosesRequestBodiesAndNamesTheRequest(t *testing.T) {
	t.Parallel()
	c, mock := clienttest.New(t)
	shared := &http.Response{StatusCode: 200, Body: http.NoBody}
	mock.RegisterResponder("POST", api+"/", func(*http.Request) (*http.Response, error) { return shared, nil })
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		_, err := w.Write([]byte("nobody reads this"))
		wrote <- err
	}()
	resp, err := c.Post(api+"/", "", r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing a body that nobody reads: %v", err)
	}
	if resp.Request == nil || resp.Request.URL.String() != api+"/" {
		t.Errorf("the response's Request is %v", resp.Request)
	}
	if shared.Request != nil {
		t.Error("the responder's own response was changed")
	}
}

func TestAMockedClientDialsNobody(t *testing.T) {
	t.Parallel()
	c, mock := clienttest.New(t, client.WithTransport(transport.Config{MaxConnsPerHost: 3}))
	mock.RegisterResponder("GET", api+"/", httpmock.NewStringResponder(200, ""))
	if err := c.Warm(t.Context(), "https://127.0.0.1:1", "no URL"); err != nil {
		t.Errorf("Warm: %v", err)
	}
	c.Thaw(t.Context())
	mustGet(t, c.Client, api+"/")
	if s := c.Stats(); s.Dials != 0 || s.Requests != 0 {
		t.Errorf("%+v", s)
	}
}

func TestFaultsOfAClientsOptionsFailTheTest(t *testing.T) {
	t.Parallel()
	f := &tb{TB: t}
	f.run(func() {
		clienttest.New(f, client.WithTimeout(-7), client.WithRetry(retry.Policy{MaxAttempts: -7}))
	})
	if got := f.take(); strings.Count(got, "-7") != 2 {
		t.Errorf("the test failed with %q, want both faults", got)
	}
}

func TestSwapPutsAMockUnderAClientAndRestoresIt(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	c := thaw(t, d)
	copied := *c.Client // as SDKs do
	mustGet(t, c.Client, d.URL)
	t.Run("swapped", func(t *testing.T) {
		mock := clienttest.Swap(t, c)
		mock.RegisterResponder("GET", d.URL+"/", httpmock.NewStringResponder(200, "the mock"))
		for _, c := range []*http.Client{c.Client, &copied} {
			if _, body, err := get(t.Context(), c, d.URL+"/"); body != "the mock" || err != nil {
				t.Errorf("got %q %v, want the mock's answer", body, err)
			}
		}
		f := &tb{TB: t}
		f.run(func() { clienttest.Swap(f, c) })
		if got := f.take(); !strings.HasPrefix(got, "clienttest: there is a mock under this client already") {
			t.Errorf("a second Swap failed with %q", got)
		}
		mustGet(t, c.Client, d.URL+"/")
	})
	d.AssertRequests(t, 1)
	mustGet(t, c.Client, d.URL+"/")
	d.AssertRequests(t, 2)
	d.AssertConnections(t, 1)
}

func TestSwapOfAClientWithAnotherTransportFails(t *testing.T) {
	t.Parallel()
	c, _ := clienttest.New(t)
	c.Client.Transport = http.DefaultTransport
	f := &tb{TB: t}
	f.run(func() { clienttest.Swap(f, c) })
	if got := f.take(); !strings.Contains(got, "is a *http.Transport") {
		t.Errorf("failed with %q", got)
	}
}

func TestSwapWhileRequestsRun(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	c := thaw(t, d)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// Until a responder is registered, a mock that is in place knows none.
				_, body, err := get(t.Context(), c.Client, d.URL+"/x")
				if !errors.Is(err, httpmock.NoResponderFound) && (err != nil || body != "GET /x\n" && body != "the mock") {
					t.Errorf("got %q %v", body, err)
					return
				}
			}
		})
	}
	calls := 0
	for range 50 {
		f := &tb{TB: t}
		f.run(func() {
			answered := make(chan struct{})
			once := sync.OnceFunc(func() { close(answered) })
			mock := clienttest.Swap(f, c)
			mock.RegisterNoResponder(func(*http.Request) (*http.Response, error) {
				once()
				return httpmock.NewStringResponse(200, "the mock"), nil
			})
			<-answered
			calls++
		})
	}
	close(done)
	wg.Wait()
	if calls != 50 {
		t.Errorf("the mock answered in %d swaps of 50", calls)
	}
}

func TestARequestThatOutlivesItsTestFailsNobody(t *testing.T) {
	t.Parallel()
	f := &tb{TB: t}
	arrived, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f.run(func() {
		c, mock := clienttest.New(f)
		mock.RegisterResponder("GET", api+"/", func(*http.Request) (*http.Response, error) {
			close(arrived)
			<-release
			return nil, httpmock.NoResponderFound
		})
		go func() {
			_, _, err := get(context.Background(), c.Client, api+"/")
			ended <- err
		}()
		<-arrived
	})
	close(release)
	if err := <-ended; !errors.Is(err, httpmock.NoResponderFound) {
		t.Errorf("error %v", err)
	}
	if got := f.take(); got != "" {
		t.Errorf("a test that had ended was failed: %s", got)
	}
}

// attempts is a tracer that remembers how the exchanges it was told of ended.
type attempts struct {
	mu  sync.Mutex
	all []string
}

func (*attempts) Start(ctx context.Context, _ tracing.Start) context.Context { return ctx }

func (a *attempts) End(_ context.Context, e tracing.Exchange) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, fmt.Sprint(e.Method, " ", e.URL, " attempt ", e.Attempt, " status ", e.Status))
}

func TestTracersAreToldOfEachAttemptOverAMock(t *testing.T) {
	t.Parallel()
	tracer := new(attempts)
	c, mock := clienttest.New(t, client.WithTracer(tracer))
	mock.RegisterResponder("GET", api+"/orders", unavailable("2").Then(httpmock.NewStringResponder(200, "at last")))
	mustGet(t, c.Client, api+"/orders")
	want := []string{"GET " + api + "/orders attempt 1 status 503", "GET " + api + "/orders attempt 2 status 200"}
	if !slices.Equal(tracer.all, want) {
		t.Errorf("the tracer was told of %q, want %q", tracer.all, want)
	}
}

func TestTheTimeoutOfAClientEndsAMockedRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, mock := clienttest.New(t, client.WithTimeout(3*time.Second))
		mock.RegisterResponder("GET", api+"/", httpmock.NewStringResponder(200, "").Delay(time.Hour))
		start := time.Now()
		_, _, err := get(t.Context(), c.Client, api+"/")
		if took := time.Since(start); !isTimeout(err) || took != 3*time.Second {
			t.Errorf("%v after %v, want a timeout after 3s", err, took)
		}
		synctest.Wait()
	})
}
