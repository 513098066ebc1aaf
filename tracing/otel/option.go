package otel

import (
	"errors"
	"fmt"
	"reflect"

	api "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/thawhttp/thaw/transport"
)

// Option is a setting of [New]. The order of options does not matter; giving the same one twice is an error.
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

type config struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	propagator propagation.TextMapPropagator
	pool       *transport.Transport
}

// set returns the option that sets a field to v.
func set[T comparable](name string, v T, field func(*config) *T) Option {
	return option(func(c *config) error {
		var none T
		f := field(c)
		switch {
		case v == none:
			return fmt.Errorf("otel: %s(nil): want a %v; leave the option out for the default", name, reflect.TypeFor[T]())
		case *f != none:
			return fmt.Errorf("otel: %s was given twice: give it once", name)
		}
		*f = v
		return nil
	})
}

// WithTracerProvider sets where spans go. By default it is the global provider, also if that is set later on.
func WithTracerProvider(p trace.TracerProvider) Option {
	return set("WithTracerProvider", p, func(c *config) *trace.TracerProvider { return &c.tracers })
}

// WithMeterProvider sets where metrics go. By default it is the global provider, also if that is set later on.
func WithMeterProvider(p metric.MeterProvider) Option {
	return set("WithMeterProvider", p, func(c *config) *metric.MeterProvider { return &c.meters })
}

// WithPropagator sets what writes the trace into the requests' headers. By default it is the global propagator, also if
// that is set later on; it writes nothing before.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return set("WithPropagator", p, func(c *config) *propagation.TextMapPropagator { return &c.propagator })
}

// WithPool adds the metrics of a pool. The pool is to be that of one tracer: several would count it several times. The provider
// holds on to it for as long as it lives. By default there are no metrics of a pool.
func WithPool(p *transport.Transport) Option {
	return set("WithPool", p, func(c *config) **transport.Transport { return &c.pool })
}

// configure runs all options and returns what they amount to, or everything that is wrong with them.
func configure(opts []Option) (config, error) {
	var c config
	var errs []error
	for i, o := range opts {
		if o == nil {
			errs = append(errs, fmt.Errorf("otel: option %d of New is nil: want a value made by one of the With functions", i))
			continue
		}
		errs = append(errs, o.apply(&c))
	}
	if c.tracers == nil {
		c.tracers = api.GetTracerProvider()
	}
	if c.meters == nil {
		c.meters = api.GetMeterProvider()
	}
	if c.propagator == nil {
		c.propagator = api.GetTextMapPropagator()
	}
	return c, errors.Join(errs...)
}
