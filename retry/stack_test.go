package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file go through real sockets.

// quick is a policy that waits hardly at all.
var quick = retry.Policy{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond}

// bases are the RoundTrippers under the retries.
func bases(t *testing.T) map[string]http.RoundTripper {
	pool, err := transport.New(transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	plain := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(plain.CloseIdleConnections)
	return map[string]http.RoundTripper{"pool": pool, "http.Transport": plain}
}

// serve starts a server that counts its connections.
func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	conns := new(atomic.Int64)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, conns
}

func TestAllAttemptsShareAConnection(t *testing.T) {
	t.Parallel()
	for name, base := range bases(t) {
		for _, size := range []int{0, 1, 8 << 10, 60 << 10, 64 << 10} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				t.Parallel()
				s, conns := serve(t, func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(503)
					w.Write(bytes.Repeat([]byte("x"), size)) // chunked, if it is large
				})
				rt, err := retry.New(base, quick)
				if err != nil {
					t.Fatal(err)
				}
				req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					resp, err := rt.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					if got := content(t, resp); len(got) != size {
						t.Errorf("the last answer has %d bytes, want %d", len(got), size)
					}
				}
				if n := conns.Load(); n != 1 {
					t.Errorf("%d connections for 9 attempts, want 1", n)
				}
			})
		}
	}
}

func TestThePoolOfOtherOriginsIsUntouchedWhenRetriesRunOut(t *testing.T) {
	t.Parallel()
	for name, base := range bases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			down, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
			other, conns := serve(t, func(w http.ResponseWriter, r *http.Request) {})
			rt, err := retry.New(base, quick)
			if err != nil {
				t.Fatal(err)
			}
			get := func(ctx context.Context, url string) {
				req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := rt.RoundTrip(req); err == nil {
					content(t, resp)
				}
			}
			for range 3 {
				get(t.Context(), other.URL)
				get(t.Context(), down.URL)
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				get(ended, down.URL)
				get(t.Context(), "http://127.0.0.1:1")
			}
			get(t.Context(), other.URL)
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections to the other origin, want the first one to be kept", n)
			}
		})
	}
}

func TestPlainHTTPOnATLSPortIsNamedOverAnyRoundTripper(t *testing.T) {
	t.Parallel()
	for name, base := range bases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, conns := serve(t, func(http.ResponseWriter, *http.Request) {})
			rt, err := retry.New(base, quick)
			if err != nil {
				t.Fatal(err)
			}
			c := http.Client{Transport: rt}
			_, err = c.Get(strings.Replace(s.URL, "http:", "https:", 1))
			if !errors.Is(err, http.ErrSchemeMismatch) || conns.Load() != 1 {
				t.Errorf("%d connections, error %v; want one, and ErrSchemeMismatch", conns.Load(), err)
			}
		})
	}
}

func TestRedirectsStayWithTheOuterClient(t *testing.T) {
	t.Parallel()
	var first, second atomic.Int64
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		count := map[string]*atomic.Int64{"/first": &first, "/second": &second}[r.URL.Path]
		switch n := count.Add(1); {
		case n == 1:
			w.WriteHeader(503)
		case r.URL.Path == "/first":
			http.Redirect(w, r, "/second", http.StatusTemporaryRedirect)
		default:
			io.Copy(w, r.Body)
		}
	})
	c, err := client.New(client.WithRetry(quick))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asked := 0
	c.CheckRedirect = func(*http.Request, []*http.Request) error { asked++; return nil }
	req, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL+"/first", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, resp); got != "body" || asked != 1 || first.Load() != 2 || second.Load() != 2 {
		t.Errorf("got %q; CheckRedirect was asked %d times for one redirect; the two URLs saw %d and %d requests, want 2 and 2",
			got, asked, first.Load(), second.Load())
	}
}

// TestTheSecondAttemptIsAFullOne has trailers both ways, 1xx answers, "Expect: 100-continue" and the hooks of httptrace.
func TestTheSecondAttemptIsAFullOne(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]retry.Policy{
		"default":        quick,
		"AttemptTimeout": {MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, AttemptTimeout: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var attempts atomic.Int64
			s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if attempts.Add(1) == 1 {
					w.WriteHeader(503)
					return
				}
				w.WriteHeader(http.StatusEarlyHints)
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Trailer", "X-Sum")
				w.Write(body)
				w.Header().Set("X-Sum", r.Trailer.Get("X-Sent"))
			})
			c, err := client.New(client.WithRetry(p))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var got, hints, continues int
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn:        func(httptrace.GotConnInfo) { got++ },
				Got100Continue: func() { continues++ },
				Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
					if code == http.StatusEarlyHints {
						hints++
					}
					return nil
				},
			})
			req, err := http.NewRequestWithContext(ctx, "PUT", s.URL, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = -1
			req.Trailer = http.Header{"X-Sent": {"4"}}
			req.Header.Set("Expect", "100-continue")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if body := content(t, resp); body != "body" || resp.Trailer.Get("X-Sum") != "4" {
				t.Errorf("got the body %q and the trailer %v", body, resp.Trailer)
			}
			if got != 2 || hints != 1 || continues != 1 {
				t.Errorf("the hooks saw %d connections, %d early hints, %d continues; want 2, 1, 1", got, hints, continues)
			}
		})
	}
}

// junk reads as so many bytes, whatever they are.
type junk struct{ left int64 }

func (j *junk) Read(p []byte) (int, error) {
	if j.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), j.left)
	j.left -= n
	return int(n), nil
}

func TestAGibibyteIsStreamedThroughLittleMemory(t *testing.T) {
	const size, bound = 1 << 30, 32 << 20
	var got int64
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(503) // which would be sent again
	})
	c, err := client.New(client.WithRetry(quick))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Garbage counts too, with the collector as it is by default.
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	runtime.GC()
	var peak uint64
	done := make(chan struct{})
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL, &junk{size})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	close(done)
	<-sampled
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 503 || got != size {
		t.Errorf("status %d, and the server got %d bytes; want 503, %d", resp.StatusCode, got, int64(size))
	}
	t.Logf("the heap had at most %d KiB", peak>>10)
	if peak > bound {
		t.Errorf("the heap had %d bytes, want at most %d", peak, int64(bound))
	}
}
