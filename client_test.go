package thaw_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/jarcoal/httpmock"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/metrics"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/tracing/otel"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file look at the whole stack from outside, as a program that imports thaw does: first with the
// downstream mocked, then beside Go's own client against real servers, then where thaw is meant to differ from it.
// The Examples are the code of README.md and docs/: a test in policy_test.go compares them.

func TestMain(m *testing.M) {
	code := m.Run()
	client.Default().CloseIdleConnections() // the Examples used it, and nobody closes it
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left after the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

const mocked = "https://api.example.com"

// newMocked returns a client whose downstream is a mock of its own.
func newMocked(t *testing.T, opts ...client.Option) (*client.Client, *httpmock.MockTransport) {
	t.Helper()
	mock := httpmock.NewMockTransport()
	c, err := client.New(append(opts, client.WithBase(mock))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, mock
}

func TestMockedDownstreamAnswers(t *testing.T) {
	t.Parallel()
	c, mock := newMocked(t)
	mock.RegisterResponder("POST", mocked+"/orders", func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		return httpmock.NewStringResponse(http.StatusCreated, req.Header.Get("Content-Type")+" "+string(body)), nil
	})
	resp, err := c.Post(mocked+"/orders", "text/plain", strings.NewReader("two pies"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated || string(body) != "text/plain two pies" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if n := mock.GetTotalCallCount(); n != 1 {
		t.Errorf("the downstream was called %d times, want once", n)
	}
}

func TestClientsDoNotShareTheirMocks(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			c, mock := newMocked(t)
			mock.RegisterResponder("GET", mocked+"/", httpmock.NewStringResponder(200, strconv.Itoa(i)))
			if got := get(t, c.Client, mocked+"/"); got != strconv.Itoa(i) {
				t.Errorf("got the answer %q of another client's mock", got)
			}
		})
	}
}

func TestRedirectsThroughAMock(t *testing.T) {
	t.Parallel()
	redirect := func(status int, to string) httpmock.Responder {
		return httpmock.NewStringResponder(status, "").HeaderSet(http.Header{"Location": {to}})
	}
	echo := func(req *http.Request) (*http.Response, error) {
		var body []byte
		if req.Body != nil {
			body, _ = io.ReadAll(req.Body)
		}
		return httpmock.NewStringResponse(200, req.Method+" "+string(body)), nil
	}
	for _, tt := range []struct {
		method string
		status int
		want   string
	}{
		{"GET", http.StatusFound, "GET "},
		{"POST", http.StatusSeeOther, "GET "},
		{"POST", http.StatusTemporaryRedirect, "POST a body"},
		{"PUT", http.StatusPermanentRedirect, "PUT a body"},
	} {
		t.Run(fmt.Sprint(tt.method, tt.status), func(t *testing.T) {
			t.Parallel()
			c, mock := newMocked(t)
			mock.RegisterResponder(tt.method, mocked+"/old", redirect(tt.status, "/new"))
			mock.RegisterResponder("GET", mocked+"/new", echo)
			mock.RegisterResponder("POST", mocked+"/new", echo)
			mock.RegisterResponder("PUT", mocked+"/new", echo)
			var body io.Reader
			if tt.method != "GET" {
				body = strings.NewReader("a body")
			}
			if got := do(t, c.Client, tt.method, mocked+"/old", body); got != tt.want {
				t.Errorf("after the redirect: %q, want %q", got, tt.want)
			}
		})
	}

	t.Run("CheckRedirect", func(t *testing.T) {
		t.Parallel()
		c, mock := newMocked(t)
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		mock.RegisterResponder("GET", mocked+"/old", redirect(http.StatusFound, "/new"))
		resp, err := c.Get(mocked + "/old")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusFound {
			t.Errorf("status %d, want the redirect itself", resp.StatusCode)
		}
	})
}

