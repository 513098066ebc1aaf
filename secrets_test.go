package thaw_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/internal/xraydaemon"
	"github.com/thawhttp/thaw/metrics"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/otel"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file plant secrets wherever a request and its answer can have them, and look for them in all that
// comes out: the lines of the log, the traces, the metrics, the statistics and the errors, on success and on failure.

// secret is in every secret. What is looked for is the marker, and the credentials as they are sent.
const secret = "s3cr3t"

var traces = []string{
	secret,
	base64.StdEncoding.EncodeToString([]byte(secret + ":" + secret)),
	strings.ToUpper(secret),
}

// observer is one of the ways that something is told of requests. To have another one searched, add it to observers.
type observer struct {
	tracer tracing.Tracer
	// said returns all that came out, once c has made its requests. It may be nil.
	said func(c *client.Client) string
}

var observers = map[string]func(t *testing.T) observer{
	"Log": func(t *testing.T) observer {
		var b lockedBuffer
		l := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
		return observer{tracing.Log(l), func(*client.Client) string { return b.String() }}
	},
	"EverythingThereIs": func(t *testing.T) observer {
		var b lockedBuffer
		return observer{dumper{&b}, func(*client.Client) string { return b.String() }}
	},
	"Metrics": func(t *testing.T) observer {
		var b lockedBuffer
		m, err := metrics.EMF(&b, metrics.WithOrigins(transport.Disabled))
		if err != nil {
			t.Fatal(err)
		}
		return observer{m.Tracer(), func(c *client.Client) string {
			if err := m.Emit(c); err != nil {
				t.Error(err)
			}
			return b.String() + fmt.Sprintf("%+v", c.Stats())
		}}
	},
	"XRay": func(t *testing.T) observer {
		d, err := xraydaemon.Listen()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		emitter, err := awsxray.NewDefaultEmitter(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(d.Addr())))
		if err != nil {
			t.Fatal(err)
		}
		var all [][]byte
		return observer{inLambda{xray.New(), &awsxray.Config{Emitter: emitter}}, func(*client.Client) string {
			docs, err := d.Documents()
			if err != nil {
				t.Error(err)
			}
			all = append(all, docs...)
			return string(bytes.Join(all, nil))
		}}
	},
	"OTel": func(t *testing.T) observer {
		spans, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
		tracer, err := otel.New(
			otel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))),
			otel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
		if err != nil {
			t.Fatal(err)
		}
		return observer{tracer, func(*client.Client) string {
			var measured metricdata.ResourceMetrics
			if err := reader.Collect(context.Background(), &measured); err != nil {
				t.Error(err)
			}
			return fmt.Sprintf("%+v\n%+v", spans.GetSpans(), measured)
		}}
	},
}

// inLambda is a Tracer for X-Ray that finds in its context what a Lambda function does.
type inLambda struct {
	tracing.Tracer
	cfg *awsxray.Config
}

func (l inLambda) Start(ctx context.Context, s tracing.Start) context.Context {
	ctx = context.WithValue(ctx, awsxray.RecorderContextKey{}, l.cfg)
	ctx = context.WithValue(ctx, awsxray.LambdaTraceHeaderKey, //nolint:staticcheck // the key is aws-lambda-go's
		"Root=1-58406520-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=1")
	return l.Tracer.Start(ctx, s)
}

// dumper is a Tracer that writes all that it is told, but for the header, which is there to be sent.
type dumper struct{ w io.Writer }

func (d dumper) Start(ctx context.Context, s tracing.Start) context.Context {
	s.Header = nil
	fmt.Fprintf(d.w, "%+v\n", s)
	return ctx
}

func (d dumper) End(_ context.Context, e tracing.Exchange) { fmt.Fprintf(d.w, "%+v\n", e) }

// lockedBuffer is written from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ownError is err without what net/http itself adds: *url.Error has the URL with its query, of which the transport and
// all below it know nothing.
func ownError(err error) string {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return fmt.Sprintf("%v %+v", err, err)
}

// raw starts a server that reads a request from each connection and writes answer.
func raw(t *testing.T, answer string) string {
	t.Helper()
	return listen(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, answer)
		}
	})
}

