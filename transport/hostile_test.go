package transport

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/thawhttp/thaw/internal/legible"
)

// The servers of these tests mean harm. Whatever they send, a request ends in bounded time and memory, with an error that
// says what was wrong and shows no secret, and the pool goes on serving everyone else.

// hostile is a server's side of one connection, whose bytes a test writes itself.
type hostile struct {
	net.Conn
	tcp    *net.TCPConn // beneath it
	r      *bufio.Reader
	fr     *http2.Framer
	number int // from 1
}

// serveHostile starts a server that runs script for each connection, which is closed when it returns. With TLS in its
// mode, the handshake is done as usual, or as change has it.
func serveHostile(t testing.TB, m mode, script func(*hostile), change ...func(*tls.Config)) (url string) {
	t.Helper()
	cert, _ := testCert()
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if m.h2 {
		cfg.NextProtos = []string{"h2"}
	}
	for _, f := range change {
		f(cfg)
	}
	s := serveH1(t, &h1Peer{converse: func(n int, nc *net.TCPConn, _ *bufio.Reader) {
		h := newHostile(nc, n)
		if m.tls {
			h = newHostile(tls.Server(nc, cfg), n)
		}
		h.tcp = nc
		script(h)
	}})
	if m.tls {
		return "https" + strings.TrimPrefix(s.url, "http")
	}
	return s.url
}

func newHostile(nc net.Conn, number int) *hostile {
	h := &hostile{Conn: nc, r: bufio.NewReader(nc), number: number}
	h.fr = http2.NewFramer(nc, h.r)
	h.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return h
}

// request reads an HTTP/1.1 request, and returns nil at the connection's end.
func (h *hostile) request() *http.Request {
	req, err := http.ReadRequest(h.r)
	if err != nil {
		return nil
	}
	io.Copy(io.Discard, req.Body)
	return req
}

// greet begins an HTTP/2 connection.
func (h *hostile) greet(settings ...http2.Setting) {
	io.ReadFull(h.r, make([]byte, len(http2.ClientPreface)))
	h.fr.WriteSettings(settings...)
}

// stream reads the frames up to the next HEADERS, and returns its stream, or 0 at the connection's end.
func (h *hostile) stream() uint32 {
	for {
		f, err := h.fr.ReadFrame()
		if err != nil {
			return 0
		}
		if f, ok := f.(*http2.MetaHeadersFrame); ok {
			return f.StreamID
		}
	}
}

// headers writes a whole header block, of name and value in turn.
func (h *hostile) headers(stream uint32, end bool, fields ...string) error {
	return h.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: headerBlock(fields...), EndHeaders: true, EndStream: end,
	})
}

