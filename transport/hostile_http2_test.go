package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// onStream returns a script that has f answer the streams of HTTP/2 requests, after the settings.
func onStream(f func(h *hostile, stream uint32), settings ...http2.Setting) func(*hostile) {
	return func(h *hostile) {
		h.greet(settings...)
		for stream := h.stream(); stream != 0; stream = h.stream() {
			f(h, stream)
		}
	}
}

// repeated is one frame over and over.
func repeated(write func(*http2.Framer)) []byte {
	var b bytes.Buffer
	write(http2.NewFramer(&b, nil))
	return bytes.Repeat(b.Bytes(), max(1, 32<<10/b.Len()))
}

// flooding returns a script that greets, and then sends frames over and over, reading what it is sent or not.
func flooding(frames []byte, read bool) func(*hostile) {
	return func(h *hostile) {
		h.greet()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if read {
				h.stall()
			}
		}()
		flood(func() error { _, err := h.Write(frames); return err })
		h.Close()
		<-done
	}
}

func TestHostileHTTP2Server(t *testing.T) {
	setting := func(id http2.SettingID, v uint32) http2.Setting { return http2.Setting{ID: id, Val: v} }
	settings := repeated(func(f *http2.Framer) { f.WriteSettings(setting(http2.SettingInitialWindowSize, 1<<20)) })
	pings := repeated(func(f *http2.Framer) { f.WritePing(false, [8]byte{1}) })
	acks := repeated(func(f *http2.Framer) { f.WritePing(true, [8]byte{1}) })
	resets := repeated(func(f *http2.Framer) { f.WriteRSTStream(99, http2.ErrCodeCancel) })
	windows := repeated(func(f *http2.Framer) { f.WriteWindowUpdate(99, 1) })
	continuation := repeated(func(f *http2.Framer) { f.WriteContinuation(1, false, []byte("\x00\x01x\x01y")) })
	hollow := repeated(func(f *http2.Framer) { f.WriteContinuation(1, false, nil) })
	empty := repeated(func(f *http2.Framer) { f.WriteData(1, false, nil) })
	early := repeated(func(f *http2.Framer) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headerBlock(":status", "103", "link", "</a>"), EndHeaders: true})
	})
	unknown := repeated(func(f *http2.Framer) { f.WriteRawFrame(0xbe, 0, 0, make([]byte, 8)) })
	ok := headerBlock(":status", "200")
	answer := func(fields ...string) func(*hostile, uint32) {
		return func(h *hostile, stream uint32) { h.headers(stream, false, fields...) }
	}
	attacks(t, h2Modes, []attack{
		{name: "accepts and never speaks", serve: (*hostile).stall, err: "response header not done within"},
		{name: "never answers", serve: onStream(func(*hostile, uint32) {}), err: "response header not done within"},
		{name: "speaks HTTP/1.1", serve: answerWith("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), err: "the frame header looked like an HTTP/1.1 header|the server closed the connection at once"},
		{name: "SETTINGS flood", serve: flooding(settings, true), err: "response header not done within"},
		{name: "SETTINGS flood, nothing read", serve: flooding(settings, false), err: "response header not done within"},
		{name: "PING flood", serve: flooding(pings, true), err: "response header not done within"},
		{name: "PING flood, nothing read", serve: flooding(pings, false), err: "response header not done within"},
		{name: "flood of PING acknowledgements", serve: flooding(acks, true), err: "response header not done within"},
		{name: "RST_STREAM flood", serve: flooding(resets, true), err: "response header not done within"},
		{name: "WINDOW_UPDATE flood", serve: flooding(windows, true), err: "response header not done within"},
		{name: "flood of unknown frames", serve: flooding(unknown, true), err: "response header not done within"},
		{name: "every stream is reset", serve: onStream(func(h *hostile, stream uint32) { h.fr.WriteRSTStream(stream, http2.ErrCodeInternal) }), err: "INTERNAL_ERROR"},
		{name: "every stream is refused", serve: onStream(func(h *hostile, stream uint32) { h.fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream) }), err: "deadline exceeded"},
		{name: "CONTINUATION flood", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: ok})
			flood(func() error { _, err := h.Write(continuation); return err })
		}), err: "PROTOCOL_ERROR"},
		{name: "flood of empty CONTINUATION", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: ok})
			flood(func() error { _, err := h.Write(hollow); return err })
		}), err: "response header not done within"},
		{name: "a header of 10 MiB", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: ok})
			part := make([]byte, 16<<10)
			for range 10 << 20 / len(part) {
				h.fr.WriteContinuation(stream, false, part)
			}
			h.fr.WriteContinuation(stream, true, nil)
		}), err: "PROTOCOL_ERROR"},
		{name: "more header than allowed", serve: onStream(func(h *hostile, stream uint32) {
			field := headerBlock("x-a", strings.Repeat("x", 1000))
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: ok})
			for range 1100 {
				h.fr.WriteContinuation(stream, false, field)
			}
			h.fr.WriteContinuation(stream, true, nil)
		}), err: "PROTOCOL_ERROR"},
		{name: "header bomb", serve: onStream(func(h *hostile, stream uint32) {
			// One field of 4,000 bytes in the dynamic table, named 40,000 times by a byte each: 160 MB.
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: append(ok[:len(ok):len(ok)], headerBlock("x", strings.Repeat("x", 3000))...)})
			for range 4 {
				h.fr.WriteContinuation(stream, false, bytes.Repeat([]byte{0xbe}, 10000))
			}
			h.fr.WriteContinuation(stream, true, nil)
		}), err: "PROTOCOL_ERROR"},
		{name: "endless 1xx", serve: onStream(func(h *hostile, stream uint32) {
			flood(func() error { _, err := h.Write(early); return err })
		}), err: "header list too large"},
		{name: "endless empty DATA", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			flood(func() error { _, err := h.Write(empty); return err })
		}), err: "deadline exceeded"},
		{name: "DATA before HEADERS", serve: onStream(func(h *hostile, stream uint32) { h.fr.WriteData(stream, true, []byte("x")) }), err: "PROTOCOL_ERROR"},
		{name: "DATA beyond any window", read: 1, serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			part := make([]byte, 16<<10)
			flood(func() error { return h.fr.WriteData(stream, false, part) })
		})},
		{name: "PING flood in the middle of an answer, nothing read", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			h.fr.WriteData(stream, false, []byte("part"))
			flood(func() error { _, err := h.Write(pings); return err })
		}), err: "deadline exceeded"},
		{name: "more DATA than announced", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200", "content-length", "3")
			h.fr.WriteData(stream, true, []byte("four"))
		}), err: "more than declared Content-Length"},
		{name: "less DATA than announced", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200", "content-length", "5")
			h.fr.WriteData(stream, true, []byte("four"))
		}), err: "unexpected EOF"},
		{name: "HEAD with DATA", method: "HEAD", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			h.fr.WriteData(stream, true, []byte("x"))
		})},
		{name: "no status", serve: onStream(answer("x-a", "1")), err: "missing status pseudo header"},
		{name: "status that is no number", serve: onStream(answer(":status", "many")), err: "non-numeric status"},
		{name: "header name in upper case", serve: onStream(answer(":status", "200", "X-A", "1")), err: "invalid header field name"},
		{name: "header value with a newline", serve: onStream(answer(":status", "200", "x-a", "a\r\n"+secret)), err: "invalid header field value"},
		{name: "PUSH_PROMISE", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WritePushPromise(http2.PushPromiseParam{StreamID: stream, PromiseID: 2, BlockFragment: ok, EndHeaders: true})
		}), err: "PROTOCOL_ERROR"},
		{name: "frame of 16 MiB", serve: onStream(func(h *hostile, stream uint32) {
			var head [9]byte
			binary.BigEndian.PutUint32(head[:], 0xffffff00)
			h.Write(head[:])
			flood(func() error { _, err := h.Write(make([]byte, 32<<10)); return err })
		}), err: "frame too large"},
		{name: "window that overflows", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteWindowUpdate(0, 1<<31-1)
		}), err: "FLOW_CONTROL_ERROR"},
		{name: "invalid SETTINGS", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteSettings(setting(http2.SettingMaxFrameSize, 1))
		}), err: "PROTOCOL_ERROR"},
		{name: "trailer after the trailer", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			h.headers(stream, false, "x-a", "1")
		}), err: "PROTOCOL_ERROR"},
		{name: "endless trailer", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headerBlock("x-a", "1"), EndStream: true})
			flood(func() error { _, err := h.Write(continuation); return err })
		}), err: "PROTOCOL_ERROR"},
		{name: "never a WINDOW_UPDATE", method: "POST", body: 1 << 20,
			serve: onStream(func(*hostile, uint32) {}), err: "deadline exceeded"},
		{name: "a window of nothing", method: "POST", body: 4,
			serve: onStream(func(*hostile, uint32) {}, setting(http2.SettingInitialWindowSize, 0)), err: "deadline exceeded"},
		{name: "windows of a byte", method: "POST", body: 5 << 10,
			serve: onStream(func(h *hostile, stream uint32) {
				for h.fr.WriteWindowUpdate(stream, 1) == nil {
					if f, err := h.fr.ReadFrame(); err != nil || f.Header().Flags.Has(http2.FlagDataEndStream) && f.Header().Type == http2.FrameData {
						h.headers(stream, true, ":status", "200")
						return
					}
				}
			}, setting(http2.SettingInitialWindowSize, 1))},
		{name: "no streams allowed", serve: onStream(func(*hostile, uint32) {}, setting(http2.SettingMaxConcurrentStreams, 0)),
			config: func(cfg *Config) { cfg.AcquireTimeout, cfg.ResponseHeaderTimeout = headerWait, headerWait }, err: "within"},
		{name: "GOAWAY at once, for ever", serve: func(h *hostile) {
			h.fr.WriteSettings()
			h.fr.WriteGoAway(0, http2.ErrCodeNo, []byte(secret))
			h.stall()
		}, err: "deadline exceeded"},
		{name: "GOAWAY in place of every answer", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteGoAway(0, http2.ErrCodeNo, []byte(secret))
		}), err: "deadline exceeded"},
		{name: "GOAWAY with an error and much to say", serve: onStream(func(h *hostile, stream uint32) {
			h.fr.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, bytes.Repeat([]byte("x"), 16000))
			h.Close()
		}), err: "ENHANCE_YOUR_CALM"},
		{name: "GOAWAY with an error and much to say, in the body", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200")
			h.fr.WriteData(stream, false, []byte("some"))
			h.fr.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, bytes.Repeat([]byte("x\n"), 8000))
			h.Close()
		}), err: "ENHANCE_YOUR_CALM"},
		{name: "invalid gzip", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200", "content-encoding", "gzip")
			h.fr.WriteData(stream, true, []byte("this is not zipped!!"))
		}), err: "gzip: invalid header"},
		{name: "gzip bomb", serve: onStream(func(h *hostile, stream uint32) {
			h.headers(stream, false, ":status", "200", "content-encoding", "gzip")
			for range 60 { // as much as the window admits
				h.fr.WriteData(stream, false, gzipBomb()[:min(len(gzipBomb()), 16<<10)])
			}
		}), read: 1 << 20},
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A server that sends and never reads blocks whoever writes to it, the protocol layer's reader with its PING acknowledgements
// among them. The reader of a body must not wait for that for ever.
func TestServerThatNeverReadsHoldsNobodyUp(t *testing.T) {
	pings := repeated(func(f *http2.Framer) { f.WritePing(false, [8]byte{1}) })
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		url := serveHostile(t, m, func(h *hostile) {
			h.tcp.SetReadBuffer(4 << 10)
			h.greet()
			stream := h.stream()
			h.headers(stream, false, ":status", "200")
			h.fr.WriteData(stream, false, []byte("part"))
			flood(func() error { _, err := h.Write(pings); return err })
		})
		healthy := serve(t, m)
		p := newPool(t, m, Config{Logger: quiet})
		p.net.wrap = func(c *tapped) { c.Conn.(*net.TCPConn).SetWriteBuffer(4 << 10) } // it is full soon
		if p.h2Timed.WriteByteTimeout != 10*time.Second {
			t.Errorf("a write may take %v, want 10s", p.h2Timed.WriteByteTimeout)
		}
		p.h2Timed.WriteByteTimeout = 100 * time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp, err := p.RoundTrip(newRequest(ctx, "GET", url, "it", noBody))
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, resp.Body)
			read <- err
		}()
		c := p.onlyConn(t)
		eventually(t, "the client's writing is stuck", func() bool {
			before := c.written.Load()
			return before > 0 && !within(50*time.Millisecond, func() bool { return c.written.Load() != before })
		})
		cancel()
		select {
		case err := <-read:
			if err == nil {
				t.Error("a body without an end was read to its end")
			}
			t.Logf("%v", err)
		case <-time.After(5 * time.Second):
			t.Error("the reader of the body waits for ever")
			c.raw.Close()
			<-read
		}
		resp.Body.Close()
		p.whole(t, healthy)
	})
}

