package xray_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"
	"github.com/jarcoal/httpmock"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

var silent = log.New(io.Discard, "", 0)

// surroundings are what a request's context can have around its exchange, sampled.
var surroundings = []struct {
	name string
	// begin returns the context of requests, what is above their subsegments, and what completes that.
	begin func(ctx context.Context) (in context.Context, trace, parent string, end func())
}{
	{"lambda", func(ctx context.Context) (context.Context, string, string, func()) {
		return inLambda(ctx, lambdaHeader), lambdaTrace, lambdaParent, func() {}
	}},
	{"lambda, below a subsegment", func(ctx context.Context) (context.Context, string, string, func()) {
		ctx, seg := awsxray.BeginSubsegment(inLambda(ctx, lambdaHeader), "work")
		return ctx, lambdaTrace, seg.ID, func() { seg.Close(nil) }
	}},
	{"segment", func(ctx context.Context) (context.Context, string, string, func()) {
		ctx, seg := awsxray.BeginSegment(ctx, "program")
		return ctx, seg.TraceID, seg.ID, func() { seg.Close(nil) }
	}},
	{"segment, below nested subsegments", func(ctx context.Context) (context.Context, string, string, func()) {
		ctx, root := awsxray.BeginSegment(ctx, "program")
		ctx, outer := awsxray.BeginSubsegment(ctx, "outer")
		ctx, inner := awsxray.BeginSubsegment(ctx, "inner")
		return ctx, root.TraceID, inner.ID, func() {
			inner.Close(nil)
			outer.Close(nil)
			root.Close(nil)
		}
	}},
}

func TestEveryExchangeIsASubsegment(t *testing.T) {
	t.Parallel()
	for _, around := range surroundings {
		for proto, phases := range map[string]string{"h1": "connect", "tls": "connect tls", "h2": "connect tls"} {
			t.Run(around.name+"/"+proto, func(t *testing.T) {
				t.Parallel()
				d := listen(t)
				srv := serve(t, proto, echoTrace, transport.Config{})
				ctx, trace, parent, end := around.begin(d.context(t, true))

				before := time.Now()
				cold := srv.get(t, ctx, "/orders/7?token=1")
				req := srv.newRequest(t, ctx, "/orders/8")
				req.Header.Set("Accept", "text/plain")
				given := maps.Clone(req.Header)
				resp, err := srv.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				warm, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				after := time.Now()
				end()

				if !maps.EqualFunc(req.Header, given, func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }) {
					t.Errorf("the caller's header has become %v, it was %v", req.Header, given)
				}
				got := find(d.documents(t), srv.name)
				if len(got) != 2 {
					t.Fatalf("%d subsegments, want 2: %+v", len(got), got)
				}
				if got[0].HTTP.Request.URL != srv.URL+"/orders/7" {
					got[0], got[1] = got[1], got[0]
				}
				for i, sub := range got {
					sent := []string{cold, string(warm)}[i]
					if want := "Root=" + trace + ";Parent=" + sub.ID + ";Sampled=1"; sent != want {
						t.Errorf("request %d was sent with the trace header %q, want %q", i, sent, want)
					}
					if sub.ParentID != parent || sub.TraceID != trace {
						t.Errorf("request %d is below %s in %s, want %s in %s", i, sub.ParentID, sub.TraceID, parent, trace)
					}
					r := sub.HTTP
					if sub.Namespace != "remote" || r.Request.Method != "GET" || r.Request.URL != fmt.Sprintf("%s/orders/%d", srv.URL, 7+i) ||
						r.Response.Status != 200 || r.Response.ContentLength != len(sent) {
						t.Errorf("request %d is %q, %+v", i, sub.Namespace, sub.HTTP)
					}
					if sub.Fault || sub.Error || sub.Throttle || sub.message() != "" || sub.Metadata != nil {
						t.Errorf("request %d is marked as failed: %+v", i, sub)
					}
					within(t, sub, before, after)
					for _, phase := range sub.Subsegments {
						within(t, phase, time.UnixMicro(int64(sub.StartTime*1e6)-2), time.UnixMicro(int64(sub.EndTime*1e6)+2))
						if phase.ParentID != sub.ID || phase.Fault || phase.Namespace != "" {
							t.Errorf("%s is %+v, want it below %s", phase.Name, phase, sub.ID)
						}
					}
					a := sub.Annotations
					protocol := "http/1.1"
					if proto == "h2" {
						protocol = "h2"
					}
					if a["conn_reused"] != (i == 1) || a["conn_id"] != 1.0 || a["conn_protocol"] != protocol || a["attempt"] != 1.0 {
						t.Errorf("request %d has the annotations %v", i, a)
					}
					for _, ms := range []string{"conn_age_ms", "conn_idle_ms", "pool_wait_ms"} {
						if v, ok := a[ms].(float64); !ok || v < 0 || v > 60_000 {
							t.Errorf("request %d has %s %v", i, ms, a[ms])
						}
					}
				}
				if got[0].names() != phases || got[1].names() != "" {
					t.Errorf("below the subsegments are %q and %q, want %q and none", got[0].names(), got[1].names(), phases)
				}
				if a := got[0].Annotations; a["pool_wait_ms"].(float64) <= 0 {
					t.Errorf("who dialled waited for the pool for %v ms", a["pool_wait_ms"])
				}
			})
		}
	}
}

