package xray_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/internal/legible"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

func TestStatusesAreMarked(t *testing.T) {
	t.Parallel()
	type marks struct{ throttle, err, fault bool }
	d := listen(t)
	srv := serve(t, "h1", func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
	}, transport.Config{})
	ctx := inLambda(d.context(t, true), lambdaHeader)
	for status, want := range map[int]marks{
		200: {}, 204: {}, 304: {}, 399: {},
		400: {err: true}, 404: {err: true}, 499: {err: true},
		429: {throttle: true, err: true},
		500: {fault: true}, 503: {fault: true}, 599: {fault: true},
	} {
		srv.get(t, ctx, fmt.Sprintf("/%d", status))
		sub := one(t, d.documents(t), srv.name)
		if got := (marks{sub.Throttle, sub.Error, sub.Fault}); got != want || sub.HTTP.Response.Status != status || sub.message() != "" {
			t.Errorf("%d is %+v, want %+v", status, sub, want)
		}
	}
}

const soon = 20 * time.Millisecond

// timeouts are requests that do not end in time. Those that end with the context do so in a phase that is known; the others
// when their time has come.
var timeouts = []struct {
	name, phase string
	cfg         transport.Config
	opts        []client.Option
	body        bool // the server sends half of a response
	deadline    bool // the context's, as soon as the phase has begun
}{
	{name: "deadline", deadline: true}, // the server may have it before the client has noted that it was written
	{name: "deadline in the body", phase: tracing.PhaseBody, body: true, deadline: true},
	{name: "deadline while dialling", phase: tracing.PhaseWait, cfg: transport.Config{DialContext: faultnet.DialNever}, deadline: true},
	{name: "timeout of the client", opts: []client.Option{client.WithTimeout(soon)}},
	{name: "timeout of the client in the body", body: true, opts: []client.Option{client.WithTimeout(10 * soon)}},
	{name: "no response header", phase: tracing.PhaseHeader, cfg: transport.Config{ResponseHeaderTimeout: soon}},
	{name: "no connection", phase: tracing.PhaseWait, cfg: transport.Config{DialContext: faultnet.DialNever, DialTimeout: soon}},
	{name: "no TLS handshake", phase: tracing.PhaseTLS, cfg: transport.Config{DialContext: faultnet.DialDeaf, TLSHandshakeTimeout: soon}},
}

// expiring is a context whose deadline is when the test says.
type expiring struct {
	context.Context
	expired chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.expired }