func TestCookiesThroughAMock(t *testing.T) {
	t.Parallel()
	c, mock := newMocked(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Jar = jar
	mock.RegisterResponder("POST", mocked+"/login",
		httpmock.NewStringResponder(200, "").HeaderSet(http.Header{"Set-Cookie": {"session=42; Path=/; Secure"}}))
	mock.RegisterResponder("GET", mocked+"/me", func(req *http.Request) (*http.Response, error) {
		return httpmock.NewStringResponse(200, req.Header.Get("Cookie")), nil
	})
	do(t, c.Client, "POST", mocked+"/login", nil)
	if got := get(t, c.Client, mocked+"/me"); got != "session=42" {
		t.Errorf("the downstream got the cookies %q, want session=42", got)
	}
}

func TestTimeoutCoversTheWholeRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts []client.Option
		want time.Duration
	}{
		{"Default", nil, client.DefaultTimeout},
		{"Zero", []client.Option{client.WithTimeout(0)}, client.DefaultTimeout},
		{"Set", []client.Option{client.WithTimeout(3 * time.Second)}, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, mock := newMocked(t, tt.opts...)
				// One second goes by before a redirect, and then nothing comes any more: the time allowed is
				// that of both together.
				mock.RegisterResponder("GET", mocked+"/first",
					httpmock.NewStringResponder(302, "").HeaderSet(http.Header{"Location": {"/hangs"}}).Delay(time.Second))
				mock.RegisterResponder("GET", mocked+"/hangs", func(req *http.Request) (*http.Response, error) {
					<-req.Context().Done()
					return nil, req.Context().Err()
				})
				start := time.Now()
				_, err := c.Get(mocked + "/first")
				var ue *url.Error
				if !errors.As(err, &ue) || !ue.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v, want a timeout", err)
				}
				if got := time.Since(start); got != tt.want {
					t.Errorf("gave up after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestTimeoutCoversTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, mock := newMocked(t)
		mock.RegisterResponder("GET", mocked+"/", func(req *http.Request) (*http.Response, error) {
			r, w := io.Pipe()
			context.AfterFunc(req.Context(), func() { w.CloseWithError(req.Context().Err()) })
			return &http.Response{StatusCode: 200, Body: r, Request: req}, nil
		})
		start := time.Now()
		resp, err := c.Get(mocked + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reading a body that never ends: %v, want a timeout", err)
		}
		if got := time.Since(start); got != client.DefaultTimeout {
			t.Errorf("gave up after %v, want %v", got, client.DefaultTimeout)
		}
	})
}

func TestWithoutATimeoutTheContextDecides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, mock := newMocked(t, client.WithTimeout(transport.Disabled))
		mock.RegisterResponder("GET", mocked+"/", func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", mocked+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := c.Do(req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
		if got := time.Since(start); got != 15*time.Minute {
			t.Errorf("gave up after %v, want the context's 15m", got)
		}
	})
}

func TestErrorsOfTheDownstreamReachTheCaller(t *testing.T) {
	t.Parallel()
	c, mock := newMocked(t)
	cause := errors.New("the downstream is on fire")
	mock.RegisterResponder("POST", mocked+"/", httpmock.NewErrorResponder(fmt.Errorf("dial: %w", cause)))
	_, err := c.Post(mocked+"/?key=secret", "text/plain", strings.NewReader("x"))
	if !errors.Is(err, cause) {
		t.Errorf("error %v does not lead to its cause", err)
	}
	var ue *url.Error
	if !errors.As(err, &ue) || ue.Op != "Post" {
		t.Errorf("error %v is not what http.Client returns", err)
	}
	if n := mock.GetTotalCallCount(); n != 1 {
		t.Errorf("a POST that failed was sent %d times", n)
	}

	if _, err := c.Post(mocked+"/unknown", "text/plain", nil); !errors.Is(err, httpmock.NoResponderFound) {
		t.Errorf("a URL that was not mocked: %v, want NoResponderFound", err)
	}
}

func TestAnErrorStatusIsAnAnswer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 404, 409, 500, 503} {
		c, mock := newMocked(t)
		mock.RegisterResponder("POST", mocked+"/", httpmock.NewStringResponder(status, "why"))
		resp, err := c.Post(mocked+"/", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Errorf("status %d: %v", status, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != status || string(body) != "why" || err != nil {
			t.Errorf("status %d came as %d %q %v", status, resp.StatusCode, body, err)
		}
		if n := mock.GetTotalCallCount(); n != 1 {
			t.Errorf("status %d: the POST was sent %d times", status, n)
		}
	}
}

func TestAMockedClientHasNoPool(t *testing.T) {
	t.Parallel()
	c, mock := newMocked(t)
	if err := c.Warm(t.Context(), mocked, "no URL at all"); err != nil {
		t.Errorf("Warm: %v", err)
	}
	c.Thaw(t.Context())
	if s := c.Stats(); s.Requests != 0 || len(s.Origins) != 0 {
		t.Errorf("Stats of a client without a pool: %+v", s)
	}
	if n := mock.GetTotalCallCount(); n != 0 {
		t.Errorf("the downstream was called %d times", n)
	}
}

// A mode is a protocol that client and server speak in a test.
type mode string

const (
	h1    mode = "HTTP/1.1"
	h1tls mode = "HTTP/1.1 with TLS"
	h2    mode = "HTTP/2"
)

func eachMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range []mode{h1, h1tls, h2} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			f(t, m)
		})
	}
}

// downstream is a real server that counts its connections.
type downstream struct {
	*httptest.Server
	opened, open atomic.Int64
}

func newDownstream(t testing.TB, m mode, h http.HandlerFunc) *downstream {
	t.Helper()
	d := &downstream{Server: httptest.NewUnstartedServer(h)}
	d.Config.ErrorLog = log.New(io.Discard, "", 0)
	d.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			d.opened.Add(1)
			d.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			d.open.Add(-1)
		}
	}
	switch m {
	case h1:
		d.Start()
	case h1tls:
		d.StartTLS()
	case h2:
		d.EnableHTTP2 = true
		d.StartTLS()
	}
	t.Cleanup(d.Close)
	return d
}

