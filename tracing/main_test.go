package tracing_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/tracing"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// recorder is a Tracer that keeps what it is told, and checks that each exchange ends once, with its own context.
type recorder struct {
	t testing.TB

	mu     sync.Mutex // guards what follows
	starts []tracing.Start
	ends   []tracing.Exchange
	open   map[*int]bool // exchanges that have not ended
}

type recorderKey struct{ r *recorder }

func record(t testing.TB) *recorder { return &recorder{t: t, open: make(map[*int]bool)} }

func (r *recorder) Start(ctx context.Context, s tracing.Start) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Header = s.Header.Clone()
	r.starts = append(r.starts, s)
	token := new(int)
	r.open[token] = true
	return context.WithValue(ctx, recorderKey{r}, token)
}

func (r *recorder) End(ctx context.Context, e tracing.Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token, _ := ctx.Value(recorderKey{r}).(*int)
	if !r.open[token] {
		r.t.Errorf("End was called twice, or without the context of Start: %+v", e)
	}
	delete(r.open, token)
	r.ends = append(r.ends, e)
}

// ended returns the exchanges that have ended since the last call, which must be n.
func (r *recorder) ended(n int) []tracing.Exchange {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := r.ends
	r.ends = nil
	if len(ends) != n {
		r.t.Fatalf("%d exchanges have ended, want %d: %+v", len(ends), n, ends)
	}
	return ends
}

// one returns the exchange that has ended since the last call, which must be the only one.
func (r *recorder) one() tracing.Exchange {
	r.t.Helper()
	return r.ended(1)[0]
}

// roundTripperFunc is a RoundTripper in the network's place.
type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func newTraced(t testing.TB, next http.RoundTripper, tracers ...tracing.Tracer) http.RoundTripper {
	t.Helper()
	rt, err := tracing.New(next, tracers...)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func newRequest(t testing.TB, ctx context.Context, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
