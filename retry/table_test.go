package retry_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file are the tables of docs/retry.md, driven through the whole client: real protocol, real TLS, the
// real pool, and a server that counts what it acts on. The connections are pipes, so that time can be fake.

// A fault is what happens to every attempt.
type fault int

const (
	refused     fault = iota // the dial is refused
	unconnected              // the dial takes longer than AttemptTimeout
	unknownName              // the name does not resolve
	handshake                // the connection is lost in the TLS handshake
	untrusted                // the certificate does not verify
	notTLS                   // an answer in plain HTTP to the TLS handshake
	unwritten                // the connection is lost before anything was written
	afterHeader              // lost once the server has the request's header
	midBody                  // lost in the middle of the request's body
	midHeader                // lost in the middle of the response's header
	midResponse              // lost in the middle of the response's body
	silence                  // no response header within AttemptTimeout
	answer                   // a whole response, with a status
)

// acted is whether the server has begun to act on a request when the fault happens.
func (f fault) acted() bool { return f >= afterHeader }

// overTLS is whether it takes TLS to have the fault.
func (f fault) overTLS() bool { return f == handshake || f == untrusted || f == notTLS }

// A row of the table says how often a request is sent whose body can be sent again, if every attempt ends the same way.
type row struct {
	what       string
	fault      fault
	status     int
	idempotent int // attempts, if it is idempotent or has a key
	other      int // attempts, if not
	cause      error
	why        string
}

var rows = []row{
	{"dial refused", refused, 0, 3, 3, syscall.ECONNREFUSED, "nothing was sent"},
	{"no connection within `AttemptTimeout`", unconnected, 0, 3, 3, nil, "nothing was sent"},
	{"name not resolved", unknownName, 0, 3, 3, nil, "nothing was sent"},
	{"connection lost in the TLS handshake", handshake, 0, 3, 3, io.EOF, "nothing was sent"},
	{"certificate does not verify", untrusted, 0, 1, 1, nil, "it would not verify the next time either"},
	{"no TLS on the port", notTLS, 0, 1, 1, http.ErrSchemeMismatch, "as above"},
	{"connection lost before anything was written", unwritten, 0, 3, 3, syscall.ECONNRESET, "nothing was sent"},
	{"connection lost after the request's header", afterHeader, 0, 3, 1, nil, "the server may have acted on it"},
	{"connection lost in the middle of the request's body", midBody, 0, 3, 1, nil, "as above"},
	{"connection lost in the middle of the response's header", midHeader, 0, 3, 1, nil, "as above"},
	{"connection lost in the middle of the response's body", midResponse, 0, 1, 1, nil, "the response was handed out already"},
	{"no response header within `AttemptTimeout`", silence, 0, 3, 1, nil, "the server may have acted on it"},
	{"408 Request Timeout", answer, 408, 1, 1, nil, "the server gave up waiting for the request; the next one is not quicker"},
	{"421 Misdirected Request", answer, 421, 1, 1, nil, "the same pool would send it to the same place"},
	{"425 Too Early", answer, 425, 1, 1, nil, "Go sends no early data, so it cannot be helped"},
	{"429 Too Many Requests", answer, 429, 3, 3, nil, "the server says that it did not act on it"},
	{"500 Internal Server Error", answer, 500, 1, 1, nil, "as likely a bug as an accident"},
	{"501 Not Implemented", answer, 501, 1, 1, nil, "nor will it be in a second"},
	{"502 Bad Gateway", answer, 502, 3, 1, nil, "the server behind the gateway may have acted on it"},
	{"503 Service Unavailable", answer, 503, 3, 1, nil, "what refuses may not be what acts"},
	{"504 Gateway Timeout", answer, 504, 3, 1, nil, "the server behind the gateway may have acted on it"},
}

// An ask is a Retry-After header, and the bounds of the wait after the first attempt.
type ask struct {
	what        string
	header      func() string
	least, most time.Duration
}

func constant(s string) func() string { return func() string { return s } }

// inSeconds returns a date. The fake clock begins on a whole second; dates have no fractions.
func inSeconds(n int) func() string {
	return func() string { return time.Now().Add(time.Duration(n) * time.Second).UTC().Format(http.TimeFormat) }
}

const (
	leastBackoff = retry.DefaultMinBackoff
	mostBackoff  = 2 * retry.DefaultMinBackoff
)

