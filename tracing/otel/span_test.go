package otel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jarcoal/httpmock"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

func TestAnExchangeIsASpanByTheConvention(t *testing.T) {
	t.Parallel()
	for proto, want := range map[string]struct{ version, protocol string }{
		"h1": {"1.1", "http/1.1"}, "tls": {"1.1", "http/1.1"}, "h2": {"2", "h2"},
	} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			x := newTelemetry(t, sdktrace.AlwaysSample())
			d := x.serve(proto, hello, transport.Config{})
			ctx, parent := x.spans.Tracer("test").Start(t.Context(), "parent")
			began := time.Now()
			d.mustGet(t, ctx, "/orders/7?token=secret#fragment")
			d.mustGet(t, ctx, "/orders/7")
			took := time.Since(began)

			spans, phases := x.ended()
			if len(spans) != 2 {
				t.Fatalf("%d spans, want 2: %+v", len(spans), spans)
			}
			dialled := []string{"connect"}
			if proto != "h1" {
				dialled = append(dialled, "tls")
			}
			for i, s := range spans {
				got := values(s.Attributes)
				for _, varying := range []string{"thaw.conn.age_ms", "thaw.conn.idle_ms", "thaw.pool.wait_ms"} {
					if ms, ok := got[varying].(float64); !ok || ms < 0 || ms > float64(took.Milliseconds()+1) {
						t.Errorf("%s is %v", varying, got[varying])
					}
					delete(got, varying)
				}
				attrs := map[string]any{
					"http.request.method": "GET", "server.address": d.host, "server.port": d.port, "url.full": d.URL + "/orders/7",
					"http.response.status_code": int64(200), "network.protocol.version": want.version,
					"network.peer.address": d.host, "network.peer.port": d.port,
					"thaw.conn.reused": i > 0, "thaw.conn.id": int64(1), "thaw.conn.protocol": want.protocol,
				}
				if i == 0 && proto != "h1" {
					attrs["tls.protocol.version"], attrs["tls.resumed"] = "1.3", false
				}
				if !reflect.DeepEqual(got, attrs) {
					t.Errorf("span %d has\n%v, want\n%v", i, got, attrs)
				}
				if s.Name != "GET" || s.Status != (sdktrace.Status{}) || s.Parent.SpanID() != parent.SpanContext().SpanID() ||
					s.InstrumentationScope.Name != "github.com/thawhttp/thaw/tracing/otel" || s.InstrumentationScope.SchemaURL == "" {
					t.Errorf("span %d is %+v", i, s)
				}
				if s.StartTime.Before(began) || s.EndTime.Before(s.StartTime) || s.EndTime.Sub(began) > took {
					t.Errorf("span %d is from %v to %v", i, s.StartTime, s.EndTime)
				}
			}
			if len(phases) != len(dialled) {
				t.Errorf("the phases %v, want %v", phases, dialled)
			}
			last := spans[0].StartTime
			for _, name := range dialled {
				p := phases[name]
				if len(p) != 1 || p[0].Parent.SpanID() != spans[0].SpanContext.SpanID() || p[0].SpanKind != trace.SpanKindInternal ||
					p[0].StartTime.Before(last) || !p[0].EndTime.After(p[0].StartTime) || p[0].EndTime.After(spans[0].EndTime) {
					t.Errorf("%s is %+v", name, p)
					continue
				}
				last = p[0].EndTime
			}
		})
	}
}

func TestStatusesOfSpans(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	d := x.serve("h1", status, transport.Config{}, client.WithRetry(retry.Policy{MaxAttempts: 1}))
	for code, failure := range map[int]any{200: nil, 204: nil, 304: nil, 399: nil, 400: "400", 404: "404", 429: "429", 500: "500", 503: "503"} {
		d.mustGet(t, t.Context(), fmt.Sprintf("/%d", code))
		s := x.one()
		want := sdktrace.Status{}
		if failure != nil {
			want.Code = codes.Error
		}
		v := values(s.Attributes)
		if s.Status != want || v["error.type"] != failure || v["http.response.status_code"] != int64(code) {
			t.Errorf("%d has the status %+v and %v", code, s.Status, v)
		}
	}
}