// listen starts a server and returns its address. It waits for handle to return at the end of the test.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				handle(c)
			})
		}
	})
	return l.Addr().String()
}

// silence reads what comes and says nothing.
func silence(c net.Conn) { io.Copy(io.Discard, c) }

// refuseSOCKS lets nobody in who has a user name (RFC 1929).
func refuseSOCKS(c net.Conn) {
	b := make([]byte, 512)
	c.Read(b)
	c.Write([]byte{5, 2})
	c.Read(b)
	c.Write([]byte{1, 1})
}

// confide answers with secrets everywhere, and with the status that the path asks for.
func confide(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	status := 200
	fmt.Sscanf(r.URL.Path, "/%d", &status)
	w.Header().Set("Trailer", "X-Sum")
	w.Header().Set("X-Key", secret)
	w.Header().Set("Retry-After", "0")
	http.SetCookie(w, &http.Cookie{Name: "session", Value: secret})
	if status/100 == 3 {
		w.Header().Set("Location", "/200?token="+secret+"#"+secret)
	}
	w.WriteHeader(status)
	io.WriteString(w, "the key is "+secret)
	w.Header().Set("X-Sum", secret)
}

// secrecy is one way that a request can end.
type secrecy struct {
	name   string
	target string // "http://host:port", and a path
	cfg    transport.Config
	change func(*http.Request) *http.Request
	want   string // in the error, or "ok"
	times  int    // that the request is made, if not once
	leave  bool   // the body is not closed
}

