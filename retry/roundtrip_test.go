package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
)

func TestTheLastAnswerIsTheCallersAndEarlierOnesAreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{text(503, "first"), text(502, "second"), text(504, "third")}}
		resp, err := over(t, n, retry.Policy{}).RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range n.bodies {
			last := i == len(n.bodies)-1
			if b.closed() == last || b.ended == last {
				t.Errorf("body %d: closed %t, read to its end %t", i+1, b.closed(), b.ended)
			}
		}
		if got := content(t, resp); resp.StatusCode != 504 || got != "third" || n.count() != 3 {
			t.Errorf("after %d attempts the caller got %d %q, want the third answer", n.count(), resp.StatusCode, got)
		}
		if n.idle != 0 {
			t.Errorf("the idle connections were closed %d times", n.idle)
		}
	})
}

func TestASuccessAfterFailuresIsTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{failure(errBroken), text(503, "not yet"), text(200, "done")}}
		req := request(t, "PUT", strings.NewReader("a pie"))
		resp, err := over(t, n, retry.Policy{}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, resp); got != "done" || resp.Request != req {
			t.Errorf("got %q, and the caller's request: %t", got, resp.Request == req)
		}
		if !reflect.DeepEqual(n.sent, []string{"a pie", "a pie", "a pie"}) {
			t.Errorf("the attempts sent %q", n.sent)
		}
	})
}

// TestEveryAttemptIsTheSame has what the inner http.Client of go-retryablehttp would change, refuse or act on.
func TestEveryAttemptIsTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{status(503)}}
		req := request(t, "PUT", strings.NewReader("body"))
		req.URL.User = url.UserPassword("ada", "secret")
		req.RequestURI = "/orders"
		req.Host = "other.example.com"
		req.Close = true
		req.TransferEncoding = []string{"chunked"}
		req.Trailer = http.Header{"X-Sum": nil}
		req.Header["x-lower"] = []string{"1"}
		want := *req
		want.Header = req.Header.Clone()
		resp, err := over(t, n, retry.Policy{}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if len(n.requests) != 3 {
			t.Fatalf("%d attempts, want 3", len(n.requests))
		}
		v := reflect.ValueOf(&want).Elem()
		for i, got := range n.requests {
			g := reflect.ValueOf(got).Elem()
			for j := range v.NumField() {
				f := v.Type().Field(j)
				if !f.IsExported() || f.Name == "Body" || f.Type.Kind() == reflect.Func {
					continue
				}
				if !reflect.DeepEqual(g.Field(j).Interface(), v.Field(j).Interface()) {
					t.Errorf("attempt %d has %s %v, want %v", i+1, f.Name, g.Field(j), v.Field(j))
				}
			}
			if got.Context() != req.Context() {
				t.Errorf("attempt %d has another context", i+1)
			}
		}
	})
}

