package client_test

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
)

// exchanges is a Tracer that keeps what has ended.
type exchanges struct {
	mu    sync.Mutex // guards ended
	ended []tracing.Exchange
}

func (x *exchanges) Start(ctx context.Context, _ tracing.Start) context.Context { return ctx }

func (x *exchanges) End(_ context.Context, e tracing.Exchange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = append(x.ended, e)
}

func TestTracersAreToldOfEveryRedirect(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusFound)
			return
		}
		io.WriteString(w, "hello")
	}))
	defer srv.Close()
	a, b := new(exchanges), new(exchanges)
	c := newClient(t, client.WithTracer(a), client.WithTracer(b))
	if body, err := get(c.Client, srv.URL+"/old"); body != "hello" || err != nil {
		t.Fatalf("got %q %v", body, err)
	}
	if len(a.ended) != 2 || !reflect.DeepEqual(a.ended, b.ended) {
		t.Fatalf("one tracer was told of %+v, the other of %+v", a.ended, b.ended)
	}
	for i, want := range []struct {
		url    string
		status int
		reused bool
	}{{srv.URL + "/old", 302, false}, {srv.URL + "/new", 200, true}} {
		if e := a.ended[i]; e.URL != want.url || e.Status != want.status || e.Conn.Reused != want.reused || e.Attempt != 1 {
			t.Errorf("exchange %d is %+v", i, e)
		}
	}
}

func TestTracingThatIsOffCostsNothing(t *testing.T) {
	base := &roundTripper{}
	once := client.WithRetry(retry.Policy{MaxAttempts: 1})
	c := newClient(t, client.WithBase(base), once)
	if stack(c) != http.RoundTripper(base) {
		t.Errorf("without a tracer the client is on %T, want the base itself", stack(c))
	}
	allocations := func(c *http.Client) float64 {
		req, err := http.NewRequest("POST", "http://api.test/", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		least := math.Inf(1) // the runtime allocates now and then what is not the request's
		for range 10 {
			least = min(least, testing.AllocsPerRun(100, func() {
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}))
		}
		return least
	}
	bare := allocations(&http.Client{Transport: base, Timeout: client.DefaultTimeout})
	off := allocations(c.Client)
	on := allocations(newClient(t, client.WithBase(base), once, client.WithTracer(new(exchanges))).Client)
	if off != bare || on <= off {
		t.Errorf("a request allocates %v objects, %v without the client and %v traced", off, bare, on)
	}
}