func TestNoSecretComesOut(t *testing.T) {
	t.Parallel()
	plain, encrypted, modern := newDownstream(t, h1, confide), newDownstream(t, h1tls, confide), newDownstream(t, h2, confide)
	aborting := newDownstream(t, h2, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, secret)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	trusted := transport.Config{TLS: &tls.Config{InsecureSkipVerify: true}}
	through := func(proxy string) transport.Config {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(secret, secret)
		return transport.Config{Proxy: http.ProxyURL(u)}
	}
	cancelled := func(req *http.Request) *http.Request {
		ctx, cancel := context.WithCancel(req.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		return req.WithContext(ctx)
	}
	deadline := func(req *http.Request) *http.Request {
		ctx, cancel := context.WithTimeout(req.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return req.WithContext(ctx)
	}
	const ok = "HTTP/1.1 200 OK\r\nX-Key: " + secret + "\r\n"
	hung := "http://" + listen(t, silence)
	cases := []secrecy{
		{name: "HTTP1", target: plain.URL, want: "ok", times: 3},
		{name: "TLS", target: encrypted.URL, cfg: trusted, want: "ok", times: 3},
		{name: "HTTP2", target: modern.URL, cfg: trusted, want: "ok", times: 3},
		{name: "NotFound", target: plain.URL + "/404", want: "ok"},
		{name: "TooManyRequests", target: plain.URL + "/429", want: "ok"},
		{name: "InternalServerError", target: modern.URL + "/500", cfg: trusted, want: "ok"},
		{name: "Unavailable", target: plain.URL + "/503", want: "ok"},
		{name: "Redirect", target: plain.URL + "/303", want: "ok"},
		{name: "RedirectOfABody", target: modern.URL + "/307", cfg: trusted, want: "ok"},
		{name: "Leaked", target: plain.URL, want: "ok", leave: true},

		{name: "Refused", target: "http://" + faultnet.Unheard(t), want: "refused"},
		{name: "NameNotFound", target: "http://nowhere.invalid", cfg: transport.Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}
		}}, want: "no such host"},
		{name: "NotTrusted", target: encrypted.URL, want: "certificate"},
		{name: "NoTLS", target: strings.Replace(plain.URL, "http", "https", 1), want: "TLS handshake"},
		{name: "AnotherAnswerThanTLS", target: "https://" + listen(t, func(c net.Conn) { io.WriteString(c, secret+secret) }), want: "TLS handshake"},
		{name: "HandshakeTimeout", target: "https://" + listen(t, silence), cfg: transport.Config{TLSHandshakeTimeout: 20 * time.Millisecond}, want: "TLS handshake not done"},
		{name: "HeaderTimeout", target: hung, cfg: transport.Config{ResponseHeaderTimeout: 20 * time.Millisecond}, want: "timeout awaiting response headers"},
		{name: "AcquireTimeout", target: "https://" + listen(t, silence), cfg: transport.Config{AcquireTimeout: 20 * time.Millisecond}, want: "AcquireTimeout passed"},
		{name: "Cancelled", target: hung, change: cancelled, want: "context canceled"},
		{name: "Deadline", target: hung, change: deadline, want: "deadline exceeded"},
		{name: "ClosedAtOnce", target: "http://" + listen(t, func(c net.Conn) {}), want: "http://127.0.0.1"},
		{name: "HeaderTooLarge", target: "http://" + raw(t, ok+strings.Repeat("X: "+secret+"\r\n", 1000)+"\r\n"), cfg: transport.Config{MaxResponseHeaderBytes: 1 << 10}, want: "headers"},

		{name: "Truncated", target: "http://" + raw(t, ok+"Content-Length: 100\r\n\r\n"+secret), want: "unexpected EOF"},
		{name: "Aborted", target: aborting.URL, cfg: trusted, want: "stream error"},
		{name: "NoHTTP", target: "http://" + raw(t, secret+"\r\n\r\n"), want: "malformed"},
		{name: "NoStatus", target: "http://" + raw(t, "HTTP/1.1 "+secret+"\r\n\r\n"), want: "malformed"},
		{name: "NoHeader", target: "http://" + raw(t, "HTTP/1.1 200 OK\r\nSet-Cookie "+secret+"\r\n\r\n"), want: "malformed"},
		{name: "NoLength", target: "http://" + raw(t, ok+"Content-Length: "+secret+"\r\n\r\n"), want: "Content-Length"},
		{name: "NoEncoding", target: "http://" + raw(t, ok+"Transfer-Encoding: "+secret+"\r\n\r\n"), want: "transfer encoding"},
		{name: "NoChunk", target: "http://" + raw(t, ok+"Transfer-Encoding: chunked\r\n\r\n"+secret+"\r\n"), want: "chunk"},
		{name: "NoTrailer", target: "http://" + raw(t, ok+"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum "+secret+"\r\n\r\n"), want: "malformed"},
		{name: "NoGzip", target: "http://" + raw(t, ok+"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n"+secret+strings.Repeat(secret, 4)), want: "gzip"},

		{name: "InvalidHeader", target: plain.URL, change: func(req *http.Request) *http.Request {
			req.Header.Set("X-Key", secret+"\r\n"+secret)
			return req
		}, want: "invalid header field value"},
		{name: "InvalidScheme", target: "gopher://api.test", want: "gopher"},

		{name: "ProxyRefuses", target: "https://api.test", cfg: through("http://" + raw(t, "HTTP/1.1 407 "+secret+"\r\nProxy-Authenticate: "+secret+"\r\nContent-Length: 0\r\n\r\n")), want: "407"},
		{name: "ProxyTalksNonsense", target: "https://api.test", cfg: through("http://" + raw(t, secret+"\r\n\r\n")), want: "malformed"},
		{name: "ProxyRefused", target: "https://api.test", cfg: through("http://" + faultnet.Unheard(t)), want: "refused"},
		{name: "ProxyAnswers", target: "http://api.test", cfg: through("http://" + raw(t, ok+"Content-Length: 6\r\n\r\n"+secret)), want: "ok"},
		{name: "ProxyWithoutTLS", target: "http://api.test", cfg: through("https://" + listen(t, func(c net.Conn) { io.WriteString(c, secret+secret) })), want: "proxyconnect"},
		{name: "SOCKSRefuses", target: "http://api.test", cfg: through("socks5://" + listen(t, refuseSOCKS)), want: "refused the user name"},
		{name: "SOCKSTalksNonsense", target: "http://api.test", cfg: through("socks5://" + listen(t, func(c net.Conn) { io.WriteString(c, secret) })), want: "SOCKS5"},
		{name: "NoURLOfAProxy", target: "http://api.test", cfg: transport.Config{Proxy: func(*http.Request) (*url.URL, error) {
			return url.Parse(fmt.Sprintf("http://%s:%s%%zz@proxy.test", secret, secret))
		}}, want: "Proxy function"},
		{name: "HalfAPasswordForAPort", target: "http://api.test", cfg: transport.Config{Proxy: func(*http.Request) (*url.URL, error) {
			return url.Parse(fmt.Sprintf("http://joe:%s/more@proxy.test", secret))
		}}, want: "Proxy function"},
		{name: "UnknownProxy", target: "http://api.test", cfg: through("gopher://proxy.test"), want: "unsupported proxy scheme"},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t)
		})
	}
}

