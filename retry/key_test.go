package retry_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestARequestWithAnAddedKeyIsSentAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"POST", "PATCH"} {
		synctest.Test(t, func(t *testing.T) {
			n := &next{replies: []reply{failure(errBroken), status(503), status(201)}}
			rt := over(t, n, retry.Policy{IdempotencyKeyHosts: []string{"api.example.com"}})
			seen := make(map[string]int)
			for range 10 {
				n.requests, n.sent = nil, nil
				req := request(t, method, strings.NewReader("order"))
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if len(req.Header) != 0 {
					t.Errorf("the caller's header became %v", req.Header)
				}
				if len(n.requests) != 3 {
					t.Fatalf("%s: %d attempts, want 3", method, len(n.requests))
				}
				for i, got := range n.requests {
					key := got.Header.Get("Idempotency-Key")
					if seen[key]++; !uuid4.MatchString(key) || n.sent[i] != "order" {
						t.Errorf("%s: attempt %d has the key %q and the body %q", method, i+1, key, n.sent[i])
					}
				}
				if key := n.requests[0].Header.Get("Idempotency-Key"); resp.Request.Header.Get("Idempotency-Key") != key {
					t.Errorf("%s: the response does not tell the key", method)
				}
			}
			if len(seen) != 10 {
				t.Errorf("%s: %d keys for 10 requests: %v", method, len(seen), seen)
			}
		})
	}
}

func TestWhichRequestsGetAKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hosts, method, url, own string
		want                    bool
	}{
		{"api.example.com", "POST", "https://api.example.com/", "", true},
		{"api.example.com", "POST", "https://api.example.com:8443/", "", true},
		{"API.example.com", "POST", "https://api.EXAMPLE.com/", "", true},
		{"api.example.com:443", "POST", "https://api.example.com/", "", true},
		{"api.example.com:80", "POST", "http://api.example.com/", "", true},
		{"api.example.com:8443", "PATCH", "https://api.example.com:8443/", "", true},
		{"[::1]:8080", "POST", "http://[::1]:8080/", "", true},
		{"[::1]", "POST", "http://[::1]:8080/", "", true},
		{"other.test api.example.com", "POST", "https://api.example.com/", "", true},

		{"", "POST", "https://api.example.com/", "", false},
		{"api.example.com:8443", "POST", "https://api.example.com/", "", false},
		{"example.com", "POST", "https://api.example.com/", "", false},
		{"api.example.com", "POST", "https://api.example.com.evil.test/", "", false},
		{"api.example.com", "POST", "https://evil.test/api.example.com", "", false},
		{"api.example.com", "GET", "https://api.example.com/", "", false},
		{"api.example.com", "PUT", "https://api.example.com/", "", false},
		{"api.example.com", "DELETE", "https://api.example.com/", "", false},
		{"api.example.com", "BREW", "https://api.example.com/", "", false},
		{"api.example.com", "POST", "https://api.example.com/", "Idempotency-Key", false},
		{"api.example.com", "POST", "https://api.example.com/", "X-Idempotency-Key", false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.own != "" {
			req.Header.Set(tt.own, "mine")
		}
		n := &next{replies: []reply{status(200)}}
		resp, err := over(t, n, retry.Policy{IdempotencyKeyHosts: strings.Fields(tt.hosts)}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := n.requests[0]
		if _, added := got.Header["Idempotency-Key"]; added != (tt.want || tt.own == "Idempotency-Key") || tt.own != "" && got.Header.Get(tt.own) != "mine" {
			t.Errorf("hosts %q: %s %s with %q is sent with %v", tt.hosts, tt.method, tt.url, tt.own, got.Header)
		}
		if !tt.want && got != req {
			t.Errorf("hosts %q: %s %s with %q is copied in vain", tt.hosts, tt.method, tt.url, tt.own)
		}
	}
	req := request(t, "POST", nil)
	req.Header = nil
	n := &next{replies: []reply{status(200)}}
	if _, err := over(t, n, retry.Policy{IdempotencyKeyHosts: []string{"api.example.com"}}).RoundTrip(req); err != nil || n.requests[0].Header.Get("Idempotency-Key") == "" {
		t.Errorf("a request without a header map: %v", err)
	}
}

func TestTheReplayInThePoolHasTheSameKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		conns := 0
		dial := func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			conns++
			first := conns == 1
			go func() {
				defer far.Close()
				for r, n := bufio.NewReader(far), 1; ; n++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					if keys = append(keys, req.Header.Get("Idempotency-Key")); first && n == 2 {
						return // the connection was closed while it was idle, as far as the client knows
					}
					io.WriteString(far, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
				}
			}()
			return near, nil
		}
		c, err := client.New(client.WithTransport(transport.Config{DialContext: dial, Proxy: direct}),
			client.WithRetry(retry.Policy{MaxAttempts: 1, IdempotencyKeyHosts: []string{"example.com"}}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 {
			resp, err := c.Post("http://example.com/", "text/plain", strings.NewReader("order"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if len(keys) != 3 || keys[1] != keys[2] || keys[0] == keys[1] || !uuid4.MatchString(keys[1]) || c.Stats().Replayed != 1 {
			t.Errorf("the server saw the keys %q, and %d requests were replayed", keys, c.Stats().Replayed)
		}
	})
}

func TestARedirectToAnotherHostDoesNotCarryTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{status(307, "Location", "https://other.example.com/"), status(200)}}
		c, err := client.New(client.WithBase(n), client.WithRetry(retry.Policy{IdempotencyKeyHosts: []string{"api.example.com"}}))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(request(t, "POST", strings.NewReader("order")))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if n.requests[0].Header.Get("Idempotency-Key") == "" || n.requests[1].Header.Get("Idempotency-Key") != "" {
			t.Errorf("keys %q and %q, want one for the named host only", n.requests[0].Header, n.requests[1].Header)
		}
	})
}