// within fails the test if the document is not between the times.
func within(t *testing.T, d document, from, to time.Time) {
	t.Helper()
	if d.StartTime*1e6 < float64(from.UnixMicro()-1) || d.EndTime*1e6 > float64(to.UnixMicro()+1) {
		t.Errorf("%s was from %f to %f, which is not within %f and %f", d.Name, d.StartTime, d.EndTime,
			float64(from.UnixMicro())/1e6, float64(to.UnixMicro())/1e6)
	}
}

func TestResolvingIsASubsegmentWhereItTookPlace(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	_, port, err := net.SplitHostPort(srv.name)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(inLambda(d.context(t, true), lambdaHeader), http.MethodGet, "http://localhost:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if sub := one(t, d.documents(t), "localhost:"+port); sub.names() != "dns connect" {
		t.Errorf("below the subsegment are %q, want dns and connect", sub.names())
	}
}

func TestWhatIsNotSampledIsPropagatedOnly(t *testing.T) {
	t.Parallel()
	passedOn := func(header string) func(context.Context) (context.Context, string, func()) {
		return func(ctx context.Context) (context.Context, string, func()) {
			return inLambda(ctx, header), header, func() {}
		}
	}
	const noParent = "Root=" + lambdaTrace + ";Sampled=1"
	const notSampled = "Root=" + lambdaTrace + ";Parent=" + lambdaParent + ";Sampled=0;Lineage=1:a1b2c3d4:0"
	for name, begin := range map[string]func(context.Context) (in context.Context, want string, end func()){
		"lambda":                    passedOn(notSampled),
		"lambda, undecided":         passedOn("Root=" + lambdaTrace + ";Parent=" + lambdaParent + ";Sampled=?"),
		"lambda, without a sign":    passedOn("Root=" + lambdaTrace + ";Parent=" + lambdaParent),
		"lambda, without a segment": passedOn(noParent),
		"lambda, below a subsegment": func(ctx context.Context) (context.Context, string, func()) {
			ctx, seg := awsxray.BeginSubsegment(inLambda(ctx, notSampled), "work")
			return ctx, "Root=" + lambdaTrace + ";Parent=" + seg.ID + ";Sampled=0", func() { seg.Close(nil) }
		},
		"segment": func(ctx context.Context) (context.Context, string, func()) {
			ctx, seg := awsxray.BeginSegment(ctx, "program")
			return ctx, "Root=" + seg.TraceID + ";Parent=" + seg.ID + ";Sampled=0", func() { seg.Close(nil) }
		},
		"a subsegment without sampling": func(ctx context.Context) (context.Context, string, func()) {
			ctx, seg := awsxray.BeginSubsegmentWithoutSampling(inLambda(ctx, lambdaHeader), "quiet")
			return ctx, "Root=" + lambdaTrace + ";Parent=" + seg.ID + ";Sampled=0", func() { seg.Close(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t)
			srv := serve(t, "h1", echoTrace, transport.Config{})
			ctx, want, end := begin(d.context(t, false))
			if got := srv.get(t, ctx, "/"); got != want {
				t.Errorf("the request was sent with the trace header %q, want %q", got, want)
			}
			end()
			if docs := d.documents(t); len(docs) != 0 {
				t.Errorf("documents %+v, want none", docs)
			}
		})
	}
}

