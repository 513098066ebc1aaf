package client_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/transport"
)

// What belongs to one origin, its cookies and the credentials that a request has for it, reaches no other, by a redirect
// neither.
func TestCredentialsAndCookiesStayWithTheirOrigin(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string][]http.Header) // by host
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		mu.Lock()
		seen[host] = append(seen[host], r.Header.Clone())
		mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: "of", Value: host})
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		}
	}))
	defer s.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, client.WithTransport(transport.Config{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}))
	c.Jar = jar
	const a, b = "http://a.test:80/", "http://b.test:80/"
	for _, target := range []string{a, b, a + "?to=" + url.QueryEscape(b), b + "?to=" + url.QueryEscape(a)} {
		req, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "for "+req.URL.Hostname())
		req.Header.Set("Cookie", "own="+req.URL.Hostname())
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	for _, host := range []string{"a.test", "b.test"} {
		if len(seen[host]) != 3 {
			t.Errorf("%s saw %d requests, want 3", host, len(seen[host]))
		}
		for i, h := range seen[host] {
			for _, v := range append(h["Authorization"], h["Cookie"]...) {
				for _, other := range []string{"a.test", "b.test"} {
					if other != host && strings.Contains(v, other) {
						t.Errorf("request %d to %s has %q", i, host, v)
					}
				}
			}
		}
		if got, want := seen[host][2].Get("Cookie"), fmt.Sprintf("of=%s", host); !strings.Contains(got, want) {
			t.Errorf("the cookies of %s do not reach it: %q", host, got)
		}
	}
}
