package tracing_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

// Requests that are read, closed early, cancelled, timed out, replayed and broken off, many at once: each exchange ends
// once, and what it says adds up.
func TestEveryExchangeEndsOnceAndAddsUp(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		srv := m.serve(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			switch rand.N(8) {
			case 0:
				panic(http.ErrAbortHandler)
			case 1:
				w.WriteHeader(http.StatusNoContent)
			case 2:
				io.WriteString(w, "hello")
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			case 3:
				w.Header().Set("Connection", "close")
				hello(w, r)
			case 4:
				w.Write(make([]byte, 256<<10))
			default:
				hello(w, r)
			}
		})
		r := record(t)
		pool := newPool(t, transport.Config{MaxConnsPerHost: 8})
		rt := newTraced(t, pool, r)
		const callers, each = 16, 15
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					ctx, cancel := context.WithCancel(t.Context())
					switch rand.N(4) {
					case 0:
						time.AfterFunc(rand.N(3*time.Millisecond), cancel)
					case 1:
						ctx, cancel = context.WithTimeout(ctx, rand.N(3*time.Millisecond))
					}
					req := newRequest(t, ctx, "GET", srv.URL)
					if rand.N(2) == 0 {
						req.Method, req.Body = "POST", io.NopCloser(strings.NewReader("body"))
					}
					if resp, err := rt.RoundTrip(req); err == nil {
						io.CopyN(io.Discard, resp.Body, rand.N(int64(10)))
						if rand.N(2) == 0 {
							go cancel() // beside the reading
						}
						if rand.N(2) == 0 {
							io.Copy(io.Discard, resp.Body)
						}
						resp.Body.Close()
					}
					cancel()
				}
			})
		}
		wg.Wait()
		if len(r.open) > 0 {
			t.Errorf("%d exchanges have not ended", len(r.open))
		}
		for _, e := range r.ended(callers * each) {
			w := e.Timing
			switch {
			case w.Wait < 0 || w.DNS < 0 || w.Connect < 0 || w.TLS < 0 || w.Write < 0 || w.FirstByte < 0,
				w.DNS+w.Connect+w.TLS > w.Wait,
				w.Wait+w.Write+w.FirstByte > w.Total,
				w.Total != e.Ended.Sub(e.Began),
				(e.Err == nil) != (e.Failed == "") && e.Conn != (tracing.Conn{}),
				e.Err == nil && e.Status == 0,
				e.Answered.IsZero() != (e.Status == 0),
				e.Err != nil && e.ClosedEarly,
				e.Status != 0 && e.Conn.ID == 0,
				e.Replays > 0 && e.Conn.Reused && e.Conn.Uses == 1:
				t.Errorf("this does not add up: %+v", e)
			}
		}
	})
}