func (tt *secrecy) run(t *testing.T) {
	var pool lockedBuffer
	tt.cfg.Logger = slog.New(slog.NewTextHandler(&pool, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if tt.cfg.Proxy == nil {
		tt.cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	opts := []client.Option{client.WithTransport(tt.cfg)}
	if tt.leave {
		opts = append(opts, client.WithTimeout(transport.Disabled)) // whose timer net/http stops only when the body is closed
	}
	watching := make(map[string]observer)
	for name, start := range observers {
		o := start(t)
		watching[name] = o
		opts = append(opts, client.WithTracer(o.tracer))
	}
	c, err := client.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}

	out := make(map[string]string)
	for n := range max(tt.times, 1) {
		err := tt.ask(t, c)
		got := "ok"
		if err != nil {
			got = ownError(err)
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("the request ends with %q (%v), want %q", got, err, tt.want)
		}
		out[fmt.Sprintf("error %d", n)] = got
	}
	if tt.leave {
		deadline := time.After(10 * time.Second)
		// The pool and the tracers notice it each for themselves.
		for c.Stats().Leaked == 0 || watching["Log"].said(c) == "" || watching["XRay"].said(c) == "" {
			runtime.GC()
			select {
			case <-deadline:
				t.Fatal("the leak was not noticed")
			case <-time.After(time.Millisecond):
			}
		}
	}
	for name, o := range watching {
		out[name] = o.said(c)
		if out[name] == "" {
			t.Errorf("%s says nothing, so there is nothing to search", name)
		}
	}
	out["the pool's log"] = pool.String()
	c.Close()
	_, err = c.Get(tt.target)
	out["error after Close"] = ownError(err)
	for name, text := range out {
		for _, s := range traces {
			if at := strings.Index(text, s); at >= 0 {
				t.Errorf("%s: a secret in …%s…", name, text[max(0, at-100):min(len(text), at+100)])
			}
		}
	}
}

// ask makes a request that has a secret wherever one can be, and reads the answer.
func (tt *secrecy) ask(t *testing.T, c *client.Client) error {
	u, err := url.Parse(tt.target)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(secret, secret)
	u.RawQuery = "token=" + secret + "&" + secret
	u.Fragment = secret
	body := "the key is " + secret
	req, err := http.NewRequestWithContext(t.Context(), "POST", u.String(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Referer", "https://api.test/?"+secret)
	req.Header.Set("X-Key", secret)
	req.AddCookie(&http.Cookie{Name: "session", Value: secret})
	c.Jar.SetCookies(u, []*http.Cookie{{Name: "other", Value: secret}})
	if tt.change != nil {
		req = tt.change(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	if tt.leave {
		return nil
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// The test above would find nothing if nothing were there to be found: its secrets reach the server, in each place.
func TestTheSecretsAreSent(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	srv := newDownstream(t, h1, func(w http.ResponseWriter, r *http.Request) {
		r.Write(&got)
		io.WriteString(w, "done")
	})
	tt := secrecy{target: srv.URL, change: func(req *http.Request) *http.Request {
		req.Header.Del("Authorization") // so that the user information is sent
		return req
	}}
	c := srv.thaw(t, transport.Config{})
	var err error
	if c.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	if err := tt.ask(t, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/?token=" + secret, "session=" + secret, "other=" + secret, "X-Key: " + secret, "Basic " + traces[1], "the key is " + secret} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("the server was not sent %q, but\n%s", want, &got)
		}
	}
	// What net/http puts into its error is the reason for ownError. If it is gone one day, so should be that.
	_, err = c.Get("http://" + faultnet.Unheard(t) + "/?" + secret)
	if err == nil || !strings.Contains(err.Error(), secret) || strings.Contains(ownError(err), secret) {
		t.Errorf("the error is %v", err)
	}
}