// trust returns what a client needs to trust the server's certificate.
func (d *downstream) trust() *tls.Config {
	pool := x509.NewCertPool()
	if cert := d.Certificate(); cert != nil {
		pool.AddCert(cert)
	}
	return &tls.Config{RootCAs: pool}
}

// thaw returns a client of thaw's for the server.
func (d *downstream) thaw(t testing.TB, cfg transport.Config, opts ...client.Option) *client.Client {
	t.Helper()
	cfg.TLS = d.trust()
	c, err := client.New(append(opts, client.WithTransport(cfg))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// plain returns a client of net/http's for the server.
func (d *downstream) plain(t testing.TB) *http.Client {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig = d.trust()
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: client.DefaultTimeout}
}

// TestSwappedInForGosClient does the same with Go's client and with thaw's, and wants to see the same.
func TestSwappedInForGosClient(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		w.Header().Set("X-Echo", strings.Join(r.Header.Values("X-Echo"), ","))
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s host=%s agent=%s accept=%s length=%d auth=%s:%s cookie=%s body=%.100q of %d err=%v", r.Method, r.URL,
			strings.Split(r.Host, ":")[0], r.UserAgent(), r.Header.Get("Accept-Encoding"), r.ContentLength, user, password, r.Header.Get("Cookie"), body, len(body), err)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, bytes.NewReader(make([]byte, 3<<20)))
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write([]byte("unpacked"))
		z.Close()
	})
	mux.HandleFunc("/nothing", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/trailer", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "42"})
		http.Redirect(w, r, "/echo", http.StatusSeeOther)
	})
	mux.Handle("/moved", http.RedirectHandler("/echo", http.StatusTemporaryRedirect))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // between TLS's close_notify and the FIN there is time for an answer, with any client
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "not a hundred bytes")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})

	type exchange func(t *testing.T, c *http.Client, base string) (*http.Response, error)
	request := func(method, path string, body func() io.Reader, change ...func(*http.Request)) exchange {
		return func(t *testing.T, c *http.Client, base string) (*http.Response, error) {
			var r io.Reader
			if body != nil {
				r = body()
			}
			req, err := http.NewRequestWithContext(t.Context(), method, base+path, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range change {
				f(req)
			}
			return c.Do(req)
		}
	}
	text := func() io.Reader { return strings.NewReader("some text") }
	streamed := func() io.Reader { return struct{ io.Reader }{strings.NewReader("streamed text")} } // no GetBody, no length
	mebibyte := func() io.Reader { return bytes.NewReader(make([]byte, 1<<20)) }

	for name, do := range map[string]exchange{
		"Get":             request("GET", "/echo?q=1", nil),
		"Head":            request("HEAD", "/echo", nil),
		"Options":         request("OPTIONS", "/echo", nil),
		"Post":            request("POST", "/echo", text),
		"PostEmpty":       request("POST", "/echo", func() io.Reader { return http.NoBody }),
		"PostStreamed":    request("POST", "/echo", streamed),
		"PutLarge":        request("PUT", "/echo", mebibyte),
		"Delete":          request("DELETE", "/echo", nil),
		"OwnMethod":       request("BREW", "/echo", text),
		"Large":           request("GET", "/large", nil),
		"Gzip":            request("GET", "/gzip", nil),
		"GzipAskedFor":    request("GET", "/gzip", nil, func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") }),
		"NoContent":       request("GET", "/nothing", nil),
		"NotFound":        request("GET", "/none", nil),
		"Trailer":         request("GET", "/trailer", nil),
		"EarlyHints":      request("GET", "/hints", nil),
		"Redirect":        request("POST", "/moved", text),
		"RedirectLoop":    request("GET", "/loop", nil),
		"Cut":             request("GET", "/cut", nil),
		"Continue":        request("POST", "/echo", text, func(r *http.Request) { r.Header.Set("Expect", "100-continue") }),
		"OwnHeader":       request("GET", "/echo", nil, func(r *http.Request) { r.Header["X-Echo"] = []string{"a", "b"} }),
		"OwnAgent":        request("GET", "/echo", nil, func(r *http.Request) { r.Header.Set("User-Agent", "teapot/1") }),
		"NoAgent":         request("GET", "/echo", nil, func(r *http.Request) { r.Header.Set("User-Agent", "") }),
		"OwnHost":         request("GET", "/echo", nil, func(r *http.Request) { r.Host = "other.test" }),
		"ConnectionClose": request("GET", "/echo", nil, func(r *http.Request) { r.Close = true }),
		"UserInfo":        request("GET", "/echo", nil, func(r *http.Request) { r.URL.User = url.UserPassword("ada", "pw") }),
		"BadHeaderName":   request("GET", "/echo", nil, func(r *http.Request) { r.Header["a b"] = []string{"x"} }),
		"BadHeaderValue":  request("GET", "/echo", nil, func(r *http.Request) { r.Header["A"] = []string{"x\n"} }),
		"BadMethod":       request("GET", "/echo", nil, func(r *http.Request) { r.Method = "A B" }),
		"BadScheme":       request("GET", "/echo", nil, func(r *http.Request) { r.URL.Scheme = "gopher" }),
		"NoHost":          request("GET", "/echo", nil, func(r *http.Request) { r.URL.Host = "" }),
		"WrongLength":     request("POST", "/echo", text, func(r *http.Request) { r.ContentLength = 100 }),
		"BodyFails": request("POST", "/echo", func() io.Reader {
			return io.MultiReader(strings.NewReader("begun"), failing{io.ErrNoProgress})
		}),
		"Login": func(t *testing.T, c *http.Client, base string) (*http.Response, error) {
			withJar := *c
			withJar.Jar, _ = cookiejar.New(nil)
			return withJar.Get(base + "/login")
		},
		"Form": func(t *testing.T, c *http.Client, base string) (*http.Response, error) {
			return c.PostForm(base+"/echo", url.Values{"a": {"1 2"}})
		},
		"Timeout": func(t *testing.T, c *http.Client, base string) (*http.Response, error) {
			hasty := *c
			hasty.Timeout = 20 * time.Millisecond
			return hasty.Get(base + "/hang")
		},
		"CancelledBefore": func(t *testing.T, c *http.Client, base string) (*http.Response, error) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", base+"/echo", nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Do(req)
		},
		"CancelledWithACause": func(t *testing.T, c *http.Client, base string) (*http.Response, error) {
			ctx, cancel := context.WithCancelCause(t.Context())
			trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { cancel(io.ErrClosedPipe) }}
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), "GET", base+"/hang", nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Do(req)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(t *testing.T, m mode) {
				d := newDownstream(t, m, mux.ServeHTTP)
				plain := outcome(do(t, d.plain(t), d.URL))
				traced := client.WithTracer(tracing.Log(slog.New(slog.DiscardHandler)))
				for name, thaw := range map[string]*client.Client{
					"thaw's client":         d.thaw(t, transport.Config{}),
					"thaw's client, traced": d.thaw(t, transport.Config{}, traced),
				} {
					for range 2 { // on a new connection, then on one that was used
						if got := outcome(do(t, thaw.Client, d.URL)); got != plain {
							t.Errorf("%s: %s\n  Go's client: %s", name, got, plain)
						}
					}
				}
			})
		})
	}
}

