package otel

import (
	"context"
	"crypto/tls"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/thawhttp/thaw/internal/legible"
	"github.com/thawhttp/thaw/tracing"
)

// describe notes what became of the exchange.
func (t *tracer) describe(ctx context.Context, span trace.Span, e tracing.Exchange, o outcome) {
	attrs := o.append(make([]attribute.KeyValue, 0, 16))
	attrs = appendConn(attrs, e)
	if e.Failed != "" {
		attrs = append(attrs, attribute.String("thaw.failed", e.Failed))
	}
	if e.Replays > 0 {
		attrs = append(attrs, attribute.Int("thaw.replays", e.Replays))
	}
	if e.ClosedEarly {
		attrs = append(attrs, attribute.Bool("thaw.closed_early", true))
	}
	span.SetAttributes(attrs...)
	switch {
	case e.Err != nil:
		span.SetStatus(codes.Error, legible.Text(e.Err.Error()))
	case o.failure != "":
		span.SetStatus(codes.Error, "") // the status code says why
	}
	for _, p := range e.Dial {
		t.addPhase(ctx, p)
	}
}

func appendConn(attrs []attribute.KeyValue, e tracing.Exchange) []attribute.KeyValue {
	c := e.Conn
	if c != (tracing.Conn{}) {
		attrs = appendAddress(attrs, c.RemoteAddr, semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey)
		attrs = append(attrs,
			attribute.Bool("thaw.conn.reused", c.Reused),
			attribute.Float64("thaw.conn.idle_ms", milliseconds(c.Idle)))
	}
	if c.ID != 0 {
		attrs = append(attrs,
			attribute.Int64("thaw.conn.id", int64(c.ID)),
			attribute.Float64("thaw.conn.age_ms", milliseconds(c.Age)),
			attribute.String("thaw.conn.protocol", c.Protocol))
	}
	if c != (tracing.Conn{}) || e.Timing.Wait > 0 {
		attrs = append(attrs, attribute.Float64("thaw.pool.wait_ms", milliseconds(e.Timing.Wait)))
	}
	if e.Timing.TLS > 0 && e.TLS.Version != 0 {
		attrs = append(attrs,
			semconv.TLSProtocolVersion(strings.TrimPrefix(tls.VersionName(e.TLS.Version), "TLS ")),
			semconv.TLSResumed(e.TLS.Resumed))
	}
	return attrs
}

// addPhase adds a phase of the dial, with the times at which it was. ctx carries the span of the exchange.
func (t *tracer) addPhase(ctx context.Context, p tracing.Phase) {
	_, span := t.spans.Start(ctx, p.Name, trace.WithTimestamp(p.Began))
	if p.Err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(classOf(p.Err, p.Name)))
		span.SetStatus(codes.Error, legible.Text(p.Err.Error()))
	}
	span.End(trace.WithTimestamp(p.Began.Add(p.Took)))
}

// milliseconds returns d in milliseconds, to the microsecond.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
