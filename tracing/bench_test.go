package tracing_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/thawhttp/thaw/tracing"
)

// stub answers in the pool's place, and calls the hooks that the pool calls for a request on an idle connection.
type stub struct{ conn pooledConn }

func (s *stub) RoundTrip(req *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	if trace != nil {
		trace.GetConn("api.test:443")
		trace.GotConn(httptrace.GotConnInfo{Conn: &s.conn, Reused: true, WasIdle: true, IdleTime: time.Millisecond})
		trace.WroteRequest(httptrace.WroteRequestInfo{})
		trace.GotFirstResponseByte()
	}
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Body: &once{}, ContentLength: 5, Request: req}, nil
}

type pooledConn struct{ net.Conn }

var stubAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}

func (*pooledConn) RemoteAddr() net.Addr      { return stubAddr }
func (*pooledConn) ID() uint64                { return 1 }
func (*pooledConn) Created() time.Time        { return time.Unix(0, 0) }
func (*pooledConn) Uses() uint64              { return 2 }
func (*pooledConn) Protocol() string          { return "h2" }
func (*pooledConn) TLS() *tls.ConnectionState { return nil }

// once is a body of five bytes.
type once struct{ read bool }

func (o *once) Read(p []byte) (int, error) {
	if o.read {
		return 0, io.EOF
	}
	o.read = true
	return 5, nil
}
func (*once) Close() error { return nil }

// discard is a Tracer that does nothing.
type discard struct{}

func (discard) Start(ctx context.Context, _ tracing.Start) context.Context { return ctx }
func (discard) End(context.Context, tracing.Exchange)                      {}

// What tracing costs beside the request itself: the stub does nothing but call the hooks.
func BenchmarkRoundTrip(b *testing.B) {
	log := tracing.Log(slog.New(slog.NewJSONHandler(io.Discard, nil)))
	quiet := tracing.Log(slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn})))
	for _, bb := range []struct {
		name    string
		tracers []tracing.Tracer
	}{
		{"Off", nil},
		{"Bare", []tracing.Tracer{discard{}}},
		{"LogQuiet", []tracing.Tracer{quiet}},
		{"Log", []tracing.Tracer{log}},
		{"LogTwice", []tracing.Tracer{log, log}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			rt := newTraced(b, &stub{}, bb.tracers...)
			req := newRequest(b, b.Context(), "GET", "https://api.test/orders/1?page=2")
			req.Header.Set("Accept", "application/json")
			buf := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				resp.Body.Close()
			}
		})
	}
}
