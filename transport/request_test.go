package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/thawhttp/thaw/internal/legible"
)

// A host is kept with all that is remembered of it, and shown in errors, logs, traces and metrics.
func TestHostsThatCannotBeAreRefusedAtTheDoor(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, label}, ".")
	for _, tt := range []struct {
		host string
		ok   bool
	}{
		{"a.test", true},
		{longest, true},
		{longest + ":65535", true},
		{"[::1]:80", true},
		{strings.Repeat("あ", 50) + "." + strings.Repeat("い", 50) + ".test", true}, // 306 bytes, and 118 in ASCII
		{longest + "a", false},
		{longest + "a:80", false},
		{strings.Repeat("あ", 50) + "." + longest, false},
		{longest + ":" + strings.Repeat("0", 10) + "80", false},
		{strings.Repeat("b.", 450_000) + "test", false},
		{"[::1%25" + strings.Repeat("z", 900_000) + "]", false},
		{"a\nb.test", false},
		{"a.test\r\nX-Key: v", false},
		{"a\x00.test", false},
	} {
		dialled := false
		p := newPool(t, plain, Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
			dialled = true
			return nil, errInjected
		}})
		req := newRequest(t.Context(), "GET", "http://a.test/", "it", noBody)
		req.URL.Host = tt.host
		_, err := p.RoundTrip(req)
		if errors.Is(err, ErrInvalidRequest) == tt.ok || dialled != tt.ok || err == nil || err.Error() != legible.Text(err.Error()) {
			t.Errorf("%.40q of %d bytes: dialled %t, %.200v", tt.host, len(tt.host), dialled, err)
		}
		if _, err := url.Parse("http://" + tt.host); err == nil {
			dialled = false
			err := p.Warm(t.Context(), "http://"+tt.host)
			if errors.Is(err, ErrInvalidRequest) == tt.ok || dialled != tt.ok || len(err.Error()) > 2*legible.Max {
				t.Errorf("Warm of %.40q: dialled %t, %.200v", tt.host, dialled, err)
			}
		}
	}
}

// What http.Transport puts into :path as it is, a proxy on the way may write into the request line of another request.
func TestControlCharactersInTheURLAreRefusedWhateverTheProtocol(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		for name, change := range map[string]func(*url.URL){
			"RawQuery":        func(u *url.URL) { u.RawQuery = "a=1 HTTP/1.1\r\nX-Key: v" },
			"RawQuery, LF":    func(u *url.URL) { u.RawQuery = "a\nb" },
			"RawQuery, NUL":   func(u *url.URL) { u.RawQuery = "a\x00b" },
			"Opaque":          func(u *url.URL) { u.Opaque = "/path\r\nX-Key: v" },
			"Opaque with DEL": func(u *url.URL) { u.Opaque = "//host/\x7f" },
		} {
			req := s.request(t.Context(), "POST", "refused "+name, getBody)
			change(req.URL)
			_, err := p.RoundTrip(req)
			if v, ok := errors.AsType[*verdict](err); !errors.Is(err, ErrInvalidRequest) || !ok || !v.Unprocessed() || !v.Permanent() {
				t.Errorf("%s: %v", name, err)
			}
			if n := s.times("refused " + name); n != 0 {
				t.Errorf("%s: the server saw it", name)
			}
		}
		// A path is escaped by net/url, and so does no harm.
		req := s.request(t.Context(), "GET", "path", noBody)
		req.URL.Path = "/a\r\nb"
		p.mustSend(t, req)
	})
}

// The URL of a proxy has its password in it, and url.Parse quotes what it refuses.
func TestErrorsOfAProxyFunctionShowNoCredentials(t *testing.T) {
	parse := func(s string) error {
		_, err := url.Parse(s)
		if err == nil {
			t.Fatalf("%q is a URL", s)
		}
		return err
	}
	errOfParse := parse("http://joe:" + secret + "%zz@proxy.test")
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"url.Parse":              {errOfParse, "left out"},
		"half of a password":     {parse("http://joe:" + secret + "/more@proxy.test"), "left out"},
		"wrapped":                {errors.Join(errors.New("no proxy"), errOfParse), "left out"},
		"ProxyFromEnvironment":   {errors.New(`invalid proxy address "http://joe:` + secret + `@:x": parse`), "left out"},
		"in plain words":         {errors.New("the settings cannot be read"), "the settings cannot be read"},
		"much, with line breaks": {errors.New(strings.Repeat("no\n", 1000)), `no\nno`},
	} {
		p := newPool(t, plain, Config{Proxy: func(*http.Request) (*url.URL, error) { return nil, tt.err }})
		_, err := p.RoundTrip(newRequest(t.Context(), "GET", "http://api.test/", "it", noBody))
		warmErr := p.Warm(t.Context(), "http://api.test/")
		for _, err := range []error{err, warmErr} {
			text := err.Error()
			if strings.Contains(text, secret) || !strings.Contains(text, tt.want) || !strings.Contains(text, "http://api.test") || len(text) > 2*legible.Max {
				t.Errorf("%s: %v", name, err)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: the cause cannot be found", name)
			}
		}
	}
}

// Callers compare errors, too, so they stay what they are where their text is fit to be shown.
func TestTheErrorOfATruncatedBodyIsThatOfHTTPTransport(t *testing.T) {
	s := serveHostile(t, plain, answerWith("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf"))
	p := newPool(t, plain, Config{})
	control := new(http.Transport)
	defer control.CloseIdleConnections()
	for name, rt := range map[string]http.RoundTripper{"http.Transport": control, "thaw": p} {
		ctx, cancel := context.WithTimeout(t.Context(), headerWait)
		defer cancel()
		resp, err := rt.RoundTrip(newRequest(ctx, "GET", s, "it", noBody))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err != context.DeadlineExceeded { //nolint:errorlint // that is what is tested
			t.Errorf("%s: %v", name, err)
		}
	}
}
