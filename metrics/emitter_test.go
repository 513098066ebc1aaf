package metrics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

func TestMain(m *testing.M) {
	os.Unsetenv("AWS_LAMBDA_FUNCTION_NAME") // the tests that want it set it
	goleak.VerifyTestMain(m)
}

// pool is a Source that says what it is told to.
type pool struct{ now transport.Stats }

func (p *pool) Stats() transport.Stats {
	s := p.now
	s.Origins = maps.Clone(s.Origins)
	return s
}

// request counts n requests to an origin.
func (p *pool) request(origin string, n uint64) {
	if p.now.Origins == nil {
		p.now.Origins = make(map[string]transport.Origin)
	}
	o := p.now.Origins[origin]
	o.Requests += n
	p.now.Origins[origin] = o
	p.now.Requests += n
}

// output is what an Emitter writes to. It checks that every call of Write brings whole lines.
type output struct {
	mu     sync.Mutex // guards what follows
	t      *testing.T
	writes int
	b      bytes.Buffer
	err    error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if o.err != nil {
		return 0, o.err
	}
	if !bytes.HasSuffix(p, []byte("\n")) {
		o.t.Errorf("a call of Write ends within a line: %q", p)
	}
	return o.b.Write(p)
}

// take returns the documents that were written since the last call. Each is valid.
func (o *output) take() []map[string]any {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	var docs []map[string]any
	for line := range strings.Lines(o.b.String()) {
		docs = append(docs, validate(o.t, line))
	}
	o.b.Reset()
	return docs
}

var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile("testdata/emf.schema.json")
})

// validate checks a line against the specification: its schema, and what a schema cannot say.
func validate(t *testing.T, line string) map[string]any {
	t.Helper()
	if len(line) > 1<<20 {
		t.Errorf("a line of %d bytes: CloudWatch takes 1 MiB", len(line))
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	compiled, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	if err := compiled.Validate(value); err != nil {
		t.Errorf("%v\nin %s", err, line)
	}
	var doc struct {
		AWS struct {
			CloudWatchMetrics []struct {
				Dimensions [][]string
				Metrics    []struct{ Name string }
			}
		} `json:"_aws"`
	}
	root := make(map[string]any)
	if err := errors.Join(json.Unmarshal([]byte(line), &doc), json.Unmarshal([]byte(line), &root)); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"_aws": true}
	for _, directive := range doc.AWS.CloudWatchMetrics {
		for _, name := range slices.Concat(directive.Dimensions...) {
			known[name] = true
			if s, ok := root[name].(string); !ok || s == "" || len(s) > 1024 {
				t.Errorf("the dimension %q has the value %v, want a string of 1 to 1024 bytes", name, root[name])
			}
		}
		for _, m := range directive.Metrics {
			known[m.Name] = true
			if n, ok := root[m.Name].(float64); !ok || n < 0 {
				t.Errorf("the metric %q has the value %v, want a number", m.Name, root[m.Name])
			}
		}
	}
	for name := range root {
		if !known[name] {
			t.Errorf("the root has a member %q that is neither a dimension nor a metric", name)
		}
	}
	return root
}

