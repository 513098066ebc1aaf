// Package client is the drop-in: an [http.Client] on a pool of connections that survives the freeze and thaw of
// an AWS Lambda environment.
//
// Make it once, outside the handler, and use it in the place of [http.DefaultClient]:
//
//	var api = client.Default()
//
//	func handle(ctx context.Context, e event) error {
//		req, err := http.NewRequestWithContext(ctx, "POST", "https://api.example.com/orders", e.body())
//		...
//		resp, err := api.Do(req)
//		...
//	}
//
// A [Client] embeds the *http.Client, so Get, Do and the rest are there, and c.Client goes wherever an
// *http.Client is asked for. c.Client.Transport is an [http.RoundTripper] for code that asks for one of those: the
// retries of package retry over the pool of package transport.
package client

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/internal/known/http2"
	"github.com/thawhttp/thaw/internal/swap"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

// DefaultTimeout is the limit on a whole request, redirects and reading the body included, unless [WithTimeout]
// sets another.
const DefaultTimeout = 30 * time.Second

// Client is an [http.Client] whose connections survive a freeze. It is safe for concurrent use.
//
// The embedded client may be copied and its CheckRedirect, Jar and Timeout changed, as for any http.Client,
// before its first use.
type Client struct {
	*http.Client // c.Client goes wherever an *http.Client is asked for; c.Client.Transport is the whole stack

	point *swap.Point          // at the top of c.Client.Transport
	pool  *transport.Transport // nil with a base that is no pool
	base  http.RoundTripper    // nil without WithBase
	// owned is whether Close closes the pool: not for the process-wide one, which others use.
	owned bool
}

// current is what Default returns, or nil before its first call.
var current atomic.Pointer[Client]

// Default returns the process-wide client. It is made on first use, on [transport.Shared] and with every setting
// at its default, unless [SetDefault] came first. It is safe for concurrent use.
func Default() *Client {
	for {
		if c := current.Load(); c != nil {
			return c
		}
		pool := transport.Shared()
		c := &Client{pool: pool}
		if err := c.assemble(pool, config{timeout: DefaultTimeout}); err != nil {
			panic(err) // the defaults have no faults
		}
		if current.CompareAndSwap(nil, c) {
			return c
		}
	}
}

// SetDefault makes c what [Default] returns from now on. Callers that hold the former default keep it, and it
// is not closed. Nil makes the next call of Default start over on [transport.Shared].
func SetDefault(c *Client) { current.Store(c) }

// New returns a client with a pool of its own. It returns all faults of the options at once, joined with
// [errors.Join]; the order of the options does not matter.
func New(opts ...Option) (*Client, error) {
	cfg, err := apply(opts)
	if err != nil {
		return nil, err
	}
	c := &Client{base: cfg.base, owned: true}
	if pool, ok := cfg.base.(*transport.Transport); ok {
		c.pool, c.owned = pool, pool != transport.Shared()
	}
	base := cfg.base
	if base == nil {
		if c.pool, err = transport.New(cfg.transport); err != nil {
			return nil, err
		}
		base = c.pool
	}
	if err := c.assemble(base, cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// assemble makes the http.Client over base.
func (c *Client) assemble(base http.RoundTripper, cfg config) error {
	rt, err := cfg.stack(base)
	if err != nil {
		return err
	}
	c.point = swap.New(rt, cfg.stack)
	c.Client = &http.Client{Transport: c.point, Timeout: cfg.timeout}
	if c.pool != nil {
		c.Client.Transport = http2.Known(c.point)
	}
	return nil
}

// stack puts the layers that were asked for on top of base. A request passes them from the last to the first. Those that
// have nothing to do are left out.
func (cfg *config) stack(base http.RoundTripper) (rt http.RoundTripper, err error) {
	rt = base
	if cfg.traced != nil {
		if rt, err = cfg.traced.eachAttempt(rt, cfg.tracers); err != nil {
			return nil, err
		}
	}
	p := cfg.retry
	once := p.MaxAttempts == 1 || p.MaxAttempts == retry.Disabled
	if !once || p.AttemptTimeout > 0 || len(p.IdempotencyKeyHosts) > 0 {
		if rt, err = retry.New(rt, p); err != nil {
			return nil, err
		}
	}
	if cfg.traced != nil {
		rt = cfg.traced.request(rt)
	}
	return rt, nil
}

// layers are those of package tracing. A program that does not trace links none of it, because nothing but WithTracer
// refers to them.
type layers interface {
	eachAttempt(http.RoundTripper, []tracing.Tracer) (http.RoundTripper, error)
	request(http.RoundTripper) http.RoundTripper
}

type tracingLayers struct{}

func (tracingLayers) eachAttempt(rt http.RoundTripper, tracers []tracing.Tracer) (http.RoundTripper, error) {
	return tracing.New(rt, tracers...)
}

func (tracingLayers) request(rt http.RoundTripper) http.RoundTripper {
	return tracing.CountAttempts(rt)
}

// Pool returns the pool, or nil for a client on a base that is no pool: see [WithBase].
func (c *Client) Pool() *transport.Transport { return c.pool }

// Warm makes connections ahead of the first request: it resolves, dials and shakes hands with the origin of each
// URL, all at once, and returns the joined errors of those that failed. An origin named k times gets k connections
// if it speaks HTTP/1.1, and one if it speaks HTTP/2. Its place is the init phase of a Lambda function, where the
// CPU is not throttled. It does nothing for a client on a base that is no pool (see [WithBase]), or whose downstream is
// swapped for a mock.
func (c *Client) Warm(ctx context.Context, urls ...string) error {
	if c.pool == nil || c.point.Swapped() {
		return nil
	}
	return c.pool.Warm(ctx, urls...)
}

// Thaw drops the connections that did not survive a freeze and verifies those in doubt. Calling it is not needed
// for correctness, since every connection is checked when it is taken; called at the start of an invocation, beside
// the handler, it saves the first requests that work. It returns when all is done or ctx ends.
// It does nothing for a client on a base that is no pool: see [WithBase].
func (c *Client) Thaw(ctx context.Context) {
	if c.pool != nil {
		c.pool.Thaw(ctx)
	}
}

// Reset retires every connection of the pool: what a function must do after a SnapStart restore, since all connections
// of the snapshot are dead. It does nothing for a client on a base that is no pool: see [WithBase].
func (c *Client) Reset() {
	if c.pool != nil {
		c.pool.Reset()
	}
}

// Stats returns a snapshot of the pool. It is zero for a client on a base that is no pool: see [WithBase].
func (c *Client) Stats() transport.Stats {
	if c.pool == nil {
		return transport.Stats{}
	}
	return c.pool.Stats()
}

// Close closes the pool: requests under way fail with [transport.ErrClosed], and so does every later one. It returns
// when none of the pool's goroutines is left. Of [transport.Shared], which is everyone's and under the client that
// [Default] made, only the idle connections are closed. For a client on a base that is no pool it calls the Close
// method of the base, if it has one.
func (c *Client) Close() error {
	switch {
	case c.pool == nil:
		if closer, ok := c.base.(io.Closer); ok {
			return closer.Close()
		}
		return nil
	case !c.owned:
		c.pool.CloseIdleConnections()
		return nil
	default:
		return c.pool.Close()
	}
}