// outcome says what came of a request, leaving out what differs from one run to the next.
func outcome(resp *http.Response, err error) string {
	if err != nil {
		var ue *url.Error
		var known []string
		for name, target := range map[string]error{"canceled": context.Canceled, "deadline": context.DeadlineExceeded,
			"cause": io.ErrClosedPipe, "body": io.ErrNoProgress} {
			if errors.Is(err, target) {
				known = append(known, name)
			}
		}
		slices.Sort(known)
		return fmt.Sprintf("error: url.Error=%t timeout=%t is=%v response=%t", errors.As(err, &ue), ue != nil && ue.Timeout(), known, resp != nil)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var failure string
	if err != nil {
		failure = streamID.ReplaceAllString(err.Error(), "stream ID N")
	}
	header := maps.Clone(resp.Header)
	delete(header, "Date")
	state := "none"
	if resp.TLS != nil {
		state = tls.VersionName(resp.TLS.Version) + " " + resp.TLS.NegotiatedProtocol
	}
	return fmt.Sprintf("%s %s header=%v length=%d encoding=%v unpacked=%t closes=%t trailer=%v path=%s tls=%s body=%.300q of %d err=%s",
		resp.Proto, resp.Status, header, resp.ContentLength, resp.TransferEncoding, resp.Uncompressed, resp.Close,
		resp.Trailer, resp.Request.URL.Path, state, body, len(body), failure)
}

var streamID = regexp.MustCompile(`stream ID \d+`)

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestACertificateThatDoesNotVerifyIsAnError(t *testing.T) {
	t.Parallel()
	d := newDownstream(t, h2, func(http.ResponseWriter, *http.Request) {})
	c, err := client.New()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Get(d.URL)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("error %v, want an x509.UnknownAuthorityError", err)
	}
}

func TestRequestsOneAfterTheOtherShareAConnection(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		d := newDownstream(t, m, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
		c := d.thaw(t, transport.Config{})
		const n = 20
		for range n {
			if got := do(t, c.Client, "POST", d.URL, strings.NewReader("x")); got != "x" {
				t.Fatalf("got %q", got)
			}
		}
		s := c.Stats()
		if d.opened.Load() != 1 || s.Dials != 1 || s.Requests != n || s.Reused != n-1 {
			t.Errorf("%d connections at the server; %d dials, %d requests, %d reused; want 1, 1, %d, %d; closed: %+v",
				d.opened.Load(), s.Dials, s.Requests, s.Reused, n, n-1, s.Closed)
		}
		if _, ok := s.Origins[d.URL]; !ok || len(s.Origins) != 1 {
			t.Errorf("Stats has the origins %v, want %s", slices.Collect(maps.Keys(s.Origins)), d.URL)
		}
	})
}

