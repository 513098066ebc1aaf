package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// The tests of conformance give the same exchange to an http.Transport and to the pool, with equal settings,
// and compare what the caller and the server see.

// A side is one of the two.
type side struct {
	name string
	open func(testing.TB, transport.Config) http.RoundTripper
}

var sides = []side{
	{"reference", func(t testing.TB, cfg transport.Config) http.RoundTripper {
		t.Helper()
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0) // the pool has one of its own
		rt, err := transport.NewHTTPTransport(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(rt.CloseIdleConnections)
		return rt
	}},
	{"pool", func(t testing.TB, cfg transport.Config) http.RoundTripper {
		t.Helper()
		return newPool(t, cfg)
	}},
}

// newPool returns a Transport that is closed at the end of the test.
func newPool(t testing.TB, cfg transport.Config) *transport.Transport {
	t.Helper()
	rt, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		within(t, 10*time.Second, "Transport.Close", func() {
			if err := rt.Close(); err != nil {
				t.Errorf("Transport.Close: %v", err)
			}
		})
	})
	return rt
}

// compare lets both sides make the same observation, a struct, and reports the fields that differ. It returns
// the reference's.
func compare[T any](t *testing.T, cfg transport.Config, observe func(t *testing.T, rt http.RoundTripper) T) T {
	t.Helper()
	return compareRepeatedly(t, 1, cfg, observe)
}

// compareRepeatedly is compare for what a machine that is slow for a moment can change. Differences count if they are seen
// each of so many times.
func compareRepeatedly[T any](t *testing.T, times int, cfg transport.Config, observe func(t *testing.T, rt http.RoundTripper) T) T {
	t.Helper()
	for {
		got := make([]T, len(sides))
		for i, s := range sides {
			if !t.Run(s.name, func(t *testing.T) { got[i] = observe(t, s.open(t, cfg)) }) {
				return got[0]
			}
		}
		found := differences("", reflect.ValueOf(got[0]), reflect.ValueOf(got[1]))
		if times--; len(found) == 0 || times == 0 {
			for _, d := range found {
				t.Error(d)
			}
			return got[0]
		}
	}
}

// differences returns the fields in which two structs, and those within them, differ.
func differences(prefix string, ref, pool reflect.Value) (found []string) {
	for i := range ref.NumField() {
		name := prefix + ref.Type().Field(i).Name
		a, b := ref.Field(i).Interface(), pool.Field(i).Interface()
		switch a := a.(type) {
		case fault:
			if !a.agrees(b.(fault)) {
				found = append(found, fmt.Sprintf("%s:\n reference: %v\n pool:      %v", name, a, b))
			}
		case told:
			found = append(found, differences(name+".", ref.Field(i), pool.Field(i))...)
		default:
			if !reflect.DeepEqual(a, b) {
				found = append(found, fmt.Sprintf("%s:\n reference: %+v\n pool:      %+v", name, a, b))
			}
		}
	}
	return found
}

// The errors that tests let bodies, dialers and contexts end with.
var (
	errOfBody  = errors.New("conformance: body")
	errOfDial  = errors.New("conformance: dial")
	errOfCause = errors.New("conformance: cause")
	errOfProxy = errors.New("conformance: proxy")
)

// A fault is an error and what callers can tell from it.
type fault struct {
	err     error
	classes []string
}

// exact are the classes that must be equal on both sides. Of the others the pool may have more.
var exact = []string{"any", "canceled", "deadline", "timeout", "cause", "eof", "unexpected eof"}

func faultOf(err error) fault {
	f := fault{err: err}
	if err == nil {
		return f
	}
	is := func(class string, yes bool) {
		if yes {
			f.classes = append(f.classes, class)
		}
	}
	as := func(class string, target any) { is(class, errors.As(err, target)) }
	timeout, ok := err.(interface{ Timeout() bool }) // what url.Error.Timeout looks at
	is("any", true)
	is("canceled", errors.Is(err, context.Canceled))
	is("deadline", errors.Is(err, context.DeadlineExceeded))
	is("timeout", ok && timeout.Timeout())
	is("cause", errors.Is(err, errOfCause))
	is("eof", errors.Is(err, io.EOF))
	is("unexpected eof", errors.Is(err, io.ErrUnexpectedEOF))
	is("body", errors.Is(err, errOfBody))
	is("dial", errors.Is(err, errOfDial))
	is("proxy", errors.Is(err, errOfProxy))
	is("refused", errors.Is(err, syscall.ECONNREFUSED))
	is("body not allowed", errors.Is(err, http.ErrBodyNotAllowed))
	is("closed body", errors.Is(err, http.ErrBodyReadAfterClose))
	is("scheme mismatch", errors.Is(err, http.ErrSchemeMismatch))
	is("request canceled", strings.Contains(err.Error(), "request canceled"))
	// Other operations only say how a connection is wrapped.
	if op := (*net.OpError)(nil); errors.As(err, &op) && slices.Contains([]string{"dial", "proxyconnect", "remote error"}, op.Op) {
		is("net.OpError", true)
		is("net.OpError of "+op.Op, true)
	}
	as("net.AddrError", new(*net.AddrError))
	as("http.ProtocolError", new(*http.ProtocolError))
	as("textproto.ProtocolError", new(textproto.ProtocolError))
	as("tls.CertificateVerificationError", new(*tls.CertificateVerificationError))
	as("x509.UnknownAuthorityError", new(x509.UnknownAuthorityError))
	as("x509.HostnameError", new(x509.HostnameError))
	as("x509.CertificateInvalidError", new(x509.CertificateInvalidError))
	as("tls.RecordHeaderError", new(tls.RecordHeaderError))
	as("tls.AlertError", new(tls.AlertError))
	return f
}