func newEmitter(t *testing.T, opts ...Option) (*Emitter, *output) {
	t.Helper()
	out := &output{t: t}
	e, err := EMF(out, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return e, out
}

func emit(t *testing.T, e *Emitter, source Source) {
	t.Helper()
	if err := e.Emit(source); err != nil {
		t.Error(err)
	}
}

// want compares what a document has with what it should have. It may have more.
func want(t *testing.T, doc map[string]any, members map[string]any) {
	t.Helper()
	for name, value := range members {
		if !reflect.DeepEqual(doc[name], value) {
			t.Errorf("%s is %v, want %v, in %v", name, doc[name], value, doc)
		}
	}
}

func TestALineSaysWhatHappenedSinceTheLastOne(t *testing.T) {
	t.Setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
	e, out := newEmitter(t)
	e.now = func() time.Time { return time.UnixMilli(1574109732004) }
	p := &pool{}
	p.now.Origin = transport.Origin{
		Open: 3, Idle: 2, InUse: 1, Requests: 10, Reused: 8, Dials: 7, Handshakes: 6, Resumed: 5, Waits: 4,
		WaitTime: 1234567 * time.Nanosecond, Verified: 3, Replayed: 2, Leaked: 1, Closed: transport.Closed{Stale: 9, Server: 5},
	}
	emit(t, e, p)
	first := out.take()
	if len(first) != 1 {
		t.Fatalf("%d lines, want 1", len(first))
	}
	want(t, first[0], map[string]any{
		"FunctionName": "orders", "Requests": 10.0, "Reused": 8.0, "Dials": 7.0, "Handshakes": 6.0, "Resumed": 5.0, "Waits": 4.0,
		"WaitTime": 1.235, "Stale": 9.0, "Verified": 3.0, "Replayed": 2.0, "Leaked": 1.0, "Open": 3.0, "Idle": 2.0,
		"Retries": nil, // nobody counts them
	})
	units := map[any]any{}
	directive := first[0]["_aws"].(map[string]any)["CloudWatchMetrics"].([]any)[0].(map[string]any)
	for _, m := range directive["Metrics"].([]any) {
		units[m.(map[string]any)["Name"]] = m.(map[string]any)["Unit"]
	}
	if len(units) != 13 || units["WaitTime"] != "Milliseconds" || units["Requests"] != "Count" || units["Open"] != "Count" {
		t.Errorf("the metrics and their units are %v", units)
	}
	if ns, at := directive["Namespace"], first[0]["_aws"].(map[string]any)["Timestamp"]; ns != "thaw" || at != 1574109732004.0 {
		t.Errorf("namespace %v, timestamp %v", ns, at)
	}

	p.now.Requests, p.now.Reused, p.now.WaitTime, p.now.Idle = 13, 11, p.now.WaitTime+time.Millisecond, 3
	emit(t, e, p)
	second := out.take()
	if len(second) != 1 {
		t.Fatalf("%d lines, want 1", len(second))
	}
	want(t, second[0], map[string]any{"Requests": 3.0, "Reused": 3.0, "Dials": 0.0, "WaitTime": 1.0, "Stale": 0.0, "Open": 3.0, "Idle": 3.0})
}

func TestNothingIsWrittenWhenNothingHappened(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(0))
	p := &pool{}
	emit(t, e, p)
	p.now.Open, p.now.Idle = 5, 5 // connections that are there do nothing
	emit(t, e, p)
	if out.writes != 0 {
		t.Errorf("%d calls of Write for nothing: %q", out.writes, &out.b)
	}
	p.request("https://a.test:443", 1)
	emit(t, e, p)
	emit(t, e, p)
	if n := len(out.take()); n != 2 || out.writes != 1 {
		t.Errorf("%d lines in %d calls, want the total and the origin in one", n, out.writes)
	}
}

func TestWhatCouldNotBeWrittenIsInTheNextLine(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t)
	tracer := e.Tracer()
	p := &pool{}
	p.request("https://a.test:443", 2)
	tracer.Start(t.Context(), tracing.Start{Attempt: 2, Origin: "https://a.test:443"})
	out.err = io.ErrClosedPipe
	if err := e.Emit(p); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the error is %v, want the writer's", err)
	}
	out.err = nil
	p.request("https://a.test:443", 1)
	emit(t, e, p)
	want(t, out.take()[0], map[string]any{"Requests": 3.0, "Retries": 1.0})
}

func TestCountersThatBeginAnewAreThoseOfANewPool(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t)
	p := &pool{}
	p.request("https://a.test:443", 100)
	emit(t, e, p)
	p = &pool{}
	p.request("https://a.test:443", 7)
	emit(t, e, p)
	want(t, out.take()[1], map[string]any{"Requests": 7.0})
}

func TestOriginsHaveLinesOfTheirOwn(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(2), WithDimensions(Dimension{"Stage", "production"}))
	p := &pool{}
	p.request("https://a.test:443", 1)
	p.request("https://b.test:443", 5)
	p.request("https://c.test:443", 3)
	p.request("https://d.test:443", 2)
	emit(t, e, p)
	docs := out.take()
	if len(docs) != 4 {
		t.Fatalf("%d lines, want the total, two origins and the rest", len(docs))
	}
	want(t, docs[0], map[string]any{"Stage": "production", "Origin": nil, "Requests": 11.0})
	want(t, docs[1], map[string]any{"Stage": "production", "Origin": "https://b.test:443", "Requests": 5.0})
	want(t, docs[2], map[string]any{"Stage": "production", "Origin": "https://c.test:443", "Requests": 3.0})
	want(t, docs[3], map[string]any{"Stage": "production", "Origin": "other", "Requests": 3.0})

	// Those that have metrics keep them, and no other gets any.
	p.request("https://c.test:443", 1)
	p.request("https://e.test:443", 50)
	emit(t, e, p)
	docs = out.take()
	if len(docs) != 3 {
		t.Fatalf("%d lines, want 3", len(docs))
	}
	want(t, docs[1], map[string]any{"Origin": "https://c.test:443", "Requests": 1.0})
	want(t, docs[2], map[string]any{"Origin": "other", "Requests": 50.0})
}

