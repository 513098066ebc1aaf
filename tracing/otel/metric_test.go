package otel_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

func TestRequestsAreMeasured(t *testing.T) {
	t.Parallel()
	for name, sampler := range map[string]sdktrace.Sampler{"sampled": sdktrace.AlwaysSample(), "not sampled": sdktrace.NeverSample()} {
		x := newTelemetry(t, sampler)
		d := x.serve("tls", status, transport.Config{})
		d.mustGet(t, t.Context(), "/200")
		d.mustGet(t, t.Context(), "/200")
		d.mustGet(t, t.Context(), "/404")
		resp, err := d.client.Post(d.URL, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		points, histograms := x.metrics()
		is(t, points, "http.client.active_requests{http.request.method=GET,server.address=127.0.0.1}", 0)
		const duration = "http.client.request.duration{http.request.method=GET,http.response.status_code=200,network.protocol.version=1.1,server.address=127.0.0.1}"
		is(t, points, duration, 2)
		is(t, points, "http.client.request.duration{error.type=404,http.request.method=GET,http.response.status_code=404,network.protocol.version=1.1,server.address=127.0.0.1}", 1)
		if p := histograms[duration]; p.Sum <= 0 || p.Sum > time.Minute.Seconds() || !slices.Equal(p.Bounds, []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}) {
			t.Errorf("%s: the duration is %+v", name, p)
		}
		for _, p := range histograms {
			if port, ok := p.Attributes.Value("server.port"); !ok || port.AsInt64() != d.port {
				t.Errorf("the port is %v", port)
			}
			if name == "sampled" && len(p.Exemplars) == 0 {
				t.Errorf("%v has no exemplar", p.Attributes)
			}
		}
		resp.Body.Close()
	}
}

func TestActiveRequestsAreThoseWhoseBodyIsOpen(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	d := x.serve("h2", hello, transport.Config{})
	const active = "http.client.active_requests{http.request.method=GET,server.address=127.0.0.1}"
	resp, err := d.client.Get(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	points, _ := x.metrics()
	is(t, points, active, 1)
	is(t, points, "http.client.open_connections{http.connection.state=active,server.address=127.0.0.1}", 1)
	is(t, points, "http.client.open_connections{http.connection.state=idle,server.address=127.0.0.1}", 0)
	is(t, points, "thaw.pool.streams{server.address=127.0.0.1}", 1)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	points, _ = x.metrics()
	is(t, points, active, 0)
	is(t, points, "http.client.open_connections{http.connection.state=active,server.address=127.0.0.1}", 0)
	is(t, points, "http.client.open_connections{http.connection.state=idle,server.address=127.0.0.1}", 1)
	is(t, points, "thaw.pool.streams{server.address=127.0.0.1}", 0)
}

func TestConnectionsAreMeasuredWhenTheyEnd(t *testing.T) {
	t.Parallel()
	for proto, version := range map[string]string{"h1": "1.1", "h2": "2"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			x := newTelemetry(t, sdktrace.AlwaysSample())
			d := x.serve(proto, hello, transport.Config{})
			began := time.Now()
			if err := d.client.Warm(t.Context(), d.URL); err != nil { // no exchange of a tracer
				t.Fatal(err)
			}
			d.mustGet(t, t.Context(), "/")
			name := "http.client.connection.duration{network.protocol.version=" + version + ",server.address=127.0.0.1}"
			if points, _ := x.metrics(); points[name] != 0 {
				t.Errorf("%v connections have ended, want none", points[name])
			}
			d.client.Close()
			points, histograms := x.metrics()
			is(t, points, name, 1)
			p := histograms[name]
			if took := time.Since(began).Seconds(); p.Sum <= 0 || p.Sum > took {
				t.Errorf("the connection lived %v s, of %v s in all", p.Sum, took)
			}
			if last := p.Bounds[len(p.Bounds)-1]; last != transport.DefaultMaxConnLifetime.Seconds() {
				t.Errorf("the last bound is %v s, want the default of MaxConnLifetime", last)
			}
			is(t, points, "thaw.pool.closes{server.address=127.0.0.1,thaw.pool.close_reason=reset}", 1)
			is(t, points, "http.client.open_connections{http.connection.state=idle,server.address=127.0.0.1}", 0)
		})
	}
}

