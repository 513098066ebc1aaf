package retry_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/retry"
)

// A reply is how an attempt ends.
type reply func(req *http.Request) (*http.Response, error)

// next is the RoundTripper under the retries. Attempt n gets reply n, and those beyond the last get that again.
type next struct {
	replies []reply

	mu       sync.Mutex      // guards what follows
	requests []*http.Request // as they came, with their bodies read
	sent     []string        // the bodies
	bodies   []*trackedBody  // of the responses
	idle     int             // calls of CloseIdleConnections
}

func (n *next) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		sent, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	n.mu.Lock()
	n.requests, n.sent = append(n.requests, req), append(n.sent, string(sent))
	r := n.replies[min(len(n.requests), len(n.replies))-1]
	n.mu.Unlock()
	resp, err := r(req)
	if resp != nil {
		if b, ok := resp.Body.(*trackedBody); ok {
			n.mu.Lock()
			n.bodies = append(n.bodies, b)
			n.mu.Unlock()
		}
	}
	return resp, err
}

func (n *next) CloseIdleConnections() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.idle++
}

// count returns how many attempts came.
func (n *next) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.requests)
}

// trackedBody is a response body that tells whether it was read to its end and closed.
type trackedBody struct {
	io.Reader
	mu          sync.Mutex
	ended, shut bool
}

func (b *trackedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return 0, errors.New("read after Close")
	}
	n, err := b.Reader.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

func (b *trackedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	return nil
}

func (b *trackedBody) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shut
}

func status(code int, header ...string) reply { return text(code, http.StatusText(code), header...) }

func text(code int, body string, header ...string) reply {
	return func(req *http.Request) (*http.Response, error) {
		h := make(http.Header)
		for i := 0; i < len(header); i += 2 {
			h.Add(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Header: h, ContentLength: -1, Request: req,
			Body: &trackedBody{Reader: strings.NewReader(body)}}, nil
	}
}

func failure(err error) reply {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// after is r, but only when so much time has passed.
func after(d time.Duration, r reply) reply {
	return func(req *http.Request) (*http.Response, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return r(req)
		case <-req.Context().Done():
			return nil, req.Context().Err() // as RoundTrippers do that do not know of causes
		}
	}
}

// errBroken stands for a connection that broke.
var errBroken = errors.New("connection broken")

func over(t testing.TB, n http.RoundTripper, p retry.Policy) http.RoundTripper {
	t.Helper()
	rt, err := retry.New(n, p)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func request(t testing.TB, method string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://api.example.com/orders?key=secret", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// content reads and closes a body.
func content(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// steady is a policy whose waits are not random.
func steady(wait time.Duration) retry.Policy {
	return retry.Policy{MinBackoff: wait, MaxBackoff: wait}
}
