package lambdahandler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/openbody"
	"github.com/thawhttp/thaw/transport"
)

// handler is a wrapped handler. It is safe for concurrent use.
type handler struct {
	config
	client *client.Client
	call   call

	restored sync.Once   // the first invocation has begun
	thawing  atomic.Bool // Thaw is under way
	running  invocations
	had      atomic.Pointer[[]string] // the origins with connections at the end of the invocation before
}

// New returns a handler for lambda.Start that looks after c in each invocation: see the package comment. handler is a
// function of any signature that lambda.Start takes, or a lambda.Handler; of the latter an answer is not streamed, and
// lambda.WithContext and lambda.WithEnableSIGTERM in its options have no effect.
//
// What is wrong with the arguments is logged at once, all of it, and is the error of every invocation, as with
// lambda.NewHandler.
func New(c *client.Client, function any, opts ...Option) lambda.Handler {
	h := &handler{client: c}
	var errs [3]error
	if c == nil {
		errs[0] = errors.New("lambdahandler: New(nil): want a client, client.Default() for example")
	}
	h.call, errs[1] = signature(function)
	h.config, errs[2] = apply(opts)
	if err := errors.Join(errs[:]...); err != nil {
		h.log().Error("the function cannot work", "error", err)
		return lambda.NewHandler(func() error { return err })
	}
	if h.setShutdown {
		return lambda.NewHandlerWithOptions(h.invoke, lambda.WithEnableSIGTERM(h.shutdown))
	}
	return lambda.NewHandler(h.invoke)
}

// invoke handles one event.
func (h *handler) invoke(ctx context.Context, e event) (any, error) {
	h.restored.Do(func() {
		if snapshotted() {
			h.client.Reset()
		}
	})
	turn := h.running.begin()
	own, cancel := h.early(ctx)
	for _, w := range h.warmups {
		if w.is(e) {
			defer h.end(ctx, turn)
			defer cancel()
			return h.warm(own, w.urls), nil
		}
	}

	before := inUse(h.connected())
	h.thaw(ctx)
	own, bodies := openbody.WithWatch(own)
	end := func() {
		h.closeOpen(ctx, bodies.Open())
		cancel()
		if now, alone := h.end(ctx, turn); alone {
			h.collectOpen(ctx, before, now)
		}
	}
	streaming := false
	defer func() {
		if !streaming {
			end()
		}
	}()
	answer, err := h.call(own, e)
	if err != nil {
		return nil, err
	}
	answer, streaming = streamed(answer, end)
	return answer, nil
}

// early returns a context that ends ahead of the deadline of ctx, by the margin.
func (h *handler) early(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || h.margin == 0 {
		return context.WithCancel(ctx)
	}
	margin := min(h.margin, max(0, time.Until(deadline))/2)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}

// thaw has the pool looked after beside the handler, once at a time: what one invocation looks at another one need not.
func (h *handler) thaw(ctx context.Context) {
	if h.thawing.Swap(true) {
		return
	}
	go func() {
		defer h.thawing.Store(false)
		h.client.Thaw(ctx)
	}()
}

// end does what is to be done at the end of every invocation. It reports which origins have connections then, and whether the
// invocation was alone in the process all the time.
func (h *handler) end(ctx context.Context, turn uint64) (now map[string]transport.Origin, alone bool) {
	if h.metrics != nil {
		if err := h.metrics.Emit(h.client); err != nil {
			h.log().WarnContext(ctx, "the line of metrics could not be written", "error", err)
		}
	}
	now = h.connected()
	h.remember(now)
	return now, h.running.end(turn)
}
