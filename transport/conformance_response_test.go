package transport_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/thawhttp/thaw/transport"
)

// answer returns a handler that answers with status, header lines as "Name: value" and body.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// flood sends 20 KB of 1xx responses ahead of its answer. It leaves the header alone afterwards: an HTTP/2 server whose
// client has gone may still be writing it.
func flood(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Large", strings.Repeat("x", 1000))
	for range 20 {
		w.WriteHeader(103)
	}
}

func TestResponseHeadArrivesAsFromHTTPTransport(t *testing.T) {
	var exchanges []exchange
	for _, status := range []int{200, 201, 202, 203, 204, 205, 206, 207, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 408, 409, 412, 417, 421, 425, 429, 431, 451, 499, 500, 502, 503, 504, 599, 999} {
		body := "body"
		if status == 204 || status == 304 {
			body = ""
		}
		exchanges = append(exchanges, exchange{
			name: strconv.Itoa(status), status: status, request: get,
			handler: answer(status, body, "Location: /elsewhere", "Retry-After: 1", "Etag: \"v1\""),
		})
	}
	for _, method := range []string{"HEAD", "POST"} {
		for _, status := range []int{200, 204, 304, 404} {
			exchanges = append(exchanges, exchange{
				name: fmt.Sprint(method, " ", status), status: status, request: changed(method, nil, func(*http.Request) {}),
				handler: answer(status, "", "Content-Type: text/plain"),
			})
		}
	}
	early := func(codes ...int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for _, c := range codes {
				w.Header().Set("Link", fmt.Sprintf("</%d.css>; rel=preload", c))
				w.WriteHeader(c)
			}
			w.Header().Del("Link")
			io.WriteString(w, "done")
		}
	}
	exchanges = append(exchanges,
		exchange{name: "102", request: get, handler: early(102)},
		exchange{name: "103", request: get, handler: early(103)},
		exchange{name: "102, 103, 103, 199", request: get, handler: early(102, 103, 103, 199)},
		exchange{name: "103 to HEAD", request: changed("HEAD", nil, func(*http.Request) {}), handler: early(103)},
		exchange{name: "repeated header", request: get, handler: answer(200, "", "X-A: 1", "X-A: 2", "Set-Cookie: a=1", "Set-Cookie: b=2")},
		exchange{name: "Content-Length on HEAD", request: changed("HEAD", nil, func(*http.Request) {}), handler: answer(200, "", "Content-Length: 1234")},
		// The HTTP/2 of net/http takes such a response for one whose body was cut off.
		exchange{name: "Content-Length on 304", modes: h1Modes, status: 304, request: get, handler: answer(304, "", "Content-Length: 1234")},
		exchange{name: "Connection: close", modes: h1Modes, request: get, handler: answer(200, "body", "Connection: close")},
		exchange{name: "Connection: close on 204", modes: h1Modes, status: 204, request: get, handler: answer(204, "", "Connection: close")},
		exchange{name: "Keep-Alive", modes: h1Modes, request: get, handler: answer(200, "body", "Keep-Alive: timeout=5, max=100")},
		exchange{name: "large header", request: get, handler: answer(200, "body", "X-Large: "+strings.Repeat("x", 100_000))},
		exchange{name: "header over MaxResponseHeaderBytes", request: get, fault: "any", blind: true,
			config:  func(c *transport.Config) { c.MaxResponseHeaderBytes = 5000 },
			handler: answer(200, "body", "X-Large: "+strings.Repeat("x", 20_000))},
		exchange{name: "header within MaxResponseHeaderBytes", request: get,
			config:  func(c *transport.Config) { c.MaxResponseHeaderBytes = 30_000 },
			handler: answer(200, "body", "X-Large: "+strings.Repeat("x", 20_000))},
		// With a Got1xxResponse hook it is for the hook to say when there were too many.
		exchange{name: "more 1xx than MaxResponseHeaderBytes, traced", request: get, handler: flood,
			config: func(c *transport.Config) { c.MaxResponseHeaderBytes = 5000 }},
		exchange{name: "more 1xx than MaxResponseHeaderBytes", untraced: true, request: get, handler: flood, fault: "any", blind: true,
			config: func(c *transport.Config) { c.MaxResponseHeaderBytes = 5000 }},
	)
	run(t, exchanges)
}

