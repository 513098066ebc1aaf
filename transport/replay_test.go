package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/pool"
)

// What happens to the request that a test is about, once, on the connection that it is sent on first.
type mishap int

const (
	nothingWritten mishap = iota // the first write fails, with no byte written
	written                      // the server reads the request and closes the connection
	responseByte                 // the same, after a part of a response's head
	informational                // the same, after a whole response of status 103
	silence                      // the server reads the request and says nothing
	refused                      // RST_STREAM, REFUSED_STREAM
	resetByServer                // RST_STREAM, INTERNAL_ERROR
	goAwayBelow                  // GOAWAY whose last stream is below the request's, then the end
	goAwayAbove                  // GOAWAY whose last stream is the request's, then the end
	// Whether a 1xx came for a stream only its protocol layer knows. An idempotent request is sent again all the same:
	// the server may process it twice, and a 1xx is no answer.
	informationalOnStream
)

func (m mishap) String() string {
	return [...]string{"nothing written", "written", "response byte", "status 103", "silence", "refused", "reset by server", "GOAWAY below", "GOAWAY above", "status 103 on a stream"}[m]
}

var errInjected = errors.New("injected")

// A replayCase is one line of the table.
type replayCase struct {
	fresh  bool // the connection had carried nothing before
	mishap mishap
	method string
	key    bool // Idempotency-Key
	body   bodyKind
}

type bodyKind int

const (
	without     bodyKind = iota
	fromGetBody          // GetBody
	untouched            // streamed, nothing read of it when the mishap happens
	touched              // streamed and read
)

func (b bodyKind) String() string {
	return [...]string{"no body", "GetBody", "stream untouched", "stream read"}[b]
}

func (c replayCase) String() string {
	method, conn := c.method, "reused"
	if c.key {
		method += "+key"
	}
	if c.fresh {
		conn = "fresh"
	}
	return fmt.Sprintf("%s/%v/%s/%v", conn, c.mishap, method, c.body)
}

// replayed says what rule 4 wants: whether the request is sent a second time.
func (c replayCase) replayed() bool {
	idempotent := c.method != "POST" || c.key
	resendable := c.body != touched
	switch c.mishap {
	case refused, goAwayBelow:
		return resendable // the server says that it was not processed, whatever the connection
	case nothingWritten:
		return !c.fresh && resendable
	case written, goAwayAbove, informationalOnStream:
		return !c.fresh && resendable && idempotent
	default:
		return false
	}
}

// allReplayCases is the table.
func allReplayCases(mishaps ...mishap) []replayCase {
	var all []replayCase
	for _, fresh := range []bool{false, true} {
		for _, m := range mishaps {
			for _, method := range []string{"GET", "PUT", "POST", "POST+key"} {
				for _, body := range []bodyKind{without, fromGetBody, untouched, touched} {
					if method == "GET" && body != without || m == nothingWritten && body == touched {
						continue // a header is always written before a stream is read
					}
					name, key, _ := strings.Cut(method, "+")
					all = append(all, replayCase{fresh, m, name, key != "", body})
				}
			}
		}
	}
	return all
}

// request makes the request of a case.
func (c replayCase) request(t *testing.T, target string) *http.Request {
	kind := map[bodyKind]int{without: noBody, fromGetBody: getBody, untouched: streamed, touched: streamed}[c.body]
	req := newRequest(t.Context(), c.method, strings.Replace(target, "//", "//user:secret@", 1)+"/path?secret", "it", kind)
	if c.key {
		req.Header.Set("Idempotency-Key", "a key")
	}
	if c.body == untouched {
		req.Header.Set("Expect", "100-continue")
	}
	return req
}

// A tally is what a server saw of the request that a test is about.
type tally struct {
	mu    sync.Mutex // guards what follows
	conns []int      // the numbers of the connections that it came on
	body  string     // of the one that was answered
}

func (y *tally) connections() []int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Clone(y.conns)
}

func (y *tally) came(conn int) (times int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.conns = append(y.conns, conn)
	return len(y.conns)
}