var asks = []ask{
	{"no header", nil, leastBackoff, mostBackoff},
	{"`Retry-After: 0`", constant("0"), leastBackoff, mostBackoff},
	{"`Retry-After: 1`", constant("1"), time.Second, time.Second},
	{"`Retry-After: 3`", constant("3"), retry.DefaultMaxBackoff, retry.DefaultMaxBackoff},
	{"`Retry-After: 1743440400`, which is 484289 hours", constant("1743440400"), retry.DefaultMaxBackoff, retry.DefaultMaxBackoff},
	{"a number of thirty digits", constant(strings.Repeat("9", 30)), retry.DefaultMaxBackoff, retry.DefaultMaxBackoff},
	{"a date in one second", inSeconds(1), time.Second, time.Second},
	{"a date in a year", inSeconds(365 * 24 * 3600), retry.DefaultMaxBackoff, retry.DefaultMaxBackoff},
	{"a date that has passed", inSeconds(-60), leastBackoff, mostBackoff},
	{"`Retry-After: -5`", constant("-5"), leastBackoff, mostBackoff},
	{"`Retry-After: soon`", constant("soon"), leastBackoff, mostBackoff},
}

const attemptTimeout = 4 * time.Second

var (
	methods = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "BREW"}
	keys    = []string{"", "Idempotency-Key", "X-Idempotency-Key"}
)

// isIdempotent is RFC 9110, section 9.2.2.
func isIdempotent(method string) bool {
	return strings.Contains("GET HEAD OPTIONS TRACE PUT DELETE", method)
}

type bodyKind string

const (
	noBody     bodyKind = "no body"
	rewindable bodyKind = "GetBody"
	streamed   bodyKind = "streamed"
)

// payload does not fit into one write.
var payload = bytes.Repeat([]byte("payload "), 8<<10)

// server is the other end of the pipes. Its fields but the counters are set before it is used.
type server struct {
	fault  fault
	status int
	header func() string // Retry-After
	cert   tls.Certificate
	acted  atomic.Int64 // requests that it began to act on
	conns  sync.WaitGroup
}

// dial is the client's way to the server.
func (s *server) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	switch s.fault {
	case refused:
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case unconnected:
		<-ctx.Done()
		return nil, ctx.Err()
	case unknownName:
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}}
	}
	near, far := net.Pipe()
	s.conns.Go(func() {
		defer far.Close()
		s.serve(far)
	})
	if s.fault == unwritten {
		return unwritable{near}, nil
	}
	return near, nil
}

// unwritable is a connection that breaks before a byte was written.
type unwritable struct{ net.Conn }

func (unwritable) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

// serve serves one connection until it is lost.
func (s *server) serve(nc net.Conn) {
	switch s.fault {
	case handshake:
		nc.Read(make([]byte, 16<<10)) // a ClientHello
		return
	case notTLS:
		nc.Read(make([]byte, 16<<10)) // a ClientHello
		io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	case untrusted:
		tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{s.cert}}).Handshake()
		return
	}
	for r := bufio.NewReader(nc); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		s.acted.Add(1)
		switch s.fault {
		case afterHeader:
			return
		case midBody:
			io.CopyN(io.Discard, req.Body, 10)
			return
		}
		io.Copy(io.Discard, req.Body)
		switch s.fault {
		case midHeader:
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n")
			return
		case midResponse:
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
			if req.Method != "HEAD" {
				io.WriteString(nc, "not so much")
			}
			return
		case silence:
			io.Copy(io.Discard, r)
			return
		}
		var asked, body string
		if s.header != nil {
			asked = "Retry-After: " + s.header() + "\r\n"
		}
		if req.Method != "HEAD" {
			body = strconv.Itoa(s.status)
		}
		fmt.Fprintf(nc, "HTTP/1.1 %d Status\r\nContent-Length: 3\r\n%s\r\n%s", s.status, asked, body)
	}
}

// certified returns a certificate for example.com, and what trusts it. It is that of package httptest.
func certified() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewUnstartedServer(nil)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

// direct keeps a proxy of the environment out.
func direct(*http.Request) (*url.URL, error) { return nil, nil }

