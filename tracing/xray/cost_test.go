package xray_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"

	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/xray"
)

// deafDaemon returns a context of a Lambda function whose daemon is a socket that nobody reads, so that the cost of reading is
// not measured.
func deafDaemon(tb testing.TB, header string) context.Context {
	tb.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	emitter, err := awsxray.NewDefaultEmitter(conn.LocalAddr().(*net.UDPAddr))
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.WithValue(context.Background(), awsxray.RecorderContextKey{}, &awsxray.Config{Emitter: emitter})
	return inLambda(ctx, header)
}

// fetch makes a request and reads the answer.
func fetch(tb testing.TB, ctx context.Context, do func(*http.Request) (*http.Response, error), url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := do(req)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
}

// hooked answers in the pool's place, and calls the hooks that the pool calls for a request on an idle connection.
type hooked struct{}

func (hooked) RoundTrip(req *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
		trace.GetConn("api.example.com:443")
		trace.GotConn(httptrace.GotConnInfo{Reused: true, WasIdle: true, IdleTime: time.Millisecond})
		trace.WroteRequest(httptrace.WroteRequestInfo{})
		trace.GotFirstResponseByte()
	}
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Body: http.NoBody}, nil
}

// Not parallel: it counts the allocations of the process.
func TestATracedRequestAllocatesLessThanWithTheSDKsClient(t *testing.T) {
	for name, header := range map[string]string{
		"sampled":     lambdaHeader,
		"not sampled": "Root=" + lambdaTrace + ";Parent=" + lambdaParent + ";Sampled=0",
	} {
		ctx := deafDaemon(t, header)
		traced, err := tracing.New(hooked{}, xray.New())
		if err != nil {
			t.Fatal(err)
		}
		allocs := func(rt http.RoundTripper) float64 {
			return testing.AllocsPerRun(200, func() { fetch(t, ctx, rt.RoundTrip, "https://api.example.com/orders/7") })
		}
		bare, ours, sdks := allocs(hooked{}), allocs(traced), allocs(awsxray.RoundTripper(hooked{}))
		t.Logf("%s: %v objects allocated for a request, %v more with this tracer, %v more with xray.Client", name, bare, ours-bare, sdks-bare)
		if ours >= sdks {
			t.Errorf("%s: %v objects allocated with this tracer, %v with xray.Client, want fewer", name, ours, sdks)
		}
	}
}