// verdict compares what became of a case with what should.
func (c replayCase) verdict(t *testing.T, p *testPool, y *tally, req *http.Request, resp *http.Response, err error) {
	t.Helper()
	want := []int{1}
	if c.mishap == nothingWritten {
		want = nil
	}
	if c.replayed() {
		want = append(want, 2)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	got := y.conns
	if c.mishap == refused && c.replayed() && slices.Equal(got, []int{1, 1}) {
		got = want // a connection that refuses one stream may take the next
	}
	if !slices.Equal(got, want) {
		t.Errorf("the server saw it on connections %v, want %v (error: %v)", y.conns, want, err)
	}
	if st := p.Stats(); (st.Replayed > 0) != c.replayed() {
		t.Errorf("counted as replayed %d times", st.Replayed)
	}
	if c.replayed() {
		if err != nil {
			t.Errorf("it should have been answered on a second try: %v", err)
			return
		}
		if err := readOwn(req, resp); err != nil {
			t.Error(err)
		}
		if want := "the body of it"; c.body != without && y.body != want {
			t.Errorf("the second try had the body %q, want %q", y.body, want)
		}
		return
	}
	if err == nil {
		resp.Body.Close()
		t.Error("it was answered, but nobody answers it")
		return
	}
	if !c.mishap.caused(err) {
		t.Errorf("the cause cannot be found in %#v: %v", err, err)
	}
	v, ok := errors.AsType[*verdict](err)
	if want := c.mishap == nothingWritten || c.mishap == refused || c.mishap == goAwayBelow; !ok || v.Unprocessed() != want || v.Permanent() {
		t.Errorf("it says of itself: %+v, want unprocessed %t and not permanent", v, want)
	}
	host := req.URL.Scheme + "://" + req.URL.Host
	if msg := err.Error(); !strings.Contains(msg, c.method+" "+host) || strings.Contains(msg, "secret") || strings.Contains(msg, "a key") {
		t.Errorf("the message should name method and origin, and nothing secret: %v", err)
	}
}

// caused reports whether the cause of a mishap can be found in err.
func (m mishap) caused(err error) bool {
	se, isStream := errors.AsType[http2.StreamError](err)
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch m {
	case nothingWritten:
		return errors.Is(err, errInjected)
	case silence:
		ne, ok := errors.AsType[net.Error](err)
		return ok && ne.Timeout()
	case refused:
		return isStream && se.Code == http2.ErrCodeRefusedStream
	case resetByServer:
		return isStream && se.Code == http2.ErrCodeInternal
	case goAwayBelow:
		return strings.Contains(err.Error(), "GOAWAY")
	case goAwayAbove:
		_, ok := errors.AsType[http2.GoAwayError](err)
		return ok || ended
	default:
		return ended
	}
}

// replayPool makes a pool for a case, with a connection that was used before unless it is to be fresh.
func (c replayCase) pool(t *testing.T, m mode, target string) *testPool {
	cfg := Config{ExpectContinueTimeout: 150 * time.Millisecond}
	if c.mishap == silence {
		cfg.ResponseHeaderTimeout = 120 * time.Millisecond // time enough for the request before
	}
	p := newPool(t, m, cfg)
	if !c.fresh {
		p.mustSend(t, newRequest(t.Context(), "GET", target, "before", noBody))
	}
	if c.mishap == nothingWritten {
		err := errInjected
		if c.fresh {
			p.net.wrap = func(nc *tapped) {
				p.net.wrap = nil
				nc.failWrite.Store(&err)
			}
		} else {
			p.net.last().failWrite.Store(&err)
		}
	}
	return p
}

func TestWhatIsReplayedOnHTTP1(t *testing.T) {
	for _, c := range allReplayCases(nothingWritten, written, responseByte, informational, silence) {
		t.Run(c.String(), func(t *testing.T) {
			var y tally
			s := serveH1(t, &h1Peer{converse: func(number int, nc *net.TCPConn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					id := req.Header.Get("X-Id")
					hit := id == "it" && y.came(number) == 1 && c.mishap != nothingWritten
					if req.Header.Get("Expect") != "" && !hit {
						io.WriteString(nc, "HTTP/1.1 100 Continue\r\n\r\n")
					}
					var body []byte
					if !hit || c.body != untouched {
						body, _ = io.ReadAll(req.Body)
					}
					if hit {
						switch c.mishap {
						case informational:
							io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
						case responseByte:
							io.WriteString(nc, "HTTP/1.1 200 OK\r\nX-Id: i")
						case silence:
							io.Copy(io.Discard, r)
						}
						return
					}
					if id == "it" {
						y.mu.Lock()
						y.body = string(body)
						y.mu.Unlock()
					}
					answerH1(nc, id)
				}
			}})
			p := c.pool(t, plain, s.url)
			req := c.request(t, s.url)
			resp, err := p.RoundTrip(req)
			c.verdict(t, p, &y, req, resp, err)
		})
	}
}

