package transport

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

func TestHostileHTTP1Server(t *testing.T) {
	const (
		ok      = "HTTP/1.1 200 OK\r\n"
		chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
		zipped  = ok + "Content-Encoding: gzip\r\n"
	)
	attacks(t, h1Modes, []attack{
		{name: "accepts and never speaks", serve: (*hostile).stall, err: "timeout awaiting response headers"},
		{name: "half a header", serve: func(h *hostile) {
			h.request()
			io.WriteString(h, ok+"X-A: 1\r\nX-B")
			h.stall()
		}, err: "timeout awaiting response headers"},
		{name: "endless status line", serve: endless("HTTP/1.1 200 ", "OK"), err: "response headers exceeded 1048576 bytes"},
		{name: "endless line that is no HTTP", serve: endless("", "x"), err: "response headers exceeded 1048576 bytes"},
		{name: "long line that is no HTTP", serve: answerWith(strings.Repeat("x", 1<<19) + "\r\n\r\n"), err: "malformed HTTP response"},
		{name: "endless headers", serve: endless(ok, "X-Name: value\r\n"), err: "response headers exceeded 1048576 bytes"},
		{name: "endless empty headers", serve: endless(ok, "X:\r\n"), err: "response headers exceeded 1048576 bytes"},
		{name: "a header of 10 MiB", serve: answerWith(ok + "X: " + strings.Repeat("x", 10<<20) + "\r\n\r\n"), err: "response headers exceeded 1048576 bytes"},
		{name: "endless folded header", serve: endless(ok+"X: 1\r\n", " x\r\n"), err: "response headers exceeded 1048576 bytes"},
		{name: "endless 1xx", serve: endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), err: "response headers exceeded 1048576 bytes"},
		{name: "endless 100", serve: endless("", "HTTP/1.1 100 Continue\r\n\r\n"), err: "response headers exceeded 1048576 bytes"},
		{name: "header with a secret and no colon", serve: answerWith(ok + "Bearer " + secret + "\r\n\r\n"), err: "malformed MIME header"},
		{name: "NUL in a header", serve: answerWith(ok + "X: a\x00b\r\n\r\n"), err: "malformed MIME header"},
		{name: "two Content-Lengths", serve: answerWith(ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), err: "multiple Content-Length headers"},
		{name: "Content-Length with a sign", serve: answerWith(ok + "Content-Length: +2\r\n\r\nab"), err: "bad Content-Length"},
		{name: "Content-Length that overflows", serve: answerWith(ok + "Content-Length: 9223372036854775808\r\n\r\nab"), err: "bad Content-Length"},
		{name: "chunked twice", serve: answerWith(ok + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), err: "unsupported transfer encoding"},
		{name: "chunked in two fields", serve: answerWith(ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n"), err: "too many transfer encodings"},
		{name: "chunk size that overflows", serve: answerWith(chunked + "FFFFFFFFFFFFFFFFF\r\nx"), err: "chunk length too large"},
		{name: "the largest chunk size", serve: func(h *hostile) {
			h.request()
			io.WriteString(h, chunked+"FFFFFFFFFFFFFFFF\r\nx")
		}, err: "unexpected EOF"},
		{name: "chunk size with a sign", serve: answerWith(chunked + "-1\r\nx"), err: "invalid byte in chunk length"},
		{name: "endless chunk size", serve: endless(chunked, "0"), err: "line too long"},
		{name: "endless chunk extension", serve: endless(chunked+"1;", "x"), err: "line too long"},
		{name: "endless chunks of a byte with extensions", serve: endless(chunked, "1;"+strings.Repeat("x", 1000)+"\r\nx\r\n"), err: "too much non-data"},
		{name: "endless trailer", serve: endless(chunked+"0\r\n", "X: y\r\n"), err: "suspiciously long trailer"},
		{name: "trailer with a secret and no colon", serve: answerWith(chunked + "0\r\nBearer " + secret + "\r\n\r\n"), err: "malformed MIME header"},
		{name: "invalid gzip", serve: answerWith(zipped + "Content-Length: 20\r\n\r\nthis is not zipped!!"), err: "gzip: invalid header"},
		{name: "gzip bomb", serve: endless(zipped+"\r\n", string(gzipBomb())), read: 1 << 20},
		{name: "length and chunked", serve: answerWith(ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nlong body\r\n0\r\n\r\n")},
	})
}

// What a server sends beyond its answer must not be taken for the answer to the next request on the connection, whoever
// makes it (RFC 9112, section 11: response splitting).
func TestBytesBeyondAnAnswerReachNoOtherRequest(t *testing.T) {
	quietLog(t)
	const (
		ok    = "HTTP/1.1 200 OK\r\nX-Id: %s\r\n"
		stray = "HTTP/1.1 200 OK\r\nX-Id: stray\r\nContent-Length: 5\r\n\r\nstray"
	)
	for _, c := range []struct{ name, method, answer string }{
		{"HEAD with a body", "HEAD", ok + "Content-Length: 71\r\n\r\n" + stray},
		{"HEAD with a chunked body", "HEAD", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"204 with a body", "GET", "HTTP/1.1 204 No Content\r\nX-Id: %s\r\nContent-Length: 71\r\n\r\n" + stray},
		{"304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nX-Id: %s\r\nContent-Length: 71\r\n\r\n" + stray},
		{"a body longer than its length", "GET", ok + "Content-Length: 0\r\n\r\n" + stray},
		{"a chunked body longer than its length", "GET", ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + stray},
		{"two answers", "POST", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + stray},
		{"two answers and half of a third", "PUT", ok + "Content-Length: 0\r\n\r\n" + stray + "HTTP/1.1 200 O"},
	} {
		t.Run(c.name, func(t *testing.T) {
			forModes(t, h1Modes, func(t *testing.T, m mode) {
				url := serveHostile(t, m, func(h *hostile) {
					for req := h.request(); req != nil; req = h.request() {
						fmt.Fprintf(h, c.answer, req.Header.Get("X-Id"))
					}
				})
				p := newPool(t, m, Config{})
				for i := range 50 {
					id := fmt.Sprintf("request-%d", i)
					resp, err := p.RoundTrip(newRequest(t.Context(), c.method, url, id, noBody))
					if err != nil {
						t.Fatalf("%s: %v", id, err)
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if got := resp.Header.Get("X-Id"); got != id || len(b) > 0 || err != nil {
						t.Fatalf("%s: got the answer to %q, body %q, %v", id, got, b, err)
					}
				}
				p.settled(t)
				if err := check(p.Transport); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An answer that comes while a connection is idle is nobody's. It comes just before the next request, and as fast as the
// loopback is, that request's connection has received it.
func TestAnswerOnAnIdleConnectionIsNobodys(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds {
			t.Run(k.name, func(t *testing.T) {
				var mu sync.Mutex
				var idle *hostile // the one connection
				url := serveHostile(t, m, func(h *hostile) {
					h.serve(m, func() {
						mu.Lock()
						idle = h
						mu.Unlock()
					})
				})
				p := newPool(t, m, Config{DialContext: new(net.Dialer).DialContext})
				// answered returns the connection once the server is done with its answer, to be written to by the test.
				answered := func() (h *hostile) {
					t.Helper()
					eventually(t, "the server has answered", func() bool {
						mu.Lock()
						defer mu.Unlock()
						h, idle = idle, nil
						return h != nil
					})
					return h
				}
				for i := range 20 {
					p.mustSend(t, newRequest(t.Context(), "GET", url, fmt.Sprintf("before-%d", i), noBody))
					h := answered()
					c := p.onlyConn(t)
					if m.h2 {
						next := c.opened.Load() + 2
						h.headers(next, false, ":status", "200", "x-id", "stray")
						h.fr.WriteData(next, true, []byte("stray"))
					} else {
						answerH1(h, "stray")
					}
					p.mustSend(t, newRequest(t.Context(), k.method, url, fmt.Sprintf("after-%d", i), k.body))
					p.settled(t)
					answered()
				}
				if s := p.Stats(); s.Dials != 21 {
					t.Errorf("%d connections made, want one more after each of 20 strays: %+v", s.Dials, s.Origin)
				}
			})
		}
	})
}

// A server that answers before it was asked is not believed: not on a connection that was made ahead, nor on one that
// was just dialled, if the answer was there first. (What comes after the request was begun cannot be told from its answer.)
func TestAnswerBeforeTheRequestIsRefused(t *testing.T) {
	quietLog(t)
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, k := range requestKinds {
			t.Run(k.name, func(t *testing.T) {
				for i := range 10 {
					wrote := make(chan struct{})
					url := serveHostile(t, m, func(h *hostile) {
						if h.number == 1 {
							if m.h2 {
								h.fr.WriteSettings()
								h.headers(1, false, ":status", "200", "x-id", "early")
								h.fr.WriteData(1, true, []byte("early"))
							} else {
								answerH1(h, "early")
							}
							close(wrote)
							h.stall()
							return
						}
						h.serve(m)
					})
					p := newPool(t, m, Config{DialContext: new(net.Dialer).DialContext})
					if err := p.Warm(t.Context(), url); err != nil {
						continue // it was noticed at once
					}
					<-wrote
					p.mustSend(t, newRequest(t.Context(), k.method, url, fmt.Sprintf("request-%d", i), k.body))
					if s := p.Stats(); s.Dials != 2 || s.Replayed != 0 && k.method == "POST" {
						t.Errorf("%+v", s.Origin)
					}
				}
			})
		}
	})
}