func TestEachAttemptIsASpan(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	var n atomic.Int64
	d := x.serve("h2", func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, transport.Config{}, client.WithRetry(retry.Policy{MinBackoff: 1, MaxBackoff: 1}))
	ctx, parent := x.spans.Tracer("test").Start(t.Context(), "parent")
	d.mustGet(t, ctx, "/")
	spans, _ := x.ended()
	if len(spans) != 3 {
		t.Fatalf("%d spans, want 3", len(spans))
	}
	for i, want := range []struct {
		code   int64
		resend any
	}{{503, nil}, {503, int64(1)}, {200, int64(2)}} {
		v := values(spans[i].Attributes)
		if v["http.response.status_code"] != want.code || v["http.request.resend_count"] != want.resend || spans[i].Parent.SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("span %d is %+v", i, spans[i])
		}
	}
}

func TestMethods(t *testing.T) {
	for _, c := range []struct{ env, method, name, known string }{
		{"", "QUERY", "QUERY", "QUERY"},
		{"", "get", "HTTP", "_OTHER"},
		{"", "PURGE", "HTTP", "_OTHER"},
		{"GET, PURGE", "PURGE", "PURGE", "PURGE"},
		{"GET, PURGE,", "POST", "HTTP", "_OTHER"},
	} {
		t.Setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", c.env)
		x := newTelemetry(t, sdktrace.AlwaysSample())
		rt, err := tracing.New(httpmock.NewMockTransport(), x.tracer(nil))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), c.method, "https://api.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := rt.RoundTrip(req); err == nil {
			resp.Body.Close()
			t.Fatal("the mock knows the URL")
		}
		s := x.one()
		v := values(s.Attributes)
		var original any
		if c.known == "_OTHER" {
			original = c.method
		}
		if s.Name != c.name || v["http.request.method"] != c.known || v["http.request.method_original"] != original {
			t.Errorf("with %q, %s is %s, %v", c.env, c.method, s.Name, v)
		}
		points, _ := x.metrics()
		is(t, points, "http.client.request.duration{error.type=_OTHER,http.request.method="+c.known+",server.address=_OTHER}", 1)
	}
}

