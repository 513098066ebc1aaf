package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/openbody"
)

// A logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// leakOne makes a request and forgets the response. It has a name of its own to be found in a stack.
//
//go:noinline
func leakOne(t *testing.T, p *testPool, req *http.Request, read int64) {
	resp, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, read); err != nil {
		t.Fatal(err)
	}
}

// collected collects garbage until ok is true.
func collected(ok func() bool) bool {
	return within(3*time.Second, func() bool {
		runtime.GC()
		return ok()
	})
}

var requestKinds = []struct {
	name   string
	method string
	body   int
}{{"GET", "GET", noBody}, {"POST", "POST", getBody}, {"streamed POST", "POST", streamed}}

func TestBodyCollectedWithoutCloseGivesItsConnectionBack(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds {
			for _, read := range []int64{0, 3} {
				t.Run(k.name, func(t *testing.T) {
					s := serve(t, m)
					var log logBuffer
					p := newPool(t, m, Config{Logger: log.logger()})
					ctx := context.Background()
					p.mustSend(t, s.request(ctx, "GET", "first", noBody))
					leakOne(t, p, s.request(ctx, k.method, "leak", k.body), read)
					if st := p.Stats(); st.InUse != 1 || st.Leaked != 0 {
						t.Fatalf("before collection: %d in use, %d leaked; want 1 and 0", st.InUse, st.Leaked)
					}
					if !collected(func() bool { st := p.Stats(); return st.Leaked == 1 && st.InUse == 0 }) {
						st := p.Stats()
						t.Fatalf("after collection: %d leaked, %d in use; want 1 and 0\n%s", st.Leaked, st.InUse, describe(p.Transport))
					}
					p.mustSend(t, s.request(ctx, "POST", "next", getBody))
					if n := p.net.dials(); n != 1 {
						t.Errorf("%d connections dialled; the leaked one should have served again", n)
					}
					eventually(t, "the leak is logged", func() bool { return strings.Contains(log.String(), "without Close") })
					runtime.GC()
					runtime.GC()
					if st := p.Stats(); st.Leaked != 1 {
						t.Errorf("counted %d times", st.Leaked)
					}
					out := log.String()
					if n := strings.Count(out, "level=WARN"); n != 1 {
						t.Errorf("logged %d times:\n%s", n, out)
					}
					if !strings.Contains(out, s.url) || strings.Contains(out, "stack=") {
						t.Errorf("the log line should name the origin and, without LeakStacks, have no stack: %s", out)
					}
				})
			}
		}
	})
}

func TestAResponseThatIsKeptHidesNoLeak(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds {
			t.Run(k.name, func(t *testing.T) {
				s := serve(t, m)
				var log logBuffer
				p := newPool(t, m, Config{Logger: log.logger()})
				ctx := context.Background()
				kept, err := p.RoundTrip(s.request(ctx, k.method, "kept", k.body))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(kept.Body); err != nil {
					t.Fatal(err)
				}
				leakOne(t, p, s.request(ctx, "GET", "leak", noBody), 0)
				if !collected(func() bool { return p.Stats().Leaked == 1 }) {
					t.Error("the leak of the connection's next response was not counted")
				}
				runtime.KeepAlive(kept)
			})
		}
	})
}

// Whoever ends an invocation closes its bodies, be it as soon as they are known.
func TestBodyIsClosedAsSoonAsItIsWatched(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		ctx, watch := openbody.WithWatch(context.Background())
		over := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				runtime.Gosched()
				for _, b := range watch.Open() {
					b.Close()
				}
			}
		})
		var given []*http.Response // or they might be garbage collected before they are closed
		for i := range 50 {
			resp, err := p.RoundTrip(s.request(ctx, "POST", fmt.Sprint(i), getBody))
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				resp.Body.Close()
			}
			given = append(given, resp)
		}
		eventually(t, "all are closed", func() bool { return p.Stats().InUse == 0 })
		close(over)
		wg.Wait()
		runtime.KeepAlive(given)
		runtime.GC()
		runtime.GC()
		p.settled(t)
		if n := len(watch.Open()); n != 0 || p.Stats().Leaked != 0 {
			t.Errorf("%d are taken to be open, and %d to have leaked", n, p.Stats().Leaked)
		}
		if err := check(p.Transport); err != nil {
			t.Error(err)
		}
	})
}

func TestLeakStackNamesTheCaller(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		var log logBuffer
		p := newPool(t, m, Config{Logger: log.logger(), LeakStacks: true})
		leakOne(t, p, s.request(context.Background(), "GET", "leak", noBody), 0)
		if !collected(func() bool { return p.Stats().Leaked == 1 }) {
			t.Fatal("not counted")
		}
		eventually(t, "the leak is logged", func() bool { return strings.Contains(log.String(), "stack=") })
		_, stack, _ := strings.Cut(log.String(), "stack=")
		caller := strings.Index(stack, "leakOne")
		if caller < 0 {
			t.Errorf("the stack does not name the caller: %s", stack)
		}
		if own := strings.Index(stack, "transport.(*Transport).response"); own >= 0 {
			t.Errorf("the stack begins with the pool's own frames: %s", stack)
		}
	})
}

func TestBodyReadOrClosedIsNeverCountedAsLeaked(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		var log logBuffer
		p := newPool(t, m, Config{Logger: log.logger(), LeakStacks: true})
		for i := range 60 {
			k := requestKinds[i%len(requestKinds)]
			req := s.request(context.Background(), k.method, "x", k.body)
			if i%4 == 3 {
				req.Header.Set("X-Do", "size 100000")
			}
			resp, err := p.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			switch i % 4 {
			case 0: // to its end, and not closed
				io.Copy(io.Discard, resp.Body)
			case 1:
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			default:
				resp.Body.Close()
			}
			if i%10 == 9 {
				runtime.GC()
			}
		}
		for range 5 {
			runtime.GC()
		}
		if n := p.Stats().Leaked; n != 0 || log.String() != "" {
			t.Errorf("%d counted as leaked: %s", n, log.String())
		}
	})
}

func TestBodyLeakedAfterCloseOfThePoolDoesNoHarm(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{Logger: quiet})
		leakOne(t, p, s.request(context.Background(), "GET", "leak", noBody), 0)
		p.closeAndCheck(t)
		for range 5 {
			runtime.GC()
		}
		if err := check(p.Transport); err != nil {
			t.Error(err)
		}
	})
}
