package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestErrorsSayWhatBecameOfTheRequest has the errors that the table in replay_test.go does not have.
func TestErrorsSayWhatBecameOfTheRequest(t *testing.T) {
	t.Parallel()
	errDial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	// lost serves one request on a connection, and takes the second without an answer.
	lost := func(far net.Conn) {
		defer far.Close()
		r := bufio.NewReader(far)
		for n := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if n == 0 {
				answerH1(far, req.Header.Get("X-Id"))
			}
		}
	}
	silent := func(far net.Conn) { io.Copy(io.Discard, far) }
	for _, tt := range []struct {
		name        string
		cfg         Config
		server      func(net.Conn) // nil refuses to be dialled; it serves one connection only
		hangs       bool           // a dial does
		scheme      string
		prepare     func(p *Transport)
		req         func(r *http.Request)
		unprocessed bool
		permanent   bool
		cause       error
	}{
		{name: "dial refused", scheme: "http", unprocessed: true, cause: syscall.ECONNREFUSED},
		{name: "TLS handshake lost", scheme: "https", server: func(far net.Conn) { far.Read(make([]byte, 16<<10)); far.Close() }, unprocessed: true, cause: io.EOF},
		{name: "closed", scheme: "http", prepare: func(p *Transport) { p.Close() }, unprocessed: true, permanent: true, cause: ErrClosed},
		{name: "no dial in time", scheme: "http", cfg: Config{AcquireTimeout: time.Second}, hangs: true, unprocessed: true},
		{name: "exhausted", scheme: "http", cfg: Config{MaxConnsPerHost: 1, AcquireTimeout: time.Second}, server: silent, prepare: func(p *Transport) {
			ctx, stop := context.WithTimeout(context.Background(), time.Minute)
			go func() {
				defer stop()
				p.RoundTrip(newRequest(ctx, "GET", "http://api.test", "first", noBody))
			}()
			synctest.Wait()
		}, unprocessed: true, permanent: true, cause: ErrPoolExhausted},
		{name: "invalid", scheme: "gopher", unprocessed: true, permanent: true, cause: ErrInvalidRequest},
		{name: "incomplete", scheme: "http", req: func(r *http.Request) { r.URL = nil }, unprocessed: true, permanent: true, cause: ErrInvalidRequest},
		{name: "invalid on HTTP/1.1", scheme: "http", server: lost, req: func(r *http.Request) { r.URL.RawQuery = "a\nb" }, unprocessed: true, permanent: true, cause: ErrInvalidRequest},
		{name: "proxy of an unknown scheme", scheme: "http", cfg: Config{Proxy: http.ProxyURL(&url.URL{Scheme: "ftp", Host: "a.test"})}, unprocessed: true, permanent: true},
		{name: "no proxy to be had", scheme: "http", cfg: Config{Proxy: func(*http.Request) (*url.URL, error) { return nil, errInjected }}, unprocessed: true, cause: errInjected},
		{name: "the body fails", scheme: "http", server: lost, req: func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 64<<10)), failingReader{}))
		}, permanent: true, cause: errInjected},
		// The first connection got the request, and lost it. That there is no second one proves nothing.
		{name: "replay not connected", scheme: "http", server: lost, prepare: func(p *Transport) {
			resp, err := p.RoundTrip(newRequest(context.Background(), "GET", "http://api.test", "first", noBody))
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}, req: func(r *http.Request) { r.Method = "PUT" }, cause: syscall.ECONNREFUSED},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := tt.cfg
				if cfg.Proxy == nil {
					cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
				}
				server := tt.server
				cfg.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					switch {
					case tt.hangs:
						<-ctx.Done()
						return nil, ctx.Err()
					case server == nil:
						return nil, errDial
					}
					near, far := net.Pipe()
					go server(far)
					server = nil
					return near, nil
				}
				p, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if tt.prepare != nil {
					tt.prepare(p)
				}
				req := newRequest(t.Context(), "POST", tt.scheme+"://api.test", "it", noBody)
				if tt.req != nil {
					tt.req(req)
				}
				_, err = p.RoundTrip(req)
				v, ok := errors.AsType[*verdict](err)
				if !ok {
					t.Fatalf("error %v says nothing of itself", err)
				}
				if v.Unprocessed() != tt.unprocessed || v.Permanent() != tt.permanent {
					t.Errorf("%v: unprocessed %t, permanent %t; want %t, %t", err, v.Unprocessed(), v.Permanent(), tt.unprocessed, tt.permanent)
				}
				if tt.cause != nil && !errors.Is(err, tt.cause) {
					t.Errorf("error %v does not lead to %v", err, tt.cause)
				}
			})
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errInjected }