func TestResponseBodyArrivesAsFromHTTPTransport(t *testing.T) {
	gzipped := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		io.WriteString(w, s)
		w.Close()
		return b.String()
	}
	zipped := gzipped("the plain text")
	large := strings.Repeat("0123456789abcdef", 8<<20/16)
	accepting := func(encoding string, extra ...string) func(*testing.T, string) *http.Request {
		return changed("GET", nil, func(req *http.Request) {
			if encoding != "" {
				req.Header.Set("Accept-Encoding", encoding)
			}
			for _, e := range extra {
				name, value, _ := strings.Cut(e, ": ")
				req.Header.Set(name, value)
			}
		})
	}
	plain := func(c *transport.Config) { c.DisableCompression = true }
	trailing := func(body string, header http.Header, announced bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			prefix := http.TrailerPrefix
			if announced {
				prefix = ""
				for name := range header {
					w.Header().Add("Trailer", name)
				}
			}
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			io.WriteString(w, body)
			for name, values := range header {
				w.Header()[prefix+name] = values
			}
		}
	}
	sum := http.Header{"X-Sum": {"1", "2"}}
	run(t, []exchange{
		{name: "empty", request: get, handler: answer(200, "")},
		{name: "sized", request: get, handler: answer(200, "body", "Content-Length: 4")},
		{name: "flushed", request: get, handler: func(w http.ResponseWriter, r *http.Request) {
			for i := range 3 {
				fmt.Fprint(w, "part ", i)
				http.NewResponseController(w).Flush()
			}
		}},
		{name: "8 MiB sized", request: get, handler: answer(200, large, "Content-Length: "+strconv.Itoa(len(large)))},
		{name: "8 MiB flushed", request: get, handler: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			io.WriteString(w, large)
		}},
		{name: "aborted by the handler", request: get, broken: "any", handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "body")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "sized, aborted by the handler", request: get, broken: "unexpected eof", modes: h1Modes, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "body")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},

		{name: "gzip", request: get, handler: answer(200, zipped, "Content-Encoding: gzip")},
		{name: "gzip in upper case", request: get, handler: answer(200, zipped, "Content-Encoding: GZIP")},
		{name: "gzip sized", request: get, handler: answer(200, zipped, "Content-Encoding: gzip", "Content-Length: "+strconv.Itoa(len(zipped)))},
		{name: "gzip of 1 MiB", request: get, handler: answer(200, gzipped(large[:1<<20]), "Content-Encoding: gzip")},
		{name: "gzip with trailer", request: get, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			trailing(zipped, sum, true)(w, r)
		}},
		{name: "gzip that is none", request: get, broken: "any", handler: answer(200, "not zipped at all", "Content-Encoding: gzip")},
		{name: "gzip cut off", request: get, broken: "unexpected eof", handler: answer(200, zipped[:len(zipped)-3], "Content-Encoding: gzip")},
		{name: "gzip without body", request: get, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			http.NewResponseController(w).Flush()
		}},
		{name: "gzip with no content", request: get, handler: answer(200, "", "Content-Encoding: gzip", "Content-Length: 0")},
		{name: "gzip of HEAD", request: changed("HEAD", nil, func(*http.Request) {}), handler: answer(200, "", "Content-Encoding: gzip", "Content-Length: 30")},
		{name: "gzip of POST", request: changed("POST", payload, func(*http.Request) {}), handler: answer(200, zipped, "Content-Encoding: gzip")},
		{name: "gzip disabled", config: plain, request: get, handler: echo},
		{name: "gzip disabled but sent", config: plain, request: get, handler: answer(200, zipped, "Content-Encoding: gzip")},
		{name: "gzip asked for by the caller", request: accepting("gzip"), handler: answer(200, zipped, "Content-Encoding: gzip")},
		{name: "identity asked for by the caller", request: accepting("identity"), handler: answer(200, zipped, "Content-Encoding: gzip")},
		{name: "br sent", request: get, handler: answer(200, "brotli", "Content-Encoding: br")},
		{name: "Range", status: 206, request: accepting("", "Range: bytes=0-3"), handler: answer(206, zipped[:4], "Content-Encoding: gzip")},

		{name: "trailer announced", request: get, handler: trailing("body", sum, true)},
		{name: "trailer not announced", request: get, handler: trailing("body", sum, false)},
		{name: "trailer without body", request: get, handler: trailing("", sum, true)},
		{name: "trailer announced, none sent", request: get, handler: answer(200, "body", "Trailer: X-Sum")},
		{name: "trailer after 1 MiB", request: get, handler: trailing(large[:1<<20], sum, true)},
	})
}