func TestWithoutConnectionDataThereIsNone(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", "https://api.test/orders", httpmock.NewStringResponder(200, "hello"))
	c, err := client.New(client.WithBase(mock), client.WithTracer(x.tracer(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, t.Context(), c.Client, "https://api.test/orders"); err != nil {
		t.Fatal(err)
	}
	got, want := values(x.one().Attributes), map[string]any{
		"http.request.method": "GET", "server.address": "api.test", "server.port": int64(443), "url.full": "https://api.test/orders",
		"http.response.status_code": int64(200),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

const soon = 20 * time.Millisecond

// failures are requests that do not succeed.
var failures = []struct {
	name          string
	proto         string
	cfg           transport.Config
	opts          []client.Option
	body          bool // the server sends half of a response
	cancel        bool // the caller does, once the request was written
	failure       string
	phase         string // empty where the server may be faster than the client's own notice
	failedPhases  string
	wantErrorText string
}{
	{name: "refused", proto: "h1", cfg: transport.Config{DialContext: refused}, failure: "wait", phase: "wait", wantErrorText: "refused"},
	{name: "no such name", proto: "h1", cfg: transport.Config{DialContext: unknown}, failure: "dns", phase: "dns", failedPhases: "dns", wantErrorText: "no such host"},
	{name: "no TLS", proto: "h1", failure: "tls", phase: "tls", failedPhases: "tls", wantErrorText: "TLS handshake"},
	{name: "no TLS in time", proto: "tls", cfg: transport.Config{DialContext: faultnet.DialDeaf, TLSHandshakeTimeout: soon}, failure: "timeout", phase: "tls", failedPhases: "tls", wantErrorText: "TLS handshake"},
	{name: "no connection in time", proto: "h1", cfg: transport.Config{DialContext: faultnet.DialNever, DialTimeout: soon}, failure: "timeout", phase: "wait"},
	{name: "no header in time", proto: "h2", cfg: transport.Config{ResponseHeaderTimeout: soon}, failure: "timeout", phase: "header"},
	{name: "timeout of the client", proto: "h1", opts: []client.Option{client.WithTimeout(soon)}, failure: "timeout"},
	{name: "timeout in the body", proto: "h2", body: true, opts: []client.Option{client.WithTimeout(10 * soon)}, failure: "timeout", phase: "body"},
	{name: "cancelled", proto: "h1", cancel: true, failure: "canceled", phase: "header"},
	{name: "cancelled", proto: "h2", cancel: true, failure: "canceled", phase: "header"},
}

func refused(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("refused")
}

func unknown(ctx context.Context, _, _ string) (net.Conn, error) {
	err := &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}
	hooks := httptrace.ContextClientTrace(ctx)
	hooks.DNSStart(httptrace.DNSStartInfo{})
	hooks.DNSDone(httptrace.DNSDoneInfo{Err: err})
	return nil, err
}

func TestFailuresOfSpans(t *testing.T) {
	t.Parallel()
	for _, c := range failures {
		t.Run(c.name+" "+c.proto, func(t *testing.T) {
			t.Parallel()
			x := newTelemetry(t, sdktrace.AlwaysSample())
			released := make(chan struct{})
			d := x.serve(c.proto, func(w http.ResponseWriter, r *http.Request) {
				if c.body {
					io.WriteString(w, "half of")
					w.(http.Flusher).Flush()
				}
				<-released
			}, c.cfg, append(c.opts, client.WithRetry(retry.Policy{MaxAttempts: 1}))...)
			defer close(released)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancel {
				ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { cancel() }})
			}
			target := d.URL
			if c.name == "no TLS" {
				target = strings.Replace(target, "http:", "https:", 1)
			}
			if _, err := get(t, ctx, d.client.Client, target); err == nil {
				t.Fatal("the request succeeded")
			}

			spans, phases := x.ended()
			if len(spans) != 1 {
				t.Fatalf("%d spans, want 1", len(spans))
			}
			s, v := spans[0], values(spans[0].Attributes)
			if s.Status.Code != codes.Error || s.Status.Description == "" || !strings.Contains(s.Status.Description, c.wantErrorText) {
				t.Errorf("the status is %+v", s.Status)
			}
			if v["error.type"] != c.failure || c.phase != "" && v["thaw.failed"] != c.phase || (v["http.response.status_code"] != nil) != c.body {
				t.Errorf("the attributes are %v, want error.type %s and thaw.failed %s", v, c.failure, c.phase)
			}
			if c.failedPhases != "" {
				p := phases[c.failedPhases]
				if len(p) != 1 || p[0].Status.Code != codes.Error || p[0].Status.Description == "" || values(p[0].Attributes)["error.type"] != c.failure {
					t.Errorf("the phases are %+v, want %s failed", phases, c.failedPhases)
				}
			}
			points, _ := x.metrics()
			if v["network.peer.address"] != nil {
				is(t, points, "http.client.active_requests{http.request.method=GET,server.address=127.0.0.1}", 0)
			}
			for name := range points {
				if v["network.peer.address"] == nil && strings.Contains(name, "server.address=127.0.0.1") {
					t.Errorf("%s is of a server that was not reached", name)
				}
			}
			measured := false
			for name, n := range points {
				if strings.HasPrefix(name, "http.client.request.duration{error.type="+c.failure) {
					measured = n == 1
				}
			}
			if !measured {
				t.Errorf("the duration was not measured: %v", points)
			}
		})
	}
}

func TestABrokenConnectionUnderANewRequestIsAReplay(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	var requests atomic.Int32
	d := x.serve("h1", func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
		hello(w, r)
	}, transport.Config{})
	for range 2 {
		if _, err := get(t, t.Context(), d.client.Client, d.URL); err != nil {
			t.Fatal(err)
		}
	}
	d.pool.CloseIdleConnections()
	spans, phases := x.ended()
	if len(spans) != 2 || len(phases["connect"]) != 2 {
		t.Fatalf("%d spans, with the phases %v; want 2, each of which connects", len(spans), phases)
	}
	if v := values(spans[1].Attributes); v["thaw.replays"] != int64(1) || v["http.request.resend_count"] != nil || v["thaw.conn.id"] != int64(2) || v["thaw.conn.reused"] != false {
		t.Errorf("the replayed one has %v", v)
	}
	points, _ := x.metrics()
	is(t, points, "thaw.pool.replays{server.address=127.0.0.1}", 1)
}

