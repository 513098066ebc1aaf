package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"
	"github.com/aws/aws-xray-sdk-go/v2/xraylog"
	"go.opentelemetry.io/contrib/instrumentation/net/http/httptrace/otelhttptrace"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/otel"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

// The contestants of the race of tracers, in the order of newTracers.
const (
	untraced = iota
	tracedLog
	tracedXRay
	tracedOTel
	theirXRay // xray.Client of the SDK, around the untraced client
	theirOTel // otelhttp with otelhttptrace, which looks at connections too, around the untraced client's
	bareOTel  // otelhttp without it: a span and metrics that know of no connection
	tracers
)

var tracerNames = [tracers]string{"untraced", "tracing.Log", "tracing/xray", "tracing/otel", "xray.Client", "otelhttp+otelhttptrace", "otelhttp"}

// blank throws spans away.
type blank struct{}

func (blank) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (blank) Shutdown(context.Context) error                             { return nil }

// hooked answers in the pool's place, and calls the hooks that the pool calls for a request on an idle connection. The pool's
// own cost, a multiple of what is measured here, would drown that on a busy machine.
type hooked struct{ conn idleConn }

func (h *hooked) RoundTrip(req *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
		call := func(hook func()) {
			if hook != nil {
				hook()
			}
		}
		if trace.GetConn != nil {
			trace.GetConn("api.test:443")
		}
		if trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: &h.conn, Reused: true, WasIdle: true, IdleTime: time.Millisecond})
		}
		for name, values := range req.Header {
			if trace.WroteHeaderField != nil {
				trace.WroteHeaderField(name, values)
			}
		}
		call(trace.WroteHeaders)
		if trace.WroteRequest != nil {
			trace.WroteRequest(httptrace.WroteRequestInfo{})
		}
		call(trace.GotFirstResponseByte)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{"Content-Type": {"text/plain"}},
		Body: io.NopCloser(bytes.NewReader(reply)), ContentLength: int64(len(reply)), Request: req,
	}, nil
}

// idleConn is what the pool says of a connection.
type idleConn struct{ net.Conn }

var peer = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}

func (*idleConn) RemoteAddr() net.Addr      { return peer }
func (*idleConn) LocalAddr() net.Addr       { return peer }
func (*idleConn) ID() uint64                { return 1 }
func (*idleConn) Created() time.Time        { return time.Unix(0, 0) }
func (*idleConn) Uses() uint64              { return 2 }
func (*idleConn) Protocol() string          { return "h2" }
func (*idleConn) TLS() *tls.ConnectionState { return nil }

var _ transport.ConnInfo = (*idleConn)(nil)

// newTracers returns the contestants and the context of their requests: that of a Lambda function, which has a trace header of
// X-Ray, and of a server that OpenTelemetry traces. Nobody reads what is sent to X-Ray's daemon.
func newTracers(tb testing.TB, sampled bool) ([tracers]*http.Client, context.Context) {
	tb.Helper()
	must := func(err error) {
		if err != nil {
			tb.Helper()
			tb.Fatal(err)
		}
	}
	newClient := func(opts ...client.Option) *http.Client {
		c, err := client.New(append(opts, client.WithBase(new(hooked)), client.WithTimeout(transport.Disabled))...)
		must(err)
		return c.Client
	}
	spans := sdktrace.NewTracerProvider(sdktrace.WithSyncer(blank{}), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	ours, err := otel.New(otel.WithTracerProvider(spans), otel.WithMeterProvider(meters), otel.WithPropagator(propagation.TraceContext{}))
	must(err)
	traced := func(t tracing.Tracer) *http.Client { return newClient(client.WithTracer(t)) }
	wrapped := func(opts ...otelhttp.Option) *http.Client {
		c := newClient()
		c.Transport = otelhttp.NewTransport(c.Transport, append(opts, otelhttp.WithTracerProvider(spans), otelhttp.WithMeterProvider(meters), otelhttp.WithPropagators(propagation.TraceContext{}))...)
		return c
	}
	clients := [tracers]*http.Client{
		untraced:   newClient(),
		tracedLog:  traced(tracing.Log(slog.New(slog.NewJSONHandler(io.Discard, nil)))),
		tracedXRay: traced(xray.New()),
		tracedOTel: traced(ours),
		theirXRay:  awsxray.Client(newClient()),
		theirOTel: wrapped(otelhttp.WithClientTrace(func(ctx context.Context) *httptrace.ClientTrace {
			return otelhttptrace.NewClientTrace(ctx, otelhttptrace.WithTracerProvider(spans))
		})),
		bareOTel: wrapped(),
	}

	awsxray.SetLogger(xraylog.NullLogger)
	daemon, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(err)
	tb.Cleanup(func() { daemon.Close() })
	emitter, err := awsxray.NewDefaultEmitter(daemon.LocalAddr().(*net.UDPAddr))
	must(err)
	ctx := context.WithValue(context.Background(), awsxray.RecorderContextKey{}, &awsxray.Config{Emitter: emitter})
	var flags trace.TraceFlags
	header := "Root=1-58406520-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=0"
	if sampled {
		flags, header = trace.FlagsSampled, strings.TrimSuffix(header, "0")+"1"
	}
	ctx = context.WithValue(ctx, awsxray.LambdaTraceHeaderKey, header) //nolint:staticcheck // the key is aws-lambda-go's
	return clients, trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags, Remote: true,
	}))
}

