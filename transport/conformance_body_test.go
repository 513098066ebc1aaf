package transport_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// readerFunc is a body of unknown length, or one that misbehaves.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// unsized hides what kind of reader a body is, and so its length.
func unsized(s string) func() io.Reader {
	return func() io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }
}

// failing returns a body that ends with errOfBody after n bytes.
func failing(n int) func() io.Reader {
	return func() io.Reader {
		return io.MultiReader(strings.NewReader(strings.Repeat("x", n)), readerFunc(func([]byte) (int, error) { return 0, errOfBody }))
	}
}

// unanswered reads the body and waits for the client to go away.
func unanswered(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	abort(r)
}

func TestRequestBodyIsSentAsByHTTPTransport(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 8<<20/16)
	same := func(*http.Request) {}
	length := func(n int64) func(*http.Request) { return func(req *http.Request) { req.ContentLength = n } }
	chunked := func(req *http.Request) { req.TransferEncoding = []string{"chunked"} }
	run(t, []exchange{
		{name: "sized", request: changed("POST", payload, same)},
		{name: "sized, from bytes", request: changed("POST", func() io.Reader { return bytes.NewReader([]byte("payload")) }, same)},
		{name: "unsized", request: changed("POST", unsized("payload"), same)},
		{name: "unsized with GET", request: changed("GET", unsized("payload"), same)},
		{name: "unsized, length given", request: changed("POST", unsized("payload"), length(7))},
		{name: "sized, length -1", request: changed("POST", payload, length(-1))},
		{name: "sized, length 0", request: changed("POST", payload, length(0))},
		{name: "sized, chunked asked for", modes: h1Modes, request: changed("POST", payload, chunked)},
		{name: "unsized, chunked asked for", modes: h1Modes, request: changed("POST", unsized("payload"), chunked)},
		{name: "empty, length 0", request: changed("POST", unsized(""), length(0))},
		{name: "empty, length -1", request: changed("POST", unsized(""), length(-1))},
		{name: "empty with GET", request: changed("GET", unsized(""), same)},
		{name: "no body, length -1", modes: h2Modes, request: changed("POST", nil, length(-1))},
		{name: "no body, length -1, is refused", modes: h1Modes, request: changed("POST", nil, length(-1)), fault: "any"},
		{name: "http.NoBody, length -1", request: changed("POST", func() io.Reader { return http.NoBody }, length(-1))},
		{name: "8 MiB sized", request: changed("PUT", func() io.Reader { return strings.NewReader(large) }, same)},
		{name: "8 MiB unsized", request: changed("PUT", unsized(large), same)},
		{name: "slow", request: changed("POST", func() io.Reader {
			i := 0
			return readerFunc(func(p []byte) (int, error) {
				if i++; i > 20 {
					return 0, io.EOF
				}
				<-time.After(time.Millisecond)
				return copy(p, "part "), nil
			})
		}, same)},
		{name: "reads of nothing", request: changed("POST", func() io.Reader {
			i := 0
			return readerFunc(func(p []byte) (int, error) {
				if i++; i > 10 {
					return 0, io.EOF
				}
				if i%2 == 0 {
					return 0, nil
				}
				return copy(p, "part "), nil
			})
		}, same)},
		{name: "EOF with the last bytes", request: changed("POST", func() io.Reader {
			return readerFunc(func(p []byte) (int, error) { return copy(p, "payload"), io.EOF })
		}, same)},
		{name: "GetBody that fails is not needed", request: changed("POST", payload, func(req *http.Request) {
			req.GetBody = func() (io.ReadCloser, error) { return nil, errOfBody }
		})},
		{name: "io.Pipe", request: changed("POST", func() io.Reader {
			r, w := io.Pipe()
			go func() {
				for range 3 {
					io.WriteString(w, "part ")
				}
				w.Close()
			}()
			return r
		}, same)},

		{name: "longer than ContentLength", request: changed("POST", unsized("payload"), length(3)), fault: "any", blind: true, handler: unanswered},
		{name: "shorter than ContentLength", modes: h1Modes, request: changed("POST", unsized("payload"), length(100)), fault: "any", blind: true, handler: unanswered},
		{name: "shorter than ContentLength, and refused", modes: h2Modes, status: 400, request: changed("POST", unsized("payload"), length(100))},
		{name: "Read fails at once", request: changed("POST", failing(0), same), fault: "body", blind: true, handler: unanswered},
		{name: "Read fails later", request: changed("POST", failing(100), same), fault: "body", blind: true, handler: unanswered},
		{name: "Read fails after 1 MiB", request: changed("POST", failing(1<<20), same), fault: "body", blind: true, handler: unanswered},
		{name: "Read fails within ContentLength", request: changed("POST", failing(100), length(200)), fault: "body", blind: true, handler: unanswered},

		{name: "trailer", request: trailed(unsized("payload"), http.Header{"X-Sum": {"1", "2"}})},
		{name: "several trailers", request: trailed(unsized("payload"), http.Header{"X-A": {"1"}, "X-B": {"2"}})},
		{name: "trailer without value", request: trailed(unsized("payload"), http.Header{"X-A": nil})},
		{name: "trailer of an empty body", request: trailed(unsized(""), http.Header{"X-A": {"1"}})},
		{name: "trailer with length", request: func(t *testing.T, url string) *http.Request {
			req := trailed(unsized("payload"), http.Header{"X-A": {"1"}})(t, url)
			req.ContentLength = 7
			return req
		}},

		{name: "answered before the body is read", request: changed("POST", payload, same), blind: true, handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "early")
		}},
		{name: "answered before 8 MiB are read", request: changed("POST", unsized(large), same), modes: h2Modes, blind: true, status: 413,
			handler: func(w http.ResponseWriter, r *http.Request) { http.Error(w, "too much", 413) }},
	})
}

