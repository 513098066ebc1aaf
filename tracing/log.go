package tracing

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/thawhttp/thaw/internal/legible"
)

// Log returns a Tracer that writes one line an exchange to l. Nil is [slog.Default], as it is when the line is written.
//
// The level is Error if no response came or its body broke off; Warn if the caller cancelled the exchange, leaked the
// body, or got a status of 400 or more; Info otherwise. The attributes have the names of the X-Ray annotations, and
// durations are in milliseconds:
//
//   - always: method, url, attempt, status (0 without a response), bytes_out, bytes_in, total_ms
//   - error and failed (the phase), if it failed
//   - closed_early, if the body was; replays, if the pool sent the request again
//   - with a connection: conn_reused, conn_id, conn_age_ms, conn_idle_ms, conn_protocol, write_ms, first_byte_ms
//   - pool_wait_ms, dns_ms, connect_ms, tls_ms and tls_resumed, if the exchange waited for them
func Log(l *slog.Logger) Tracer { return logTracer{l} }

type logTracer struct{ l *slog.Logger }

func (logTracer) Start(ctx context.Context, _ Start) context.Context { return ctx }

func (t logTracer) End(ctx context.Context, e Exchange) {
	l := t.l
	if l == nil {
		l = slog.Default()
	}
	level := levelOf(e)
	if !l.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 24)
	attrs = append(attrs,
		slog.String("method", e.Method),
		slog.String("url", e.URL),
		slog.Int("attempt", e.Attempt),
		slog.Int("status", e.Status),
	)
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", legible.Text(e.Err.Error())), slog.String("failed", e.Failed))
	}
	if e.ClosedEarly {
		attrs = append(attrs, slog.Bool("closed_early", true))
	}
	if e.Replays > 0 {
		attrs = append(attrs, slog.Int("replays", e.Replays))
	}
	if e.Conn != (Conn{}) {
		attrs = append(attrs,
			slog.Bool("conn_reused", e.Conn.Reused),
			slog.Uint64("conn_id", e.Conn.ID),
			milliseconds("conn_age_ms", e.Conn.Age),
			milliseconds("conn_idle_ms", e.Conn.Idle),
			slog.String("conn_protocol", e.Conn.Protocol),
			milliseconds("write_ms", e.Timing.Write),
			milliseconds("first_byte_ms", e.Timing.FirstByte),
		)
	}
	for _, part := range [...]struct {
		name string
		took time.Duration
	}{{"pool_wait_ms", e.Timing.Wait}, {"dns_ms", e.Timing.DNS}, {"connect_ms", e.Timing.Connect}, {"tls_ms", e.Timing.TLS}} {
		if part.took > 0 {
			attrs = append(attrs, milliseconds(part.name, part.took))
		}
	}
	if e.Timing.TLS > 0 {
		attrs = append(attrs, slog.Bool("tls_resumed", e.TLS.Resumed))
	}
	attrs = append(attrs,
		slog.Int64("bytes_out", e.BytesOut),
		slog.Int64("bytes_in", e.BytesIn),
		milliseconds("total_ms", e.Timing.Total),
	)
	l.LogAttrs(ctx, level, "http exchange", attrs...)
}

func levelOf(e Exchange) slog.Level {
	switch {
	case errors.Is(e.Err, context.Canceled), errors.Is(e.Err, ErrLeaked):
		return slog.LevelWarn
	case e.Err != nil:
		return slog.LevelError
	case e.Status >= http.StatusBadRequest:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// milliseconds returns d in milliseconds, to the microsecond.
func milliseconds(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, float64(d.Microseconds())/1000)
}
