package otel_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/otel"
	"github.com/thawhttp/thaw/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// telemetry is an SDK whose exporter and reader are in memory, and no provider of which is a global one.
type telemetry struct {
	t        testing.TB
	exporter *tracetest.InMemoryExporter
	reader   *sdkmetric.ManualReader
	spans    *sdktrace.TracerProvider
	meters   *sdkmetric.MeterProvider
	options  []otel.Option
}

func newTelemetry(t testing.TB, sampler sdktrace.Sampler) *telemetry {
	x := &telemetry{t: t, exporter: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	x.spans = sdktrace.NewTracerProvider(sdktrace.WithSyncer(x.exporter), sdktrace.WithSampler(sampler))
	x.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(x.reader))
	x.options = []otel.Option{otel.WithTracerProvider(x.spans), otel.WithMeterProvider(x.meters), otel.WithPropagator(propagation.TraceContext{})}
	return x
}

// tracer returns a Tracer that is also told of the pool, unless that is nil.
func (x *telemetry) tracer(pool *transport.Transport) tracing.Tracer {
	x.t.Helper()
	options := x.options
	if pool != nil {
		options = append(slices.Clip(options), otel.WithPool(pool))
	}
	return newTracer(x.t, options...)
}

func newTracer(t testing.TB, options ...otel.Option) tracing.Tracer {
	t.Helper()
	tracer, err := otel.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// ended returns the spans that have ended since it was called last, less those of phases, by name.
func (x *telemetry) ended() (spans tracetest.SpanStubs, phases map[string][]tracetest.SpanStub) {
	phases = make(map[string][]tracetest.SpanStub)
	for _, s := range x.exporter.GetSpans() {
		if s.SpanKind == trace.SpanKindClient {
			spans = append(spans, s)
		} else {
			phases[s.Name] = append(phases[s.Name], s)
		}
	}
	x.exporter.Reset()
	return spans, phases
}

// one returns the only span that has ended since the last call.
func (x *telemetry) one() tracetest.SpanStub {
	x.t.Helper()
	spans, _ := x.ended()
	if len(spans) != 1 {
		x.t.Fatalf("%d spans, want 1: %+v", len(spans), spans)
	}
	return spans[0]
}

// values returns attributes by their names.
func values(attrs []attribute.KeyValue) map[string]any {
	v := make(map[string]any)
	for _, a := range attrs {
		v[string(a.Key)] = a.Value.AsInterface()
	}
	return v
}

// metrics collects, and returns every data point as "name{attributes}" with its value, which for a histogram is the number of
// measurements. The ports of servers are left out, and the histograms themselves are in the second map.
func (x *telemetry) metrics() (map[string]float64, map[string]metricdata.HistogramDataPoint[float64]) {
	x.t.Helper()
	var rm metricdata.ResourceMetrics
	if err := x.reader.Collect(context.Background(), &rm); err != nil {
		x.t.Fatal(err)
	}
	points, histograms := make(map[string]float64), make(map[string]metricdata.HistogramDataPoint[float64])
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			key := func(set attribute.Set) string {
				set, _ = set.Filter(func(kv attribute.KeyValue) bool { return kv.Key != "server.port" })
				return m.Name + "{" + set.Encoded(attribute.DefaultEncoder()) + "}"
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					points[key(p.Attributes)] += float64(p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					points[key(p.Attributes)] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					points[key(p.Attributes)] += float64(p.Count)
					histograms[key(p.Attributes)] = p
				}
			default:
				x.t.Fatalf("%s is a %T", m.Name, data)
			}
		}
	}
	return points, histograms
}

// is fails unless a metric has that value.
func is(t *testing.T, points map[string]float64, name string, want float64) {
	t.Helper()
	if got, ok := points[name]; !ok || got != want {
		t.Errorf("%s is %v (%t), want %v; there are %v", name, got, ok, want, points)
	}
}

// downstream is a server, and a traced client of it.
type downstream struct {
	*httptest.Server
	pool   *transport.Transport
	client *client.Client
	host   string
	port   int64
}

// serve starts a server that speaks the protocol, "h1", "tls" or "h2".
func (x *telemetry) serve(proto string, h http.HandlerFunc, cfg transport.Config, opts ...client.Option) *downstream {
	x.t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableHTTP2 = proto == "h2"
	if proto == "h1" {
		srv.Start()
	} else {
		srv.StartTLS()
	}
	x.t.Cleanup(srv.Close)
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	pool, err := transport.New(cfg)
	if err != nil {
		x.t.Fatal(err)
	}
	c, err := client.New(append(opts, client.WithBase(pool), client.WithTracer(x.tracer(pool)))...)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { c.Close() })
	host, p, _ := net.SplitHostPort(srv.Listener.Addr().String())
	port, _ := strconv.ParseInt(p, 10, 64)
	return &downstream{srv, pool, c, host, port}
}

// get makes a request and reads the answer.
func get(t testing.TB, ctx context.Context, c *http.Client, target string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// mustGet makes a request that must succeed.
func (d *downstream) mustGet(t testing.TB, ctx context.Context, path string) string {
	t.Helper()
	body, err := get(t, ctx, d.client.Client, d.URL+path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// status answers with the status that the path asks for.
func status(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil {
		n = 200
	}
	w.Header().Set("Retry-After", "0")
	w.WriteHeader(n)
}