// turn has a client make n requests, and returns what they cost.
func turn(tb testing.TB, ctx context.Context, c *http.Client, n int) cost {
	tb.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	for range n {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.test/orders/7", nil)
		if err != nil {
			tb.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			tb.Fatal(err)
		}
		if err := finish(resp); err != nil {
			tb.Fatal(err)
		}
	}
	spent := cost{cpu: cpuTime() - cpu, wall: time.Since(start)}
	runtime.ReadMemStats(&after)
	return cost{
		cpu:    spent.cpu / time.Duration(n),
		wall:   spent.wall / time.Duration(n),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}
}

// perTurn is how many requests a client makes until it is the next one's turn.
const perTurn = 200

// race has the clients take turns, in an order that is drawn anew for each round, as long as another round is wanted. What
// one leaves to the garbage collector is mostly paid for by another: by each as often. The first turn is not counted.
func race(tb testing.TB, sampled bool, another func() bool) [][tracers]cost {
	tb.Helper()
	clients, ctx := newTracers(tb, sampled)
	for _, c := range clients {
		turn(tb, ctx, c, perTurn)
	}
	var costs [][tracers]cost
	for another() {
		var round [tracers]cost
		for _, i := range rand.Perm(tracers) {
			round[i] = turn(tb, ctx, clients[i], perTurn)
		}
		costs = append(costs, round)
	}
	return costs
}

// more returns what a contestant costs beyond the untraced client in each round.
func more(costs [][tracers]cost, who int, value func(cost) float64) []float64 {
	return each(costs, func(round [tracers]cost) float64 { return value(round[who]) - value(round[untraced]) })
}

func cpuOf(c cost) float64    { return float64(c.cpu) }
func allocsOf(c cost) float64 { return c.allocs }
func bytesOf(c cost) float64  { return c.bytes }

// BenchmarkTracing measures what tracing costs a request beyond the untraced client, with this module's tracers and with what
// is put around a client instead. Each iteration is a round in which all take turns. It prints a table, in which the ratios
// are of what is more than untraced:
//
//	go test -run '^$' -bench Tracing -benchtime 100x .
func BenchmarkTracing(b *testing.B) {
	for _, sampled := range []bool{true, false} {
		b.Run(map[bool]string{true: "sampled", false: "notSampled"}[sampled], func(b *testing.B) {
			costs := race(b, sampled, b.Loop)
			b.ReportMetric(0, "ns/op") // of all of them: of no interest
			var table strings.Builder
			w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "%d rounds of %d\tµs CPU\tmore\tto xray.Client\tto otelhttp+otelhttptrace\tobjects\tmore\tbytes\t\n", len(costs), perTurn)
			for who, name := range tracerNames {
				median := func(value func(cost) float64) float64 {
					return quantile(each(costs, func(round [tracers]cost) float64 { return value(round[who]) }), 0.5)
				}
				extra := more(costs, who, cpuOf)
				fmt.Fprintf(w, "%s\t%.1f\t", name, median(cpuOf)/1e3)
				if who == untraced {
					fmt.Fprint(w, "\t\t\t")
				} else {
					fmt.Fprintf(w, "%.1f\t%s\t%s\t", quantile(extra, 0.5)/1e3,
						ratioOf(extra, more(costs, theirXRay, cpuOf)), ratioOf(extra, more(costs, theirOTel, cpuOf)))
					b.ReportMetric(quantile(extra, 0.5), "cpu-ns-more/"+name)
				}
				fmt.Fprintf(w, "%.0f\t%.0f\t%.0f\t\n", median(allocsOf), quantile(more(costs, who, allocsOf), 0.5), median(bytesOf))
			}
			w.Flush()
			b.Log("a request\n" + strings.TrimSpace(table.String()))
		})
	}
}

// times returns a function that is true so often.
func times(n int) func() bool {
	return func() bool { n--; return n >= 0 }
}

// CPU is for the benchmark; objects do not depend on the machine.
func TestTracersAllocateNoMoreThanWhatIsPutAroundAClient(t *testing.T) {
	skipUnderRace(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, sampled := range []bool{true, false} {
		costs := race(t, sampled, times(5))
		allocs := func(who int) float64 { return quantile(more(costs, who, allocsOf), 0.5) }
		for who, name := range tracerNames {
			t.Logf("sampled %t: %s allocates %.1f objects more than untraced", sampled, name, allocs(who))
		}
		for _, pair := range [...][2]int{{tracedLog, theirXRay}, {tracedLog, theirOTel}, {tracedXRay, theirXRay}, {tracedOTel, theirOTel}} {
			if ours, theirs := allocs(pair[0]), allocs(pair[1]); ours > theirs+0.5 {
				t.Errorf("sampled %t: %s allocates %.1f objects a request, %s %.1f", sampled, tracerNames[pair[0]], ours, tracerNames[pair[1]], theirs)
			}
		}
	}
}
