package transport_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/thawhttp/thaw/transport"
)

// changed makes a request of which f has changed something.
func changed(method string, body func() io.Reader, f func(*http.Request)) func(*testing.T, string) *http.Request {
	return func(t *testing.T, url string) *http.Request {
		t.Helper()
		var b io.Reader
		if body != nil {
			b = body()
		}
		req := request(t, method, url, b)
		f(req)
		return req
	}
}

func payload() io.Reader { return strings.NewReader("payload") }

func TestMethodsAreSentAsByHTTPTransport(t *testing.T) {
	var exchanges []exchange
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FROBNICATE", "get", ""} {
		none := func(req *http.Request) { req.Method = method }
		exchanges = append(exchanges,
			exchange{name: method + " without body", request: changed("GET", nil, none)},
			exchange{name: method + " with body", request: changed("GET", payload, none)},
			exchange{name: method + " with http.NoBody", request: changed("GET", nil, func(req *http.Request) {
				req.Method, req.Body = method, http.NoBody
			})},
		)
	}
	run(t, exchanges)
}

func TestRequestHeadIsSentAsByHTTPTransport(t *testing.T) {
	header := func(kv ...string) func(*testing.T, string) *http.Request {
		return changed("GET", nil, func(req *http.Request) {
			for i := 0; i < len(kv); i += 2 {
				req.Header[kv[i]] = append(req.Header[kv[i]], kv[i+1])
			}
		})
	}
	run(t, []exchange{
		{name: "Host field", request: changed("GET", nil, func(req *http.Request) { req.Host = "other.example:81" })},
		{name: "Host header is ignored", request: header("Host", "other.example")},
		{name: "several values", request: header("X-A", "1", "X-A", "2", "X-B", "")},
		{name: "non-canonical name", request: header("x-lower", "1")},
		{name: "User-Agent", request: header("User-Agent", "conformance")},
		{name: "no User-Agent", request: header("User-Agent", "")},
		{name: "cookies", request: header("Cookie", "a=1; b=2")},
		{name: "Content-Length header is ignored", request: header("Content-Length", "5")},
		{name: "Transfer-Encoding header", modes: h1Modes, request: header("Transfer-Encoding", "identity")},
		{name: "Connection: close header", request: header("Connection", "close")},
		{name: "Connection: keep-alive header", request: header("Connection", "keep-alive")},
		{name: "TE: trailers", request: header("Te", "trailers")},
		{name: "UTF-8 value", request: header("X-A", "käse")},
		{name: "value with spaces around", request: header("X-A", "  a b\t")},
		{name: "Close", request: changed("GET", nil, func(req *http.Request) { req.Close = true })},
		{name: "Close with body", request: changed("POST", payload, func(req *http.Request) { req.Close = true })},
		{name: "RequestURI is ignored", request: changed("GET", nil, func(req *http.Request) { req.RequestURI = "/other" })},
		{name: "userinfo in URL", request: changed("GET", nil, func(req *http.Request) { req.URL.User = url.UserPassword("user", "secret") })},
		{name: "fragment in URL", request: changed("GET", nil, func(req *http.Request) { req.URL.Fragment = "part" })},
		{name: "RawPath", request: changed("GET", nil, func(req *http.Request) { req.URL.Path, req.URL.RawPath = "/a/b c", "/a%2Fb%20c" })},
		{name: "ForceQuery", request: changed("GET", nil, func(req *http.Request) { req.URL.RawQuery, req.URL.ForceQuery = "", true })},
		{name: "empty path", request: changed("GET", nil, func(req *http.Request) { req.URL.Path, req.URL.RawQuery = "", "" })},
		{name: "opaque path", request: changed("GET", nil, func(req *http.Request) { req.URL.Opaque = "/opaque%2Fpath" })},
		{name: "opaque with host", modes: h1Modes, request: changed("GET", nil, func(req *http.Request) { req.URL.Opaque = "//other.example/opaque" })},
		{name: "opaque absolute", modes: h1Modes, request: changed("GET", nil, func(req *http.Request) { req.URL.Opaque = "http://other.example/opaque" })},
		{name: "OPTIONS *", request: changed("OPTIONS", nil, func(req *http.Request) { req.URL.Path, req.URL.RawQuery = "*", "" })},
		{name: "many headers", request: changed("GET", nil, func(req *http.Request) {
			for _, c := range "abcdefghijklmnopqrstuvwxyz" {
				req.Header.Set("X-Many-"+string(c), strings.Repeat(string(c), 1000))
			}
		})},
	})
}

