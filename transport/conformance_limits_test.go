package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// held is an origin whose handlers wait to be released, but for HEAD, with one stream a connection on HTTP/2.
func held(t *testing.T, m mode) (o *origin, release func()) {
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	o = m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "HEAD" {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
		echo(w, r)
	}), func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
	t.Cleanup(release)
	return o, release
}

func TestBurstStaysWithinMaxConnsPerHost(t *testing.T) {
	for _, m := range h1Modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-time.After(5 * time.Millisecond)
				echo(w, r)
			}))
			cfg := m.config()
			cfg.MaxConnsPerHost = 8
			rt := newPool(t, cfg)
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if got := fetch(t, rt, request(t, "POST", o.URL, unsized("payload")())); got != "POST payload" {
						t.Errorf("answer %q", got)
					}
				})
			}
			within(t, 30*time.Second, "the burst", wg.Wait)
			if got := o.peak.Load(); got > 8 {
				t.Errorf("%d connections at a time, want at most 8", got)
			}
			s := originOf(t, rt, o)
			if s.Open > 8 || s.InUse != 0 || s.Waiting != 0 || s.Waits == 0 || s.WaitTime <= 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestMaxConnsHoldsOverAllOrigins(t *testing.T) {
	for _, m := range h1Modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var open, peak atomic.Int64
			cfg := m.config()
			cfg.MaxConns = 4
			cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				n := open.Add(1)
				for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
				}
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					open.Add(-1)
					return nil, err
				}
				return &dialledConn{Conn: c, closed: sync.OnceFunc(func() { open.Add(-1) })}, nil
			}
			rt := newPool(t, cfg)
			var wg sync.WaitGroup
			for range 3 {
				o := m.serve(t, http.HandlerFunc(echo))
				for range 20 {
					wg.Go(func() {
						for range 3 {
							fetch(t, rt, request(t, "POST", o.URL, payload()))
						}
					})
				}
			}
			within(t, 30*time.Second, "the burst", wg.Wait)
			if got := peak.Load(); got > 4 {
				t.Errorf("%d connections at a time, want at most 4", got)
			}
			if s := rt.Stats(); s.Open > 4 || s.InUse != 0 || s.Requests != 180 || s.Closed.Excess == 0 {
				t.Errorf("%+v", s.Origin)
			}
		})
	}
}

type dialledConn struct {
	net.Conn
	closed func()
}

func (c *dialledConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

func TestRequestBeyondMaxWaitersFailsAtOnce(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o, release := held(t, m)
			cfg := m.config()
			cfg.MaxConnsPerHost, cfg.MaxWaitersPerHost = 1, 2
			rt := newPool(t, cfg)
			fetch(t, rt, request(t, "HEAD", o.URL, nil)) // which tells how many streams there are
			var wg sync.WaitGroup
			wg.Go(func() { fetch(t, rt, get(t, o.URL)) })
			eventually(t, 5*time.Second, "the first request has the connection", func() bool { return rt.Stats().InUse == 1 })
			for range 2 {
				wg.Go(func() { fetch(t, rt, get(t, o.URL)) })
			}
			eventually(t, 5*time.Second, "two requests wait", func() bool { return rt.Stats().Waiting == 2 })
			within(t, time.Second, "the refusal", func() {
				req := request(t, "POST", o.URL, payload())
				body := recordClose(req)
				_, err := rt.RoundTrip(req)
				exhausted(t, err, o.URL, "1 open", "1 in use", "0 dialling", "2 waiting")
				if !body.closed.Load() {
					t.Error("the request's body was not closed")
				}
			})
			release()
			within(t, 10*time.Second, "the others", wg.Wait)
		})
	}
}

// exhausted checks that err is ErrPoolExhausted and says all of want.
func exhausted(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, transport.ErrPoolExhausted) {
		t.Errorf("got %v, want ErrPoolExhausted", err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%q shows the query", err)
	}
}