func TestTheAnswerAndTheErrorAreNotTouched(t *testing.T) {
	t.Parallel()
	// An inner http.Client would fail for a Location that is no URL, and make a body for one that is nil.
	for _, first := range []reply{text(200, "ok"), failure(errBroken)} {
		synctest.Test(t, func(t *testing.T) {
			want := &http.Response{StatusCode: 302, Header: http.Header{"Location": {"http://[::"}}}
			n := &next{replies: []reply{first, func(*http.Request) (*http.Response, error) { return want, nil }}}
			p := retry.Policy{Decide: func(a retry.Attempt) retry.Decision {
				if a.Number == 1 {
					return retry.Retry
				}
				return retry.Stop
			}}
			if got, err := over(t, n, p).RoundTrip(request(t, "GET", nil)); got != want || err != nil {
				t.Errorf("got %v %v, want the response itself", got, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{failure(errBroken)}}
		_, err := over(t, n, retry.Policy{}).RoundTrip(request(t, "GET", nil))
		var ue *url.Error
		var re *retry.Error
		if errors.As(err, &ue) || !errors.As(err, &re) || !errors.Is(re.Err, errBroken) || re.Attempts != 3 {
			t.Errorf("error %#v, want a *retry.Error around the cause, and nothing between", err)
		}
	})
}

func TestTheContextsDeadlineLeavesTimeForAnotherAttempt(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name     string
		takes    []time.Duration // each attempt
		deadline time.Duration
		attempts int
	}{
		// A wait is 100 ms. Another attempt is expected to take as long as the quickest so far, but no more than a second.
		{"just not enough", []time.Duration{200 * ms}, 500 * ms, 1},
		{"just enough", []time.Duration{200 * ms}, 501 * ms, 2},
		{"the quickest, not the last", []time.Duration{10 * ms, 300 * ms, 0}, 520 * ms, 2},
		{"and nothing above it", []time.Duration{10 * ms, 300 * ms, 0}, 521 * ms, 3},
		{"a second is the most", []time.Duration{3000 * ms, 1000 * ms}, 4100 * ms, 1},
		{"that is expected", []time.Duration{3000 * ms, 1000 * ms}, 4101 * ms, 2},
		{"no time to wait", []time.Duration{0}, 100 * ms, 1},
		{"time to wait", []time.Duration{0}, 101 * ms, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := new(next)
				for _, d := range tt.takes {
					n.replies = append(n.replies, after(d, status(503)))
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				p := steady(100 * ms)
				p.MaxAttempts = 5
				resp, err := over(t, n, p).RoundTrip(request(t, "GET", nil).WithContext(ctx))
				if n.count() != tt.attempts {
					t.Errorf("%d attempts, want %d", n.count(), tt.attempts)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := content(t, resp); got != "Service Unavailable" {
					t.Errorf("the caller got %q", got)
				}
			})
		})
	}
}

func TestWithTooLittleTimeForRetryAfterTheCallerHasTheAnswerAtOnce(t *testing.T) {
	t.Parallel()
	const left = 700 * time.Millisecond
	for name, timeout := range map[string]time.Duration{"context": time.Minute, "Timeout of the client": left} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &next{replies: []reply{status(503, "Retry-After", "3")}}
				c, err := client.New(client.WithBase(n), client.WithTimeout(timeout))
				if err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if timeout > left {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, left)
					defer cancel()
				}
				began := time.Now()
				resp, err := c.Do(request(t, "GET", nil).WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != 0 || n.count() != 1 {
					t.Errorf("the answer came after %v and %d attempts, want at once", took, n.count())
				}
				if got := content(t, resp); resp.StatusCode != 503 || got != "Service Unavailable" {
					t.Errorf("the caller got %d %q", resp.StatusCode, got)
				}
			})
		})
	}
}

func TestGivingUpEndsAWaitAtOnce(t *testing.T) {
	t.Parallel()
	cause := errors.New("the user left")
	for name, tt := range map[string]struct {
		first reply
		give  func(req *http.Request) (*http.Request, func())
		want  []error
		says  string
	}{
		"context": {failure(errBroken), func(req *http.Request) (*http.Request, func()) {
			ctx, cancel := context.WithCancel(req.Context())
			return req.WithContext(ctx), cancel
		}, []error{context.Canceled, errBroken}, "context canceled while waiting to try again after: connection broken"},
		"context with a cause": {status(503), func(req *http.Request) (*http.Request, func()) {
			ctx, cancel := context.WithCancelCause(req.Context())
			return req.WithContext(ctx), func() { cancel(cause) }
		}, []error{cause}, "the user left while waiting to try again after status 503"},
		"Request.Cancel": {failure(errBroken), func(req *http.Request) (*http.Request, func()) {
			ch := make(chan struct{})
			req.Cancel = ch //nolint:staticcheck // deprecated, and honoured
			return req, func() { close(ch) }
		}, []error{errBroken}, "request canceled while waiting to try again after: connection broken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &next{replies: []reply{tt.first}}
				sent := &trackedBody{Reader: strings.NewReader("again")}
				req := request(t, "PUT", strings.NewReader("again"))
				req.GetBody = func() (io.ReadCloser, error) { return sent, nil }
				req, give := tt.give(req)
				time.AfterFunc(10*time.Millisecond, give)
				began := time.Now()
				resp, err := over(t, n, steady(time.Second)).RoundTrip(req)
				if took := time.Since(began); took != 10*time.Millisecond || n.count() != 1 || resp != nil {
					t.Errorf("ended after %v and %d attempts with %v, want the end of the wait", took, n.count(), resp)
				}
				for _, want := range tt.want {
					if !errors.Is(err, want) {
						t.Errorf("error %v does not lead to %v", err, want)
					}
				}
				var re *retry.Error
				if !errors.As(err, &re) || re.Attempts != 1 || !strings.HasSuffix(err.Error(), tt.says) {
					t.Errorf("error %v, want a *retry.Error that says %q", err, tt.says)
				}
				if !sent.closed() {
					t.Error("the body of the attempt that was not made is open")
				}
				if n.idle != 0 {
					t.Errorf("the idle connections were closed %d times", n.idle)
				}
			})
		})
	}
}

