package otel

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/httpconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/thawhttp/thaw/tracing"
)

// scope is the name of the instrumentation.
const scope = "github.com/thawhttp/thaw/tracing/otel"

// New returns a Tracer that makes a span and metrics of each exchange, as the package comment says. One serves any number of
// clients, and is safe for concurrent use. All faults of the options are returned at once, joined with [errors.Join]; so
// are those of the provider's instruments.
func New(opts ...Option) (tracing.Tracer, error) {
	c, err := configure(opts)
	if err != nil {
		return nil, err
	}
	meter := c.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	active, activeErr := httpconv.NewClientActiveRequests(meter)
	duration, durationErr := httpconv.NewClientRequestDuration(meter)
	var poolErr error
	if c.pool != nil {
		poolErr = observe(meter, c.pool)
	}
	if err := errors.Join(activeErr, durationErr, poolErr); err != nil {
		return nil, fmt.Errorf("otel: making instruments: %w", err)
	}
	return &tracer{
		spans:      c.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		active:     active.Inst(),
		duration:   duration.Inst(),
		propagator: c.propagator,
		known:      knownMethods(),
		sets:       make(map[outcome]metric.MeasurementOption),
		reached:    make(map[string]bool),
	}, nil
}

type tracer struct {
	spans      trace.Tracer
	active     metric.Int64UpDownCounter
	duration   metric.Float64Histogram
	propagator propagation.TextMapPropagator
	known      map[string]bool // methods

	mu      sync.RWMutex // guards what follows
	sets    map[outcome]metric.MeasurementOption
	reached map[string]bool // origins
}

// Start begins the span and writes it into the header.
func (t *tracer) Start(ctx context.Context, s tracing.Start) context.Context {
	attrs := append(t.request(make([]attribute.KeyValue, 0, 6), s.Method, s.Origin), semconv.URLFull(s.URL))
	name := s.Method
	if !t.known[s.Method] {
		name = "HTTP"
		attrs = append(attrs, semconv.HTTPRequestMethodOriginal(s.Method))
	}
	if s.Attempt > 1 {
		attrs = append(attrs, semconv.HTTPRequestResendCount(s.Attempt-1))
	}
	ctx, _ = t.spans.Start(ctx, name,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(s.Time), trace.WithAttributes(attrs...))
	t.propagator.Inject(ctx, propagation.HeaderCarrier(s.Header))
	return t.activate(ctx, s)
}

// End ends the span, and measures. That the context has a span of its own, one that records or not, is what the API
// promises of Start.
func (t *tracer) End(ctx context.Context, e tracing.Exchange) {
	ended := e.Ended
	if errors.Is(e.Err, tracing.ErrLeaked) {
		ended = e.Answered
	}
	o := outcomeOf(e)
	if reached(e) || t.wasReached(e.Origin) {
		o.origin = e.Origin
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		t.describe(ctx, span, e, o)
		span.End(trace.WithTimestamp(ended))
	}
	t.deactivate(ctx, e)
	t.duration.Record(ctx, ended.Sub(e.Began).Seconds(), t.set(o))
}

// activate counts the exchange among those under way. To a server that was not reached yet it is under way once it has a
// connection.
func (t *tracer) activate(ctx context.Context, s tracing.Start) context.Context {
	count := func() { t.active.Add(ctx, 1, t.set(outcome{method: s.Method, origin: s.Origin})) }
	if t.wasReached(s.Origin) {
		count()
		if ctx.Value(attemptedKey{}) != nil { // that of an exchange around this one
			ctx = context.WithValue(ctx, attemptedKey{}, (*attempted)(nil))
		}
		return ctx
	}
	a := new(attempted)
	return httptrace.WithClientTrace(context.WithValue(ctx, attemptedKey{}, a), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { a.counted.Do(count) },
	})
}

// deactivate takes the exchange out again, and notes that its server was reached.
func (t *tracer) deactivate(ctx context.Context, e tracing.Exchange) {
	a, _ := ctx.Value(attemptedKey{}).(*attempted)
	counted := true
	if a != nil {
		a.counted.Do(func() { counted = false })
		if reached(e) {
			t.note(e.Origin)
		}
	}
	if counted {
		t.active.Add(ctx, -1, t.set(outcome{method: e.Method, origin: e.Origin}))
	}
}

// attempted is an exchange with a server that was not reached before. It is in the context of the exchange.
type attempted struct{ counted sync.Once }

// attemptedKey is that of an *attempted, which is nil where the server had been reached.
type attemptedKey struct{}

// wasReached reports whether a server was reached before.
func (t *tracer) wasReached(origin string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.reached[origin]
}

// note notes that a server was reached. Of very many, those that come when there is no room are as those that were not.
func (t *tracer) note(origin string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.reached) < maxSets {
		t.reached[origin] = true
	}
}

// maxSets is how many sets of attributes, and how many origins, a tracer keeps. A program that talks to very many origins makes them anew.
const maxSets = 1024

// set returns the attributes of a measurement. Most exchanges end like others before, and to sort and hash the same attributes
// for each would be a third of what an exchange costs.
func (t *tracer) set(o outcome) metric.MeasurementOption {
	if !t.known[o.method] {
		o.method = "" // there may be any number of them
	}
	t.mu.RLock()
	set, ok := t.sets[o]
	t.mu.RUnlock()
	if ok {
		return set
	}
	set = metric.WithAttributeSet(attribute.NewSet(o.append(t.request(nil, o.method, o.origin))...))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sets) >= maxSets {
		clear(t.sets)
	}
	t.sets[o] = set
	return set
}
