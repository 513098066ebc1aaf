package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/httpconv"

	"github.com/thawhttp/thaw/internal/connlife"
	"github.com/thawhttp/thaw/transport"
)

// measure is a number that the pool has of each origin.
type measure struct {
	name, unit, description string
	value                   func(*transport.Origin) uint64
}

// counters only grow.
var counters = []measure{
	{"thaw.pool.requests", "{request}", "Requests that were given a connection.", func(o *transport.Origin) uint64 { return o.Requests }},
	{"thaw.pool.reuses", "{request}", "Requests whose connection had been used before.", func(o *transport.Origin) uint64 { return o.Reused }},
	{"thaw.pool.dials", "{dial}", "Connections begun.", func(o *transport.Origin) uint64 { return o.Dials }},
	{"thaw.pool.dial_errors", "{dial}", "Connections that could not be made.", func(o *transport.Origin) uint64 { return o.DialErrors }},
	{"thaw.pool.handshakes", "{handshake}", "TLS handshakes completed.", func(o *transport.Origin) uint64 { return o.Handshakes }},
	{"thaw.pool.resumptions", "{handshake}", "TLS handshakes that resumed a session.", func(o *transport.Origin) uint64 { return o.Resumed }},
	{"thaw.pool.waits", "{request}", "Requests that had to wait for a connection.", func(o *transport.Origin) uint64 { return o.Waits }},
	{"thaw.pool.verifications", "{connection}", "Connections proven alive.", func(o *transport.Origin) uint64 { return o.Verified }},
	{"thaw.pool.verification_failures", "{connection}", "Connections that could not be proven alive.", func(o *transport.Origin) uint64 { return o.VerifyFailed }},
	{"thaw.pool.replays", "{request}", "Requests sent again on another connection.", func(o *transport.Origin) uint64 { return o.Replayed }},
	{"thaw.pool.leaks", "{body}", "Response bodies garbage collected without Close.", func(o *transport.Origin) uint64 { return o.Leaked }},
}

// gauges are as of now.
var gauges = []measure{
	{"thaw.pool.dialing", "{dial}", "Connections that are being made.", func(o *transport.Origin) uint64 { return uint64(o.Dialing) }},
	{"thaw.pool.waiting", "{request}", "Requests that wait for a connection.", func(o *transport.Origin) uint64 { return uint64(o.Waiting) }},
	{"thaw.pool.streams", "{stream}", "HTTP/2 streams in flight.", func(o *transport.Origin) uint64 { return uint64(o.Streams) }},
}

// reasons are those of thaw.pool.closes.
var reasons = []struct {
	name  string
	value func(*transport.Closed) uint64
}{
	{"idle_timeout", func(c *transport.Closed) uint64 { return c.IdleTimeout }},
	{"lifetime", func(c *transport.Closed) uint64 { return c.Lifetime }},
	{"stale", func(c *transport.Closed) uint64 { return c.Stale }},
	{"unverified", func(c *transport.Closed) uint64 { return c.Unverified }},
	{"server", func(c *transport.Closed) uint64 { return c.Server }},
	{"error", func(c *transport.Closed) uint64 { return c.Error }},
	{"excess", func(c *transport.Closed) uint64 { return c.Excess }},
	{"reset", func(c *transport.Closed) uint64 { return c.Reset }},
}

// lives are the bounds of the buckets of http.client.connection.duration, in seconds, for which the convention has none: up to
// the default of MaxConnLifetime.
var lives = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 900}

// observe has the metrics of a pool collected with the meter.
func observe(meter metric.Meter, pool *transport.Transport) error {
	var errs []error
	var instruments []metric.Observable
	made := func(i metric.Observable, err error) {
		instruments = append(instruments, i)
		errs = append(errs, err)
	}
	type reading struct {
		measure
		to metric.Int64Observable
	}
	var readings []reading
	for _, m := range counters {
		i, err := meter.Int64ObservableCounter(m.name, metric.WithUnit(m.unit), metric.WithDescription(m.description))
		readings = append(readings, reading{m, i})
		made(i, err)
	}
	for _, m := range gauges {
		i, err := meter.Int64ObservableUpDownCounter(m.name, metric.WithUnit(m.unit), metric.WithDescription(m.description))
		readings = append(readings, reading{m, i})
		made(i, err)
	}
	closes, err := meter.Int64ObservableCounter("thaw.pool.closes", metric.WithUnit("{connection}"), metric.WithDescription("Connections closed, by reason."))
	made(closes, err)
	waited, err := meter.Float64ObservableCounter("thaw.pool.wait_time", metric.WithUnit("s"), metric.WithDescription("Time that requests waited for a connection."))
	made(waited, err)
	open, err := httpconv.NewClientOpenConnectionsObservable(meter)
	made(open.Inst(), err)
	lived, err := httpconv.NewClientConnectionDuration(meter, metric.WithExplicitBucketBoundaries(lives...))
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}

	collect := func(_ context.Context, o metric.Observer) error {
		observe := func(name string, origin *transport.Origin) {
			of := ofServer(name)
			for _, r := range readings {
				o.ObserveInt64(r.to, int64(r.value(origin)), of)
			}
			o.ObserveFloat64(waited, origin.WaitTime.Seconds(), of)
			o.ObserveInt64(open.Inst(), int64(origin.InUse), ofServer(name, semconv.HTTPConnectionStateActive))
			o.ObserveInt64(open.Inst(), int64(origin.Idle), ofServer(name, semconv.HTTPConnectionStateIdle))
			for _, r := range reasons {
				if n := r.value(&origin.Closed); n > 0 {
					o.ObserveInt64(closes, int64(n), ofServer(name, attribute.String("thaw.pool.close_reason", r.name)))
				}
			}
		}
		stats := pool.Stats()
		for name, origin := range stats.Origins {
			if origin.Reached() {
				observe(name, &origin)
			}
		}
		if stats.Unreached != (transport.Origin{}) {
			observe(otherServer, &stats.Unreached)
		}
		return nil
	}
	if _, err := meter.RegisterCallback(collect, instruments...); err != nil {
		return err
	}
	pool.WatchConns(func(c connlife.End) {
		lived.Inst().Record(context.Background(), c.Lived.Seconds(), ofServer(c.Origin, semconv.NetworkProtocolVersion(version(c.Protocol))))
	})
	return nil
}

// ofServer returns the attributes of a measurement: the server of an origin, and others.
func ofServer(origin string, others ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(appendServer(others, origin)...))
}