func TestNothingIsSentAgainOnceTheCallerHasGivenUp(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan struct{})
	close(closed)
	for name, req := range map[string]*http.Request{
		"context":        request(t, "GET", nil).WithContext(ended),
		"Request.Cancel": {Method: "GET", URL: request(t, "GET", nil).URL, Cancel: closed},
	} {
		n := &next{replies: []reply{failure(errBroken)}}
		if _, err := over(t, n, retry.Policy{}).RoundTrip(req); !errors.Is(err, errBroken) || n.count() != 1 {
			t.Errorf("%s: %d attempts, error %v", name, n.count(), err)
		}
	}
}

func TestAStreamedBodyIsPassedThroughAndNeverReadHere(t *testing.T) {
	t.Parallel()
	body := struct{ io.ReadCloser }{io.NopCloser(strings.NewReader("stream"))}
	req := request(t, "PUT", nil)
	req.Body, req.ContentLength = body, -1
	saw := false
	n := roundTripper(func(req *http.Request) (*http.Response, error) {
		saw = req.Body == body
		return status(503)(req)
	})
	rt, err := retry.New(n, retry.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := io.ReadAll(body); !saw || string(left) != "stream" || content(t, resp) != "Service Unavailable" {
		t.Errorf("the body itself was passed on: %t; %q of it is left", saw, left)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (rt roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return rt(req) }

func TestABodyIsReopenedForEachAttemptAndNotBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{status(503)}}
		req := request(t, "PUT", strings.NewReader("body"))
		opened := 0
		open := req.GetBody
		req.GetBody = func() (io.ReadCloser, error) {
			if opened++; opened != n.count() {
				t.Errorf("opened for the %d. time after %d attempts", opened, n.count())
			}
			return open()
		}
		resp, err := over(t, n, retry.Policy{}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if opened != 2 {
			t.Errorf("GetBody was called %d times for 3 attempts, want 2", opened)
		}
	})
}

func TestABodyThatCannotBeReopenedLeavesTheAnswerAlone(t *testing.T) {
	t.Parallel()
	for _, failAt := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			n := &next{replies: []reply{status(503)}}
			req := request(t, "PUT", strings.NewReader("body"))
			open, opened := req.GetBody, 0
			req.GetBody = func() (io.ReadCloser, error) {
				if opened++; opened == failAt {
					return nil, errBroken
				}
				return open()
			}
			resp, err := over(t, n, retry.Policy{}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := content(t, resp); got != "Service Unavailable" || n.count() != failAt {
				t.Errorf("after %d attempts the caller got %q", n.count(), got)
			}
		})
	}
}