func (f fault) has(class string) bool { return slices.Contains(f.classes, class) }

// agrees reports whether a caller that knows the reference's fault f understands the pool's.
func (f fault) agrees(pool fault) bool {
	for _, c := range exact {
		if f.has(c) != pool.has(c) {
			return false
		}
	}
	return !slices.ContainsFunc(f.classes, func(c string) bool { return !pool.has(c) })
}

func (f fault) String() string {
	if f.err == nil {
		return "no error"
	}
	return fmt.Sprintf("%q (%T) %v", f.err, f.err, f.classes)
}

// An exchange is one request and its response.
type exchange struct {
	name    string
	modes   []mode // nil: all
	config  func(*transport.Config)
	dial    bool // whatever the URL's host, dial the origin
	server  func(*httptest.Server)
	proxy   func(t *testing.T, p *proxy) // starts it
	client  func(*http.Client)
	handler http.HandlerFunc // nil: echo
	request func(t *testing.T, url string) *http.Request

	status int    // of the response, 200 if zero
	fault  string // class of the error that RoundTrip returns: then there is no response
	broken string // class of the error that reading the response's body returns
	blind  bool   // what the server sees depends on timing

	untraced bool // without httptrace
}

// outcome is what became of an exchange.
type outcome struct {
	Fault                fault
	Status, Proto        string
	Code                 int
	Header               http.Header
	ContentLength        int64
	TransferEncoding     []string
	Uncompressed, Close  bool
	SameRequest          bool
	TLS                  string
	Body                 string
	BodyFault            fault
	Trailer              http.Header
	Informational        []string
	Dialled, Proxied     []string
	RequestChanged       []string
	Seen                 []seen
	ReadAfterCloseFaulty bool
}

type dialKey struct{}

// get makes a request without a body.
func get(t *testing.T, url string) *http.Request { return request(t, "GET", url, nil) }

// request makes a request whose URL has a query that no error may show.
func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url+"/a/path?key=secret", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// run compares both sides in each mode of each exchange.
func run(t *testing.T, exchanges []exchange) {
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) {
			for _, m := range modesOr(x.modes) {
				t.Run(m.name, func(t *testing.T) {
					t.Parallel()
					x.compare(t, m)
				})
			}
		})
	}
}

func modesOr(m []mode) []mode {
	if m == nil {
		return allModes
	}
	return m
}

func (x exchange) compare(t *testing.T, m mode) {
	h := x.handler
	if h == nil {
		h = echo
	}
	if x.server == nil {
		x.server = func(*httptest.Server) {}
	}
	o := m.serve(t, h, x.server)
	cfg := m.config()
	var mu sync.Mutex
	var dialled []string
	if x.dial {
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			dialled = append(dialled, fmt.Sprintf("%s %s %v", network, addr, ctx.Value(dialKey{})))
			mu.Unlock()
			return o.dial(ctx, network, addr)
		}
	}
	p := &proxy{target: o.addr()}
	if x.proxy != nil {
		x.proxy(t, p)
		cfg.Proxy = func(req *http.Request) (*url.URL, error) {
			p.note("Proxy(%s)", req.URL.Host)
			return p.url, nil
		}
	}
	if x.config != nil {
		x.config(&cfg)
	}
	ref := compare(t, cfg, func(t *testing.T, rt http.RoundTripper) outcome {
		got := x.do(t, rt, x.request(t, o.URL))
		if asked := o.take(t); !x.blind {
			got.Seen = asked
		}
		got.Proxied = p.take()
		mu.Lock()
		got.Dialled, dialled = dialled, nil
		mu.Unlock()
		return got
	})
	switch {
	case x.fault != "" && !ref.Fault.has(x.fault):
		t.Errorf("reference: %v, want %s", ref.Fault, x.fault)
	case x.fault == "" && ref.Fault.err != nil:
		t.Errorf("reference: %v", ref.Fault)
	case x.fault == "" && ref.Code != max(x.status, 200) && ref.Code != x.status:
		t.Errorf("reference: status %d, want %d", ref.Code, max(x.status, 200))
	case x.broken != "" && !ref.BodyFault.has(x.broken):
		t.Errorf("reference: body: %v, want %s", ref.BodyFault, x.broken)
	case x.broken == "" && ref.BodyFault.err != nil:
		t.Errorf("reference: body: %v", ref.BodyFault)
	}
	if testing.Verbose() && x.fault+x.broken != "" {
		t.Logf("reference: %v, body: %v", ref.Fault, ref.BodyFault)
	}
}