func headerBlock(fields ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// stall reads, and throws away, until the connection ends.
func (h *hostile) stall() { io.Copy(io.Discard, h.r) }

// flood calls write over and over until it fails: the client has had enough. It leaves unread what the client says.
func flood(write func() error) {
	for write() == nil {
	}
}

// An attack is what a server does with one connection.
type attack struct {
	name   string
	config func(*Config)
	method string // GET if empty
	body   int    // its size
	serve  func(*hostile)
	raw    bool              // serve does the TLS handshake itself, if there is to be one
	tls    func(*tls.Config) // changes the server's
	host   string            // of the URL, 127.0.0.1 if empty
	proxy  string            // the server is a proxy of this scheme

	err  string // part of the error's text, or several with "|" between, of which one is enough: of the round trip's, or if there is none, of reading the body; "" for success
	read int64  // how much of the body the caller wants, all if zero
}

const (
	// headerWait is the ResponseHeaderTimeout of attacks that time out.
	headerWait = 80 * time.Millisecond
	// maxHeap is how much the heap may grow, in bytes, the server's part included. Floods are of hundreds of megabytes.
	maxHeap = 64 << 20
	// maxTime is how long an attack may take. It is long for machines that are busy otherwise.
	maxTime = 4 * time.Second
	// secret is in every request, and must be in no error.
	secret = "hunter2hunter2"
)

func (a attack) run(t *testing.T, m mode) {
	served := m
	if a.raw || a.proxy != "" {
		served = plain
	}
	if a.tls == nil {
		a.tls = func(*tls.Config) {}
	}
	target := serveHostile(t, served, a.serve, a.tls)
	healthy := serve(t, m)
	cfg := Config{Logger: quiet}
	if a.raw && m.tls {
		target = "https" + strings.TrimPrefix(target, "http")
	}
	if a.host != "" {
		target = strings.Replace(target, "127.0.0.1", a.host, 1)
	}
	if a.proxy != "" {
		proxy := &url.URL{Scheme: a.proxy, User: url.UserPassword("joe", secret), Host: strings.TrimPrefix(target, "http://")}
		target = "https://origin.test"
		cfg.Proxy = func(req *http.Request) (*url.URL, error) {
			if req.URL.Hostname() == "origin.test" {
				return proxy, nil
			}
			return nil, nil
		}
	}
	if strings.Contains(a.err, "timeout") || strings.Contains(a.err, "not done within") {
		cfg.ResponseHeaderTimeout = headerWait
		if a.raw || a.proxy != "" {
			cfg.TLSHandshakeTimeout, cfg.DialTimeout = headerWait, headerWait
		}
	}
	if a.config != nil {
		a.config(&cfg)
	}
	p := newPool(t, m, cfg)
	p.patiently(t, healthy, "before")

	var err error
	began := time.Now()
	grown := heapGrowth(func() { err = p.suffer(t, target, a) })
	took := time.Since(began)
	switch {
	case a.err == "" && err != nil:
		t.Errorf("error %v", err)
	case a.err != "" && err == nil:
		t.Errorf("no error, want %q", a.err)
	case err != nil && !slices.ContainsFunc(strings.Split(a.err, "|"), func(s string) bool { return strings.Contains(err.Error(), s) }):
		t.Errorf("error %q, want %q", cutText(err), a.err)
	}
	if err != nil && (strings.Contains(err.Error(), secret) || err.Error() != legible.Text(err.Error())) {
		t.Errorf("the error shows a secret, is of %d bytes, or not fit for a line of a log: %q", len(err.Error()), cutText(err))
	}
	if took > maxTime {
		t.Errorf("it took %v, want at most %v", took, maxTime)
	}
	if grown > maxHeap {
		t.Errorf("the heap grew by %d KiB, want at most %d", grown>>10, maxHeap>>10)
	}
	t.Logf("%.0f ms, heap + %d KiB: %q", took.Seconds()*1000, grown>>10, cutText(err))
	p.whole(t, healthy)
}

func cutText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()[:min(len(err.Error()), 300)]
}