func TestWhatIsReplayedOnHTTP2(t *testing.T) {
	for _, c := range allReplayCases(nothingWritten, written, informationalOnStream, silence, refused, resetByServer, goAwayBelow, goAwayAbove) {
		if c.fresh && c.mishap == nothingWritten {
			continue // the connection's own preface would fail: that is a failed dial
		}
		t.Run(c.String(), func(t *testing.T) {
			var y tally
			act := func(conn *h2Conn, req *h2Request) {
				switch c.mishap {
				case written:
					conn.Close()
				case informationalOnStream:
					conn.writeHeaders(req, "103", false)
					conn.Close()
				case silence:
					conn.dropped = true
				case refused:
					conn.fr.WriteRSTStream(req.stream, http2.ErrCodeRefusedStream)
					delete(conn.open, req.stream)
				case resetByServer:
					conn.fr.WriteRSTStream(req.stream, http2.ErrCodeInternal)
					delete(conn.open, req.stream)
				case goAwayBelow:
					conn.fr.WriteGoAway(req.stream-1, http2.ErrCodeNo, nil)
					conn.Close()
				case goAwayAbove:
					conn.fr.WriteGoAway(req.stream, http2.ErrCodeNo, nil)
					conn.Close()
				}
			}
			s := serveH2(t, &h2Peer{
				headers: func(conn *h2Conn, req *h2Request) {
					if req.id != "it" {
						return
					}
					hit := y.came(conn.number) == 1 && c.mishap != nothingWritten
					if hit {
						conn.hit = req.stream
					}
					switch {
					case hit && c.body == untouched:
						act(conn, req)
					case req.expect:
						conn.writeHeaders(req, "100", false)
					}
				},
				request: func(conn *h2Conn, req *h2Request) {
					if req.id == "it" {
						if conn.hit == req.stream {
							act(conn, req)
							return
						}
						y.mu.Lock()
						y.body = string(req.body)
						y.mu.Unlock()
					}
					conn.answer(req)
				},
			})
			p := c.pool(t, h2c, s.url)
			req := c.request(t, s.url)
			resp, err := p.RoundTrip(req)
			c.verdict(t, p, &y, req, resp, err)
		})
	}
}

// A pool full of connections that die under their requests.
func TestLastTryIsOnAFreshConnection(t *testing.T) {
	var y tally
	s := serveH1(t, &h1Peer{converse: func(number int, nc *net.TCPConn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			id := req.Header.Get("X-Id")
			if y.came(number); number <= 5 {
				return
			}
			answerH1(nc, id)
		}
	}})
	p := newPool(t, plain, Config{})
	if err := p.Warm(t.Context(), s.url, s.url, s.url, s.url, s.url); err != nil {
		t.Fatal(err)
	}
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "it", noBody))
	if conns := y.connections(); len(conns) != maxDeaths+1 || conns[len(conns)-1] != 6 {
		t.Errorf("sent on connections %v: want %d of the first five, then the sixth", conns, maxDeaths)
	}
	if st := p.Stats(); st.Dials != 6 || st.Replayed != maxDeaths {
		t.Errorf("%+v", st.Origin)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Run("HTTP/2 refuses every stream", func(t *testing.T) {
		var y tally
		s := serveH2(t, &h2Peer{request: func(conn *h2Conn, req *h2Request) {
			y.came(conn.number)
			conn.fr.WriteRSTStream(req.stream, http2.ErrCodeRefusedStream)
		}})
		p := newPool(t, h2c, Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err := p.send(newRequest(ctx, "POST", s.url, "it", getBody))
		if !refused.caused(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if n := len(y.connections()); n < 5 || n > 15 {
			t.Errorf("%d attempts in 500 ms, want one after 1, 2, 4 ms and so on", n)
		}
	})
	t.Run("HTTP/1.1 dies every time", func(t *testing.T) {
		var y tally
		s := serveH1(t, &h1Peer{converse: func(number int, nc *net.TCPConn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				y.came(number)
			}
		}})
		p := newPool(t, plain, Config{})
		if err := p.Warm(t.Context(), s.url, s.url, s.url); err != nil {
			t.Fatal(err)
		}
		err := p.send(newRequest(t.Context(), "GET", s.url, "it", noBody))
		if !written.caused(err) {
			t.Errorf("error %v", err)
		}
		if n := len(y.connections()); n != maxDeaths+1 {
			t.Errorf("%d attempts, want %d", n, maxDeaths+1)
		}
	})
}

// With the one connection that is allowed busy, a request that was refused twice must neither fail nor hang.
func TestRefusedStreamUnderATightCapIsTriedAgain(t *testing.T) {
	var y tally
	var long *h2Request // owned by the one connection's goroutine
	s := serveH2(t, &h2Peer{request: func(conn *h2Conn, req *h2Request) {
		switch {
		case req.id == "long":
			conn.writeHeaders(req, "200", false)
			long = req
			return
		case req.id == "it" && y.came(conn.number) <= 2:
			conn.fr.WriteRSTStream(req.stream, http2.ErrCodeRefusedStream)
			return
		case req.id == "release":
			conn.fr.WriteData(long.stream, true, []byte(long.id))
		}
		conn.answer(req)
	}})
	p := newPool(t, h2c, Config{MaxConnsPerHost: 1, AcquireTimeout: time.Second})
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "before", noBody))
	req := newRequest(t.Context(), "GET", s.url, "long", noBody)
	resp, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.send(newRequest(t.Context(), "POST", s.url, "it", getBody)); err != nil {
		t.Errorf("refused twice beside a long stream on the only connection allowed: %v", err)
	}
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "release", noBody))
	if err := readOwn(req, resp); err != nil {
		t.Errorf("the long stream: %v", err)
	}
}

