package retry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// says is an error that says what became of the request.
type says struct{ unprocessed, permanent bool }

func (e says) Error() string {
	return fmt.Sprintf("unprocessed %t, permanent %t", e.unprocessed, e.permanent)
}
func (e says) Unprocessed() bool { return e.unprocessed }
func (e says) Permanent() bool   { return e.permanent }

func TestWhatErrorsAreSafeToRetry(t *testing.T) {
	t.Parallel()
	type verdict int
	const (
		never      verdict = iota
		idempotent         // only if the request is
		any                // method
	)
	for _, tt := range []struct {
		err  error
		want verdict
	}{
		{nil, never},
		{errBroken, idempotent},
		{io.EOF, idempotent},
		{syscall.ECONNRESET, idempotent},
		{context.DeadlineExceeded, idempotent}, // of something else: the request's context lives
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, idempotent},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, any},
		{&net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}, any},
		{&net.DNSError{IsNotFound: true}, any},
		{http2.StreamError{StreamID: 1, Code: http2.ErrCodeRefusedStream}, any},
		{http2.StreamError{StreamID: 1, Code: http2.ErrCodeInternal}, idempotent},
		{says{unprocessed: true}, any},
		{says{}, idempotent},
		{says{permanent: true}, never},
		{says{unprocessed: true, permanent: true}, never},
		// The outer one knows more: an earlier try of the same request may have been processed.
		{fmt.Errorf("%w: %w", says{}, &net.OpError{Op: "dial"}), idempotent},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, never},
		{tls.RecordHeaderError{Msg: "no TLS"}, never},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, never},
		{&net.OpError{Op: "local error", Err: errors.New("tls: no cipher suite")}, never},
		{http.ErrSchemeMismatch, never},
		{http.ErrNotSupported, never},
	} {
		for _, wrapped := range []error{tt.err, &url.Error{Op: "Post", URL: "https://api.example.com/orders?key=secret", Err: &retry.Error{Attempts: 3, Err: tt.err}}} {
			if tt.err == nil {
				wrapped = nil
			}
			for _, method := range methods {
				for _, key := range keys {
					for _, body := range []io.Reader{nil, http.NoBody, strings.NewReader("x"), struct{ io.Reader }{strings.NewReader("x")}} {
						req := request(t, method, body)
						if key != "" {
							req.Header.Set(key, "a key")
						}
						want := tt.want == any || tt.want == idempotent && (isIdempotent(method) || key != "")
						if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
							want = false
						}
						if got := retry.SafeToRetry(req, wrapped); got != want {
							t.Errorf("%s %q %T after %v: %t, want %t", method, key, body, wrapped, got, want)
						}
						if wrapped == nil {
							continue
						}
						if got := retry.DefaultDecide(retry.Attempt{Request: req, Err: wrapped, Number: 1}); (got == retry.Retry) != want {
							t.Errorf("DefaultDecide: %s %q %T after %v: %d", method, key, body, wrapped, got)
						}
					}
				}
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if retry.SafeToRetry(request(t, "GET", nil).WithContext(ctx), errBroken) {
		t.Error("safe to retry, though the context has ended")
	}
}

// A POST that was answered with a redirect was processed, and the error is that of the request that followed.
func TestAnErrorAfterARedirectSaysNothingOfTheFirstRequest(t *testing.T) {
	t.Parallel()
	refused := failure(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	for _, tt := range []struct {
		replies []reply
		method  string
		want    bool
	}{
		{[]reply{refused}, "POST", true},
		{[]reply{status(303, "Location", "https://other.example.com/orders/7"), refused}, "POST", false},
		{[]reply{status(302, "Location", "/orders/7"), refused}, "POST", false},
		{[]reply{status(307, "Location", "/other"), refused}, "POST", false},
		{[]reply{status(303, "Location", "https://other.example.com/orders/7"), refused}, "PUT", true},
	} {
		for _, user := range []*url.Userinfo{nil, url.UserPassword("me", "a/b@c")} {
			n := &next{replies: tt.replies}
			req := request(t, tt.method, strings.NewReader("x"))
			req.URL.User = user
			_, err := (&http.Client{Transport: n}).Do(req) //nolint:bodyclose // there is none
			if n.count() != len(tt.replies) {
				t.Fatalf("%d requests: %v", n.count(), err)
			}
			if got := retry.SafeToRetry(req, err); got != tt.want {
				t.Errorf("%s for %v after %v: safe to retry %t, want %t", tt.method, user, err, got, tt.want)
			}
		}
	}
}

func TestThePoolsOwnLimitsAreNotRetried(t *testing.T) {
	t.Parallel()
	pool, err := transport.New(transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	attempts := 0
	rt, err := retry.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		attempts++
		return pool.RoundTrip(req)
	}), retry.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*http.Request{
		"closed":  request(t, "GET", nil),
		"invalid": {Method: "GET", URL: &url.URL{Scheme: "gopher", Host: "old.test"}, Header: http.Header{}},
	} {
		attempts = 0
		_, err := rt.RoundTrip(req)
		if err == nil || attempts != 1 || errors.Is(err, transport.ErrClosed) != (name == "closed") {
			t.Errorf("%s: %d attempts, error %v", name, attempts, err)
		}
	}
}