// suffer sends the attack's request, reads the answer and returns the first error.
func (p *testPool) suffer(t *testing.T, target string, a attack) error {
	patience := 10 * time.Second
	if strings.Contains(a.err, "deadline exceeded") {
		patience = headerWait
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	method := a.method
	if method == "" {
		method = "GET"
	}
	req, err := http.NewRequestWithContext(ctx, method, target+"/path?key="+secret, bytes.NewReader(make([]byte, a.body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := p.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if a.read > 0 {
		_, err = io.CopyN(io.Discard, resp.Body, a.read)
	} else {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return err
}

// patiently sends a POST to a healthy server until it is in time: the timeouts of attacks are short, and a flood goes on
// that leaves little of this machine.
func (p *testPool) patiently(t *testing.T, healthy *server, id string) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for i := 0; time.Now().Before(end); i++ {
		id := fmt.Sprintf("%s-%d", id, i)
		err := p.send(healthy.request(t.Context(), "POST", id, getBody))
		if n := healthy.times(id); n > 1 || n == 0 && err == nil {
			t.Errorf("%s was seen %d times", id, n)
		}
		if timeout, ok := errors.AsType[net.Error](err); err == nil || !ok || !timeout.Timeout() {
			if err != nil {
				t.Errorf("%s: %v", id, err)
			}
			return
		}
	}
	t.Errorf("%s: never in time", id)
}

// whole checks that nothing is left of a request, and that the pool serves another origin.
func (p *testPool) whole(t *testing.T, healthy *server) {
	t.Helper()
	p.patiently(t, healthy, "after")
	p.settled(t)
	if err := check(p.Transport); err != nil {
		t.Error(err)
	}
	if s := p.Stats(); s.InUse != 0 || s.Streams != 0 || s.Waiting != 0 || s.Dialing != 0 || s.Open != s.Idle {
		t.Errorf("gauges: %+v", s.Origin)
	}
	eventually(t, "what was closed is closed", func() bool { return p.net.open() == p.Stats().Open })
}

// heapGrowth returns by how much the heap grew at most while f ran.
func heapGrowth(f func()) int64 {
	heap := func() int64 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	runtime.GC()
	before := heap()
	peak := before
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				peak = max(peak, heap())
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
	return max(peak, heap()) - before
}

// attacks runs each attack in each mode.
func attacks(t *testing.T, ms []mode, list []attack) {
	t.Helper()
	quietLog(t)
	gzipBomb() // which takes memory to make
	forModes(t, ms, func(t *testing.T, m mode) {
		for _, a := range list {
			t.Run(a.name, func(t *testing.T) { a.run(t, m) })
		}
	})
}

// quietLog keeps net/http and x/net/http2 from telling on the standard logger what they think of a peer.
func quietLog(t testing.TB) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
}

// answerWith returns a script that answers every HTTP/1.1 request with text.
func answerWith(text string) func(*hostile) {
	b := []byte(text)
	return func(h *hostile) {
		for h.request() != nil {
			if _, err := h.Write(b); err != nil {
				return
			}
		}
	}
}

// endless returns a script that answers with head, and then with more over and over.
func endless(head, more string) func(*hostile) {
	block := []byte(strings.Repeat(more, max(1, 32<<10/len(more))))
	return func(h *hostile) {
		if h.request() == nil {
			return
		}
		io.WriteString(h, head)
		flood(func() error { _, err := h.Write(block); return err })
	}
}

// serve answers the requests of the connection as a server should, and calls the functions after each answer.
func (h *hostile) serve(m mode, answered ...func()) {
	answer := h.answerHTTP1
	if m.h2 {
		h.greet()
		answer = h.answerHTTP2
	}
	for answer() {
		for _, f := range answered {
			f()
		}
	}
}

func (h *hostile) answerHTTP1() bool {
	req := h.request()
	return req != nil && answerH1(h, req.Header.Get("X-Id")) == nil
}

// idOf returns the X-Id of an HTTP/2 request.
func idOf(f *http2.MetaHeadersFrame) string {
	for _, field := range f.RegularFields() {
		if field.Name == "x-id" {
			return field.Value
		}
	}
	return ""
}

func (h *hostile) answerHTTP2() bool {
	var id string
	for {
		f, err := h.fr.ReadFrame()
		if err != nil {
			return false
		}
		if f, ok := f.(*http2.MetaHeadersFrame); ok {
			id = idOf(f)
		}
		if f, ok := f.(interface{ StreamEnded() bool }); ok && f.StreamEnded() {
			stream := f.(http2.Frame).Header().StreamID
			h.headers(stream, false, ":status", "200", "x-id", id)
			return h.fr.WriteData(stream, true, []byte(id)) == nil
		}
	}
}

// gzipBomb is a gzip member of 16 MiB in 16 KiB. Members may follow one another (RFC 1952, section 2.2).
var gzipBomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w.Write(make([]byte, 16<<20))
	w.Close()
	return b.Bytes()
})