// A server that goes away after a few requests says which ones it processed, so none of the others may fail, however
// many there are.
func TestServerThatGoesAwayAfterAFewRequestsServesAll(t *testing.T) {
	const last = 5 // the third stream
	s := serveH2(t, &h2Peer{headers: func(conn *h2Conn, req *h2Request) {
		switch {
		case req.stream == last:
			conn.fr.WriteGoAway(last, http2.ErrCodeNo, nil)
		case req.stream > last:
			delete(conn.open, req.stream)
		}
	}})
	p := newPool(t, h2c, Config{})
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "before", noBody)) // its SETTINGS are known
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			method, body := "GET", noBody
			if i%2 == 1 {
				method, body = "POST", getBody
			}
			if err := p.send(newRequest(t.Context(), method, s.url, fmt.Sprintf("%s-%d", method, i), body)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A request that was turned away many times, because it is late in the queue, and then refused is asked again soon.
func TestRefusalAfterManyTurnsAwayIsShort(t *testing.T) {
	const attempts = 20 // whether anybody is turned away so often depends on how many are sent before a GOAWAY is read
	for range attempts {
		if refuseAfterManyTurnsAway(t) > 0 {
			return
		}
	}
	t.Errorf("in %d attempts nobody was turned away often enough to be refused", attempts)
}

// refuseAfterManyTurnsAway has 64 requests sent to a server that goes away after each, and returns how many of those it
// refused.
func refuseAfterManyTurnsAway(t *testing.T) (refused int) {
	var mu sync.Mutex // guards turned
	turned := make(map[string]int)
	s := serveH2(t, &h2Peer{headers: func(conn *h2Conn, req *h2Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case req.id != "before" && turned[req.id] >= 12:
			turned[req.id] = -1000
			conn.fr.WriteRSTStream(req.stream, http2.ErrCodeRefusedStream)
			delete(conn.open, req.stream)
		case conn.hit != 0:
			turned[req.id]++
			delete(conn.open, req.stream)
		case req.stream >= 3:
			conn.hit = req.stream
			conn.fr.WriteGoAway(req.stream, http2.ErrCodeNo, nil)
		}
	}})
	p := newPool(t, h2c, Config{})
	p.mustSend(t, newRequest(t.Context(), "GET", s.url, "before", noBody)) // its SETTINGS are known
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)         // 1 ms doubled 13 times
	defer cancel()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := p.send(newRequest(ctx, "GET", s.url, fmt.Sprint(i), noBody)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, n := range turned {
		if n < 0 {
			refused++
		}
	}
	return refused
}

// The body of a request can be that of another response, whose errors say nothing of the connection that it is sent on.
func TestErrorOfAnotherConnectionAsThatOfABody(t *testing.T) {
	for _, cause := range []error{
		http2.ConnectionError(http2.ErrCodeFlowControl),
		http2.StreamError{StreamID: 7, Code: http2.ErrCodeRefusedStream},
		http2.StreamError{StreamID: 7, Code: http2.ErrCodeCancel, Cause: errors.New("received from peer")},
		errors.New("http2: client conn not usable"),
	} {
		t.Run(cause.Error(), func(t *testing.T) {
			var long *h2Request // owned by the one connection's goroutine
			s := serveH2(t, &h2Peer{request: func(conn *h2Conn, req *h2Request) {
				if req.id == "long" {
					conn.writeHeaders(req, "200", false)
					long = req
					return
				}
				if req.id == "release" {
					conn.fr.WriteData(long.stream, true, []byte(long.id))
				}
				conn.answer(req)
			}})
			p := newPool(t, h2c, Config{})
			ctx := t.Context()
			long1 := newRequest(ctx, "GET", s.url, "long", noBody)
			resp, err := p.RoundTrip(long1)
			if err != nil {
				t.Fatal(err)
			}
			req := newRequest(ctx, "POST", s.url, "it", noBody)
			req.Body = io.NopCloser(io.MultiReader(strings.NewReader("half of"), iotest.ErrReader(cause)))
			req.ContentLength = 100
			err = p.send(req)
			v, ok := errors.AsType[*verdict](err)
			if !errors.Is(err, cause) || !ok || v.Unprocessed() || !v.Permanent() {
				t.Errorf("error %v, says of itself %+v; want the body's own, which no other attempt would mend", err, v)
			}
			p.mustSend(t, newRequest(ctx, "GET", s.url, "release", noBody))
			if err := readOwn(long1, resp); err != nil {
				t.Errorf("another request on the connection: %v", err)
			}
			if n := s.accepted(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestServerThatGoesAwayForEveryRequestIsAskedWithPauses(t *testing.T) {
	for _, n := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d requests", n), func(t *testing.T) {
			s := serveH2(t, &h2Peer{headers: func(conn *h2Conn, req *h2Request) {
				delete(conn.open, req.stream)
				conn.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			}})
			p := newPool(t, h2c, Config{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					err := p.send(newRequest(ctx, "POST", s.url, fmt.Sprint(i), getBody))
					if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "GOAWAY") {
						t.Errorf("error %v", err)
					}
				})
			}
			wg.Wait()
			if got := s.accepted(); got < 5 || got > 20 {
				t.Errorf("%d connections in a second, want one after 1, 2, 4 ms and so on", got)
			}
		})
	}
}

