package transport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

func TestTransportIsClosed(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			fetch(t, rt, get(t, o.URL))
			for range 2 {
				if err := rt.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			req := request(t, "POST", o.URL, payload())
			body := recordClose(req)
			if _, err := rt.RoundTrip(req); !errors.Is(err, transport.ErrClosed) {
				t.Errorf("RoundTrip: %v", err)
			}
			if !body.closed.Load() {
				t.Error("the request's body was not closed")
			}
			if err := rt.Warm(t.Context(), o.URL); !errors.Is(err, transport.ErrClosed) {
				t.Errorf("Warm: %v", err)
			}
			rt.Thaw(t.Context())
			rt.Reset()
			rt.CloseIdleConnections()
			if s := rt.Stats(); s.Open != 0 || s.Requests != 1 {
				t.Errorf("%+v", s.Origin)
			}
			eventually(t, 5*time.Second, "the server sees its connections closed", func() bool { return o.open.Load() == 0 })
		})
	}
}

// TestCloseEndsWhatIsUnderWay closes a transport that has requests in every stage.
func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var arrived atomic.Int64
			o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived.Add(1)
				if r.URL.Path == "/part" {
					io.WriteString(w, "part")
					http.NewResponseController(w).Flush()
				}
				abort(r)
			}))
			cfg := m.config()
			cfg.MaxConnsPerHost = 4
			cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr != o.addr() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return o.dial(ctx, network, addr)
			}
			rt := newPool(t, cfg)
			var wg sync.WaitGroup
			var reading atomic.Int64
			send := func(url string) {
				wg.Go(func() {
					req, err := http.NewRequest("GET", url, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if resp, err := rt.RoundTrip(req); err == nil {
						resp.Body.Close()
						t.Error("a request succeeds though nobody answered it")
					}
				})
			}
			for range 2 {
				wg.Go(func() {
					req, _ := http.NewRequest("GET", o.URL+"/part", nil)
					resp, err := rt.RoundTrip(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					io.ReadFull(resp.Body, make([]byte, 4))
					reading.Add(1)
					if _, err := io.Copy(io.Discard, resp.Body); err == nil {
						t.Error("a body cut off by Close ends without an error")
					}
				})
			}
			eventually(t, 5*time.Second, "two bodies are read", func() bool { return reading.Load() == 2 })
			for range 6 {
				send(o.URL + "/silent")
			}
			send("http://127.0.0.1:1/")
			want := int64(4) // connections
			if m.h2 {
				want = 8 // streams
			}
			eventually(t, 5*time.Second, "the requests have arrived", func() bool { return arrived.Load() == want })
			within(t, 5*time.Second, "Close", func() {
				if err := rt.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			within(t, 5*time.Second, "the requests", wg.Wait)
			if s := rt.Stats(); s.Open != 0 || s.InUse != 0 || s.Dialing != 0 || s.Waiting != 0 || s.Streams != 0 {
				t.Errorf("%+v", s.Origin)
			}
			o.take(t)
		})
	}
}

func TestResetRetiresEveryConnection(t *testing.T) {
	for name, retire := range map[string]func(*transport.Transport){
		"Reset":                (*transport.Transport).Reset,
		"CloseIdleConnections": (*transport.Transport).CloseIdleConnections,
	} {
		for _, m := range allModes {
			t.Run(name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(echo))
				rt := newPool(t, m.config())
				fetch(t, rt, get(t, o.URL))
				retire(rt)
				eventually(t, 5*time.Second, "the server sees the connection closed", func() bool { return o.open.Load() == 0 })
				if s := originOf(t, rt, o); s.Open != 0 || s.Closed.Reset != 1 {
					t.Errorf("%+v", s)
				}
				fetch(t, rt, get(t, o.URL))
				if got := o.accepted.Load(); got != 2 {
					t.Errorf("%d connections, want 2", got)
				}
			})
			t.Run(name+" leaves a request under way alone/"+m.name, func(t *testing.T) {
				t.Parallel()
				o, release := held(t, m)
				rt := newPool(t, m.config())
				var wg sync.WaitGroup
				wg.Go(func() {
					if got := fetch(t, rt, request(t, "POST", o.URL, unsized("payload")())); got != "POST payload" {
						t.Errorf("answer %q", got)
					}
				})
				eventually(t, 5*time.Second, "the request is under way", func() bool { return rt.Stats().InUse == 1 })
				retire(rt)
				release()
				within(t, 5*time.Second, "the request", wg.Wait)
				fetch(t, rt, get(t, o.URL))
				want := int64(1)
				if name == "Reset" {
					want = 2
				}
				if got := o.accepted.Load(); got != want {
					t.Errorf("%d connections, want %d", got, want)
				}
			})
		}
	}
}

// TestTraceShowsTheConnection checks GotConnInfo.Conn, whose addresses are the socket's.
func TestTraceShowsTheConnection(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			ids := make(map[uint64]int)
			var last transport.ConnInfo
			for i := range 5 {
				before := time.Now()
				h := new(hooks)
				h.send(t, rt, get(t, o.URL), o.addr())
				c := h.info.Conn
				info, ok := c.(transport.ConnInfo)
				if !ok {
					t.Fatalf("GotConnInfo.Conn is a %T, not a ConnInfo", c)
				}
				if got := c.RemoteAddr().String(); got != o.addr() {
					t.Errorf("RemoteAddr is %s, want %s", got, o.addr())
				}
				if c.LocalAddr() == nil || c.LocalAddr().Network() != "tcp" {
					t.Errorf("LocalAddr is %v", c.LocalAddr())
				}
				if info.Uses() != uint64(i)+1 {
					t.Errorf("request %d: Uses is %d", i, info.Uses())
				}
				if i == 0 && (info.Created().Before(before) || info.Created().After(time.Now())) {
					t.Errorf("Created is %v, the request began at %v", info.Created(), before)
				}
				if m.tls != (info.TLS() != nil) || m.tls && !info.TLS().HandshakeComplete {
					t.Errorf("TLS is %v", info.TLS())
				}
				if want := map[bool]string{false: "http/1.1", true: "h2"}[m.h2]; info.Protocol() != want {
					t.Errorf("Protocol is %q, want %q", info.Protocol(), want)
				}
				ids[info.ID()]++
				last = info
			}
			rt.CloseIdleConnections()
			h := new(hooks)
			h.send(t, rt, get(t, o.URL), o.addr())
			other := h.info.Conn.(transport.ConnInfo)
			if other.ID() == last.ID() || other.Uses() != 1 {
				t.Errorf("a new connection has ID %d and %d uses, the one before had ID %d", other.ID(), other.Uses(), last.ID())
			}
			if len(ids) != 1 || last.ID() == 0 {
				t.Errorf("IDs of one connection: %v", ids)
			}
		})
	}
}
