package lambdahandler_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/metrics"
	"github.com/thawhttp/thaw/transport"
)

// bootstrapKey is the variable that makes the test binary the bootstrap of a function.
const bootstrapKey = "LAMBDAHANDLER_BOOTSTRAP"

func TestMain(m *testing.M) {
	if os.Getenv(bootstrapKey) != "" {
		bootstrap()
	}
	goleak.VerifyTestMain(m)
}

// task is the event of the function under test.
type task struct {
	URL   string
	Ms    int  // to work for after the request
	Leave bool // the body open
}

// bootstrap is the function under test: it calls a URL.
func bootstrap() {
	api, err := client.New(client.WithTransport(transport.Config{MaxConnsPerHost: 4}))
	if err != nil {
		panic(err)
	}
	m, err := metrics.EMF(os.Stdout)
	if err != nil {
		panic(err)
	}
	lambda.Start(lambdahandler.New(api, func(ctx context.Context, t task) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, strings.NewReader("order"))
		if err != nil {
			return "", err
		}
		resp, err := api.Do(req)
		if err != nil {
			return "", err
		}
		if !t.Leave {
			defer resp.Body.Close()
		}
		if t.Ms > 0 {
			<-time.After(time.Duration(t.Ms) * time.Millisecond)
		}
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}, lambdahandler.WithMetrics(m), lambdahandler.WithShutdown(0)))
}

// logs collects what is logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the lines so far.
func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func newClient(t testing.TB, cfg transport.Config) *client.Client {
	t.Helper()
	c, err := client.New(client.WithTransport(cfg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// downstream is a server whose answers are too long to come with the header.
func downstream(t testing.TB) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10000")
		fmt.Fprintf(w, "%10000d", 1)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// get makes a request with ctx, reads the answer and closes it.
func get(ctx context.Context, c *client.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// mustInvoke has h handle an event.
func mustInvoke(t testing.TB, h lambda.Handler, payload string) string {
	t.Helper()
	b, err := h.Invoke(t.Context(), []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits until what is true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not within 5s: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