func TestAcquireTimeout(t *testing.T) {
	for _, m := range allModes {
		t.Run("all in use/"+m.name, func(t *testing.T) {
			t.Parallel()
			o, release := held(t, m)
			cfg := m.config()
			cfg.MaxConnsPerHost, cfg.AcquireTimeout = 1, 100*time.Millisecond
			rt := newPool(t, cfg)
			fetch(t, rt, request(t, "HEAD", o.URL, nil))
			var wg sync.WaitGroup
			wg.Go(func() { fetch(t, rt, get(t, o.URL)) })
			eventually(t, 5*time.Second, "the first request has the connection", func() bool { return rt.Stats().InUse == 1 })
			within(t, 5*time.Second, "the refusal", func() {
				_, err := rt.RoundTrip(request(t, "POST", o.URL, payload()))
				exhausted(t, err, o.URL, "1 open", "1 in use", "0 dialling")
			})
			release()
			within(t, 10*time.Second, "the other", wg.Wait)
		})
		t.Run("all in use by another origin/"+m.name, func(t *testing.T) {
			t.Parallel()
			o, release := held(t, m)
			other := m.serve(t, http.HandlerFunc(echo))
			cfg := m.config()
			cfg.MaxConns, cfg.AcquireTimeout = 1, 100*time.Millisecond
			rt := newPool(t, cfg)
			var wg sync.WaitGroup
			wg.Go(func() { fetch(t, rt, get(t, o.URL)) })
			eventually(t, 5*time.Second, "the first request has the connection", func() bool { return rt.Stats().InUse == 1 })
			within(t, 5*time.Second, "the refusal", func() {
				_, err := rt.RoundTrip(request(t, "POST", other.URL, payload()))
				exhausted(t, err, other.URL, "0 open", "1 to all origins, and MaxConns is 1")
			})
			release()
			within(t, 10*time.Second, "the other", wg.Wait)
		})
		t.Run("dialling/"+m.name, func(t *testing.T) {
			t.Parallel()
			cfg := m.config()
			cfg.AcquireTimeout = 50 * time.Millisecond
			cfg.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			rt := newPool(t, cfg)
			within(t, 5*time.Second, "the refusal", func() {
				_, err := rt.RoundTrip(request(t, "POST", "http://example.com:8080", payload()))
				if f := faultOf(err); !f.has("timeout") || errors.Is(err, transport.ErrPoolExhausted) || !strings.Contains(err.Error(), "0 open, 0 in use, 1 dialling") ||
					!strings.Contains(err.Error(), "AcquireTimeout passed while dial 1 was under way") {
					t.Errorf("got %v, want a timeout that is not for want of room", err)
				}
			})
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o, release := held(t, m)
			cfg := m.config()
			cfg.MaxConnsPerHost = 1
			rt := newPool(t, cfg)
			fetch(t, rt, request(t, "HEAD", o.URL, nil))
			var wg sync.WaitGroup
			wg.Go(func() { fetch(t, rt, get(t, o.URL)) })
			eventually(t, 5*time.Second, "the first request has the connection", func() bool { return rt.Stats().InUse == 1 })
			within(t, 5*time.Second, "the request that waits", func() {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				_, err := rt.RoundTrip(get(t, o.URL).WithContext(ctx))
				if f := faultOf(err); !f.has("deadline") || !f.has("timeout") || errors.Is(err, transport.ErrPoolExhausted) {
					t.Errorf("got %v", f)
				}
			})
			eventually(t, time.Second, "nobody waits", func() bool { return rt.Stats().Waiting == 0 })
			release()
			within(t, 10*time.Second, "the other", wg.Wait)
		})
	}
}

func TestProxyThatIsSilentEndsWithDialTimeout(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		cfg := modeH2.config()
		cfg.DialTimeout = 50 * time.Millisecond
		cfg.TLSHandshakeTimeout = transport.Disabled
		cfg.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: silent(t)})
		rt := newPool(t, cfg)
		within(t, 5*time.Second, "the request", func() {
			_, err := (&http.Client{Transport: rt}).Do(get(t, "https://example.com"))
			if f := faultOf(err); !f.has("timeout") {
				t.Errorf("%s: got %v", scheme, f)
			}
		})
	}
}