// A server that sends GOAWAY with its SETTINGS is out of order; it must not be dialled without a pause.
func TestServerThatGoesAwayAtOnceIsDialledWithPauses(t *testing.T) {
	s := serveH2(t, &h2Peer{
		greet:   func(conn *h2Conn) { conn.fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		request: func(*h2Conn, *h2Request) {},
	})
	p := newPool(t, h2c, Config{AcquireTimeout: 500 * time.Millisecond})
	err := p.send(newRequest(t.Context(), "GET", s.url, "it", noBody))
	if err == nil {
		t.Fatal("answered")
	}
	if n := p.Stats().Dials; n > 15 {
		t.Errorf("%d dials for one request: %v", n, err)
	}
}

// A server under load refuses streams for a while, and has said that it did not process them.
func TestRefusedRequestIsTriedAgainAfterAWhile(t *testing.T) {
	var refused time.Time // owned by the one connection's reader
	s := serveH2(t, &h2Peer{request: func(conn *h2Conn, req *h2Request) {
		if refused.IsZero() {
			refused = time.Now()
		}
		if time.Since(refused) < 10*time.Millisecond {
			conn.fr.WriteRSTStream(req.stream, http2.ErrCodeRefusedStream)
			return
		}
		conn.answer(req)
	}})
	p := newPool(t, h2c, Config{})
	p.mustSend(t, newRequest(t.Context(), "POST", s.url, "it", getBody))
	if n := p.Stats().Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

// How many streams a server allows is not known before its SETTINGS, so that a request which cannot be sent again waits
// for them; but not for ever.
func TestServerThatSendsNoSettingsHoldsUpNoRequest(t *testing.T) {
	came := make(chan string, 2)
	s := serveH2(t, &h2Peer{curt: true, request: func(_ *h2Conn, req *h2Request) { came <- req.id }})
	s.mute.Store(true)
	p := newPool(t, h2c, Config{VerifyTimeout: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, id := range []string{"first", "second"} {
		wg.Go(func() { p.send(newRequest(ctx, "POST", s.url, id, noBody)) })
	}
	for range 2 {
		select {
		case <-came:
		case <-time.After(5 * time.Second):
			t.Fatalf("a request is held up\n%s", describe(p.Transport))
		}
	}
	if n := s.accepted(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An HTTP/2 connection that takes no more streams is not asked for one until it refuses: the next request goes elsewhere.
func TestHTTP2ConnectionThatGoesAwayIsNotAskedForStreams(t *testing.T) {
	for _, tt := range []struct {
		name    string
		last    func(*http.Request)
		refused bool // by the protocol layer, which knows more
	}{
		{"GOAWAY", func(req *http.Request) { req.Header.Set("X-Id", "go away") }, false},
		{"Request.Close", func(req *http.Request) { req.Close = true }, false},
		{"Connection: close", func(req *http.Request) { req.Header.Set("Connection", "close") }, false},
		{"out of stream numbers", func(*http.Request) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			came := make(chan struct{}, 1)
			s := serveH2(t, &h2Peer{request: func(c *h2Conn, req *h2Request) {
				switch {
				case c.number > 1:
					c.answer(req)
				case req.id == "go away":
					c.fr.WriteGoAway(req.stream, http2.ErrCodeNo, nil)
				}
				came <- struct{}{}
			}})
			p := newPool(t, h2c, Config{})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			last := newRequest(ctx, "GET", s.url, "last", noBody)
			tt.last(last)
			wg.Go(func() { p.send(last) })
			<-came
			c := p.onlyConn(t)
			if tt.refused {
				c.h2.SetDoNotReuse()
			} else {
				eventually(t, "the connection is retired", func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return c.book.Reason() == pool.ByServer
				})
			}
			soon, stop := context.WithTimeout(t.Context(), 5*time.Second)
			defer stop()
			p.mustSend(t, newRequest(soon, "POST", s.url, "next", streamed))
			<-came
			if got := p.Stats(); got.Dials != 2 || c.book.Refusals() > 0 {
				t.Errorf("refused %d times: %+v", c.book.Refusals(), got.Origin)
			}
		})
	}
}

// The stream of a response that was read to its end is given to whoever waits before the caller closes the body.
func TestReadAfterTheEndOfABodyReturnsEOFThoughSomebodyWaits(t *testing.T) {
	forModes(t, h2Modes, func(t *testing.T, m mode) {
		s := serve(t, m, func(hs *http.Server) { hs.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
		p := newPool(t, m, Config{MaxConnsPerHost: 1})
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody)) // the limit is known
		resp, err := p.RoundTrip(s.request(t.Context(), "GET", "first", noBody))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		second := make(chan error, 1)
		go func() { second <- p.send(s.request(t.Context(), "GET", "second", noBody)) }()
		eventually(t, "the second waits", func() bool { return p.Stats().Waiting == 1 })
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) == 0 {
			t.Errorf("read %q, %v", body, err)
		}
		if err := <-second; err != nil {
			t.Error(err)
		}
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("then read %d, %v, want EOF", n, err)
		}
		resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A server that allows no stream for the moment (RFC 9113, section 6.5.2) must not be dialled for ever either.
func TestServerThatAllowsNoStreamsIsNotDialledForEver(t *testing.T) {
	s := serveH2(t, &h2Peer{
		settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}},
		request: func(conn *h2Conn, req *h2Request) {
			conn.fr.WriteRSTStream(req.stream, http2.ErrCodeRefusedStream)
		},
	})
	p := newPool(t, h2c, Config{AcquireTimeout: 500 * time.Millisecond, MaxConnsPerHost: 4})
	err := p.send(newRequest(t.Context(), "GET", s.url, "it", noBody))
	if err == nil {
		t.Fatal("answered")
	}
	if n := p.Stats().Dials; n > 8 {
		t.Errorf("%d dials for one request: %v", n, err)
	}
}

// Servers behind one name may speak different protocols, while a new version is rolled out for example.
func TestBusyHTTP1ConnectionHoldsUpNoRequestOnceTheOriginSpeaksHTTP2(t *testing.T) {
	cert, _ := testCert()
	var newer atomic.Bool
	s := serve(t, mode{tls: true, h2: true}, func(hs *http.Server) {
		hs.Protocols.SetHTTP1(true)
		hs.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			protos := []string{"http/1.1"}
			if newer.Load() {
				protos = []string{"h2"}
			}
			return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos}, nil
		}
	})
	p := newPool(t, s.mode, Config{})
	open := s.gate("busy")
	busy := make(chan error, 1)
	go func() { busy <- p.send(s.request(context.Background(), "GET", "busy", noBody)) }()
	eventually(t, "the request has come", func() bool { return s.times("busy") > 0 })
	newer.Store(true)
	p.mustSend(t, s.request(t.Context(), "GET", "on HTTP/2", noBody))
	p.CloseIdleConnections()
	p.settled(t)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.send(s.request(ctx, "POST", "it", streamed)); err != nil {
		t.Errorf("%v\n%s", err, describe(p.Transport))
	}
	open()
	if err := <-busy; err != nil {
		t.Errorf("the request on HTTP/1.1: %v", err)
	}
}

func TestErrorOfTheCallersBodyIsPassedOnAndNotReplayed(t *testing.T) {
	errBody := errors.New("the caller's own")
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		req := s.request(t.Context(), "PUT", "it", noBody)
		calls := 0
		body := func() (io.ReadCloser, error) {
			calls++
			return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 10)), errReader{errBody})), nil
		}
		req.Body, _ = body()
		req.GetBody = body
		req.ContentLength = 20
		if err := p.send(req); !errors.Is(err, errBody) {
			t.Errorf("error %v", err)
		}
		if calls != 1 || p.Stats().Replayed != 0 {
			t.Errorf("the body was asked for %d times, %d replays", calls, p.Stats().Replayed)
		}
	})
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// faulty is a connection that ends with errors of a test's choice.
type faulty struct {
	net.Conn
	readErr error // in the place of the end
	writes  int   // that succeed once armed
	armed   atomic.Bool
}