// raw returns a handler that writes text to the connection in place of a response and closes it.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		io.WriteString(c, text)
	}
}

func TestMalformedHTTP1IsReadAsByHTTPTransport(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	var exchanges []exchange
	for _, x := range []struct{ name, text, fault, broken string }{
		{name: "nothing", text: "", fault: "any"},
		{name: "half a status line", text: "HTTP/1.1 2", fault: "any"},
		{name: "no HTTP", text: "SSH-2.0-OpenSSH_9.6\r\n\r\n", fault: "any"},
		{name: "status that is no number", text: "HTTP/1.1 abc OK\r\n\r\n", fault: "any"},
		{name: "status of two digits", text: "HTTP/1.1 20 OK\r\n\r\n", fault: "any"},
		{name: "HTTP/2 status line", text: "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "no reason", text: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"},
		{name: "reason of several words", text: "HTTP/1.1 200 all is well\r\nContent-Length: 2\r\n\r\nok"},
		{name: "HTTP/1.0", text: "HTTP/1.0 200 OK\r\n\r\nbody until the end"},
		{name: "HTTP/1.0 keep-alive", text: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"},
		{name: "body until the end", text: ok + "\r\nbody until the end"},
		{name: "bare newlines", text: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
		{name: "header cut off", text: ok + "Content-Le", fault: "any"},
		{name: "header without colon", text: ok + "Nonsense\r\n\r\n", fault: "any"},
		{name: "header with space before the colon", text: ok + "X-A : 1\r\nContent-Length: 0\r\n\r\n"},
		{name: "folded header", text: ok + "X-A: 1\r\n  2\r\nContent-Length: 0\r\n\r\n"},
		{name: "negative length", text: ok + "Content-Length: -1\r\n\r\n", fault: "any"},
		{name: "length that is no number", text: ok + "Content-Length: two\r\n\r\n", fault: "any"},
		{name: "equal lengths", text: ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"},
		{name: "different lengths", text: ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", fault: "any"},
		{name: "length and chunked", text: ok + "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "unknown transfer encoding", text: ok + "Transfer-Encoding: frob\r\n\r\n", fault: "any"},
		{name: "body too short", text: ok + "Content-Length: 20\r\n\r\nok", broken: "unexpected eof"},
		{name: "body too long", text: ok + "Content-Length: 2\r\n\r\nok and more"},
		{name: "chunk cut off", text: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nok", broken: "unexpected eof"},
		{name: "last chunk missing", text: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", broken: "unexpected eof"},
		{name: "chunk size that is no number", text: ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n", broken: "any"},
		{name: "chunk with extension", text: ok + "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n"},
		{name: "chunked with trailer", text: ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\nok\r\n0\r\nX-A: 1\r\n\r\n"},
		{name: "two 100s that nobody asked for", text: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok"},
		{name: "101 that nobody asked for", text: "HTTP/1.1 101 Switching Protocols\r\n\r\n", fault: ""},
	} {
		status := 200
		if strings.Contains(x.text, " 101 ") {
			status = 101
		}
		exchanges = append(exchanges, exchange{
			name: x.name, modes: h1Modes, request: get, handler: raw(x.text), fault: x.fault, broken: x.broken, status: status, blind: true,
		})
	}
	run(t, exchanges)
}