// Gauges of the rest are of all of it, and not of the part that something happened to.
func TestTheRestOfTheOriginsHasAllItsConnections(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(1))
	p := &pool{}
	for i, origin := range []string{"https://a.test:443", "https://b.test:443", "https://c.test:443"} {
		p.request(origin, uint64(10-i))
		o := p.now.Origins[origin]
		o.Open, o.Idle = 5, 2
		p.now.Origins[origin] = o
		p.now.Open += o.Open
		p.now.Idle += o.Idle
	}
	emit(t, e, p)
	want(t, out.take()[2], map[string]any{"Origin": "other", "Requests": 17.0, "Open": 10.0, "Idle": 4.0})
	p.request("https://c.test:443", 1)
	emit(t, e, p)
	want(t, out.take()[1], map[string]any{"Origin": "other", "Requests": 1.0, "Open": 10.0, "Idle": 4.0})
	p.request("https://a.test:443", 1)
	emit(t, e, p)
	if docs := out.take(); len(docs) != 2 {
		t.Errorf("%d lines, want none of those to whom nothing happened", len(docs))
	}
}

func TestTheDefaultNumberOfOrigins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ given, want int }{{0, DefaultMaxOrigins}, {3, 3}, {transport.Disabled, 25}} {
		e, out := newEmitter(t, WithOrigins(tt.given))
		p := &pool{}
		for i := range 25 {
			p.request(fmt.Sprintf("https://%d.test:443", i), 1)
		}
		emit(t, e, p)
		named := 0
		for _, doc := range out.take() {
			if name, ok := doc["Origin"].(string); ok && name != "other" {
				named++
			}
		}
		if named != tt.want {
			t.Errorf("WithOrigins(%d): %d origins have metrics of their own, want %d", tt.given, named, tt.want)
		}
	}
}

func TestAnOriginThatIsNoDimensionIsAmongTheRest(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(0))
	p := &pool{}
	p.request("https://"+strings.Repeat("a", 1100)+":443", 1)
	p.request("https://ö\x00:443", 1)
	emit(t, e, p)
	docs := out.take()
	if len(docs) != 2 {
		t.Fatalf("%d lines, want 2", len(docs))
	}
	want(t, docs[1], map[string]any{"Origin": "other", "Requests": 2.0})
}

func TestTheLargestLineIsWithinTheLimits(t *testing.T) {
	t.Parallel()
	var dims []Dimension
	for i := range 29 {
		dims = append(dims, Dimension{fmt.Sprintf("%0250d", i), strings.Repeat("v", 1024)})
	}
	e, out := newEmitter(t, WithDimensions(dims...), WithOrigins(0), WithNamespace(strings.Repeat("n", 255)))
	e.Tracer()
	p := &pool{}
	p.request("https://a.test:443", 1<<53)
	o := p.now.Origins["https://a.test:443"]
	o.WaitTime, p.now.WaitTime = 1<<63-1, 1<<63-1
	p.now.Origins["https://a.test:443"] = o
	emit(t, e, p)
	docs := out.take() // which checks each line
	if len(docs) != 2 || len(docs[1]) != 1+30+14 {
		t.Errorf("%d lines, the last with %d members; want 2, and 45", len(docs), len(docs[len(docs)-1]))
	}
}