func (c *faulty) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.readErr != nil {
		err = c.readErr
	}
	return n, err
}

func (c *faulty) Write(p []byte) (int, error) {
	if c.armed.Load() {
		if c.writes--; c.writes < 0 {
			return 0, syscall.EPIPE
		}
	}
	return c.Conn.Write(p)
}

// A timeout says that the answer is slow, and a request that may be under way is not sent twice for that. The kernel's,
// that the peer acknowledges nothing, says that the connection is dead.
func TestOnlyTheKernelsTimeoutIsADeadConnection(t *testing.T) {
	for _, tt := range []struct {
		err  error
		seen int
	}{{os.ErrDeadlineExceeded, 1}, {syscall.ETIMEDOUT, 2}} {
		forModes(t, []mode{plain, h2c}, func(t *testing.T, m mode) {
			s := serve(t, m)
			p := newPool(t, m, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, addr)
				return &faulty{Conn: nc, readErr: &net.OpError{Op: "read", Net: "tcp", Err: tt.err}}, err
			}})
			p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
			open := s.gate("it")
			done := make(chan error, 1)
			go func() { done <- p.send(s.request(t.Context(), "GET", "it", noBody)) }()
			eventually(t, "the request has come", func() bool { return s.times("it") == 1 })
			s.fin()
			open()
			if err := <-done; (err == nil) != (tt.seen == 2) || s.times("it") != tt.seen {
				t.Errorf("%v: the server saw it %d times, error %v", tt.err, s.times("it"), err)
			}
		})
	}
}

