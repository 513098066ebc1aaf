package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// fuzzAnswer sends a request to a server that answers with what is given, and then another one to the same pool, whose
// answer could not be guessed: from then on HTTP/1.1 is answered as it should be, on HTTP/2 new connections are. In fake time
// both must end, the second one with its own answer.
func fuzzAnswer(t *testing.T, m mode, method string, answer []byte) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var ends []net.Conn
		cfg := Config{
			Protocols: new(http.Protocols), Logger: quiet, ResponseHeaderTimeout: time.Minute,
			Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				client, end := net.Pipe()
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, end)
				h := newHostile(end, len(ends))
				wg.Go(func() {
					defer end.Close()
					if h.number > 1 {
						h.serve(m)
						return
					}
					wrote := make(chan struct{})
					if m.h2 {
						h.greet()
						h.stream()
						wg.Go(h.stall) // so that nobody waits for it to read
					} else if h.request() == nil {
						return
					}
					wg.Go(func() {
						defer close(wrote)
						h.Write(answer)
					})
					if m.h2 {
						<-wrote
						time.Sleep(time.Hour)
						return
					}
					for req := h.request(); req != nil; req = h.request() {
						<-wrote
						answerH1(h, req.Header.Get("X-Id"))
					}
				})
				return client, nil
			},
		}
		cfg.Protocols.SetHTTP1(!m.h2)
		cfg.Protocols.SetUnencryptedHTTP2(m.h2)
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if resp, err := p.RoundTrip(newRequest(ctx, method, "http://origin.test", "first", noBody)); err == nil {
			var n int64
			if resp.StatusCode != http.StatusSwitchingProtocols { // else it is the caller's connection, which nothing ends
				n, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
			}
			if n > int64(len(answer))<<11 { // gzip makes at most 1032 of one
				t.Errorf("%d bytes out of %d", n, len(answer))
			}
			resp.Body.Close()
		} else if strings.Contains(err.Error(), "first") || len(err.Error()) > 2<<10 {
			t.Errorf("the error is of %d bytes, or shows the request's header: %v", len(err.Error()), cutText(err))
		}
		synctest.Wait()
		if err := check(p); err != nil {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		sum := fnv.New64()
		sum.Write(answer)
		id := fmt.Sprintf("second-%x", sum.Sum64())
		req := newRequest(ctx, "GET", "http://origin.test", id, noBody)
		resp, err := p.RoundTrip(req)
		if err == nil {
			err = readOwn(req, resp)
		}
		mu.Lock()
		conns := len(ends)
		mu.Unlock()
		if foreign := err != nil && strings.HasPrefix(err.Error(), "request "); err != nil && !(m.h2 && conns == 1 && !foreign) {
			t.Errorf("the second request, on connection %d: %v", conns, err)
		}
		p.Close()
		if st := p.Stats(); st.InUse != 0 || st.Streams != 0 || st.Waiting != 0 || st.Dialing != 0 || st.Open != 0 {
			t.Errorf("left: %+v", st.Origin)
		}
		mu.Lock()
		for _, end := range ends {
			end.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

var fuzzMethods = []string{"GET", "HEAD", "POST", "OPTIONS"}

func FuzzHTTP1Answer(f *testing.F) {
	quietLog(f)
	const ok = "HTTP/1.1 200 OK\r\n"
	for i, s := range []string{
		ok + "Content-Length: 2\r\n\r\nok",
		ok + "Content-Length: 2\r\n\r\nok" + ok + "X-Id: second\r\nContent-Length: 2\r\n\r\nok",
		ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2;a=b\r\nok\r\n0\r\nX-A: 1\r\n\r\n",
		ok + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
		ok + "Keep-Alive: timeout=5, max=3\r\nConnection: close\r\n\r\nuntil the end",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nbytes",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n" + ok,
		ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
		ok + "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), byte(i))
	}
	f.Fuzz(func(t *testing.T, answer []byte, method byte) {
		fuzzAnswer(t, plain, fuzzMethods[int(method)%len(fuzzMethods)], answer)
	})
}

func FuzzHTTP2Answer(f *testing.F) {
	quietLog(f)
	write := func(method byte, w func(*http2.Framer)) {
		var b bytes.Buffer
		w(http2.NewFramer(&b, nil))
		f.Add(b.Bytes(), method)
	}
	header := func(end bool, fields ...string) http2.HeadersFrameParam {
		return http2.HeadersFrameParam{StreamID: 1, BlockFragment: headerBlock(fields...), EndHeaders: true, EndStream: end}
	}
	write(0, func(f *http2.Framer) {
		f.WriteHeaders(header(false, ":status", "200", "content-length", "2"))
		f.WriteData(1, true, []byte("ok"))
	})
	write(0, func(f *http2.Framer) {
		f.WriteHeaders(header(false, ":status", "103", "link", "x"))
		f.WriteHeaders(header(false, ":status", "200", "trailer", "x-a"))
		f.WriteData(1, false, []byte("ok"))
		f.WriteHeaders(header(true, "x-a", "1"))
		f.WritePing(false, [8]byte{})
	})
	write(1, func(f *http2.Framer) {
		f.WriteHeaders(header(true, ":status", "200", "content-length", "20"))
		f.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	})
	write(2, func(f *http2.Framer) {
		f.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		f.WriteWindowUpdate(0, 1<<31-1)
	})
	write(0, func(f *http2.Framer) {
		f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
	})
	write(3, func(f *http2.Framer) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
		f.WriteContinuation(1, true, headerBlock("x-a", "1"))
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x88}, EndHeaders: true})
	})
	f.Fuzz(func(t *testing.T, answer []byte, method byte) {
		fuzzAnswer(t, h2c, fuzzMethods[int(method)%len(fuzzMethods)], answer)
	})
}

// FuzzConnectAnswer has a proxy answer CONNECT.
func FuzzConnectAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200\r\nVia: x\r\n\r\nrest", "HTTP/1.1 407 joe:hunter2hunter2\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", "SSH-2.0\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	proxy := &url.URL{Scheme: "http", Host: "proxy.test", User: url.UserPassword("joe", secret)}
	f.Fuzz(func(t *testing.T, answer []byte) {
		err := httpConnect(&scripted{answers: bytes.NewReader(answer)}, proxy, "api.test:443")
		if err == nil && !(bytes.HasPrefix(answer, []byte("HTTP/1.")) && bytes.Contains(answer[:min(len(answer), 20)], []byte(" 200"))) {
			t.Fatalf("connected by %q", answer)
		}
		if err == nil {
			return
		}
		text := opErrorf(err, "dialling").Error()
		if len(text) > 2<<10 {
			t.Errorf("an error of %d bytes", len(text))
		}
		if bytes.HasPrefix(answer, []byte("HTTP/1.1 407 ")) && !errors.Is(err, io.ErrUnexpectedEOF) && strings.Contains(text, secret) {
			t.Errorf("the error tells the password: %s", text)
		}
	})
}
