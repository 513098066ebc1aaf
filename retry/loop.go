package retry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/thawhttp/thaw/internal/nowait"
)

// The loop of go-retryablehttp counts the attempts, waits between them and ends a wait with its context. Nothing else
// that it does is wanted here, so it never sees the request, the responses or the errors: its inner http.Client would
// add an Authorization header for the user of a URL, refuse a RequestURI, follow redirects, wrap errors and replace
// bodies. It gets a request of its own, whose context leads to the call, and an empty answer to it.
//
// What is kept from happening by that, or by the settings of newLoop:
//
//   - a POST is retried by default: CheckRetry does not look at anything but the call;
//   - streamed bodies are read into memory, and GetBody is ignored: they are no business of the loop;
//   - the last response is discarded: it stays with the call;
//   - the idle connections of a shared pool are closed when retries run out: reissue has no CloseIdleConnections;
//   - it waits for as long as Retry-After says, and past the deadline: Backoff says what was decided;
//   - only 4 KiB of a response are drained, which costs a connection: discard has done it before;
//   - every URL is logged: there is no Logger.

// newLoop returns the loop for p. It has no state, and serves all calls.
func newLoop(p Policy) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     reissue{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax: p.MaxAttempts - 1,
		CheckRetry: func(ctx context.Context, _ *http.Response, _ error) (bool, error) {
			c := callOf(ctx)
			return c.more || c.again(), nil
		},
		Backoff: func(_, _ time.Duration, _ int, resp *http.Response) time.Duration {
			ctx := resp.Request.Context()
			if nowait.In(ctx) {
				return 0
			}
			return time.Until(callOf(ctx).due)
		},
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// blank is the request that the loop gets to see.
var blank = http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "retry.invalid"}, Header: http.Header{}}

// reissue makes the attempts of a call. The first one was made before the loop began, which has to count it all the same.
type reissue struct{}

func (reissue) RoundTrip(r *http.Request) (*http.Response, error) {
	if c := callOf(r.Context()); c.begun {
		c.attempt()
	} else {
		c.begun = true
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// run makes the second attempt and those after it. Its error is that of a caller who gave up during a wait.
func (c *call) run() error {
	req := c.last.Request
	ctx := context.WithValue(req.Context(), callKey{}, c)
	if req.Cancel != nil { // which http.Client sets if it has a Timeout
		var watch sync.WaitGroup
		defer watch.Wait()
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		watch.Go(func() {
			select {
			case <-req.Cancel:
				cancel()
			case <-ctx.Done():
			}
		})
	}
	_, err := c.rt.loop.Do(&retryablehttp.Request{Request: blank.WithContext(ctx)})
	return err
}

var errCanceled = errors.New("retry: request canceled") // by Request.Cancel

// waitError is the error of a request whose caller gave up, because of cause, while it waited to be sent again.
type waitError struct {
	cause error
	last  Attempt
}

func (e *waitError) Error() string {
	if e.last.Err != nil {
		return fmt.Sprintf("%v while waiting to try again after: %v", e.cause, e.last.Err)
	}
	return fmt.Sprintf("%v while waiting to try again after status %d", e.cause, e.last.Response.StatusCode)
}

func (e *waitError) Unwrap() []error {
	if e.last.Err != nil {
		return []error{e.cause, e.last.Err}
	}
	return []error{e.cause}
}

// Timeout goes by what ended the wait, and not by the attempt before it.
func (e *waitError) Timeout() bool { return timedOut(e.cause) }
