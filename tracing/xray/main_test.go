package xray_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-xray-sdk-go/v2/strategy/sampling"
	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"
	"github.com/aws/aws-xray-sdk-go/v2/xraylog"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/xraydaemon"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		os.Exit(0)
	}
	awsxray.SetLogger(xraylog.NullLogger)
	goleak.VerifyTestMain(m)
}

// sampler decides for every trace the same.
type sampler bool

func (s sampler) ShouldTrace(*sampling.Request) *sampling.Decision {
	return &sampling.Decision{Sample: bool(s)}
}

// document is a segment or a subsegment as the daemon gets it.
type document struct {
	Name, ID, Type, Namespace string
	TraceID                   string  `json:"trace_id"`
	ParentID                  string  `json:"parent_id"`
	StartTime                 float64 `json:"start_time"`
	EndTime                   float64 `json:"end_time"`
	InProgress                bool    `json:"in_progress"`
	Fault, Error, Throttle    bool
	Cause                     struct {
		Exceptions []struct{ ID, Type, Message string }
	}
	HTTP struct {
		Request  struct{ Method, URL string }
		Response struct {
			Status        int
			ContentLength int `json:"content_length"`
		}
	}
	Annotations map[string]any
	Metadata    map[string]map[string]any
	Subsegments []document
}

// message is what the document says of an error.
func (d document) message() string {
	if len(d.Cause.Exceptions) == 0 {
		return ""
	}
	return d.Cause.Exceptions[0].Message
}

// names returns the names of the subsegments of a document.
func (d document) names() string {
	var names []string
	for _, s := range d.Subsegments {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// find returns the documents of that name, nested ones included.
func find(docs []document, name string) []document {
	var found []document
	for _, d := range docs {
		if d.Name == name {
			found = append(found, d)
		}
		found = append(found, find(d.Subsegments, name)...)
	}
	return found
}

// one returns the only document of that name.
func one(t *testing.T, docs []document, name string) document {
	t.Helper()
	found := find(docs, name)
	if len(found) != 1 {
		t.Fatalf("%d documents are called %s, want 1: %+v", len(found), name, docs)
	}
	return found[0]
}

var compileSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile("testdata/segmentdocument.schema.json")
})

// validate fails the test if X-Ray would not take the document.
func validate(t testing.TB, doc []byte) {
	t.Helper()
	schema, err := compileSchema()
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%v in %s", err, doc)
	}
	if len(doc) > 64_000 {
		t.Errorf("document of %d bytes: %.200s...", len(doc), doc)
	}
}

// daemon is what a test sends to.
type daemon struct{ *xraydaemon.Daemon }

func listen(t testing.TB) daemon {
	t.Helper()
	d, err := xraydaemon.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return daemon{d}
}

// documents returns what was sent since it was called last, put together as X-Ray does.
func (d daemon) documents(t testing.TB) []document {
	t.Helper()
	return overwrite(d.received(t))
}

// received returns what was sent since it was called last. Each document is valid.
func (d daemon) received(t testing.TB) []document {
	t.Helper()
	raw, err := d.Documents()
	if err != nil {
		t.Fatal(err)
	}
	docs := make([]document, len(raw))
	for i, r := range raw {
		validate(t, r)
		if err := json.Unmarshal(r, &docs[i]); err != nil {
			t.Fatal(err)
		}
		intact(t, docs[i])
	}
	return docs
}

// overwrite returns the documents as X-Ray puts them together: what comes later replaces what has the same ID. The SDK sends
// a segment of BeginSegment twice if the goroutine that waits for the end of its context is quick.
func overwrite(docs []document) []document {
	var last []document
	for _, d := range docs {
		d.Subsegments = overwrite(d.Subsegments)
		if i := slices.IndexFunc(last, func(l document) bool { return l.ID == d.ID }); i >= 0 {
			last[i] = d
		} else {
			last = append(last, d)
		}
	}
	return last
}

// intact checks what the schema cannot say.
func intact(t testing.TB, d document) {
	t.Helper()
	if !d.InProgress && d.EndTime < d.StartTime {
		t.Errorf("%s ended %f s before it began", d.Name, d.StartTime-d.EndTime)
	}
	for _, s := range d.Subsegments {
		if s.ParentID != "" && s.ParentID != d.ID && s.Namespace == "remote" {
			t.Errorf("%s is in %s, but has %s as its parent", s.Name, d.ID, s.ParentID)
		}
		intact(t, s)
	}
}

// context returns a context whose segments are sent to the daemon.
func (d daemon) context(t testing.TB, sampled bool) context.Context {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp", d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	emitter, err := awsxray.NewDefaultEmitter(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := awsxray.ContextWithConfig(context.Background(), awsxray.Config{
		DaemonAddr:       d.Addr(),
		Emitter:          emitter,
		SamplingStrategy: sampler(sampled),
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// What a Lambda function finds in its context.
const (
	lambdaTrace  = "1-58406520-a006649127e371903a2de979"
	lambdaParent = "53995c3f42cd8ad8"
	lambdaHeader = "Root=" + lambdaTrace + ";Parent=" + lambdaParent + ";Sampled=1"
)

// inLambda returns the context of a handler.
func inLambda(ctx context.Context, header string) context.Context {
	return context.WithValue(ctx, awsxray.LambdaTraceHeaderKey, header) //nolint:staticcheck // the key is aws-lambda-go's
}

// downstream is a server and a traced client of it.
type downstream struct {
	*httptest.Server
	client *client.Client
	name   string // of the subsegments
}

// serve starts a server that speaks the protocol, "h1", "tls" or "h2".
func serve(t testing.TB, proto string, h http.HandlerFunc, cfg transport.Config, opts ...client.Option) *downstream {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = silent
	switch proto {
	case "h1":
		srv.Start()
	case "h2":
		srv.EnableHTTP2 = true
		srv.StartTLS()
	default:
		srv.StartTLS()
	}
	t.Cleanup(srv.Close)
	if srv.TLS != nil && cfg.TLS == nil {
		roots := x509.NewCertPool()
		roots.AddCert(srv.Certificate())
		cfg.TLS = &tls.Config{RootCAs: roots}
	}
	once := client.WithRetry(retry.Policy{MaxAttempts: 1}) // an exchange is what is looked at
	c, err := client.New(append(opts, once, client.WithTransport(cfg), client.WithTracer(xray.New()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &downstream{srv, c, srv.Listener.Addr().String()}
}

// newRequest returns a GET of the server.
func (d *downstream) newRequest(t testing.TB, ctx context.Context, path string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// get makes a request and reads the answer.
func (d *downstream) get(t testing.TB, ctx context.Context, path string) string {
	t.Helper()
	resp, err := d.client.Do(d.newRequest(t, ctx, path))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// echoTrace answers with the trace header of the request.
func echoTrace(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, strings.Join(r.Header.Values(awsxray.TraceIDHeaderKey), "|"))
}

// exchange tells a tracer of an exchange that did not take place.
func exchange(ctx context.Context, e tracing.Exchange) (header http.Header) {
	t := xray.New()
	s := tracing.Start{Method: e.Method, URL: e.URL, Origin: e.Origin, Attempt: e.Attempt, Time: e.Began, Header: make(http.Header)}
	t.End(t.Start(ctx, s), e)
	return s.Header
}

// eventually waits until the condition holds.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 10 s")
		}
	}
}