func (e expiring) Err() error {
	select {
	case <-e.expired:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestTimeoutsAreFaultsAndLeaveTheParentsIntact(t *testing.T) {
	t.Parallel()
	for _, around := range surroundings {
		for _, c := range timeouts {
			t.Run(around.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				d := listen(t)
				released, expired := make(chan struct{}), make(chan struct{})
				srv := serve(t, "h2", func(w http.ResponseWriter, r *http.Request) {
					if c.body {
						io.WriteString(w, "half of")
						w.(http.Flusher).Flush()
					}
					if c.deadline && !c.body {
						close(expired)
					}
					<-released
				}, c.cfg, c.opts...)
				defer close(released)
				ctx, trace, parent, end := around.begin(d.context(t, true))
				reqCtx := ctx
				if c.deadline {
					reqCtx = expiring{ctx, expired}
					if c.cfg.DialContext != nil {
						close(expired)
					}
				}
				resp, err := srv.client.Do(srv.newRequest(t, reqCtx, "/"))
				if err == nil {
					if c.deadline {
						close(expired)
					}
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err == nil {
					t.Fatal("the request did not time out")
				}
				end()

				docs := d.documents(t)
				sub := one(t, docs, srv.name)
				if !sub.Fault || sub.Error || sub.InProgress || sub.message() == "" {
					t.Errorf("%v is recorded as %+v, want a fault with the cause", err, sub)
				}
				if phase := sub.Metadata["thaw"]["failed"]; c.phase != "" && phase != c.phase {
					t.Errorf("%v in phase %v, want %s", err, phase, c.phase)
				}
				if sub.ParentID != parent || sub.TraceID != trace {
					t.Errorf("the subsegment is below %s in %s, want %s in %s", sub.ParentID, sub.TraceID, parent, trace)
				}
				if status := sub.HTTP.Response.Status; !c.body && status != 0 || c.phase == tracing.PhaseBody && status != 200 {
					t.Errorf("status %d", status)
				}
				for _, name := range []string{"work", "program", "outer", "inner"} {
					for _, above := range find(docs, name) {
						if above.InProgress || above.Fault {
							t.Errorf("%s is recorded as %+v, want it complete and in order", name, above)
						}
					}
				}
				if parent != lambdaParent && find(docs, "work") == nil && find(docs, "program") == nil {
					t.Errorf("what is above the request was not sent: %+v", docs)
				}
			})
		}
	}
}

func TestAPhaseThatFailedIsAFaultToo(t *testing.T) {
	t.Parallel()
	d := listen(t)
	began := time.Now()
	exchange(inLambda(d.context(t, true), lambdaHeader), tracing.Exchange{
		Method: "GET", URL: "https://api.example.com/", Origin: "https://api.example.com:443", Attempt: 1,
		Began: began, Ended: began.Add(30 * time.Millisecond), Err: errors.New("no route to host"), Failed: tracing.PhaseConnect,
		Dial: []tracing.Phase{
			{Name: tracing.PhaseDNS, Began: began.Add(time.Millisecond), Took: 2 * time.Millisecond},
			{Name: tracing.PhaseConnect, Began: began.Add(3 * time.Millisecond), Took: 20 * time.Millisecond, Err: errors.New("no route to host")},
		},
		Timing: tracing.Timing{Wait: 29 * time.Millisecond},
	})
	sub := one(t, d.documents(t), "api.example.com")
	if sub.names() != "dns connect" {
		t.Fatalf("below the subsegment are %q", sub.names())
	}
	dns, connect := sub.Subsegments[0], sub.Subsegments[1]
	if dns.Fault || !connect.Fault || connect.message() != "no route to host" {
		t.Errorf("dns is %+v, connect %+v, want the latter marked as a fault", dns, connect)
	}
	near := func(got, want float64) bool { return got-want < 1e-5 && want-got < 1e-5 }
	if start := float64(began.UnixMicro()) / 1e6; !near(sub.StartTime, start) || !near(dns.StartTime, start+.001) || !near(dns.EndTime, start+.003) ||
		!near(connect.StartTime, start+.003) || !near(connect.EndTime, start+.023) {
		t.Errorf("began %f; subsegment %f, dns %f to %f, connect %f to %f", start,
			sub.StartTime, dns.StartTime, dns.EndTime, connect.StartTime, connect.EndTime)
	}
	if a := sub.Annotations; len(a) != 2 || a["pool_wait_ms"] != 29.0 {
		t.Errorf("annotations %v, want the wait, and nothing of a connection", a)
	}
}

func TestWhatTheCallerDidIsNoFault(t *testing.T) {
	t.Parallel()
	d := listen(t)
	for name, err := range map[string]error{
		"cancelled": fmt.Errorf("transport: no connection: %w", context.Canceled),
		"leaked":    tracing.ErrLeaked,
	} {
		exchange(inLambda(d.context(t, true), lambdaHeader), tracing.Exchange{Origin: "https://api.example.com:443", Began: time.Now(), Err: err})
		if sub := one(t, d.documents(t), "api.example.com"); sub.Fault || !sub.Error || sub.message() != err.Error() {
			t.Errorf("%s: %+v, want an error with its cause", name, sub)
		}
	}
}

func TestWhatIsRareIsMetadata(t *testing.T) {
	t.Parallel()
	d := listen(t)
	ctx := inLambda(d.context(t, true), lambdaHeader)
	exchange(ctx, tracing.Exchange{Origin: "https://api.example.com:443", Began: time.Now(), Status: 200, Replays: 2, ClosedEarly: true})
	if got := one(t, d.documents(t), "api.example.com").Metadata["thaw"]; len(got) != 2 || got["replays"] != 2.0 || got["closed_early"] != true {
		t.Errorf("metadata %v", got)
	}
}

func TestTheNameIsTheHostOfTheOrigin(t *testing.T) {
	t.Parallel()
	d := listen(t)
	ctx := inLambda(d.context(t, true), lambdaHeader)
	for origin, want := range map[string]string{
		"https://api.example.com:443":                   "api.example.com",
		"https://api.example.com:8443":                  "api.example.com:8443",
		"https://api.example.com:80":                    "api.example.com:80",
		"http://api.example.com:80":                     "api.example.com",
		"http://[::1]:8080":                             "::1:8080",
		"http://my_service:8080":                        "my_service:8080",
		"https://bücher.example:443":                    "bücher.example",
		"http://:80":                                    "unknown",
		"":                                              "unknown",
		"http://a b\n:80":                               "ab",
		"http://" + strings.Repeat("a", 300) + ":80":    strings.Repeat("a", 200),
		"http://a" + strings.Repeat("ü", 150) + ":8080": "a" + strings.Repeat("ü", 99),
	} {
		exchange(ctx, tracing.Exchange{Origin: origin, Began: time.Now(), Status: 200})
		if docs := d.documents(t); len(docs) != 1 || docs[0].Name != want {
			t.Errorf("%q is called %+v, want %q", origin, docs, want)
		}
	}
}

func TestDocumentsStayWithinTheLimits(t *testing.T) {
	t.Parallel()
	d := listen(t)
	ctx, seg := awsxray.BeginSegment(d.context(t, true), "program")
	long := strings.Repeat("long <error> ü ", 10_000)
	for range 40 {
		exchange(ctx, tracing.Exchange{
			Method: strings.Repeat("M", 1000), URL: "https://api.example.com/" + strings.Repeat("ü", 10_000), Origin: "https://api.example.com:443",
			Began: time.Now(), Err: errors.New(long), Failed: tracing.PhaseDNS,
			Dial: []tracing.Phase{{Name: tracing.PhaseDNS, Began: time.Now(), Err: errors.New(long)}},
		})
	}
	seg.Close(nil)
	subs := find(d.documents(t), "api.example.com") // which validates
	if len(subs) != 40 {
		t.Errorf("%d subsegments, want 40", len(subs))
	}
	for _, sub := range subs {
		if u := sub.HTTP.Request.URL; len(u) < 240 || len(u) > 250 || !strings.HasPrefix(u, "https://api.example.com/ü") || strings.Contains(u, "\ufffd") {
			t.Errorf("URL %q", u)
		}
		if m := sub.message(); m != legible.Text(long) {
			t.Errorf("message %q", m)
		}
	}
}
