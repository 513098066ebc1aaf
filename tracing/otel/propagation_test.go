package otel_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/propagators/aws/xray"
	api "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/thawhttp/thaw/tracing/otel"
	"github.com/thawhttp/thaw/transport"
)

// echoHeaders answers with what propagators write.
func echoHeaders(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"Traceparent", "Baggage", "X-Amzn-Trace-Id"} {
		io.WriteString(w, strings.Join(r.Header[name], "|")+"\n")
	}
}

func TestThePropagatorWritesIntoACopy(t *testing.T) {
	t.Parallel()
	for name, sampler := range map[string]sdktrace.Sampler{"sampled": sdktrace.AlwaysSample(), "not sampled": sdktrace.NeverSample()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTelemetry(t, sampler)
			x.options[2] = otel.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}, xray.Propagator{}))
			d := x.serve("h1", echoHeaders, transport.Config{})
			member, err := baggage.NewMember("tenant", "7")
			if err != nil {
				t.Fatal(err)
			}
			bag, err := baggage.New(member)
			if err != nil {
				t.Fatal(err)
			}
			ctx, parent := x.spans.Tracer("test").Start(baggage.ContextWithBaggage(t.Context(), bag), "parent")
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Traceparent", "the caller's")
			resp, err := d.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if len(req.Header) != 1 || req.Header.Get("Traceparent") != "the caller's" {
				t.Errorf("the caller's header is %v now", req.Header)
			}
			id := parent.SpanContext().TraceID().String()
			var got [3]string
			copy(got[:], strings.Split(string(sent), "\n"))
			span, flag := strings.Split(got[0]+"---", "-")[2], "0"
			if name == "sampled" {
				flag = "1"
				if s := x.one(); s.SpanContext.SpanID().String() != span {
					t.Errorf("the header names the span %s, which is not %v", span, s.SpanContext)
				}
			}
			want := [3]string{"00-" + id + "-" + span + "-0" + flag, "tenant=7", "Root=1-" + id[:8] + "-" + id[8:] + ";Parent=" + span + ";Sampled=" + flag}
			if got != want {
				t.Errorf("sent\n%q, want\n%q", got, want)
			}
		})
	}
}

// What comes in by X-Ray's header is what goes on.
func TestATraceOfXRayGoesOn(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.ParentBased(sdktrace.NeverSample()))
	x.options[2] = otel.WithPropagator(xray.Propagator{})
	d := x.serve("h1", echoHeaders, transport.Config{})
	in := http.Header{"X-Amzn-Trace-Id": {"Root=1-58406520-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=1"}}
	ctx := xray.Propagator{}.Extract(context.Background(), propagation.HeaderCarrier(in))
	sent := strings.TrimSpace(d.mustGet(t, ctx, "/"))
	s := x.one()
	want := "Root=1-58406520-a006649127e371903a2de979;Parent=" + s.SpanContext.SpanID().String() + ";Sampled=1"
	if sent != want || s.Parent.SpanID().String() != "53995c3f42cd8ad8" {
		t.Errorf("sent %s, want %s; the span is below %v", sent, want, s.Parent)
	}
}

// global is the SDK that is made global, which cannot be undone. It serves all runs of the test in a process.
var global struct {
	*telemetry
	runs int
}

// Not parallel: it sets what is global.
func TestWithoutOptionsEverythingIsGlobal(t *testing.T) {
	x := newTelemetry(t, sdktrace.AlwaysSample())
	first := global.telemetry == nil
	if first {
		global.telemetry = x
	}
	x, global.t = global.telemetry, t
	global.runs++
	x.options = nil
	d := x.serve("h1", echoHeaders, transport.Config{})
	if first {
		if sent := strings.TrimSpace(d.mustGet(t, t.Context(), "/")); sent != "" || len(x.exporter.GetSpans()) != 0 {
			t.Errorf("without an SDK, %q was sent, and %d spans made", sent, len(x.exporter.GetSpans()))
		}
		api.SetTracerProvider(x.spans)
		api.SetMeterProvider(x.meters)
		api.SetTextMapPropagator(xray.Propagator{})
	}
	sent := strings.TrimSpace(d.mustGet(t, t.Context(), "/"))
	if s := x.one(); !strings.Contains(sent, s.SpanContext.SpanID().String()) {
		t.Errorf("%q was sent of the span %v", sent, s.SpanContext)
	}
	points, _ := x.metrics()
	is(t, points, "http.client.request.duration{http.request.method=GET,http.response.status_code=200,network.protocol.version=1.1,server.address=127.0.0.1}", float64(global.runs))
	is(t, points, "thaw.pool.requests{server.address=127.0.0.1}", float64(global.runs+1))
}