func TestPOSTOfWhichAPartWasWrittenIsNotSentAgain(t *testing.T) {
	forModes(t, []mode{plain, h2c}, func(t *testing.T, m mode) {
		for writes := range 3 {
			url := serve(t, m).url
			if m.h2 {
				url = serveH2(t, &h2Peer{}).url // it takes no frames as large as those of net/http's server
			}
			var first *faulty
			p := newPool(t, m, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, addr)
				c := &faulty{Conn: nc, writes: writes}
				if first == nil {
					first = c
				}
				return c, err
			}})
			p.mustSend(t, newRequest(t.Context(), "GET", url, "before", noBody))
			req := newRequest(t.Context(), "POST", url, "it", noBody)
			for i := range 50 { // more than one write
				req.Header.Set(fmt.Sprintf("X-Long-%d", i), strings.Repeat("long", 500))
			}
			first.armed.Store(true)
			err := p.send(req)
			if untouched := writes == 0; (err == nil) != untouched || p.Stats().Replayed != uint64(1-min(writes, 1)) {
				t.Errorf("after %d writes: error %v, replayed %d times", writes, err, p.Stats().Replayed)
			}
		}
	})
}

// Two goroutines of net/http's tell of a failed write: the one that wrote, and the one that reads and finds the
// connection closed for it.
func TestCauseOfAFailedWriteIsToldWhoeverIsQuicker(t *testing.T) {
	s := serve(t, plain)
	for name, dial := range map[string]func(ctx context.Context, network, addr string) (net.Conn, error){
		"TCP":  new(net.Dialer).DialContext,
		"pipe": func(context.Context, string, string) (net.Conn, error) { near, _ := net.Pipe(); return near, nil },
	} {
		p := newPool(t, plain, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := dial(ctx, network, addr)
			c := &faulty{Conn: nc}
			c.armed.Store(true)
			return c, err
		}})
		for range 1000 {
			if err := p.send(s.request(t.Context(), "POST", "it", getBody)); !errors.Is(err, syscall.EPIPE) {
				t.Fatalf("%s: error %v", name, err)
			}
		}
	}
}

// onceBody cannot be read any more once it is closed.
type onceBody struct {
	io.Reader
	closed atomic.Bool
}

func (b *onceBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errors.New("read after Close")
	}
	return b.Reader.Read(p)
}

func (b *onceBody) Close() error {
	b.closed.Store(true)
	return nil
}

func TestUntouchedBodyStaysOpenUntilItIsSent(t *testing.T) {
	forModes(t, []mode{plain, h2c}, func(t *testing.T, m mode) {
		s := serve(t, m)
		var first *faulty
		p := newPool(t, m, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, addr)
			c := &faulty{Conn: nc}
			if first == nil {
				first = c
			}
			return c, err
		}})
		p.mustSend(t, s.request(t.Context(), "GET", "before", noBody))
		first.armed.Store(true)
		req := s.request(t.Context(), "POST", "it", noBody)
		body := &onceBody{Reader: strings.NewReader("body")}
		req.Body, req.ContentLength = body, -1
		if err := p.send(req); err != nil || s.times("it") != 1 || p.Stats().Replayed != 1 {
			t.Errorf("error %v; the server saw it %d times: %+v", err, s.times("it"), p.Stats().Origin)
		}
		eventually(t, "the body is closed", body.closed.Load)
	})
}