// Of a short body in memory net/http sends nothing before it has seen its end, and so nothing of one whose length is wrong.
func TestNothingIsSentOfAShortBodyInMemoryThatIsLongerThanItsContentLength(t *testing.T) {
	for _, m := range h1Modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(echo))
			rt := newPool(t, m.config())
			for range 50 {
				req := request(t, "POST", o.URL, strings.NewReader("payload"))
				req.ContentLength, req.GetBody = 3, nil
				if resp, err := rt.RoundTrip(req); err == nil {
					resp.Body.Close()
					t.Fatal("7 bytes were sent as 3")
				}
			}
			if seen := o.take(t); len(seen) != 0 {
				t.Errorf("the server saw %d requests", len(seen))
			}
		})
	}
}

// trailed makes a request that sets its trailer when its body ends.
func trailed(body func() io.Reader, trailer http.Header) func(*testing.T, string) *http.Request {
	return func(t *testing.T, url string) *http.Request {
		var req *http.Request
		end := readerFunc(func([]byte) (int, error) {
			for k, v := range trailer {
				req.Trailer[k] = v
			}
			return 0, io.EOF
		})
		req = request(t, "POST", url, io.MultiReader(body(), end))
		req.Trailer = make(http.Header)
		for k := range trailer {
			req.Trailer[k] = nil
		}
		return req
	}
}

func TestExpectContinueAsByHTTPTransport(t *testing.T) {
	expecting := func(body func() io.Reader) func(*testing.T, string) *http.Request {
		return changed("POST", body, func(req *http.Request) { req.Header.Set("Expect", "100-continue") })
	}
	untouched := func() io.Reader {
		return readerFunc(func([]byte) (int, error) { panic("the body is read though it was refused") })
	}
	refuse := func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusExpectationFailed) }
	silently := func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		got := make([]byte, len("payload"))
		io.ReadFull(rw, got)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%s", got)
	}
	long := func(c *transport.Config) { c.ExpectContinueTimeout = 30 * time.Second }
	short := func(c *transport.Config) { c.ExpectContinueTimeout = 20 * time.Millisecond }
	off := func(c *transport.Config) { c.ExpectContinueTimeout = transport.Disabled }
	run(t, []exchange{
		{name: "accepted", config: long, request: expecting(payload)},
		{name: "accepted, unsized", config: long, request: expecting(unsized("payload"))},
		{name: "without body", config: long, request: expecting(nil)},
		{name: "refused with 417", config: long, request: expecting(untouched), handler: refuse, status: 417, blind: true},
		{name: "answered without reading", config: long, request: expecting(untouched), blind: true,
			handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "no need") }},
		{name: "refused, sized", config: long, status: 417, blind: true, handler: refuse, request: func(t *testing.T, url string) *http.Request {
			req := expecting(untouched)(t, url)
			req.ContentLength = 1 << 20
			return req
		}},
		{name: "timeout passes", modes: h1Modes, config: short, request: expecting(payload), handler: silently, blind: true},
		{name: "no waiting", modes: h1Modes, config: off, request: expecting(payload), handler: silently, blind: true},
		{name: "late 100", config: short, request: expecting(payload), blind: true, handler: func(w http.ResponseWriter, r *http.Request) {
			<-time.After(100 * time.Millisecond)
			echo(w, r)
		}},
		{name: "103 before 100", modes: h1Modes, config: long, request: expecting(payload), handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(103)
			echo(w, r)
		}},
	})
}