// A server answers a stream whose request has not been written yet: it reads nothing, so that a large request holds up the
// writing, and knows what the next stream's number will be. The request that waits to be written must not be forgotten
// while the protocol layer still has it to write, or the next one that the pool has would be written in its place, too.
func TestAnswerToARequestNotYetWrittenSendsNoOtherTwice(t *testing.T) {
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		answer, goOn := make(chan struct{}), make(chan struct{})
		var nexts atomic.Int32
		url := serveHostile(t, m, func(h *hostile) {
			if h.number == 1 {
				h.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
				h.stream()
				h.fr.WriteWindowUpdate(0, 1<<30)
				<-answer
				// All of it is in the header: it has a length, and there is no body.
				h.headers(3, true, ":status", "200", "content-length", "5")
				<-goOn
			} else {
				h.greet()
			}
			for {
				f, err := h.fr.ReadFrame()
				if err != nil {
					return
				}
				if f, ok := f.(*http2.MetaHeadersFrame); ok && idOf(f) == "next" {
					nexts.Add(1)
				}
			}
		})
		p := newPool(t, m, Config{Logger: quiet, ResponseHeaderTimeout: 300 * time.Millisecond})
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		large, err := http.NewRequestWithContext(ctx, "POST", url, zeros{})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := p.RoundTrip(large); err == nil {
				t.Error("the large request was answered")
			}
		})
		var c *conn
		eventually(t, "the large request is stuck", func() bool {
			if c == nil && p.Stats().Open == 1 {
				c = p.onlyConn(t)
			}
			if c == nil {
				return false
			}
			before := c.written.Load()
			return before > 1<<20 && !within(20*time.Millisecond, func() bool { return c.written.Load() != before })
		})
		waiting := make(chan error, 1)
		go func() {
			resp, err := p.RoundTrip(newRequest(t.Context(), "GET", url, "waiting", noBody))
			if err == nil {
				resp.Body.Close()
			}
			waiting <- err
		}()
		eventually(t, "the small request waits behind it", func() bool { return p.Stats().Streams == 2 })
		within(20*time.Millisecond, func() bool { return false }) // until the protocol layer has its stream, too
		close(answer)
		// It is over: answered, or told that the server is mad.
		if err := <-waiting; err != nil && !strings.Contains(err.Error(), "not done within") && !errors.Is(err, errUnsolicited) {
			t.Errorf("the small request: %v", err)
		}
		wg.Go(func() { p.send(newRequest(t.Context(), "POST", url, "next", noBody)) })
		eventually(t, "another request has come", func() bool { return p.Stats().Requests == 3 })
		within(20*time.Millisecond, func() bool { return false })
		close(goOn)
		within(200*time.Millisecond, func() bool { return nexts.Load() > 1 })
		if n := nexts.Load(); n != 1 {
			t.Errorf("a POST was sent %d times", n)
		}
	})
}