// The table of the pool's metrics has to have every field of the statistics: a field that is added there fails this test.
func TestEveryStatisticOfThePoolIsAMetric(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	d := x.serve("tls", hello, transport.Config{})
	for range 3 {
		d.mustGet(t, t.Context(), "/")
	}
	d.pool.Reset()
	d.mustGet(t, t.Context(), "/")
	stats := d.pool.Stats().Origin
	points, _ := x.metrics()
	const server = "{server.address=127.0.0.1}"
	names := map[string]string{
		"InUse": "http.client.open_connections{http.connection.state=active,server.address=127.0.0.1}",
		"Idle":  "http.client.open_connections{http.connection.state=idle,server.address=127.0.0.1}",
	}
	for field, name := range map[string]string{
		"Dialing": "dialing", "Waiting": "waiting", "Streams": "streams", "Requests": "requests", "Reused": "reuses", "Dials": "dials",
		"DialErrors": "dial_errors", "Handshakes": "handshakes", "Resumed": "resumptions", "Waits": "waits", "Verified": "verifications",
		"VerifyFailed": "verification_failures", "Replayed": "replays", "Leaked": "leaks",
	} {
		names[field] = "thaw.pool." + name + server
	}
	v := reflect.ValueOf(stats)
	for f := range v.Type().Fields() {
		value := v.FieldByName(f.Name)
		switch f.Name {
		case "Open", "Closed": // Open is InUse and Idle
		case "WaitTime":
			is(t, points, "thaw.pool.wait_time"+server, stats.WaitTime.Seconds())
		default:
			var n float64
			if value.CanInt() {
				n = float64(value.Int())
			} else {
				n = float64(value.Uint())
			}
			is(t, points, names[f.Name], n)
		}
	}
	if stats.Reused == 0 || stats.Dials != 2 || stats.WaitTime == 0 || stats.Closed.Reset != 1 {
		t.Errorf("the statistics say little: %+v", stats)
	}
	var closes []string
	for name := range points {
		if strings.HasPrefix(name, "thaw.pool.closes") {
			closes = append(closes, name)
		}
	}
	if len(closes) != 1 {
		t.Errorf("closes are %v, want the one reason that occurred", closes)
	}
}

func TestThePoolSaysNothingOfCredentials(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.AlwaysSample())
	d := x.serve("h1", hello, transport.Config{})
	target := strings.Replace(d.URL, "http://", "http://user:s3cr3t@", 1) + "/?s3cr3t"
	if _, err := get(t, t.Context(), &http.Client{Transport: d.pool}, target); err != nil {
		t.Fatal(err)
	}
	d.pool.Close()
	points, _ := x.metrics()
	is(t, points, "thaw.pool.requests{server.address=127.0.0.1}", 1)
	for name := range points {
		if strings.Contains(name, "s3cr3t") {
			t.Error(name)
		}
	}
}

// Whoever chooses the hosts that are called does not choose how many series there are.
func TestServersThatWereNotReachedHaveNoSeries(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.NeverSample())
	d := x.serve("h1", hello, transport.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "junk") {
			return unknown(ctx, network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}, client.WithRetry(retry.Policy{MaxAttempts: 1}))
	junk := func() {
		for i := range 5 {
			if _, err := get(t, t.Context(), d.client.Client, fmt.Sprintf("http://junk%d.test/", i)); err == nil {
				t.Fatal("the request succeeded")
			}
		}
	}
	junk()
	d.mustGet(t, t.Context(), "/")
	junk()
	points, _ := x.metrics()
	for name := range points {
		if strings.Contains(name, "junk") {
			t.Errorf("%s is of a server that was not reached", name)
		}
	}
	const attempts = 10
	is(t, points, "thaw.pool.dial_errors{server.address=_OTHER}", attempts)
	is(t, points, "thaw.pool.dial_errors{server.address=127.0.0.1}", 0)
	is(t, points, "thaw.pool.requests{server.address=127.0.0.1}", 1)
	is(t, points, "http.client.request.duration{error.type=dns,http.request.method=GET,server.address=_OTHER}", attempts)
	is(t, points, "http.client.active_requests{http.request.method=GET,server.address=127.0.0.1}", 0)
}

// An outage of a server that is known has its name.
func TestAServerThatGoesDownKeepsItsSeries(t *testing.T) {
	t.Parallel()
	x := newTelemetry(t, sdktrace.NeverSample())
	d := x.serve("h1", hello, transport.Config{}, client.WithRetry(retry.Policy{MaxAttempts: 1}))
	d.mustGet(t, t.Context(), "/")
	d.Close()
	for range 3 {
		if _, err := get(t, t.Context(), d.client.Client, d.URL); err == nil {
			t.Fatal("the request succeeded")
		}
	}
	points, _ := x.metrics()
	failed := 0.0
	for name, n := range points {
		if strings.HasPrefix(name, "http.client.request.duration{error.type=") && strings.Contains(name, "server.address=127.0.0.1") {
			failed += n
		}
		if strings.Contains(name, "_OTHER}") {
			t.Errorf("%s is of a server that was reached", name)
		}
	}
	if failed != 3 {
		t.Errorf("%v failures have the name of the server, want 3: %v", failed, points)
	}
	is(t, points, "http.client.active_requests{http.request.method=GET,server.address=127.0.0.1}", 0)
}
