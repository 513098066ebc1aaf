package retry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// roundTripper is what New returns.
type roundTripper struct {
	next   http.RoundTripper
	policy Policy // in force
	budget *budget
	loop   *retryablehttp.Client
}

// New returns an [http.RoundTripper] that sends requests through next, and sends them again as p says. It is safe for
// concurrent use if next is. All faults of p are returned at once, joined with [errors.Join].
//
// Its errors are of type *[Error]. It has a method CloseIdleConnections that calls next's, for the caller's own use:
// the idle connections of next are left alone when retries run out.
func New(next http.RoundTripper, p Policy) (http.RoundTripper, error) {
	p, err := p.withDefaults()
	if next == nil {
		err = errors.Join(err, errors.New("retry: New with a nil http.RoundTripper: want the one that sends the requests"))
	}
	if err != nil {
		return nil, err
	}
	return &roundTripper{next: next, policy: p, budget: newBudget(p.Budget), loop: newLoop(p)}, nil
}

// CloseIdleConnections is called by the method of that name of [http.Client].
func (rt *roundTripper) CloseIdleConnections() {
	if c, ok := rt.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip sends req until it is answered or another attempt is not to be made.
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if req == nil || req.URL == nil {
		return rt.next.RoundTrip(req) // which refuses it
	}
	if len(rt.policy.IdempotencyKeyHosts) > 0 {
		req = withKey(req, rt.policy.IdempotencyKeyHosts)
	}
	began := time.Now()
	resp, err := rt.attempt(req)
	took := time.Since(began)
	a := Attempt{Request: req, Response: resp, Err: err, Number: 1}
	if due, ok := rt.again(a, took); ok {
		c := &call{rt: rt, last: a, quickest: took}
		if c.prepare(due) {
			return c.finish()
		}
	}
	return result(a, false)
}

// attempt sends req once.
func (rt *roundTripper) attempt(req *http.Request) (resp *http.Response, err error) {
	if d := rt.policy.AttemptTimeout; d > 0 {
		resp, err = attemptWithin(d, rt.next, req)
	} else {
		resp, err = rt.next.RoundTrip(req)
	}
	switch {
	case err != nil:
		if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(e.RecordHeader[:]) == "HTTP/" && !errors.Is(err, http.ErrSchemeMismatch) {
			// http.Client says so, but would not find the cause in an Error.
			err = fmt.Errorf("%w (%w)", http.ErrSchemeMismatch, err)
		}
		return nil, err
	case resp == nil:
		return nil, errNoAnswer
	}
	return resp, nil
}

// errNoAnswer is the error of a RoundTripper that breaks its contract.
var errNoAnswer = errors.New("retry: the http.RoundTripper returned neither a response nor an error")

// result returns what the caller gets if a was the last attempt. An earlier one may have been processed if that is doubtful.
func result(a Attempt, doubtful bool) (*http.Response, error) {
	if a.Err != nil {
		return nil, &Error{a.Number, a.Err, doubtful}
	}
	return a.Response, nil
}

// maxEstimate bounds how long another attempt is expected to take: a slow one says little about the next.
const maxEstimate = time.Second

// again decides whether another attempt is to follow a, and when. It takes what that costs from the budget. Quickest is
// what the quickest attempt so far took, which is how long the next one is expected to take at least.
func (rt *roundTripper) again(a Attempt, quickest time.Duration) (due time.Time, ok bool) {
	req := a.Request
	if a.Err == nil && a.Response.StatusCode < 500 && a.Response.StatusCode != http.StatusTooManyRequests {
		rt.budget.refund(originOf(req))
	}
	if a.Number >= rt.policy.MaxAttempts || !rewindable(req) || ended(req) || rt.decide(a) != Retry || ended(req) {
		return time.Time{}, false
	}
	due = time.Now().Add(rt.policy.wait(a))
	if deadline, ok := req.Context().Deadline(); ok && !due.Add(min(quickest, maxEstimate)).Before(deadline) {
		return time.Time{}, false
	}
	cost := retryCost
	if timedOut(a.Err) {
		cost = timeoutCost
	}
	return due, rt.budget.take(originOf(req), cost)
}

// decide asks the policy. If that panics, nobody gets the response, so it is closed.
func (rt *roundTripper) decide(a Attempt) Decision {
	decided := false
	defer func() {
		if !decided {
			closeBody(a.Response)
		}
	}()
	d := rt.policy.Decide(a)
	decided = true
	return d
}

// call is a request that is sent more than once. It is owned by the goroutine of its RoundTrip.
type call struct {
	rt       *roundTripper
	begun    bool // the loop has counted the first attempt
	last     Attempt
	doubtful bool // one that was followed by another may have been processed
	quickest time.Duration
	// Between two attempts:
	due  time.Time // when the next one is to be made
	body io.ReadCloser
	more bool // there is to be a next one
}

// prepare gets ready for another attempt at due. It returns false if there can be none after all, and the answer is
// untouched then.
func (c *call) prepare(due time.Time) bool {
	req := c.last.Request
	c.body, c.due, c.more = req.Body, due, true
	if req.GetBody != nil && req.Body != nil && req.Body != http.NoBody {
		var err error
		if c.body, err = req.GetBody(); err != nil {
			c.more = false
			return false
		}
	}
	if a := c.last; a.Err != nil && !unprocessed(a.Err) || a.Err == nil && a.Response.StatusCode != http.StatusTooManyRequests {
		c.doubtful = true
	}
	// What is left of the answer must not cost the time that the next attempt needs.
	within := patience
	if deadline, ok := req.Context().Deadline(); ok {
		within = min(within, time.Until(deadline)-min(c.quickest, maxEstimate))
	}
	discard(c.last.Response, within)
	return true
}

// attempt makes the next attempt. What the RoundTripper gets differs from what it got first in nothing but the body.
func (c *call) attempt() {
	req := c.last.Request
	out := *req
	out.Body, c.body, c.more = c.body, nil, false
	began := time.Now()
	resp, err := c.rt.attempt(&out)
	c.quickest = min(c.quickest, time.Since(began))
	if err == nil && resp.Request == &out {
		resp.Request = req
	}
	c.last = Attempt{Request: req, Response: resp, Err: err, Number: c.last.Number + 1}
}

// again decides whether another attempt is to follow, and gets ready for it.
func (c *call) again() bool {
	due, ok := c.rt.again(c.last, c.quickest)
	return ok && c.prepare(due)
}

// finish runs the loop, and returns what the last attempt brought, or why there could not be another one.
func (c *call) finish() (*http.Response, error) {
	if err := c.run(); err == nil {
		return result(c.last, c.doubtful)
	}
	// The caller gave up during a wait.
	if c.body != nil {
		c.body.Close()
	}
	cause := context.Cause(c.last.Request.Context())
	if cause == nil {
		cause = errCanceled
	}
	return nil, &Error{c.last.Number, &waitError{cause, c.last}, c.doubtful}
}