func TestAddressIsDerivedAsByHTTPTransport(t *testing.T) {
	to := func(rest string) func(*testing.T, string) *http.Request {
		return func(t *testing.T, base string) *http.Request {
			t.Helper()
			scheme, _, _ := strings.Cut(base, ":")
			return get(t, scheme+"://"+rest)
		}
	}
	named := func(c *transport.Config) { c.TLS.ServerName = "example.com" }
	run(t, []exchange{
		{name: "default port", dial: true, request: to("example.com")},
		{name: "port given", dial: true, request: to("example.com:8080")},
		{name: "default port given", dial: true, modes: []mode{modeH1, modeH2C}, request: to("example.com:80")},
		{name: "default TLS port given", dial: true, modes: tlsModes, request: to("example.com:443")},
		{name: "empty port", dial: true, request: to("example.com:")},
		{name: "uppercase host", dial: true, request: to("EXAMPLE.com")},
		{name: "trailing dot", dial: true, config: named, request: to("example.com.")},
		{name: "IPv6 literal", dial: true, request: to("[::1]")},
		{name: "IPv6 literal with port", dial: true, request: to("[::1]:8080")},
		{name: "IPv6 literal with zone", dial: true, config: named, request: to("[fe80::1%25lo]:8080")},
		{name: "IDN host", dial: true, request: to("bücher.example")},
		{name: "punycode host", dial: true, request: to("xn--bcher-kva.example")},
		{name: "userinfo", dial: true, request: to("user:secret@example.com")},
		{name: "Host is not dialled", dial: true, request: func(t *testing.T, base string) *http.Request {
			req := to("example.com")(t, base)
			req.Host = "www.example.com"
			return req
		}},
		{name: "uppercase scheme, parsed", dial: true, request: func(t *testing.T, base string) *http.Request {
			scheme, _, _ := strings.Cut(base, ":")
			return get(t, strings.ToUpper(scheme)+"://example.com")
		}},
	})
}