func TestPOSTOnAConnectionThatTheServerClosedArrivesOnce(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(s string) io.Reader{
		"Rewindable": func(s string) io.Reader { return strings.NewReader(s) },
		"Streamed":   func(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(t *testing.T, m mode) {
				var mu sync.Mutex
				arrived := make(map[string]int)
				d := newDownstream(t, m, func(w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if err != nil {
						return
					}
					mu.Lock()
					arrived[string(b)]++
					mu.Unlock()
				})
				c := d.thaw(t, transport.Config{})
				const n = 50
				for i := range n {
					do(t, c.Client, "POST", d.URL, body(strconv.Itoa(i)))
					d.CloseClientConnections()
				}
				mu.Lock()
				defer mu.Unlock()
				for i := range n {
					if got := arrived[strconv.Itoa(i)]; got != 1 {
						t.Errorf("request %d arrived %d times", i, got)
					}
				}
			})
		})
	}
}

func TestABurstToAColdHTTP2HostDialsOnce(t *testing.T) {
	t.Parallel()
	d := newDownstream(t, h2, func(http.ResponseWriter, *http.Request) {})
	c := d.thaw(t, transport.Config{})
	const n = 100
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			resp, err := c.Get(d.URL)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	if s := c.Stats(); d.opened.Load() != 1 || s.Dials != 1 || s.Requests != n {
		t.Errorf("%d connections at the server, %d dials, %d requests; want 1, 1, %d", d.opened.Load(), s.Dials, s.Requests, n)
	}
}

func TestWarmMakesTheFirstRequestCheap(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		d := newDownstream(t, m, func(http.ResponseWriter, *http.Request) {})
		c := d.thaw(t, transport.Config{})
		if err := c.Warm(t.Context(), d.URL+"/orders?id=1"); err != nil {
			t.Fatal(err)
		}
		if s := c.Stats(); s.Dials != 1 || s.Idle != 1 || s.Requests != 0 {
			t.Errorf("after Warm: %d dials, %d idle, %d requests; want 1, 1, 0", s.Dials, s.Idle, s.Requests)
		}
		get(t, c.Client, d.URL)
		if s := c.Stats(); s.Dials != 1 {
			t.Errorf("the first request dialled all the same: %d dials", s.Dials)
		}
	})
}

func TestWarmNamesEveryOriginThatFailed(t *testing.T) {
	t.Parallel()
	d := newDownstream(t, h1, func(http.ResponseWriter, *http.Request) {})
	gone := "http://" + faultnet.Unheard(t)
	c := d.thaw(t, transport.Config{})
	err := c.Warm(t.Context(), d.URL, gone, "http://[", "gopher://old.test")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{gone, "malformed URL", "gopher://old.test"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
	if s := c.Stats(); s.Idle != 1 {
		t.Errorf("%d idle connections, want the one that worked", s.Idle)
	}
}

func TestThawDropsWhatTheServerClosed(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		d := newDownstream(t, m, func(http.ResponseWriter, *http.Request) {})
		c := d.thaw(t, transport.Config{})
		get(t, c.Client, d.URL)
		d.CloseClientConnections()
		c.Thaw(t.Context())
		if s := c.Stats(); s.Open != 0 {
			t.Errorf("%d connections open after Thaw, all of them dead", s.Open)
		}
		get(t, c.Client, d.URL)
	})
}

func TestABodyThatIsClosedEarlyKeepsItsConnection(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		d := newDownstream(t, m, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 10<<10)) })
		c := d.thaw(t, transport.Config{DrainTime: 10 * time.Second}) // a busy machine may need longer than the default
		for range 5 {
			resp, err := c.Get(d.URL)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if n := d.opened.Load(); n != 1 {
			t.Errorf("%d connections for 5 requests whose bodies were not read, want 1", n)
		}
	})
}

func TestRequestsBeyondTheCapWait(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	d := newDownstream(t, h1, func(http.ResponseWriter, *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		now.Add(-1)
	})
	c := d.thaw(t, transport.Config{MaxConnsPerHost: 2})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { get(t, c.Client, d.URL) })
	}
	wg.Wait()
	if s := c.Stats(); most.Load() > 2 || s.Dials > 2 || s.Requests != 50 {
		t.Errorf("%d requests at once, %d dials, %d requests; want at most 2, at most 2, 50", most.Load(), s.Dials, s.Requests)
	}
}

