// Package swap is the place at the top of a client where its tests put another downstream under it, while requests run.
package swap

import (
	"net/http"
	"sync/atomic"

	"github.com/thawhttp/thaw/internal/known/http2"
	"github.com/thawhttp/thaw/internal/nowait"
)

// Point is what an http.Client has as its Transport. A request goes through the stack of layers over the pool, or as long
// as another downstream has been swapped in, through a stack of the same layers over that. It is safe for concurrent
// use.
type Point struct {
	stack http.RoundTripper
	over  func(base http.RoundTripper) (http.RoundTripper, error)
	other atomic.Pointer[layer] // nil unless swapped
}

// New returns a Point over stack. Over makes a stack of the same layers over something else.
func New(stack http.RoundTripper, over func(base http.RoundTripper) (http.RoundTripper, error)) *Point {
	return &Point{stack: stack, over: over}
}

// Of returns the Point of a client whose Transport is rt, or nil if rt is no client's.
func Of(rt http.RoundTripper) *Point {
	if known, ok := rt.(*http2.Transport); ok {
		rt = known.Next
	}
	p, _ := rt.(*Point)
	return p
}

// Stack is what requests go through when nothing is swapped in.
func (p *Point) Stack() http.RoundTripper { return p.stack }

// RoundTrip sends req through the stack that is in place when it is called.
func (p *Point) RoundTrip(req *http.Request) (*http.Response, error) {
	if l := p.other.Load(); l != nil {
		return l.RoundTrip(req)
	}
	return p.stack.RoundTrip(req)
}

// CloseIdleConnections is called by the method of that name of [http.Client]. It reaches the pool, whatever is swapped in.
func (p *Point) CloseIdleConnections() {
	if c, ok := p.stack.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Swapped reports whether another downstream is in place.
func (p *Point) Swapped() bool { return p.other.Load() != nil }

// Swap puts base in the pool's place, until restore is called. Requests that are under way then end where they began.
// Retries over base are not waited for. It returns false if another downstream is in place already.
func (p *Point) Swap(base http.RoundTripper) (restore func(), ok bool, err error) {
	stack, err := p.over(base)
	if err != nil {
		return nil, false, err
	}
	l := &layer{stack}
	if !p.other.CompareAndSwap(nil, l) {
		return nil, false, nil
	}
	return func() { p.other.CompareAndSwap(l, nil) }, true, nil
}

// layer is at the top of a stack over another downstream.
type layer struct{ stack http.RoundTripper }

func (l *layer) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.WithContext(nowait.Context(req.Context()))
	resp, err := l.stack.RoundTrip(out)
	if resp != nil && resp.Request == out {
		resp.Request = req
	}
	return resp, err
}
