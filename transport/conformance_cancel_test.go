package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// A stage is a point in the life of a request at which the other side falls silent.
type stage struct {
	cfg     transport.Config
	url     string
	body    func() io.Reader
	reached chan struct{} // gets a value when a request is there, or has read something
	ended   func(t *testing.T)
}

// stages by name. Each leaves the modes out that do not have it.
var stages = []struct {
	name  string
	modes []mode
	set   func(t *testing.T, m mode) stage
}{
	{"dialling", allModes, func(t *testing.T, m mode) stage {
		s := stage{cfg: m.config(), reached: make(chan struct{}, 10), body: payload}
		s.url = m.serve(t, http.HandlerFunc(echo)).URL
		s.cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			s.reached <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return s
	}},
	{"TLS handshake", tlsModes, func(t *testing.T, m mode) stage {
		s := stage{cfg: m.config(), url: "https://" + silent(t), reached: make(chan struct{}, 10), body: payload}
		s.cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			s.reached <- struct{}{}
			return c, err
		}
		return s
	}},
	// The HTTP/1.1 of net/http does not close the body to end such a Read, and returns only when the Read does.
	{"writing a body that blocks in Read", h2Modes, func(t *testing.T, m mode) stage {
		s := hungOrigin(t, m)
		s.body = func() io.Reader { return &blockedBody{reached: s.reached, closed: make(chan struct{})} }
		return s
	}},
	{"writing a body without end", allModes, func(t *testing.T, m mode) stage {
		s := hungOrigin(t, m)
		s.body = func() io.Reader {
			i := 0
			return readerFunc(func(p []byte) (int, error) {
				if i++; i == 2 {
					s.reached <- struct{}{}
				}
				return len(p), nil
			})
		}
		return s
	}},
	{"waiting for the header", allModes, func(t *testing.T, m mode) stage {
		s := stage{cfg: m.config(), reached: make(chan struct{}, 10), body: payload}
		o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			s.reached <- struct{}{}
			abort(r)
		}))
		s.url, s.ended = o.URL, func(t *testing.T) { o.take(t) }
		return s
	}},
	{"reading the body", allModes, func(t *testing.T, m mode) stage {
		s := stage{cfg: m.config(), reached: make(chan struct{}, 10), body: payload}
		o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "part")
			http.NewResponseController(w).Flush()
			abort(r)
		}))
		s.url, s.ended = o.URL, func(t *testing.T) { o.take(t) }
		return s
	}},
}

// abort waits until the client has gone, and ends without an answer that would look complete to a client that is
// only about to go: tls.Conn.Close says so to the server first.
func abort(r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// hungOrigin never reads a request's body.
func hungOrigin(t *testing.T, m mode) stage {
	release := make(chan struct{})
	o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// An HTTP/1.1 server does not notice that its client has gone before it has read the body.
		select {
		case <-r.Context().Done():
		case <-release:
		}
		panic(http.ErrAbortHandler) // or the server waits for the rest of the body
	}))
	t.Cleanup(func() { close(release) })
	return stage{cfg: m.config(), url: o.URL, reached: make(chan struct{}, 10)}
}

// A blockedBody has some bytes and then nothing until it is closed.
type blockedBody struct {
	reached chan struct{}
	closed  chan struct{}
	once    sync.Once
	reads   int
}

func (b *blockedBody) Read(p []byte) (int, error) {
	if b.reads++; b.reads == 1 {
		return copy(p, "part"), nil
	}
	b.reached <- struct{}{}
	<-b.closed
	return 0, net.ErrClosed
}