func TestFaultOfTheRequestItselfCostsOtherConnectionsNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		modes []mode
		spoil func(*http.Request)
		lost  int // connections on which a part of the request had been written
	}{
		{"length without body", h1Modes, func(req *http.Request) { req.Body, req.GetBody, req.ContentLength = nil, nil, 5 }, 0},
		{"control character in the query", h1Modes, func(req *http.Request) { req.URL.RawQuery = "a\x7f" }, 0},
		{"control character in Opaque", h1Modes, func(req *http.Request) { req.URL.Opaque = "//host/\x01" }, 0},
		{"invalid Host", h2Modes, func(req *http.Request) { req.Host = "a b" }, 0},
		{"body shorter than its length", h1Modes, func(req *http.Request) { req.ContentLength = 100 }, 1},
		{"body longer than its length", h1Modes, func(req *http.Request) { req.ContentLength = 1 }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forModes(t, tt.modes, func(t *testing.T, m mode) {
				s := serve(t, m)
				p := newPool(t, m, Config{})
				n := 4
				if m.h2 {
					n = 1
				}
				p.fill(t, s, n)
				p.clock.freeze(time.Minute, time.Minute) // long enough for a dead connection to condemn the others
				req := s.request(t.Context(), "PUT", "it", getBody)
				tt.spoil(req)
				err := p.send(req)
				if err == nil || s.times("it") > tt.lost {
					t.Errorf("error %v, and the server saw it %d times", err, s.times("it"))
				}
				p.settled(t)
				if got := p.Stats(); got.Idle != n-tt.lost || got.Dials != uint64(n) || got.Replayed != 0 {
					t.Errorf("after %v: %+v", err, got.Origin)
				}
				p.mustSend(t, s.request(t.Context(), "GET", "after", noBody))
			})
		})
	}
}

func TestRequestEndedByItsCancelIsNotSentAgain(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		if m.h2 {
			p.fill(t, s, 1)
		} else {
			p.fill(t, s, 2)
		}
		before := p.Stats()
		defer s.gate("it")()
		req := s.request(t.Context(), "GET", "it", noBody)
		end := make(chan struct{})
		req.Cancel = end //nolint:staticcheck // http.Client sets it for its Timeout
		failed := make(chan error, 1)
		go func() { failed <- p.send(req) }()
		eventually(t, "the request has come", func() bool { return s.times("it") > 0 })
		close(end)
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "request canceled") {
			t.Errorf("error %v", err)
		}
		p.settled(t)
		if after := p.Stats(); s.times("it") != 1 || after.Replayed != 0 || after.Dials != before.Dials || after.Closed.Stale != 0 {
			t.Errorf("the server saw it %d times: %+v", s.times("it"), after.Origin)
		}
	})
}

// watchedContext counts what waits for its end.
type watchedContext struct {
	context.Context
	done    chan struct{}
	waiting atomic.Int64
}

func (c *watchedContext) Done() <-chan struct{} { return c.done }
func (c *watchedContext) Value(any) any         { return nil } // to package context it is a stranger

func (c *watchedContext) AfterFunc(func()) (stop func() bool) {
	c.waiting.Add(1)
	return func() bool { return c.waiting.Add(-1) >= 0 }
}

func TestRequestLeavesNothingThatWaitsForItsContext(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, do := range []string{"", "size 100000", "close", "abort", "cut"} {
			for _, body := range []int{noBody, getBody, streamed} {
				s := serve(t, m)
				p := newPool(t, m, Config{})
				ctx := &watchedContext{Context: context.Background(), done: make(chan struct{})}
				before := runtime.NumGoroutine()
				for range 5 {
					req := s.request(ctx, "POST", "it", body)
					req.Header.Set("X-Do", do)
					req.Cancel = make(chan struct{}) //nolint:staticcheck // as above
					if err := p.send(req); (err != nil) != (do == "abort" || do == "cut") {
						t.Errorf("%q: error %v", do, err)
					}
					if do == "close" { // or the next one could cross its GOAWAY
						eventually(t, "the connection is closed", func() bool { return p.Stats().Open == 0 })
					}
				}
				if !within(time.Second, func() bool { return ctx.waiting.Load() == 0 }) {
					t.Errorf("%q, body %d: %d contexts still wait for the caller's", do, body, ctx.waiting.Load())
				}
				p.Close()
				s.http.Close()
				if !within(time.Second, func() bool { return runtime.NumGoroutine() <= before }) {
					t.Errorf("%q, body %d: %d goroutines, %d before", do, body, runtime.NumGoroutine(), before)
				}
			}
		}
	})
}

// An answer that looks like an upgrade, and is none, ends its request.
func TestSwitchOfProtocolsThatNobodyAskedForEndsTheRequest(t *testing.T) {
	s := serveH1(t, &h1Peer{converse: func(_ int, nc *net.TCPConn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		}
	}})
	p := newPool(t, plain, Config{})
	ctx := &watchedContext{Context: context.Background(), done: make(chan struct{})}
	resp, err := p.RoundTrip(newRequest(ctx, "GET", s.url, "it", noBody))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := ctx.waiting.Load(); n != 0 {
		t.Errorf("%d contexts still wait for the caller's", n)
	}
	eventually(t, "the connection is closed", func() bool { return p.Stats().Open == 0 })
}