func TestWithoutASegmentNothingHappens(t *testing.T) {
	t.Parallel()
	d := listen(t)
	for name, ctx := range map[string]context.Context{
		"a plain program":              d.context(t, true),
		"no header of Lambda":          inLambda(d.context(t, true), ""),
		"a header that is none":        inLambda(d.context(t, true), "no header\r\n"),
		"a key of somebody else":       context.WithValue(d.context(t, true), awsxray.LambdaTraceHeaderKey, []byte(lambdaHeader)), //nolint:staticcheck // the key is aws-lambda-go's
		"a detached context":           awsxray.DetachContext(context.Background()),
		"a segment of a disabled time": context.WithValue(d.context(t, true), awsxray.ContextKey, &awsxray.Segment{}),
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, "h1", echoTrace, transport.Config{})
			if got := srv.get(t, ctx, "/"); got != "" {
				t.Errorf("the request was sent with the trace header %q", got)
			}
			if docs := d.documents(t); len(docs) != 0 {
				t.Errorf("documents %+v, want none", docs)
			}
		})
	}
}

func TestLineageIsPassedOn(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	ctx := inLambda(d.context(t, true), lambdaHeader+";Lineage=1:a1b2c3d4:0")
	direct := srv.get(t, ctx, "/")
	below, seg := awsxray.BeginSubsegment(ctx, "work")
	nested := srv.get(t, below, "/")
	seg.Close(nil)
	for _, sent := range []string{direct, nested} {
		if !strings.Contains(sent, "Root="+lambdaTrace+";") || !strings.HasSuffix(sent, ";Sampled=1;Lineage=1:a1b2c3d4:0") {
			t.Errorf("the trace header is %q, want the Lineage in it", sent)
		}
	}
}

func TestAHeaderThatTheCallerSetIsReplaced(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	req := srv.newRequest(t, inLambda(d.context(t, true), lambdaHeader), "/")
	req.Header.Set(awsxray.TraceIDHeaderKey, "Root=1-00000000-000000000000000000000000")
	resp, err := srv.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if want := "Root=" + lambdaTrace + ";Parent=" + one(t, d.documents(t), srv.name).ID + ";Sampled=1"; string(got) != want {
		t.Errorf("the trace header is %q, want %q", got, want)
	}
	if got := req.Header.Get(awsxray.TraceIDHeaderKey); got != "Root=1-00000000-000000000000000000000000" {
		t.Errorf("the caller's header has become %q", got)
	}
}

func TestFiftyRequestsDuringOneDialAreAllRecorded(t *testing.T) {
	t.Parallel()
	for _, around := range surroundings {
		t.Run(around.name, func(t *testing.T) {
			t.Parallel()
			const n = 50
			d := listen(t)
			var dials atomic.Int64
			all := make(chan struct{})
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				<-all // have begun
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			srv := serve(t, "h2", echoTrace, transport.Config{DialContext: dial}, client.WithTracer(&atStart{n: n, f: func() { close(all) }}))
			ctx, trace, parent, end := around.begin(d.context(t, true))
			sent := make(chan string, n)
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() { sent <- srv.get(t, ctx, "/") })
			}
			wg.Wait()
			end()

			if dials.Load() != 1 {
				t.Errorf("%d dials, want 1", dials.Load())
			}
			subs := make(map[string]document) // by the header of the request
			dialled := 0
			for _, sub := range find(d.documents(t), srv.name) {
				subs["Root="+trace+";Parent="+sub.ID+";Sampled=1"] = sub
				if sub.ParentID != parent || sub.TraceID != trace || sub.InProgress || sub.Fault {
					t.Errorf("subsegment %+v, want it complete and below %s", sub, parent)
				}
				if sub.names() != "" {
					dialled++
				}
			}
			if len(subs) != n || dialled > 1 {
				t.Errorf("%d subsegments, %d of which dialled, want %d and at most 1", len(subs), dialled, n)
			}
			for range n {
				if h := <-sent; subs[h].ID == "" {
					t.Errorf("no subsegment belongs to the request with %q", h)
				}
			}
		})
	}
}

// atStart is a tracer that calls f at the nth start.
type atStart struct {
	n int64
	f func()

	started atomic.Int64
}

func (a *atStart) Start(ctx context.Context, _ tracing.Start) context.Context {
	if a.started.Add(1) == a.n {
		a.f()
	}
	return ctx
}

func (a *atStart) End(context.Context, tracing.Exchange) {}

func TestAttemptsAreSubsegmentsOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := listen(t)
	var sent []string
	traced, err := tracing.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		sent = append(sent, req.Header.Get(awsxray.TraceIDHeaderKey))
		if len(sent) < 3 {
			return nil, errors.New("connection refused")
		}
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	}), xray.New())
	if err != nil {
		t.Fatal(err)
	}
	rt := tracing.CountAttempts(roundTripper(func(req *http.Request) (*http.Response, error) {
		for {
			if resp, err := traced.RoundTrip(req); err == nil {
				return resp, nil
			}
		}
	}))
	req, err := http.NewRequestWithContext(inLambda(d.context(t, true), lambdaHeader), http.MethodGet, "https://api.example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	subs := find(d.documents(t), "api.example.com")
	if len(subs) != 3 {
		t.Fatalf("%d subsegments, want 3", len(subs))
	}
	for i, sub := range subs {
		if sub.Annotations["attempt"] != float64(i+1) || sub.Fault != (i < 2) || !strings.Contains(sent[i], "Parent="+sub.ID) {
			t.Errorf("attempt %d was sent with %q and is %+v", i+1, sent[i], sub)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A RoundTripper may make requests to answer one: to get a token, for example. Their exchanges are within that one.
func TestAnExchangeWithinAnExchange(t *testing.T) {
	t.Parallel()
	for _, quiet := range []bool{false, true} {
		t.Run(fmt.Sprintf("inner unsampled %t", quiet), func(t *testing.T) {
			t.Parallel()
			d := listen(t)
			answer := roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})
			inner, err := tracing.New(answer, xray.New())
			if err != nil {
				t.Fatal(err)
			}
			outer, err := tracing.New(roundTripper(func(req *http.Request) (*http.Response, error) {
				ctx := req.Context()
				if quiet {
					var seg *awsxray.Segment
					ctx, seg = awsxray.BeginSubsegmentWithoutSampling(ctx, "quiet")
					awsxray.GetSegment(req.Context()).RemoveSubsegment(seg) // it would never be sent, and what is above neither
				}
				token, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://token.example.com/", nil)
				if err != nil {
					return nil, err
				}
				if _, err := inner.RoundTrip(token); err != nil {
					return nil, err
				}
				return &http.Response{StatusCode: 503, Body: http.NoBody}, nil
			}), xray.New())
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(inLambda(d.context(t, true), lambdaHeader), http.MethodGet, "https://api.example.com/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := outer.RoundTrip(req); err != nil {
				t.Fatal(err)
			}
			docs := d.received(t)
			sub := one(t, docs, "api.example.com")
			if sub.HTTP.Response.Status != 503 || len(docs) != 1 {
				t.Errorf("documents %+v, want one, with the status 503", docs)
			}
			if quiet != (sub.names() == "") {
				t.Errorf("within the exchange are %q", sub.names())
			}
		})
	}
}

func TestOverAMockThereIsNoConnection(t *testing.T) {
	t.Parallel()
	d := listen(t)
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder(http.MethodGet, "https://api.example.com/", httpmock.NewStringResponder(200, "hello"))
	c, err := client.New(client.WithBase(mock), client.WithTracer(xray.New()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sub := getFrom(t, c.Client, d, "https://api.example.com/", "api.example.com")
	if len(sub.Annotations) != 1 || sub.Annotations["attempt"] != 1.0 || sub.HTTP.Response.ContentLength != len("hello") {
		t.Errorf("subsegment %+v, want no annotation but attempt", sub)
	}
}

func TestOverAnHTTPTransportTheConnectionHasNoNumber(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	rt, err := tracing.New(base, xray.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, reused := range []bool{false, true} {
		sub := getFrom(t, &http.Client{Transport: rt}, d, srv.URL, srv.name)
		if a := sub.Annotations; len(a) != 4 || a["conn_reused"] != reused || a["conn_idle_ms"] == nil || a["pool_wait_ms"] == nil || a["attempt"] == nil {
			t.Errorf("annotations %v, want conn_reused %t, conn_idle_ms, pool_wait_ms, attempt", a, reused)
		}
	}
}

// getFrom makes a request as a Lambda function and returns its subsegment.
func getFrom(t *testing.T, c *http.Client, d daemon, url, name string) document {
	t.Helper()
	req, err := http.NewRequestWithContext(inLambda(d.context(t, true), lambdaHeader), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return one(t, d.documents(t), name)
}
