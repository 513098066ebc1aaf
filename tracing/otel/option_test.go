package otel_test

import (
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/thawhttp/thaw/tracing/otel"
)

func TestAllFaultsOfTheOptionsAreReported(t *testing.T) {
	t.Parallel()
	_, err := otel.New(nil, otel.WithTracerProvider(nil), otel.WithMeterProvider(nil), otel.WithPropagator(nil), otel.WithPool(nil),
		otel.WithTracerProvider(tracenoop.NewTracerProvider()), otel.WithTracerProvider(tracenoop.NewTracerProvider()),
		otel.WithPropagator(propagation.NewCompositeTextMapPropagator()), otel.WithPropagator(propagation.NewCompositeTextMapPropagator()))
	for _, want := range []string{
		"option 0 of New is nil: want a value made by one of the With functions",
		"WithTracerProvider(nil): want a trace.TracerProvider; leave the option out for the default",
		"WithMeterProvider(nil): want a metric.MeterProvider",
		"WithPropagator(nil): want a propagation.TextMapPropagator",
		"WithPool(nil): want a *transport.Transport",
		"WithTracerProvider was given twice: give it once",
		"WithPropagator was given twice: give it once",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is\n%v\nwhich does not say %q", err, want)
		}
	}
}

// broken is a MeterProvider that makes no instrument.
type broken struct{ metricnoop.MeterProvider }

func (broken) Meter(string, ...metric.MeterOption) metric.Meter { return brokenMeter{} }

type brokenMeter struct{ metricnoop.Meter }

var errBroken = errors.New("no more instruments")

func (brokenMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return nil, errBroken
}

func TestInstrumentsThatCannotBeMadeAreAnError(t *testing.T) {
	t.Parallel()
	if tracer, err := otel.New(otel.WithMeterProvider(broken{})); tracer != nil || !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "otel: ") {
		t.Errorf("got %v, %v", tracer, err)
	}
}