func TestADownstreamThatIsDownForGoodIsLeftAlone(t *testing.T) {
	t.Parallel()
	const requests = 1000
	for name, tt := range map[string]struct {
		reply    reply
		policy   retry.Policy
		callers  int
		attempts int
	}{
		"errors":        {failure(syscall.ECONNREFUSED), retry.Policy{}, 1, requests + retry.DefaultBudget/5},
		"answers":       {status(503), retry.Policy{}, 1, requests + retry.DefaultBudget/5},
		"timeouts":      {failure(syscall.ETIMEDOUT), retry.Policy{}, 1, requests + retry.DefaultBudget/10},
		"at once":       {status(503), retry.Policy{}, 100, requests + retry.DefaultBudget/5},
		"a larger one":  {status(503), retry.Policy{Budget: 500}, 1, requests + 100},
		"too small":     {status(503), retry.Policy{Budget: 4}, 1, requests},
		"without a one": {status(503), retry.Policy{Budget: retry.Disabled}, 1, 3 * requests},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &next{replies: []reply{tt.reply}}
				rt := over(t, n, tt.policy)
				var wg sync.WaitGroup
				for range tt.callers {
					wg.Go(func() {
						for range requests / tt.callers {
							if resp, err := rt.RoundTrip(request(t, "GET", nil)); err == nil && content(t, resp) == "" {
								t.Error("the answer has no body")
							}
						}
					})
				}
				wg.Wait()
				if got := n.count(); got != tt.attempts {
					t.Errorf("%d requests that all failed were sent %d times, want %d", requests, got, tt.attempts)
				}
				if retry.DefaultBudget/5 > requests/5 {
					t.Errorf("the default budget allows more than 1.2 times %d", requests)
				}
			})
		})
	}
}

func TestOneDownstreamDoesNotSpendTheBudgetOfAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{status(503)}}
		rt := over(t, n, retry.Policy{Budget: 10})
		for range 50 {
			resp, _ := rt.RoundTrip(request(t, "GET", nil))
			resp.Body.Close()
		}
		before := n.count()
		req := request(t, "GET", nil)
		req.URL.Host = "other.example.com"
		resp, _ := rt.RoundTrip(req)
		resp.Body.Close()
		if got := n.count() - before; before != 52 || got != 3 {
			t.Errorf("%d attempts for 50 requests, then %d for one to another origin; want 52, 3", before, got)
		}
	})
}

func TestSuccessRefillsTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := true
		n := &next{replies: []reply{func(req *http.Request) (*http.Response, error) {
			if down {
				return status(503)(req)
			}
			return status(404)(req) // an answer all the same
		}}}
		rt := over(t, n, retry.Policy{Budget: 5})
		send := func() int {
			before := n.count()
			resp, err := rt.RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return n.count() - before
		}
		var got []int
		got = append(got, send(), send())
		down = false
		for range 5 {
			send()
		}
		down = true
		got = append(got, send(), send())
		if want := []int{2, 1, 2, 1}; !reflect.DeepEqual(got, want) {
			t.Errorf("attempts %v, want %v", got, want)
		}
	})
}

func TestADecisionThatPanicsClosesTheResponse(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 2} {
		for name, leave := range map[string]func(){
			"panic": func() { panic("undecided") },
			"exit":  runtime.Goexit,
		} {
			t.Run(fmt.Sprint(name, at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					n := &next{replies: []reply{status(503)}}
					rt := over(t, n, retry.Policy{Decide: func(a retry.Attempt) retry.Decision {
						if a.Number == at {
							leave()
						}
						return retry.Retry
					}})
					var got any
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { got = recover() }()
						rt.RoundTrip(request(t, "GET", nil))
						t.Error("RoundTrip returned")
					}()
					<-done
					if name == "panic" && got != "undecided" {
						t.Errorf("the caller saw the panic %v", got)
					}
					if len(n.bodies) != at {
						t.Fatalf("%d attempts, want %d", len(n.bodies), at)
					}
					for i, b := range n.bodies {
						if !b.closed() {
							t.Errorf("the body of attempt %d is open", i+1)
						}
					}
				})
			})
		}
	}
}

func TestADecisionThatIsSlowLeavesTheAnswerToTheCaller(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
		"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &next{replies: []reply{status(503)}}
			ctx, cancel := end(t.Context())
			defer cancel()
			rt := over(t, n, retry.Policy{Decide: func(retry.Attempt) retry.Decision {
				time.Sleep(time.Minute)
				return retry.Retry
			}})
			resp, err := rt.RoundTrip(request(t, "GET", nil).WithContext(ctx))
			if err != nil || n.count() != 1 {
				t.Fatalf("%s: %d attempts, error %v; want the answer of the only one", name, n.count(), err)
			}
			if got := content(t, resp); got != "Service Unavailable" {
				t.Errorf("%s: got %q", name, got)
			}
		})
	}
}