// TestProxyOfUnknownSchemeIsRefused: http.Transport takes such a proxy for one that speaks HTTP.
func TestProxyOfUnknownSchemeIsRefused(t *testing.T) {
	cfg := modeH1.config()
	cfg.Proxy = http.ProxyURL(&url.URL{Scheme: "gopher", Host: "127.0.0.1:1", User: url.UserPassword("user", "secret")})
	_, err := newPool(t, cfg).RoundTrip(get(t, "http://example.com"))
	if err == nil || !strings.Contains(err.Error(), "gopher") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestEveryInvalidFieldIsNamedAtOnce(t *testing.T) {
	var cfg transport.Config
	v := reflect.ValueOf(&cfg).Elem()
	want := make(map[string]string) // field: value
	for i := range v.NumField() {
		if f := v.Field(i); f.CanInt() {
			f.SetInt(-int64(i) - 2)
			want["Config."+v.Type().Field(i).Name+" "] = fmt.Sprint(f.Interface())
		}
	}
	cfg.Protocols = new(http.Protocols)
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	want["Protocols"], want["TLS.MinVersion"], want["TLS.MaxVersion"] = "", "TLS 1.0", "TLS 1.1"
	for name, newWith := range map[string]func() error{
		"New":              func() error { _, err := transport.New(cfg); return err },
		"NewHTTPTransport": func() error { _, err := transport.NewHTTPTransport(cfg); return err },
	} {
		err := newWith()
		if err == nil {
			t.Fatalf("%s accepts %+v", name, cfg)
		}
		for field, value := range want {
			if !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), value) {
				t.Errorf("%s does not say that %s is %s: %v", name, field, value, err)
			}
		}
	}
	if len(want) < 20 {
		t.Errorf("only %d fields", len(want))
	}
}

func TestLimitsCanBeTurnedOff(t *testing.T) {
	for _, m := range allModes {
		cfg := m.config()
		v := reflect.ValueOf(&cfg).Elem()
		for i := range v.NumField() {
			if f := v.Field(i); f.CanInt() {
				f.SetInt(transport.Disabled)
			}
		}
		o := m.serve(t, http.HandlerFunc(echo))
		rt := newPool(t, cfg)
		for range 3 {
			if got := fetch(t, rt, request(t, "POST", o.URL, payload())); got != "POST payload" {
				t.Errorf("%s: %q", m.name, got)
			}
		}
		if got := o.accepted.Load(); got != 1 {
			t.Errorf("%s: %d connections", m.name, got)
		}
	}
}

func TestConfigIsACopyOfWhatIsInForce(t *testing.T) {
	given := transport.Config{MaxConns: 7, TLS: &tls.Config{ServerName: "example.com"}}
	rt := newPool(t, given)
	cfg := rt.Config()
	if cfg.MaxConns != 7 || cfg.MaxConnsPerHost != transport.DefaultMaxConnsPerHost || cfg.TLS.ServerName != "example.com" || cfg.Proxy == nil || cfg.DialContext == nil {
		t.Errorf("%+v", cfg)
	}
	given.TLS.ServerName, cfg.TLS.ServerName, cfg.MaxConns = "", "", 1
	cfg.Protocols.SetUnencryptedHTTP2(true)
	if cfg = rt.Config(); cfg.MaxConns != 7 || cfg.TLS.ServerName != "example.com" || cfg.Protocols.UnencryptedHTTP2() {
		t.Errorf("after changing what Config returned: %+v", cfg)
	}
	if transport.Shared() == nil || transport.Shared() != transport.Shared() {
		t.Error("Shared is not one")
	}
}

func TestIncompleteRequestIsAnError(t *testing.T) {
	rt := newPool(t, transport.Config{})
	for name, req := range map[string]*http.Request{
		"nil": nil, "zero": {}, "without header": {URL: &url.URL{Scheme: "http", Host: "example.com"}},
		"without URL": {Header: http.Header{}}, "without host": {URL: &url.URL{Scheme: "http"}, Header: http.Header{}},
	} {
		body := &closeRecorder{ReadCloser: io.NopCloser(strings.NewReader("payload"))}
		if req != nil {
			req.Body = body
		}
		if _, err := rt.RoundTrip(req); err == nil || err.Error() == "" {
			t.Errorf("%s: %v", name, err)
		}
		if req != nil && !body.closed.Load() {
			t.Errorf("%s: the body was not closed", name)
		}
	}
}