func TestAnExhaustedPoolSaysSo(t *testing.T) {
	t.Parallel()
	busy, done := make(chan struct{}), make(chan struct{})
	d := newDownstream(t, h1, func(http.ResponseWriter, *http.Request) {
		close(busy)
		<-done
	})
	c := d.thaw(t, transport.Config{MaxConnsPerHost: 1, AcquireTimeout: 30 * time.Millisecond})
	if err := c.Warm(t.Context(), d.URL); err != nil { // the first request must not wait for a dial
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { get(t, c.Client, d.URL) })
	<-busy
	_, err := c.Get(d.URL)
	close(done)
	wg.Wait()
	if !errors.Is(err, transport.ErrPoolExhausted) {
		t.Fatalf("error %v, want ErrPoolExhausted", err)
	}
	for _, want := range []string{d.URL, "1 open", "1 in use"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestAClosedClientRefusesRequests(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		d := newDownstream(t, m, func(http.ResponseWriter, *http.Request) {})
		c := d.thaw(t, transport.Config{})
		get(t, c.Client, d.URL)
		for range 2 { // closing twice is not an error
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Get(d.URL); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("a request after Close: %v, want ErrClosed", err)
		}
		if err := c.Warm(t.Context(), d.URL); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("Warm after Close: %v, want ErrClosed", err)
		}
		c.Thaw(t.Context())
		if s := c.Stats(); s.Open != 0 {
			t.Errorf("%d connections open after Close", s.Open)
		}
	})
}

func do(t testing.TB, c *http.Client, method, url string, body io.Reader) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Error(err)
		return ""
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func get(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	return do(t, c, "GET", url, nil)
}

// What follows is the code of the documentation.

var ordersURL = "https://api.example.com/orders"

// Order is what the handler of the Examples takes.
type Order struct{ ID int }

// JSON returns the order as a request's body.
func (o Order) JSON() io.Reader { return strings.NewReader(fmt.Sprintf(`{"id": %d}`, o.ID)) }

// One client for the life of the execution environment, outside the handler.
var api = client.Default()

func handle(ctx context.Context, order Order) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, ordersURL, order.JSON())
	if err != nil {
		return err
	}
	resp, err := api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("order %d: %s", order.ID, resp.Status)
	}
	return nil
}

// orders is a downstream for the Examples. It takes orders and says on how many connections they came.
func orders() (server *httptest.Server, connections *atomic.Int64) {
	connections = new(atomic.Int64)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		fmt.Fprint(w, "thank you")
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	return server, connections
}