// leak makes a request and forgets the response. It returns the request's context, which ends soon.
//
//go:noinline
func leak(t *testing.T, d *downstream) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 2); err != nil {
		t.Fatal(err)
	}
	return ctx
}

func TestALeakedBodyEndsItsSpanWhenTheResponseWasThere(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	d := x.serve("h1", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("hello", 1000))
	}, transport.Config{}, client.WithTimeout(transport.Disabled)) // whose goroutine would outlive the test
	ctx := leak(t, d)
	answered := time.Now()
	<-ctx.Done() // as if the next invocation collected the garbage
	for deadline := answered.Add(10 * time.Second); len(x.exporter.GetSpans()) < 2; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the span did not end")
		}
	}
	s := x.one()
	if v := values(s.Attributes); v["error.type"] != "leaked" || s.Status.Code != codes.Error || s.EndTime.After(answered) {
		t.Errorf("leaked: %v, %+v, ended %v after the response was there", v, s.Status, s.EndTime.Sub(answered))
	}
	const duration = "http.client.request.duration{error.type=leaked,http.request.method=GET,http.response.status_code=200,network.protocol.version=1.1,server.address=127.0.0.1}"
	if _, histograms := x.metrics(); histograms[duration].Sum <= 0 || histograms[duration].Sum > answered.Sub(s.StartTime).Seconds() {
		t.Errorf("measured as %+v, the response was there after %v", histograms, answered.Sub(s.StartTime))
	}
}

func TestABodyClosedEarly(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	d := x.serve("h1", hello, transport.Config{})
	resp, err := d.client.Get(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if s := x.one(); values(s.Attributes)["thaw.closed_early"] != true || s.Status != (sdktrace.Status{}) {
		t.Errorf("%+v", s)
	}
}

func TestNoSpanIsLostWhenRequestsShareADial(t *testing.T) {
	t.Parallel()
	const n = 50
	for name, sampler := range map[string]sdktrace.Sampler{"sampled": sdktrace.AlwaysSample(), "not sampled": sdktrace.NeverSample()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTelemetry(t, sampler)
			var headers sync.Map
			all := make(chan struct{})
			var asked atomic.Int64
			d := x.serve("h2", func(w http.ResponseWriter, r *http.Request) {
				headers.Store(r.Header.Get("Traceparent"), true)
			}, transport.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				<-all
				return new(net.Dialer).DialContext(ctx, network, addr)
			}})
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) {
						if asked.Add(1) == n {
							close(all)
						}
					}})
					if _, err := get(t, ctx, d.client.Client, d.URL); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			spans, phases := x.ended()
			want, connects := n, 1
			if name != "sampled" {
				want, connects = 0, 0
			}
			if len(spans) != want || len(phases["connect"]) != connects || len(phases["tls"]) != connects {
				t.Errorf("%d spans, %d of them dialled, want %d and %d", len(spans), len(phases["connect"]), want, connects)
			}
			sent := 0
			headers.Range(func(k, _ any) bool {
				if strings.HasSuffix(k.(string), "-01") == (name == "sampled") && k != "" {
					sent++
				}
				return true
			})
			if sent != n {
				t.Errorf("%d different headers were sent, want %d", sent, n)
			}
			points, _ := x.metrics()
			is(t, points, "http.client.request.duration{http.request.method=GET,http.response.status_code=200,network.protocol.version=2,server.address=127.0.0.1}", n)
			is(t, points, "thaw.pool.dials{server.address=127.0.0.1}", 1)
			is(t, points, "thaw.pool.waits{server.address=127.0.0.1}", n)
		})
	}
}