func TestADecisionIsAskedOnlyWhereItCounts(t *testing.T) {
	t.Parallel()
	twice := []string{"1 200 <nil>", "2 0 connection broken"}
	for _, tt := range []struct {
		body     string
		attempts int // allowed
		want     []string
	}{
		{"none", 3, twice}, {"rewindable", 3, twice}, {"streamed", 3, nil}, {"none", 1, nil}, {"none", retry.Disabled, nil},
	} {
		t.Run(fmt.Sprint(tt.body, tt.attempts), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var body io.Reader
				switch tt.body {
				case "rewindable":
					body = strings.NewReader("x")
				case "streamed":
					body = struct{ io.Reader }{strings.NewReader("x")}
				}
				req := request(t, "POST", body)
				n := &next{replies: []reply{text(200, "one"), failure(errBroken), text(200, "three")}}
				var asked []string
				p := retry.Policy{MaxAttempts: tt.attempts, Decide: func(a retry.Attempt) retry.Decision {
					code := 0
					if a.Response != nil {
						code = a.Response.StatusCode
					}
					if a.Request != req {
						t.Error("the request is another one")
					}
					asked = append(asked, fmt.Sprint(a.Number, code, a.Err))
					return retry.Retry
				}}
				resp, err := over(t, n, p).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				want := "three"
				if tt.want == nil {
					want = "one"
				}
				if got := content(t, resp); got != want || !reflect.DeepEqual(asked, tt.want) {
					t.Errorf("got %q, and the decision was asked %q; want %q, %q", got, asked, want, tt.want)
				}
			})
		})
	}
}

func TestOnlyRetryMeansRetry(t *testing.T) {
	t.Parallel()
	for _, d := range []retry.Decision{retry.Stop, -1, 2} {
		n := &next{replies: []reply{status(503)}}
		resp, err := over(t, n, retry.Policy{Decide: func(retry.Attempt) retry.Decision { return d }}).RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); n.count() != 1 {
			t.Errorf("decision %d made %d attempts", d, n.count())
		}
	}
}

func TestErrorsTellTheAttemptsAndLeadToTheCause(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method   string
		cause    error
		attempts int
		timeout  bool
		want     string
	}{
		{"GET", errBroken, 3, false, `Get "https://api.example.com/orders?key=secret": retry: failed after 3 attempts: connection broken`},
		{"POST", errBroken, 1, false, `Post "https://api.example.com/orders?key=secret": connection broken`},
		{"POST", &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, 3, true, `Post "https://api.example.com/orders?key=secret": retry: failed after 3 attempts: dial: connection timed out`},
		{"POST", syscall.ETIMEDOUT, 1, true, `Post "https://api.example.com/orders?key=secret": connection timed out`},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &next{replies: []reply{failure(tt.cause)}}
			c := http.Client{Transport: over(t, n, retry.Policy{})}
			_, err := c.Do(request(t, tt.method, nil))
			var re *retry.Error
			if !errors.As(err, &re) || re.Attempts != tt.attempts || !errors.Is(err, tt.cause) {
				t.Errorf("error %#v, want a *retry.Error with %d attempts that leads to %v", err, tt.attempts, tt.cause)
			}
			if err.Error() != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
			var ue *url.Error
			if !errors.As(err, &ue) || ue.Timeout() != tt.timeout {
				t.Errorf("Timeout of %v is %t", err, !tt.timeout)
			}
		})
	}
}