func TestInvalidRequestsAreRefusedAsByHTTPTransport(t *testing.T) {
	refused := func(name string, f func(*http.Request)) exchange {
		return exchange{name: name, request: changed("POST", payload, f), fault: "any"}
	}
	run(t, []exchange{
		refused("nil URL", func(req *http.Request) { req.URL = nil }),
		refused("nil Header", func(req *http.Request) { req.Header = nil }),
		refused("empty host", func(req *http.Request) { req.URL.Host = "" }),
		refused("empty scheme", func(req *http.Request) { req.URL.Scheme = "" }),
		refused("unknown scheme", func(req *http.Request) { req.URL.Scheme = "gopher" }),
		refused("uppercase scheme, set", func(req *http.Request) { req.URL.Scheme = strings.ToUpper(req.URL.Scheme) }),
		refused("method with space", func(req *http.Request) { req.Method = "GET /" }),
		refused("method with newline", func(req *http.Request) { req.Method = "GET\r\nX: y" }),
		refused("header name with space", func(req *http.Request) { req.Header["X A"] = []string{"1"} }),
		refused("empty header name", func(req *http.Request) { req.Header[""] = []string{"1"} }),
		refused("pseudo header", func(req *http.Request) { req.Header[":path"] = []string{"/"} }),
		refused("header value with newline", func(req *http.Request) { req.Header["X-A"] = []string{"secret\r\nX-B: 2"} }),
		refused("header value with NUL", func(req *http.Request) { req.Header["X-A"] = []string{"secret\x00"} }),
		refused("trailer name with space", func(req *http.Request) { req.Trailer = http.Header{"X A": {"1"}} }),
		refused("trailer value with newline", func(req *http.Request) { req.Trailer = http.Header{"X-A": {"secret\n"}} }),
		refused("trailer Content-Length", func(req *http.Request) { req.Trailer, req.ContentLength = http.Header{"Content-Length": nil}, -1 }),
		refused("trailer Transfer-Encoding", func(req *http.Request) { req.Trailer, req.ContentLength = http.Header{"Transfer-Encoding": nil}, -1 }),
		refused("trailer Trailer", func(req *http.Request) { req.Trailer, req.ContentLength = http.Header{"Trailer": nil}, -1 }),
		refused("host with space", func(req *http.Request) { req.URL.Host = "exa mple.com" }),
		refused("port that is no number", func(req *http.Request) { req.URL.Host = "127.0.0.1:port" }),
		refused("port out of range", func(req *http.Request) { req.URL.Host = "127.0.0.1:65536" }),
		refused("IPv6 literal without brackets", func(req *http.Request) { req.URL.Host = "::1" }),
		{name: "Host field with newline", modes: h2Modes, request: changed("POST", payload, func(req *http.Request) { req.Host = "a\r\nb" }), fault: "any", blind: true},
		{name: "Host field with newline is cut", modes: h1Modes, request: changed("POST", payload, func(req *http.Request) { req.Host = "a\r\nb" })},
		{name: "opaque with other host", modes: h2Modes, request: changed("POST", payload, func(req *http.Request) {
			req.URL.Opaque, req.URL.RawQuery = "//other.example/opaque", "" // net/http's error shows the query
		}), fault: "any"},
		{name: "Host field with slash", modes: h1Modes, request: changed("POST", payload, func(req *http.Request) { req.Host = "a/b" })},
		{name: "URL with newline in Opaque", modes: h1Modes, request: changed("POST", payload, func(req *http.Request) { req.URL.Opaque = "/a\r\nb" }), fault: "any", blind: true},
		{name: "length without body", modes: h1Modes, request: changed("POST", nil, func(req *http.Request) { req.ContentLength = 5 }), fault: "any", blind: true},
		{name: "request through a client with RequestURI", client: func(*http.Client) {}, fault: "any",
			request: changed("POST", payload, func(req *http.Request) { req.RequestURI = "/other" })},
	})

	for _, h := range []string{"Upgrade", "Transfer-Encoding", "Connection"} {
		run(t, []exchange{{
			name: "HTTP2 with header " + h, modes: h2Modes, fault: "any", blind: true,
			request: changed("POST", payload, func(req *http.Request) { req.Header.Set(h, "unheard-of") }),
		}})
	}
}

// Request.Cancel is not among them: http.Transport may send a request whose Cancel was closed before.
func TestRequestWithEndedContextIsNotSent(t *testing.T) {
	ended := func(f func(context.Context) context.Context) func(*testing.T, string) *http.Request {
		return func(t *testing.T, url string) *http.Request {
			return request(t, "POST", url, payload()).WithContext(f(t.Context()))
		}
	}
	run(t, []exchange{
		{name: "canceled", fault: "canceled", request: ended(func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx
		})},
		{name: "canceled with a cause", fault: "cause", request: ended(func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errOfCause)
			return ctx
		})},
		{name: "past its deadline", fault: "deadline", request: ended(func(ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(ctx, -1)
			cancel()
			return ctx
		})},
		{name: "past its deadline, through a client", fault: "timeout", client: func(*http.Client) {},
			request: ended(func(ctx context.Context) context.Context {
				ctx, cancel := context.WithTimeout(ctx, -1)
				cancel()
				return ctx
			})},
	})
}
