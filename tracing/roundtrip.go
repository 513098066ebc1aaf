package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/thawhttp/thaw/internal/dialed"
	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/legible"
)

// ErrLeaked is what an exchange ended with if the response's body was garbage collected without having been closed.
var ErrLeaked = errors.New("tracing: the response body was garbage collected without Close")

var (
	errPanicked = errors.New("tracing: the RoundTripper panicked or ended its goroutine")
	errNothing  = errors.New("tracing: the RoundTripper returned neither a response nor an error")
)

// New returns a RoundTripper that sends requests with next and tells the tracers of each one. Tracers start in their
// order and end in the reverse one. It is safe for concurrent use if next is. Without a tracer it is next itself. A nil
// next and each nil tracer is an error; they are joined with [errors.Join].
//
// The request is copied once, header included, so what tracers add to the header travels and the caller's request
// stays as it is. The hooks of [httptrace.WithClientTrace] in the request's context are called as ever.
func New(next http.RoundTripper, tracers ...Tracer) (http.RoundTripper, error) {
	var errs []error
	if next == nil {
		errs = append(errs, errors.New("tracing: New without a RoundTripper: want the one to be traced"))
	}
	for i, t := range tracers {
		if t == nil {
			errs = append(errs, fmt.Errorf("tracing: tracer %d of New is nil: want a Tracer", i))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(tracers) == 0 {
		return next, nil
	}
	return &roundTripper{layer{next}, slices.Clone(tracers)}, nil
}

type roundTripper struct {
	layer
	tracers []Tracer
}

// RoundTrip makes one exchange and tells the tracers of it.
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if req == nil || req.URL == nil {
		return rt.next.RoundTrip(req) // which says what is wrong
	}
	x, out := rt.begin(req)
	returned := false
	defer func() {
		if !returned {
			x.end(errPanicked)
		}
	}()
	resp, err := rt.next.RoundTrip(out)
	returned = true
	switch {
	case err != nil:
		x.end(err)
	case resp == nil:
		x.end(errNothing)
	default:
		resp.Request = req
		x.answered(resp)
		if bodiless(resp, out.Method) {
			x.end(nil)
		} else {
			resp.Body = newBody(resp, x)
		}
	}
	return resp, err
}

// begin starts the tracers, and returns the record of the exchange and the request to be sent.
func (rt *roundTripper) begin(req *http.Request) (*record, *http.Request) {
	ctx := req.Context()
	x := &record{tracers: rt.tracers, contexts: make([]context.Context, 0, len(rt.tracers))}
	x.e = Exchange{
		Method:  legible.Text(req.Method),
		URL:     legible.Text(publicURL(req.URL)),
		Origin:  legible.Text(req.URL.Scheme + "://" + hostport.Of(req.URL)),
		Attempt: attempt(ctx),
		Began:   time.Now(),
	}
	if x.e.Method == "" {
		x.e.Method = http.MethodGet
	}
	header := req.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	s := Start{Method: x.e.Method, URL: x.e.URL, Origin: x.e.Origin, Attempt: x.e.Attempt, Time: x.e.Began, Header: header}
	for _, t := range rt.tracers {
		ctx = t.Start(ctx, s)
		x.contexts = append(x.contexts, ctx)
	}
	x.hook()
	out := req.WithContext(httptrace.WithClientTrace(dialed.WithObserver(ctx, x), &x.hooks))
	out.Header = header
	x.watchRequestBody(out)
	return x, out
}

// publicURL returns u without what may be secret.
func publicURL(u *url.URL) string {
	// An opaque URL can have a query of its own making in there.
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// bodiless reports whether nothing will be read of a response, so that it is complete. After "101 Switching Protocols" the
// body is the connection.
func bodiless(resp *http.Response, method string) bool {
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols, http.StatusNoContent, http.StatusNotModified:
		return true
	}
	// A body without any state has nothing to read: that of HTTP/2 is not http.NoBody itself.
	return method == http.MethodHead || resp.Body == nil || reflect.TypeOf(resp.Body).Size() == 0
}