func TestAnEarlierAttemptThatMayHaveBeenProcessedIsNotForgotten(t *testing.T) {
	t.Parallel()
	refused := failure(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	for name, tt := range map[string]struct {
		replies []reply
		want    bool
	}{
		"none was":         {[]reply{refused}, true},
		"turned away":      {[]reply{status(429), refused}, true},
		"connection broke": {[]reply{failure(errBroken), refused}, false},
		"status 503":       {[]reply{status(503), refused}, false},
		"at last":          {[]reply{refused, failure(errBroken)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &next{replies: tt.replies}
				p := steady(time.Second)
				p.Decide = func(retry.Attempt) retry.Decision { return retry.Retry }
				req := request(t, "POST", strings.NewReader("x"))
				_, err := over(t, over(t, n, p), retry.Policy{MaxAttempts: retry.Disabled, AttemptTimeout: time.Minute}).RoundTrip(req) //nolint:bodyclose // there is none
				var re *retry.Error
				if !errors.As(err, &re) || re.Unprocessed() != tt.want || retry.SafeToRetry(req, err) != tt.want {
					t.Errorf("after %d attempts: %v: unprocessed %t, safe to retry %t; want %t", n.count(), err, re.Unprocessed(), retry.SafeToRetry(req, err), tt.want)
				}
			})
		})
	}
}

func TestACancelIsNoTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{failure(os.ErrDeadlineExceeded)}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := (&http.Client{Transport: over(t, n, steady(time.Second))}).Do(request(t, "GET", nil).WithContext(ctx)) //nolint:bodyclose // there is none
		var ue *url.Error
		if !errors.As(err, &ue) || ue.Timeout() || !errors.Is(err, context.Canceled) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v: a timeout: %t", err, ue.Timeout())
		}
	})
}

// The rest of an answer does not cost the time that the next attempt has.
func TestDiscardingAnAnswerLeavesTimeForTheNextAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, dribble := io.Pipe()
		defer dribble.Close()
		n := &next{replies: []reply{
			after(time.Millisecond, func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 503, ContentLength: -1, Request: req, Body: body}, nil
			}),
			after(time.Millisecond/2, status(200)),
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		resp, err := over(t, n, retry.Policy{MinBackoff: retry.Disabled}).RoundTrip(request(t, "GET", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if content(t, resp); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

func TestARoundTripperThatBreaksItsContract(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		neither := &next{replies: []reply{func(*http.Request) (*http.Response, error) { return nil, nil }}}
		if resp, err := over(t, neither, retry.Policy{}).RoundTrip(request(t, "GET", nil)); resp != nil || err == nil {
			t.Errorf("neither response nor error: %v %v", resp, err)
		}
		both := &next{replies: []reply{func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, errBroken }}}
		if resp, err := over(t, both, retry.Policy{}).RoundTrip(request(t, "GET", nil)); resp != nil || !errors.Is(err, errBroken) {
			t.Errorf("response and error: %v %v", resp, err)
		}
	})
}

func TestRequestsThatAreNoneAreLeftToTheRoundTripper(t *testing.T) {
	t.Parallel()
	rt, err := retry.New(roundTripper(func(req *http.Request) (*http.Response, error) { return nil, errBroken }), retry.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []*http.Request{nil, {}} {
		if _, err := rt.RoundTrip(req); !errors.Is(err, errBroken) {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestCloseIdleConnectionsIsPassedOn(t *testing.T) {
	t.Parallel()
	n := new(next)
	c := http.Client{Transport: over(t, n, retry.Policy{})}
	c.CloseIdleConnections()
	if n.idle != 1 {
		t.Errorf("called %d times, want once", n.idle)
	}
	rt, err := retry.New(roundTripper(nil), retry.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.(interface{ CloseIdleConnections() }).CloseIdleConnections() // and it may have none
}

func TestTheFirstAttemptAllocatesNothing(t *testing.T) {
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	rt, err := retry.New(roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil }), retry.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	req := request(t, "POST", strings.NewReader("x"))
	if n := testing.AllocsPerRun(100, func() { rt.RoundTrip(req) }); n != 0 {
		t.Errorf("%v objects are allocated for a request that is answered at once", n)
	}
}

// BenchmarkFirstAttempt is all that the layer costs a request that is answered at once.
func BenchmarkFirstAttempt(b *testing.B) {
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	rt, err := retry.New(roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil }), retry.Policy{})
	if err != nil {
		b.Fatal(err)
	}
	req := request(b, "POST", strings.NewReader("x"))
	b.ReportAllocs()
	for b.Loop() {
		rt.RoundTrip(req)
	}
}