// exchange sends one request through the whole client and checks what came of it. It returns how long that took.
func exchange(t *testing.T, s *server, r row, method, key string, kind bodyKind, attempts int) (took time.Duration) {
	var p retry.Policy
	if s.fault == silence || s.fault == unconnected {
		p.AttemptTimeout = attemptTimeout
	}
	c, err := client.New(client.WithRetry(p), client.WithTransport(transport.Config{DialContext: s.dial, Proxy: direct}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.conns.Wait()
	defer c.Close()

	made := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { made++ }})
	var body io.Reader
	switch kind {
	case rewindable:
		body = bytes.NewReader(payload)
	case streamed:
		body = struct{ io.Reader }{bytes.NewReader(payload)}
	}
	scheme := "http"
	if s.fault.overTLS() {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://example.com", body)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set(key, "a key")
	}

	began := time.Now()
	resp, err := c.Do(req)
	took = time.Since(began)
	if made != attempts {
		t.Errorf("%d attempts, want %d", made, attempts)
	}
	if want := int64(attempts); s.fault.acted() && s.acted.Load() != want || !s.fault.acted() && s.acted.Load() != 0 {
		t.Errorf("the server acted on it %d times", s.acted.Load())
	}
	switch s.fault {
	case answer, midResponse:
		if err != nil {
			t.Errorf("error %v, want a response", err)
			return took
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if s.fault == midResponse {
			if (err == nil) != (method == "HEAD") {
				t.Errorf("reading the body: %v", err)
			}
			return took
		}
		want := strconv.Itoa(s.status)
		if method == "HEAD" {
			want = ""
		}
		if resp.StatusCode != s.status || string(got) != want || err != nil {
			t.Errorf("the caller got %d %q %v, want the answer", resp.StatusCode, got, err)
		}
	default:
		var re *retry.Error
		if !errors.As(err, &re) || re.Attempts != attempts {
			t.Errorf("error %v, want a *retry.Error with %d attempts", err, attempts)
		}
		if r.cause != nil && !errors.Is(err, r.cause) {
			t.Errorf("error %v does not lead to %v", err, r.cause)
		}
	}
	return took
}

func TestWhichRequestIsSentAgain(t *testing.T) {
	t.Parallel()
	cert, _ := certified()
	for _, r := range rows {
		t.Run(r.what, func(t *testing.T) {
			t.Parallel()
			for _, method := range methods {
				for _, key := range keys {
					for _, kind := range []bodyKind{noBody, rewindable, streamed} {
						if r.fault == midBody && kind == noBody {
							continue
						}
						want := r.other
						if isIdempotent(method) || key != "" {
							want = r.idempotent
						}
						if kind == streamed {
							want = 1
						}
						t.Run(strings.Join([]string{method, key, string(kind)}, "/"), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								exchange(t, &server{fault: r.fault, status: r.status, cert: cert}, r, method, key, kind, want)
							})
						})
					}
				}
			}
		})
	}
}

func TestHowLongRetryAfterIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, r := range rows {
		if r.fault != answer {
			continue
		}
		for _, a := range asks {
			t.Run(r.what+"/"+a.what, func(t *testing.T) {
				t.Parallel()
				for _, method := range []string{"GET", "POST"} {
					for _, kind := range []bodyKind{noBody, rewindable, streamed} {
						want := r.other
						if isIdempotent(method) {
							want = r.idempotent
						}
						if kind == streamed {
							want = 1
						}
						synctest.Test(t, func(t *testing.T) {
							took := exchange(t, &server{fault: answer, status: r.status, header: a.header}, r, method, "", kind, want)
							// The second wait is drawn from twice the range, and dates do not move between the two attempts.
							least, most := a.least*time.Duration(want-1), (a.most+max(a.most, 2*mostBackoff))*time.Duration(min(1, want-1))
							if took < least || took > most {
								t.Errorf("%s, %s: %d attempts took %v, want %v to %v", method, kind, want, took, least, most)
							}
						})
					}
				}
			})
		}
	}
}

func TestTheTablesOfTheDocumentationAreTheseTables(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	want.WriteString("| if every attempt ends with | idempotent, or with a key | other | the server acts on | the caller gets | why |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		server, caller := "none", "the error"
		if r.fault.acted() {
			server = "each"
		}
		switch r.fault {
		case midResponse:
			caller = "the response, and an error from its body"
		case answer:
			caller = "the last answer"
		}
		fmt.Fprintf(&want, "| %s | %d | %d | %s | %s | %s |\n", r.what, r.idempotent, r.other, server, caller, r.why)
	}
	want.WriteString("\n")
	text, err := os.ReadFile("../docs/retry.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/retry.md does not have this table:\n%s", &want)
	}
	want.Reset()
	want.WriteString("| the answer has | the first wait |\n|---|---|\n")
	for _, a := range asks {
		wait := a.least.String()
		if a.most != a.least {
			wait += " to " + a.most.String()
		}
		fmt.Fprintf(&want, "| %s | %s |\n", a.what, wait)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/retry.md does not have this table:\n%s", &want)
	}
}