func (b *blockedBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// TestRequestEndsInEveryStage ends requests that would wait for ever.
func TestRequestEndsInEveryStage(t *testing.T) {
	const soon = 60 * time.Millisecond
	type ending struct {
		name   string
		class  string
		timed  bool
		client *http.Client
		// end prepares req and returns what ends it once it has reached the stage.
		end func(ctx context.Context, req *http.Request) (*http.Request, func())
	}
	canceled := func(ctx context.Context, req *http.Request) (*http.Request, func()) {
		ctx, cancel := context.WithCancel(ctx)
		return req.WithContext(ctx), cancel
	}
	deadline := func(ctx context.Context, req *http.Request) (*http.Request, func()) {
		ctx, cancel := context.WithTimeout(ctx, soon)
		context.AfterFunc(ctx, cancel)
		return req.WithContext(ctx), func() {}
	}
	endings := []ending{
		{"cancel", "canceled", false, nil, canceled},
		{"cancel with a cause", "any", false, nil, func(ctx context.Context, req *http.Request) (*http.Request, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return req.WithContext(ctx), func() { cancel(errOfCause) }
		}},
		{"deadline", "deadline", true, nil, deadline},
		{"Request.Cancel", "any", false, nil, func(ctx context.Context, req *http.Request) (*http.Request, func()) {
			c := make(chan struct{})
			req.Cancel = c //nolint:staticcheck // deprecated, and still to be obeyed
			return req, func() { close(c) }
		}},
		{"cancel, through a client", "canceled", false, &http.Client{}, canceled},
		{"Client.Timeout", "timeout", true, &http.Client{Timeout: soon}, func(_ context.Context, req *http.Request) (*http.Request, func()) {
			return req, func() {}
		}},
	}
	type ended struct {
		Fault fault
		Where string // did it happen
	}
	for _, st := range stages {
		for _, m := range st.modes {
			t.Run(st.name+"/"+m.name, func(t *testing.T) {
				for _, e := range endings {
					t.Run(e.name, func(t *testing.T) {
						t.Parallel()
						s := st.set(t, m)
						ref := compare(t, s.cfg, func(t *testing.T, rt http.RoundTripper) (got ended) {
							req, end := e.end(t.Context(), request(t, "POST", s.url, s.body()))
							body := recordClose(req)
							if !e.timed { // which may end before it reaches the stage
								go func() {
									<-s.reached
									end()
								}()
							}
							send := rt.RoundTrip
							if e.client != nil {
								c := *e.client
								c.Transport = rt
								send = c.Do
							}
							within(t, 5*time.Second, "the request", func() {
								resp, err := send(req)
								got.Where = "RoundTrip"
								if err == nil {
									got.Where = "Read"
									io.ReadFull(resp.Body, make([]byte, 1))
									s.reached <- struct{}{}
									_, err = io.Copy(io.Discard, resp.Body)
									resp.Body.Close()
								}
								got.Fault = faultOf(err)
							})
							if e.timed {
								got.Where = "" // that depends on how fast this machine is
							}
							eventually(t, 5*time.Second, "the request's body is closed", body.closed.Load)
							if s.ended != nil {
								s.ended(t)
							}
							return got
						})
						if !ref.Fault.has(e.class) {
							t.Errorf("reference: %v, want %s", ref.Fault, e.class)
						}
					})
				}
			})
		}
	}
}

func TestCancelAfterTheBodyHasNoEffect(t *testing.T) {
	type seen struct {
		First, Second string
		Conns         int64
	}
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			compare(t, m.config(), func(t *testing.T, rt http.RoundTripper) (got seen) {
				before := o.accepted.Load()
				for _, body := range []*string{&got.First, &got.Second} {
					ctx, cancel := context.WithCancel(t.Context())
					resp, err := rt.RoundTrip(request(t, "POST", o.URL, payload()).WithContext(ctx))
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Error(err)
					}
					*body = string(b)
					cancel()
					resp.Body.Close()
				}
				got.Conns = o.accepted.Load() - before
				return got
			})
		})
	}
}

// TestTimeouts lets the limits of Config pass.
func TestTimeouts(t *testing.T) {
	const short = 50 * time.Millisecond
	limits := map[string]func(*transport.Config){
		"dialling":               func(c *transport.Config) { c.DialTimeout = short },
		"TLS handshake":          func(c *transport.Config) { c.TLSHandshakeTimeout = short },
		"waiting for the header": func(c *transport.Config) { c.ResponseHeaderTimeout = short },
	}
	type ended struct{ Direct, Client fault }
	for _, st := range stages {
		limit := limits[st.name]
		if limit == nil {
			continue
		}
		for _, m := range st.modes {
			t.Run(fmt.Sprint(st.name, "/", m.name), func(t *testing.T) {
				t.Parallel()
				s := st.set(t, m)
				limit(&s.cfg)
				ref := compare(t, s.cfg, func(t *testing.T, rt http.RoundTripper) (got ended) {
					for _, x := range []struct {
						send func(*http.Request) (*http.Response, error)
						got  *fault
					}{{rt.RoundTrip, &got.Direct}, {(&http.Client{Transport: rt}).Do, &got.Client}} {
						within(t, 5*time.Second, "the request", func() {
							req := request(t, "POST", s.url, s.body())
							body := recordClose(req)
							_, err := x.send(req)
							*x.got = faultOf(err)
							eventually(t, 2*time.Second, "the request's body is closed", body.closed.Load)
						})
					}
					return got
				})
				if !ref.Direct.has("timeout") || !ref.Client.has("timeout") {
					t.Errorf("reference: direct: %v, through a client: %v, want a timeout", ref.Direct, ref.Client)
				} else if testing.Verbose() {
					t.Logf("reference: direct: %v, through a client: %v", ref.Direct, ref.Client)
				}
			})
		}
	}
}

func TestResponseHeaderTimeoutStartsAfterTheBody(t *testing.T) {
	slow := func() io.Reader {
		i := 0
		return readerFunc(func(p []byte) (int, error) {
			if i++; i > 4 {
				return 0, io.EOF
			}
			<-time.After(60 * time.Millisecond)
			return copy(p, "part "), nil
		})
	}
	run(t, []exchange{{
		name:    "slow body",
		config:  func(c *transport.Config) { c.ResponseHeaderTimeout = 150 * time.Millisecond },
		request: changed("POST", slow, func(*http.Request) {}),
	}, {
		name:   "slow answer",
		config: func(c *transport.Config) { c.ResponseHeaderTimeout = 150 * time.Millisecond },
		handler: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			<-time.After(200 * time.Millisecond)
			w.Write(bytes.Repeat([]byte("x"), 10))
		},
		request: get,
	}})
}