func TestEachEventIsInExactlyOneLine(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	e, out := newEmitter(t, WithOrigins(0))
	c, err := client.New(client.WithTracer(e.Tracer()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const invocations, requests = 8, 50
	var wg sync.WaitGroup
	for range invocations {
		wg.Go(func() {
			for range requests {
				resp, err := c.Get(srv.URL)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				retried := tracing.Start{Attempt: 2, Origin: srv.URL}
				e.Tracer().Start(context.Background(), retried)
				emit(t, e, c)
			}
		})
	}
	wg.Wait()
	total, origins := map[string]float64{}, map[string]float64{}
	for _, doc := range out.take() {
		sum := total
		if doc["Origin"] != nil {
			sum = origins
		}
		for _, name := range []string{"Requests", "Reused", "Dials", "Retries"} {
			sum[name] += doc[name].(float64)
		}
	}
	s := c.Stats()
	wantSum := map[string]float64{"Requests": invocations * requests, "Reused": float64(s.Reused), "Dials": float64(s.Dials), "Retries": invocations * requests}
	if !maps.Equal(total, wantSum) || !maps.Equal(origins, wantSum) {
		t.Errorf("the lines add up to %v, those of the origin to %v; want %v", total, origins, wantSum)
	}
}

func TestRetriesAreAttemptsBesideTheFirst(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(0))
	tracer := e.Tracer()
	for _, attempt := range []int{1, 2, 3, 1} {
		ctx := tracer.Start(t.Context(), tracing.Start{Attempt: attempt, Origin: "https://mock.test:443"})
		tracer.End(ctx, tracing.Exchange{Attempt: attempt, Origin: "https://mock.test:443", Status: 200})
	}
	emit(t, e, &pool{})
	docs := out.take()
	if len(docs) != 2 {
		t.Fatalf("%d lines, want 2", len(docs))
	}
	want(t, docs[0], map[string]any{"Retries": 2.0, "Requests": 0.0})
	want(t, docs[1], map[string]any{"Retries": 2.0, "Origin": "https://mock.test:443"})
}

// Whoever chooses the hosts that are called, by a redirect or a webhook's URL, does not choose what CloudWatch bills.
func TestOriginsThatWereNotReachedHaveNoMetricsOfTheirOwn(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(2))
	tracer := e.Tracer()
	p := &pool{}
	try := func(origin string) {
		o := p.now.Origins[origin]
		o.Dials, o.Waits = o.Dials+1, o.Waits+1
		p.now.Origins[origin] = o
		p.now.Dials, p.now.Waits = p.now.Dials+1, p.now.Waits+1
		ctx := tracer.Start(t.Context(), tracing.Start{Attempt: 2, Origin: origin})
		tracer.End(ctx, tracing.Exchange{Attempt: 2, Origin: origin, Err: io.EOF})
	}
	p.request("https://a.test:443", 1)
	for i := range 10 {
		try(fmt.Sprintf("https://junk%d.test:443", i))
	}
	emit(t, e, p)
	docs := out.take()
	if len(docs) != 3 {
		t.Fatalf("%d lines, want the total, the origin that was reached and the rest", len(docs))
	}
	want(t, docs[1], map[string]any{"Origin": "https://a.test:443", "Requests": 1.0})
	want(t, docs[2], map[string]any{"Origin": "other", "Requests": 0.0, "Dials": 10.0, "Waits": 10.0, "Retries": 10.0})

	// The pool forgets them, and nothing is told twice.
	for i := range 10 {
		delete(p.now.Origins, fmt.Sprintf("https://junk%d.test:443", i))
	}
	emit(t, e, p)
	if docs := out.take(); len(docs) != 0 {
		t.Errorf("nothing happened, and %v was written", docs)
	}
	// There is still room for one that is reached, with all that it took.
	try("https://b.test:443")
	p.request("https://b.test:443", 3)
	emit(t, e, p)
	docs = out.take()
	if len(docs) != 2 {
		t.Fatalf("%d lines, want the total and the origin", len(docs))
	}
	want(t, docs[1], map[string]any{"Origin": "https://b.test:443", "Requests": 3.0, "Dials": 1.0, "Retries": 1.0})
}

func TestRetriesOfVeryManyOriginsAreCountedInBoundedSpace(t *testing.T) {
	t.Parallel()
	e, out := newEmitter(t, WithOrigins(transport.Disabled))
	tracer := e.Tracer()
	for i := range 3 * maxRetried {
		tracer.Start(t.Context(), tracing.Start{Attempt: 2, Origin: fmt.Sprintf("https://%d.test:443", i)})
	}
	if n := len(e.retries); n > maxRetried+1 {
		t.Errorf("%d origins are kept", n)
	}
	emit(t, e, &pool{})
	docs := out.take()
	if len(docs) != 2 {
		t.Fatalf("%d lines, want the total and the rest", len(docs))
	}
	for _, doc := range docs {
		want(t, doc, map[string]any{"Retries": 3.0 * maxRetried})
	}
}