// do sends req, reads the response and checks what holds whatever the exchange.
func (x exchange) do(t *testing.T, rt http.RoundTripper, req *http.Request) (got outcome) {
	t.Helper()
	ctx := context.WithValue(req.Context(), dialKey{}, "value")
	if !x.untraced {
		var mu sync.Mutex
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				mu.Lock()
				defer mu.Unlock()
				got.Informational = append(got.Informational, fmt.Sprint(code, header))
				return nil
			},
		})
	}
	req = req.WithContext(ctx)
	body := recordClose(req)
	before := snapshot(req)
	send := rt.RoundTrip
	if x.client != nil {
		c := &http.Client{Transport: rt}
		x.client(c)
		send = c.Do
	}
	var resp *http.Response
	var err error
	within(t, 10*time.Second, "the round trip", func() { resp, err = send(req) })
	got.Fault = faultOf(err)
	if err != nil {
		if resp != nil && x.client == nil {
			t.Errorf("a response along with the error %v", err)
		}
		if err.Error() == "" {
			t.Error("an error without a message")
		}
		if _, pool := rt.(*transport.Transport); pool && x.client == nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a secret: %v", err)
		}
	} else {
		within(t, 10*time.Second, "reading the response", func() { got.read(t, req, resp) })
	}
	if body != nil {
		// The body may be closed after RoundTrip has returned.
		eventually(t, 5*time.Second, "the request's body is closed", body.closed.Load)
	}
	after := snapshot(req)
	for name, v := range before {
		if !reflect.DeepEqual(v, after[name]) {
			got.RequestChanged = append(got.RequestChanged, fmt.Sprintf("%s: %v, was %v", name, after[name], v))
		}
	}
	if len(got.RequestChanged) > 0 {
		t.Errorf("the caller's request was changed: %q", got.RequestChanged)
	}
	return got
}

func (got *outcome) read(t *testing.T, req *http.Request, resp *http.Response) {
	got.Status, got.Code, got.Proto = resp.Status, resp.StatusCode, resp.Proto
	got.Header = resp.Header.Clone()
	got.Header.Del("Date")
	got.ContentLength, got.TransferEncoding = resp.ContentLength, slices.Clone(resp.TransferEncoding)
	got.Uncompressed, got.Close = resp.Uncompressed, resp.Close
	got.SameRequest = resp.Request == req
	if resp.TLS != nil {
		got.TLS = fmt.Sprintf("%s %q %q", tls.VersionName(resp.TLS.Version), resp.TLS.NegotiatedProtocol, resp.TLS.ServerName)
	}
	if resp.Body == nil {
		t.Error("a response without Body")
		return
	}
	var d digest
	_, err := io.Copy(&d, resp.Body)
	got.Body, got.BodyFault = d.String(), faultOf(err)
	got.Trailer = maps.Clone(resp.Trailer)
	for range 2 {
		if err := resp.Body.Close(); err != nil {
			t.Errorf("Body.Close: %v", err)
		}
	}
	n, err := resp.Body.Read(make([]byte, 1))
	got.ReadAfterCloseFaulty = n == 0 && err != nil
}

// closeRecorder notes that a request's body was closed.
type closeRecorder struct {
	io.ReadCloser
	closed atomic.Bool
}

func (b *closeRecorder) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// recordClose puts a closeRecorder around req's body, if it has one.
func recordClose(req *http.Request) *closeRecorder {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	b := &closeRecorder{ReadCloser: req.Body}
	req.Body = b
	return b
}

// snapshot copies the fields of req that a RoundTripper could change.
func snapshot(req *http.Request) map[string]any {
	s := map[string]any{
		"Method": req.Method, "Header": req.Header.Clone(), "Body": req.Body, "ContentLength": req.ContentLength,
		"TransferEncoding": slices.Clone(req.TransferEncoding), "Close": req.Close, "Host": req.Host,
		"RequestURI": req.RequestURI, "context": req.Context(), "GetBody": req.GetBody != nil,
		"Trailer": slices.Sorted(maps.Keys(req.Trailer)), // a body sets the values
	}
	if req.URL != nil {
		s["URL"] = *req.URL
	}
	return s
}