func Example() {
	server, connections := orders()
	defer server.Close()
	ordersURL = server.URL

	for id := range 3 {
		if err := handle(context.Background(), Order{ID: id}); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("connections:", connections.Load())
	// Output: connections: 1
}

func Example_configure() {
	api, err := client.New(
		client.WithTimeout(5*time.Second),
		client.WithTransport(transport.Config{
			MaxConnsPerHost: 16,
			IdleTimeout:     50 * time.Second, // the downstream is behind a load balancer that closes after 60
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()

	fmt.Println(api.Timeout)
	// Output: 5s
}

func Example_disabled() {
	cfg := transport.Config{
		MaxConns:        transport.Disabled, // no limit
		MaxConnLifetime: transport.Disabled, // forever
		DialTimeout:     0,                  // the default
	}
	t, err := transport.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	fmt.Println(t.Config().DialTimeout)
	// Output: 5s
}

func Example_faults() {
	_, err := client.New(
		client.WithTimeout(-time.Second),
		client.WithTransport(transport.Config{MaxConnsPerHost: -2, DrainBytes: -3}),
	)
	fmt.Println(strings.Count(err.Error(), "\n")+1, "faults")
	// Output: 3 faults
}

func Example_mock() {
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", "https://api.example.com/orders/7", httpmock.NewStringResponder(200, `{"id": 7}`))

	api, err := client.New(client.WithBase(mock))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := api.Get("https://api.example.com/orders/7")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: {"id": 7} <nil>
}

// SDK stands for any library that takes a client.
type SDK struct {
	HTTPClient *http.Client
	Transport  http.RoundTripper
}

func Example_sdk() {
	server, connections := orders()
	defer server.Close()

	api := client.Default()
	sdk := SDK{HTTPClient: api.Client}            // for code that takes an *http.Client
	other := SDK{Transport: api.Client.Transport} // for code that takes an http.RoundTripper

	for _, c := range []*http.Client{sdk.HTTPClient, {Transport: other.Transport}} {
		resp, err := c.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	fmt.Println("connections:", connections.Load())
	// Output: connections: 1
}

func Example_ownClient() {
	server, _ := orders()
	defer server.Close()

	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	c := &http.Client{
		Transport: transport.Shared(), // the pool of client.Default
		Jar:       jar,
		Timeout:   10 * time.Second,
	}
	resp, err := c.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func Example_httpTransport() {
	t, err := transport.NewHTTPTransport(transport.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(t.MaxIdleConnsPerHost, t.IdleConnTimeout)
	// Output: 64 5m0s
}

// start is called by main.
func start() {
	// In the init phase, when the CPU is not throttled. An origin that is down fails nothing: the error was logged.
	_ = lambdahandler.Init(api, 5*time.Second, ordersURL)

	lambda.Start(lambdahandler.New(api, handle,
		lambdahandler.WithWarmup(lambdahandler.IsWarmup, ordersURL),
		lambdahandler.WithShutdown(0),
	))
}

var _ = start // lambda.Start does not return, so no Example calls it

func Example_warm() {
	server, connections := orders()
	defer server.Close()
	ordersURL = server.URL

	if err := api.Warm(context.Background(), ordersURL); err != nil {
		slog.Warn("some origins are not reachable yet", "error", err)
	}
	fmt.Println("idle:", api.Stats().Origins[ordersURL].Idle)
	err := handle(context.Background(), Order{ID: 1})
	fmt.Println("connections:", connections.Load(), err)
	// Output:
	// idle: 1
	// connections: 1 <nil>
}

func Example_handler() {
	server, _ := orders()
	defer server.Close()
	ordersURL = server.URL

	h := lambdahandler.New(api, handle, lambdahandler.WithWarmup(lambdahandler.IsWarmup))
	for _, event := range []string{`{"ID": 2}`, `{"thaw": "warmup"}`} {
		answer, err := h.Invoke(context.Background(), []byte(event))
		fmt.Printf("%s %v\n", answer, err)
	}
	// Output:
	// null <nil>
	// {"thaw":"warm","open":1} <nil>
}

func Example_idempotencyKey() {
	server, _ := orders()
	defer server.Close()
	order := Order{ID: 4711}

	req, err := http.NewRequest(http.MethodPost, server.URL, order.JSON())
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", fmt.Sprintf("order-%d", order.ID))
	resp, err := api.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 201 Created
}

func Example_stats() {
	server, _ := orders()
	defer server.Close()
	api, err := client.New()
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	for range 4 {
		resp, err := api.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}

	s := api.Stats()
	fmt.Printf("%d requests, %d on a connection that was there\n", s.Requests, s.Reused)
	for origin, o := range s.Origins {
		slog.Debug("pool", "origin", origin, "open", o.Open, "idle", o.Idle, "stale", o.Closed.Stale)
	}
	// Output: 4 requests, 3 on a connection that was there
}

func Example_exhausted() {
	busy, done := make(chan bool), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		busy <- true
		<-done
	}))
	defer server.Close()
	api, err := client.New(client.WithTransport(transport.Config{
		MaxConnsPerHost: 1,
		AcquireTimeout:  20 * time.Millisecond,
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	if err := api.Warm(context.Background(), server.URL); err != nil {
		log.Fatal(err)
	}
	first := make(chan error)
	go func() {
		resp, err := api.Get(server.URL)
		if err == nil {
			err = resp.Body.Close()
		}
		first <- err
	}()
	<-busy

	_, err = api.Get(server.URL)
	if errors.Is(err, transport.ErrPoolExhausted) {
		fmt.Println("too many requests at once: raise MaxConnsPerHost, or answer 503")
	}

	close(done)
	fmt.Println(<-first)
	// Output:
	// too many requests at once: raise MaxConnsPerHost, or answer 503
	// <nil>
}

func Example_connInfo() {
	server, _ := orders()
	defer server.Close()

	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if conn, ok := info.Conn.(transport.ConnInfo); ok {
				slog.Debug("connection", "id", conn.ID(), "reused", info.Reused, "age", time.Since(conn.Created()))
				fmt.Println(conn.Protocol(), conn.Uses() > 0)
			}
		},
	}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := api.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	// Output: http/1.1 true
}

func Example_log() {
	server, _ := orders()
	defer server.Close()
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: only("method", "status", "conn_reused", "conn_protocol")}))

	api, err := client.New(client.WithTracer(tracing.Log(logger)))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	for range 2 {
		resp, err := api.Post(server.URL, "text/plain", strings.NewReader("two pies"))
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	// Output:
	// method=POST status=201 conn_reused=false conn_protocol=http/1.1
	// method=POST status=201 conn_reused=true conn_protocol=http/1.1
}

// only returns what leaves only the named attributes in a line of the log.
func only(names ...string) func([]string, slog.Attr) slog.Attr {
	return func(_ []string, a slog.Attr) slog.Attr {
		if slices.Contains(names, a.Key) {
			return a
		}
		return slog.Attr{}
	}
}

// coldStarts counts the exchanges that waited for a dial.
type coldStarts struct{ n atomic.Int64 }

func (c *coldStarts) Start(ctx context.Context, s tracing.Start) context.Context {
	s.Header.Set("X-Attempt", strconv.Itoa(s.Attempt)) // travels; the caller's header stays as it is
	return ctx
}

func (c *coldStarts) End(ctx context.Context, e tracing.Exchange) {
	if len(e.Dial) > 0 {
		c.n.Add(1)
		slog.DebugContext(ctx, "dialled", "origin", e.Origin, "connect", e.Timing.Connect, "tls", e.Timing.TLS, "error", e.Err)
	}
}

func Example_tracer() {
	server, _ := orders()
	defer server.Close()

	cold := new(coldStarts)
	api, err := client.New(client.WithTracer(cold), client.WithTracer(tracing.Log(slog.New(slog.DiscardHandler))))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	for range 3 {
		resp, err := api.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	fmt.Println("cold:", cold.n.Load())
	// Output: cold: 1
}

func Example_metrics() {
	server, _ := orders()
	defer server.Close()
	stdout := new(bytes.Buffer)

	// Outside the handler. On Lambda, stdout is os.Stdout, and the function's name is a dimension already.
	m, err := metrics.EMF(stdout, metrics.WithDimensions(metrics.Dimension{Name: "Stage", Value: "production"}))
	if err != nil {
		log.Fatal(err)
	}
	api, err := client.New(client.WithTracer(m.Tracer())) // for the metric Retries
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	resp, err := api.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()

	// At the end of each invocation.
	if err := m.Emit(api); err != nil {
		slog.Error("no metrics", "error", err)
	}
	fmt.Println(strings.Count(stdout.String(), "\n"), "line, with the requests:", strings.Contains(stdout.String(), `"Requests":1,`))
	// Output: 1 line, with the requests: true
}

func Example_restore() {
	server, connections := orders()
	defer server.Close()
	ordersURL = server.URL

	if err := api.Warm(context.Background(), ordersURL); err != nil {
		log.Fatal(err)
	}
	transport.Shared().Reset() // right after the restore
	err := handle(context.Background(), Order{ID: 1})
	fmt.Println("connections:", connections.Load(), err)
	// Output: connections: 2 <nil>
}

func Example_idempotencyKeys() {
	api, err := client.New(client.WithRetry(retry.Policy{
		IdempotencyKeyHosts: []string{"api.stripe.com"}, // POST and PATCH get a key, the same for every attempt
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	fmt.Println(api.Timeout)
	// Output: 30s
}

func Example_attempts() {
	server, _ := orders()
	server.Close()

	_, err := api.Get(server.URL)
	if e, ok := errors.AsType[*retry.Error](err); ok {
		fmt.Println("sent", e.Attempts, "times:", errors.Is(err, syscall.ECONNREFUSED))
	}
	// Output: sent 3 times: true
}

func Example_decide() {
	answers := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers++
		w.Header().Set("X-Should-Retry", "false")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()

	api, err := client.New(client.WithRetry(retry.Policy{
		Decide: func(a retry.Attempt) retry.Decision {
			if a.Response != nil && a.Response.Header.Get("X-Should-Retry") == "false" {
				return retry.Stop
			}
			return retry.DefaultDecide(a)
		},
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	resp, err := api.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode, answers)
	// Output: 503 1
}

func Example_ownLoop() {
	server, _ := orders()
	server.Close()

	api, err := client.New(client.WithRetry(retry.Policy{MaxAttempts: 1}))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	req, err := http.NewRequest(http.MethodPost, server.URL, Order{ID: 1}.JSON())
	if err != nil {
		log.Fatal(err)
	}

	resp, err := api.Do(req)
	if retry.SafeToRetry(req, err) {
		fmt.Println("nothing was sent: put it back into the queue")
		return
	}
	if err == nil {
		resp.Body.Close()
	}
	// Output: nothing was sent: put it back into the queue
}

func Example_setDefault() {
	api, err := client.New(client.WithTimeout(3 * time.Second))
	if err != nil {
		log.Fatal(err)
	}
	client.SetDefault(api)
	defer client.SetDefault(nil)

	fmt.Println(client.Default().Timeout)
	// Output: 3s
}

func Example_protocols() {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // and nothing else
	api, err := client.New(client.WithTransport(transport.Config{Protocols: protocols}))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	fmt.Println(api.Stats().Open)
	// Output: 0
}

func Example_xray() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Amzn-Trace-Id"))
	}))
	defer server.Close()
	ordersURL = server.URL
	// What Lambda does. This trace is not sampled: nothing is sent to the daemon, which is not there.
	const header = "Root=1-58406520-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=0"
	ctx := context.WithValue(context.Background(), "x-amzn-trace-id", header) //nolint:staticcheck // the key is aws-lambda-go's

	api, err := client.New(client.WithTracer(xray.New()))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	// In the handler, whose ctx has the trace header.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ordersURL, nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := api.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	sent, err := io.ReadAll(resp.Body)
	fmt.Printf("%s %v\n", sent, err)
	// Output: Root=1-58406520-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=0 <nil>
}

func Example_openTelemetry() {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	exporter := tracetest.NewInMemoryExporter() // in the place of one that sends
	spans := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))

	pool, err := transport.New(transport.Config{})
	if err != nil {
		log.Fatal(err)
	}
	tracer, err := otel.New(otel.WithPool(pool), otel.WithTracerProvider(spans))
	if err != nil {
		log.Fatal(err)
	}
	api, err := client.New(client.WithBase(pool), client.WithTracer(tracer))
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	resp, err := api.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	for _, span := range exporter.GetSpans() {
		fmt.Println(span.SpanKind, span.Name)
	}
	// Output:
	// internal connect
	// client GET
}
