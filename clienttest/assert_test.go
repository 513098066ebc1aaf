package clienttest_test

import (
	"strings"
	"testing"

	"github.com/thawhttp/thaw/clienttest"
)

func TestAssertionsFailWithWhatEachConnectionCarried(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1TLS))
	c := thaw(t, d)
	mustGet(t, c.Client, d.URL+"/one?a=b")
	d.CloseIdle()
	mustGet(t, c.Client, d.URL+"/one?a=b")
	f := &tb{TB: t}
	for name, tt := range map[string]struct {
		assert func()
		want   string
	}{
		"connections": {func() { d.AssertConnections(f, 1) }, "the downstream accepted 2 connections, want 1:\n"},
		"handshakes":  {func() { d.AssertHandshakes(f, 3) }, "the downstream completed 2 TLS handshakes, want 3:\n"},
		"requests":    {func() { d.AssertRequests(f, 0) }, "the downstream handled 2 requests, want 0:\n"},
		"twice":       {func() { d.AssertNoRequestTwice(f) }, "the downstream handled GET /one?a=b 2 times, on connections 1, 2:\n"},
	} {
		tt.assert()
		got := f.take()
		want := tt.want + "connection 1, HTTP/1.1, TLS, closed: GET /one?a=b;\nconnection 2, HTTP/1.1, TLS resumed: GET /one?a=b;\n"
		if got != want {
			t.Errorf("%s: failed with\n%s\nwant\n%s", name, got, want)
		}
	}
	d.AssertConnections(f, 2)
	d.AssertHandshakes(f, 2)
	d.AssertRequests(f, 2)
	if got := f.take(); got != "" {
		t.Errorf("true assertions failed: %s", got)
	}
}

func TestRequestsThatDifferAreNotTheSame(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	c := thaw(t, d)
	post := func(path, body string) {
		t.Helper()
		resp, err := c.Post(d.URL+path, "", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	mustGet(t, c.Client, d.URL+"/a")
	post("/a", "")
	post("/a", "one")
	post("/a", "two")
	post("/a?b", "one")
	d.AssertNoRequestTwice(t)
	post("/a", "one")
	f := &tb{TB: t}
	d.AssertNoRequestTwice(f)
	if got := f.take(); !strings.HasPrefix(got, "the downstream handled POST /a 2 times, on connections 1, 1:") {
		t.Errorf("failed with %q", got)
	}
}
