package clienttest

import (
	"fmt"
	"strings"
	"testing"
)

// AssertConnections fails the test unless n connections were accepted so far. The failure says what each one carried.
func (s *Server) AssertConnections(t testing.TB, n int) {
	t.Helper()
	if got := len(s.Connections()); got != n {
		t.Errorf("the downstream accepted %s, want %d:\n%v", count(got, "connection"), n, s)
	}
}

// AssertHandshakes fails the test unless n TLS handshakes were completed so far, those that resumed a session included.
func (s *Server) AssertHandshakes(t testing.TB, n int) {
	t.Helper()
	got := 0
	for _, c := range s.Connections() {
		if c.TLS {
			got++
		}
	}
	if got != n {
		t.Errorf("the downstream completed %s, want %d:\n%v", count(got, "TLS handshake"), n, s)
	}
}

// AssertRequests fails the test unless n requests were handled so far.
func (s *Server) AssertRequests(t testing.TB, n int) {
	t.Helper()
	if got := len(s.Requests()); got != n {
		t.Errorf("the downstream handled %s, want %d:\n%v", count(got, "request"), n, s)
	}
}

// AssertNoRequestTwice fails the test if two requests had the same method, path, query and body, as those have of which
// one is sent again. Requests that a test sends more than once need something in which they differ, such as a number in
// the query. Of a body, what the handler has read counts.
func (s *Server) AssertNoRequestTwice(t testing.TB) {
	t.Helper()
	type key struct{ method, uri, digest string }
	conns := make(map[key][]string)
	var order []key
	for _, r := range s.Requests() {
		k := key{r.Method, r.URI, r.Digest}
		if conns[k] == nil {
			order = append(order, k)
		}
		conns[k] = append(conns[k], fmt.Sprint(r.Conn))
	}
	for _, k := range order {
		if on := conns[k]; len(on) > 1 {
			t.Errorf("the downstream handled %s %s %d times, on connections %s:\n%v", k.method, k.uri, len(on), strings.Join(on, ", "), s)
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
