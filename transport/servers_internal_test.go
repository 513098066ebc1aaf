package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/pool"
	"golang.org/x/net/http2/hpack"
)

// A mode is one way to speak HTTP. One body of tests runs over each.
type mode struct {
	name string
	tls  bool
	h2   bool
}

var (
	modes   = []mode{{name: "h1"}, {name: "h1tls", tls: true}, {name: "h2", tls: true, h2: true}, {name: "h2c", h2: true}}
	h1Modes = modes[:2]
	h2Modes = modes[2:]
	plain   = modes[0]
	h2c     = modes[3]
)

// forModes runs f as a subtest over each mode.
func forModes(t *testing.T, ms []mode, f func(t *testing.T, m mode)) {
	t.Helper()
	for _, m := range ms {
		t.Run(m.name, func(t *testing.T) { f(t, m) })
	}
}

// newCert makes a certificate that is its own authority, after the functions have changed it.
func newCert(change ...func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// testCert is the certificate of all servers, and what trusts it.
var testCert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) { return newCert() })

// shiftedClock is the system's clock with an offset on each side.
type shiftedClock struct{ wall, mono atomic.Int64 }

func (c *shiftedClock) now() instant {
	now := systemClock{}.now()
	return instant{Wall: now.Wall + c.wall.Load(), Mono: now.Mono + c.mono.Load()}
}

// freeze lets wall and mono pass, either of which may be negative.
func (c *shiftedClock) freeze(wall, mono time.Duration) {
	c.wall.Add(int64(wall))
	c.mono.Add(int64(mono))
}

// A pool is a Transport under test with its network and its clock in hand.
type testPool struct {
	*Transport
	net   *network
	clock *shiftedClock
}

// newPool makes a pool that speaks mode m. It is closed at the end of the test, and must then have nothing left.
func newPool(t testing.TB, m mode, cfg Config) *testPool {
	t.Helper()
	n := &network{perHost: make(map[string]int)}
	if cfg.DialContext == nil {
		cfg.DialContext = n.dial
	}
	if cfg.Proxy == nil {
		cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	if cfg.TLS == nil {
		_, roots := testCert()
		cfg.TLS = &tls.Config{RootCAs: roots}
	}
	if cfg.Protocols == nil {
		cfg.Protocols = new(http.Protocols)
		cfg.Protocols.SetHTTP1(m.tls || !m.h2)
		cfg.Protocols.SetHTTP2(m.tls && m.h2)
		cfg.Protocols.SetUnencryptedHTTP2(m.h2 && !m.tls)
	}
	rt, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &testPool{rt, n, new(shiftedClock)}
	rt.clock = p.clock
	t.Cleanup(func() {
		n.thaw()
		p.closeAndCheck(t)
	})
	return p
}

// closeAndCheck closes the pool and fails if it leaves anything.
func (p *testPool) closeAndCheck(t testing.TB) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Close()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Close takes longer than 10s")
	}
	if err := check(p.Transport); err != nil {
		t.Errorf("after Close: %v", err)
	}
	// A dial that Close interrupted, or the protocol layer, may be closing a connection at this moment.
	eventually(t, "all connections are closed", func() bool { return p.net.open() == 0 })
	s := p.Stats()
	if s.Open != 0 || s.InUse != 0 || s.Idle != 0 || s.Dialing != 0 || s.Waiting != 0 {
		t.Errorf("gauges after Close: %+v", s.Origin)
	}
}

// within waits up to d for ok to be true, and reports whether it was.
func within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); !ok(); {
		if time.Now().After(end) {
			return false
		}
		<-time.After(200 * time.Microsecond)
	}
	return true
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !within(5*time.Second, ok) {
		t.Fatalf("not within 5s: %s", what)
	}
}

// describe lists the connections and the origins of a pool.
func describe(t *Transport) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, o := range t.origins {
		fmt.Fprintf(&b, "%s: protocol %v, %+v, %d dials, %d pins, %d freeing, set back %d times\n",
			o.name, o.book.Protocol(), o.gauges(), len(o.dials), o.pins, o.book.Freeing(), o.book.Setbacks())
	}
	t.each(func(c *conn) {
		fmt.Fprintf(&b, "  connection %d of %s: %+v, %d uses", c.id, c.origin.name, c.book.State(), c.Uses())
		if c.h2 != nil {
			fmt.Fprintf(&b, ", %+v", c.h2.State())
		}
		b.WriteByte('\n')
	})
	return b.String()
}

// each calls f for every connection. t.mu is held.
func (t *Transport) each(f func(*conn)) {
	t.machine.EachConn(func(book *pool.Conn) { f(book.Driver.(*conn)) })
}

// settled waits until nothing is under way in the pool: no dial, no closing, no verification.
func (p *testPool) settled(t testing.TB) {
	t.Helper()
	eventually(t, "the pool is at rest", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		rests := p.machine.Freeing() == 0
		for _, o := range p.origins {
			rests = rests && len(o.dials) == 0
		}
		p.each(func(c *conn) { rests = rests && !c.book.Proving() })
		return rests && !p.tellings.running
	})
}

// connOf returns the one connection for which is is true.
func (p *testPool) theConn(t testing.TB, what string, is func(*conn) bool) *conn {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var found *conn
	p.each(func(c *conn) {
		if is(c) {
			if found != nil {
				t.Fatalf("more than one connection %s", what)
			}
			found = c
		}
	})
	if found == nil {
		t.Fatalf("no connection %s", what)
	}
	return found
}

// connUsed returns the one connection that had so many uses.
func (p *testPool) connUsed(t testing.TB, uses uint64) *conn {
	t.Helper()
	return p.theConn(t, fmt.Sprintf("with %d uses", uses), func(c *conn) bool { return c.Uses() == uses })
}

func (p *testPool) connWithID(t testing.TB, id uint64) *conn {
	t.Helper()
	return p.theConn(t, fmt.Sprintf("with number %d", id), func(c *conn) bool { return c.id == id })
}

// mustSendOn sends requests until c was used again, which is the one used last then.
func (p *testPool) mustSendOn(t testing.TB, s *server, c *conn) {
	t.Helper()
	var others []grant
	req := s.request(t.Context(), "GET", "on this one", noBody)
	for {
		g, err := p.acquire(t.Context(), originKey{scheme: req.URL.Scheme, host: req.URL.Host}, &want{req: req}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if g.c != c {
			others = append(others, g)
			continue
		}
		p.giveBackUnused(g)
		break
	}
	p.mustSend(t, req)
	for _, g := range others {
		p.giveBackUnused(g)
	}
}

// onlyConn returns the one connection that the pool has.
func (p *testPool) onlyConn(t testing.TB) *conn {
	t.Helper()
	return p.theConn(t, "at all", func(*conn) bool { return true })
}

// A network dials for a pool. It counts what is really open, and can freeze it and make it fail.
type network struct {
	mu      sync.Mutex // guards what follows
	conns   []*tapped  // all that were dialled
	perHost map[string]int
	total   int
	peak    int            // the most that were open at once
	peaks   map[string]int // the same by address
	before  func(addr string) error
	wrap    func(*tapped)
}

func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	before := n.before
	n.mu.Unlock()
	if before != nil {
		if err := before(addr); err != nil {
			return nil, err
		}
	}
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &tapped{Conn: nc, n: n, addr: addr, shown: nc.(syscall.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, c)
	n.total++
	n.perHost[addr]++
	n.peak = max(n.peak, n.total)
	if n.peaks == nil {
		n.peaks = make(map[string]int)
	}
	n.peaks[addr] = max(n.peaks[addr], n.perHost[addr])
	if n.wrap != nil {
		n.wrap(c)
	}
	return c, nil
}

// open returns how many connections are open.
func (n *network) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.total
}

// dials returns how many connections were made.
func (n *network) dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// last returns the connection made last.
func (n *network) last() *tapped {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conns[len(n.conns)-1]
}

// freeze keeps the goroutines that read the connections of now from noticing anything, as a freeze does, until thaw.
func (n *network) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if ch := make(chan struct{}); c.frozen.CompareAndSwap(nil, &ch) {
			continue
		}
	}
}

func (n *network) thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if ch := c.frozen.Swap(nil); ch != nil {
			close(*ch)
		}
	}
}

// tapped is the client's side of a connection.
type tapped struct {
	net.Conn
	n         *network
	addr      string
	shown     syscall.Conn // the socket that the pool gets to look at
	frozen    atomic.Pointer[chan struct{}]
	failWrite atomic.Pointer[error] // what Write returns, with nothing written
	slowClose atomic.Pointer[chan struct{}]
	once      sync.Once
	closed    chan struct{}
}

func (c *tapped) SyscallConn() (syscall.RawConn, error) { return c.shown.SyscallConn() }

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if ch := c.frozen.Load(); ch != nil {
		select {
		case <-*ch:
		case <-c.closed:
		}
	}
	return n, err
}

func (c *tapped) Write(p []byte) (int, error) {
	if err := c.failWrite.Load(); err != nil {
		return 0, *err
	}
	return c.Conn.Write(p)
}

func (c *tapped) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		close(c.closed)
		if ch := c.slowClose.Load(); ch != nil {
			<-*ch
		}
		err = c.Conn.Close()
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		c.n.total--
		c.n.perHost[c.addr]--
	})
	return err
}

// What a served connection does with bytes that arrive.
const (
	pass   = iota
	hole   // drops them, and everything else
	natRST // answers the first with a reset
)

// served is the server's side of a connection.
type served struct {
	*net.TCPConn
	trick atomic.Int32
}

func (c *served) Read(p []byte) (int, error) {
	for {
		n, err := c.TCPConn.Read(p)
		if err != nil {
			return n, err
		}
		switch c.trick.Load() {
		case pass:
			return n, nil
		case natRST:
			c.reset()
			return 0, net.ErrClosed
		}
	}
}

func (c *served) reset() {
	c.SetLinger(0)
	c.TCPConn.Close()
}

// A server answers requests, and remembers them by the X-Id that they carry.
type server struct {
	mode mode
	url  string
	http *http.Server

	mu    sync.Mutex     // guards what follows
	conns []*served      // all that were accepted
	seen  map[string]int // how often a request was given to the handler
	order []string       // the ids in the order in which they came
	gates map[string]chan struct{}
}

// serve starts a server that speaks mode m.
func serve(t testing.TB, m mode, change ...func(*http.Server)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{mode: m, seen: make(map[string]int), gates: make(map[string]chan struct{})}
	cert, _ := testCert()
	s.http = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(!m.h2)
	s.http.Protocols.SetHTTP2(m.h2 && m.tls)
	s.http.Protocols.SetUnencryptedHTTP2(m.h2 && !m.tls)
	for _, f := range change {
		f(s.http)
	}
	var wg sync.WaitGroup
	s.url = "http://" + l.Addr().String()
	if m.tls {
		s.url = "https://" + l.Addr().String()
		wg.Go(func() { s.http.ServeTLS(servedListener{l, s}, "", "") })
	} else {
		wg.Go(func() { s.http.Serve(servedListener{l, s}) })
	}
	t.Cleanup(func() {
		s.mu.Lock()
		for id, gate := range s.gates {
			close(gate)
			delete(s.gates, id)
		}
		s.mu.Unlock()
		s.http.Close()
		wg.Wait()
		s.each(func(c *served) { c.TCPConn.Close() })
	})
	return s
}

type servedListener struct {
	net.Listener
	s *server
}

func (l servedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &served{TCPConn: nc.(*net.TCPConn)}
	l.s.mu.Lock()
	l.s.conns = append(l.s.conns, c)
	l.s.mu.Unlock()
	return c, nil
}

// each calls f for every connection accepted so far.
func (s *server) each(f func(*served)) {
	s.mu.Lock()
	conns := append([]*served(nil), s.conns...)
	s.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

// fin closes all connections as a server does that has had enough of idle ones.
func (s *server) fin() { s.each(func(c *served) { c.TCPConn.Close() }) }

// rst resets all connections.
func (s *server) rst() { s.each((*served).reset) }

// play sets what the connections of now do with bytes that arrive.
func (s *server) play(trick int32) { s.each(func(c *served) { c.trick.Store(trick) }) }

// times returns how often the request with an id was seen.
func (s *server) times(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[id]
}

// gate makes the answer to the request with an id wait until the function returned is called.
func (s *server) gate(id string) (open func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates[id] = make(chan struct{})
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ch := s.gates[id]; ch != nil {
			close(ch)
			delete(s.gates, id)
		}
	}
}

// ServeHTTP echoes X-Id, in the header and as the body's beginning. X-Do says what else to do, as words with a value:
// "close" ends the connection after the answer, "abort" before it; "cut" in the middle of the body; "size N" makes the
// body N bytes longer, in several writes; "keepalive N" announces an idle limit; "slow MS" answers late; "part" sends
// the header and the beginning before a gate is waited for.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("X-Id")
	s.mu.Lock()
	s.seen[id]++
	s.order = append(s.order, id)
	gate := s.gates[id]
	s.mu.Unlock()
	io.Copy(io.Discard, r.Body)
	word, value, _ := strings.Cut(r.Header.Get("X-Do"), " ")
	n, _ := strconv.Atoi(value)
	w.Header().Set("X-Id", id)
	switch word {
	case "close":
		w.Header().Set("Connection", "close")
	case "abort":
		panic(http.ErrAbortHandler)
	case "keepalive":
		w.Header().Set("Keep-Alive", "timeout="+value)
	case "slow":
		<-time.After(time.Duration(n) * time.Millisecond)
	case "part", "cut":
		w.Header().Set("Content-Length", strconv.Itoa(len(id)+100))
		io.WriteString(w, id)
		http.NewResponseController(w).Flush()
		if word == "cut" {
			panic(http.ErrAbortHandler)
		}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // an answer could still win the race against the request's end
		}
	}
	if word == "part" {
		w.Write(make([]byte, 100))
		return
	}
	io.WriteString(w, id)
	for ; word == "size" && n > 0; n -= 8 << 10 {
		w.Write(make([]byte, min(n, 8<<10)))
	}
}

// The bodies of requests.
const (
	noBody   = iota
	getBody  // in memory, can be had again
	streamed // once, and without a length
)

// request makes a request for s with an id.
func (s *server) request(ctx context.Context, method, id string, body int) *http.Request {
	return newRequest(ctx, method, s.url+"/", id, body)
}

func newRequest(ctx context.Context, method, target, id string, body int) *http.Request {
	var rc io.Reader
	switch body {
	case getBody:
		rc = strings.NewReader("the body of " + id)
	case streamed:
		rc = struct{ io.Reader }{strings.NewReader("the body of " + id)}
	}
	req, err := http.NewRequestWithContext(ctx, method, target, rc)
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-Id", id)
	return req
}

// send sends a request, reads the answer and checks that it is the request's own.
func (p *testPool) send(req *http.Request) error {
	resp, err := p.RoundTrip(req)
	if err != nil {
		return err
	}
	return readOwn(req, resp)
}

func readOwn(req *http.Request, resp *http.Response) error {
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	id := req.Header.Get("X-Id")
	if got := resp.Header.Get("X-Id"); got != id {
		return fmt.Errorf("request %s got the answer to %q", id, got)
	}
	if err == nil && !bytes.HasPrefix(b, []byte(id)) {
		return fmt.Errorf("request %s got the body %q", id, b[:min(len(b), 32)])
	}
	return err
}

// mustSend is send for a request that has to succeed.
func (p *testPool) mustSend(t testing.TB, req *http.Request) {
	t.Helper()
	if err := p.send(req); err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.Header.Get("X-Id"), err)
	}
}

// underWay sends a GET and returns when it has come to s. The function that it returns has it answered.
func (p *testPool) underWay(t testing.TB, s *server) (end func() error) {
	t.Helper()
	open := s.gate("long")
	long := make(chan error, 1)
	go func() { long <- p.send(s.request(t.Context(), "GET", "long", noBody)) }()
	eventually(t, "the long request has come", func() bool { return s.times("long") == 1 })
	return func() error {
		open()
		return <-long
	}
}

// abandonDial has a request begin the first dial, and give up. The function that it returns has that dial fail; later ones
// are made.
func (p *testPool) abandonDial(t testing.TB, s *server) (fail func()) {
	t.Helper()
	var dials atomic.Int32
	dialling, failing := make(chan struct{}), make(chan struct{})
	p.net.before = func(string) error {
		if dials.Add(1) == 1 {
			close(dialling)
			<-failing
			return errors.New("too late")
		}
		return nil
	}
	ctx, giveUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.send(s.request(ctx, "POST", "first", noBody)) }()
	<-dialling
	giveUp()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	return func() { close(failing) }
}

// fill makes n connections to s, which are idle then.
func (p *testPool) fill(t testing.TB, s *server, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		id := fmt.Sprintf("fill-%d", i)
		open := s.gate(id)
		req := s.request(t.Context(), "GET", id, noBody)
		wg.Go(func() {
			if err := p.send(req); err != nil {
				t.Errorf("filling: %v", err)
			}
		})
		eventually(t, "a request has come", func() bool { return s.times(id) > 0 })
		defer open()
	}
	s.mu.Lock()
	for id, gate := range s.gates {
		if strings.HasPrefix(id, "fill-") {
			close(gate)
			delete(s.gates, id)
		}
	}
	s.mu.Unlock()
	wg.Wait()
}

// h2Peer is a server of unencrypted HTTP/2 whose frames a test writes itself.
type h2Peer struct {
	url      string
	pings    atomic.Int64 // PING frames seen
	mute     atomic.Bool  // answer no PING
	curt     bool         // send no SETTINGS
	settings []http2.Setting
	greet    func(*h2Conn)             // after SETTINGS, before anything is read
	headers  func(*h2Conn, *h2Request) // the header of a request came
	request  func(*h2Conn, *h2Request) // all of a request came
	l        net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex // guards conns
	conns    []*h2Conn
}

// h2Conn is owned by the goroutine that reads it.
type h2Conn struct {
	net.Conn
	fr      *http2.Framer
	number  int // from 1
	open    map[uint32]*h2Request
	dropped bool   // ignore all frames from now on
	hit     uint32 // the stream that a test does something to
}

type h2Request struct {
	stream uint32
	method string
	id     string
	expect bool
	body   []byte
}

func serveH2(t testing.TB, s *h2Peer) *h2Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.l, s.url = l, "http://"+l.Addr().String()
	s.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			c := &h2Conn{Conn: nc, fr: http2.NewFramer(nc, nc), number: len(s.conns) + 1, open: make(map[uint32]*h2Request)}
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer nc.Close()
				s.converse(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *h2Peer) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *h2Peer) converse(c *h2Conn) {
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if !s.curt {
		c.fr.WriteSettings(s.settings...)
	}
	if s.greet != nil {
		s.greet(c)
	}
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return
		}
		if c.dropped {
			continue
		}
		var req *h2Request
		ended := false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && !s.curt {
				c.fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				s.pings.Add(1)
				if !s.mute.Load() {
					c.fr.WritePing(true, f.Data)
				}
			}
		case *http2.MetaHeadersFrame:
			req = &h2Request{stream: f.StreamID, method: f.PseudoValue("method")}
			for _, h := range f.RegularFields() {
				switch h.Name {
				case "x-id":
					req.id = h.Value
				case "expect":
					req.expect = true
				}
			}
			c.open[f.StreamID] = req
			ended = f.StreamEnded()
			if s.headers != nil {
				s.headers(c, req)
			}
		case *http2.DataFrame:
			if req = c.open[f.StreamID]; req != nil {
				req.body = append(req.body, f.Data()...)
				ended = f.StreamEnded()
			}
		case *http2.RSTStreamFrame:
			delete(c.open, f.StreamID)
		}
		if ended && c.open[req.stream] != nil && !c.dropped {
			delete(c.open, req.stream)
			if s.request != nil {
				s.request(c, req)
			} else {
				c.answer(req)
			}
		}
	}
}

// answer sends status 200 with the request's id.
func (c *h2Conn) answer(req *h2Request) {
	c.writeHeaders(req, "200", false)
	c.fr.WriteData(req.stream, true, []byte(req.id))
}

func (c *h2Conn) writeHeaders(req *h2Request, status string, end bool) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: status})
	if status == "200" {
		enc.WriteField(hpack.HeaderField{Name: "x-id", Value: req.id})
	}
	c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: req.stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

// h1Peer is a server of HTTP/1.1 that a test writes the bytes of. converse is called for each connection, numbered
// from 1, which is closed when it returns.
type h1Peer struct {
	url      string
	converse func(number int, c *net.TCPConn, r *bufio.Reader)
}

func serveH1(t testing.TB, s *h1Peer) *h1Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for n := 1; ; n++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, nc)
			mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				s.converse(n, nc.(*net.TCPConn), bufio.NewReader(nc))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

// answerH1 writes a whole answer that is tagged with id.
func answerH1(w io.Writer, id string) error {
	_, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
	return err
}

// check looks for contradictions in the books of t. It may be called at any time.
func check(t *Transport) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return checkLocked(t)
}

func checkLocked(t *Transport) error {
	errs := []error{t.machine.Check()}
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(t.late) > 0 || len(t.looks) > 0 {
		fault("%d things are to be told, and %d connections to be looked at, that nobody looks after", len(t.late), len(t.looks))
	}
	open := make(map[string]uint64)
	t.each(func(c *conn) {
		open[c.origin.name]++
		if !c.pooled || t.origins[c.origin.key] != c.origin || c.book.Origin() != c.origin.book {
			fault("%s: connection %d is of another origin than it says", c.origin.name, c.id)
		}
	})
	dialing := make(map[string]uint64)
	for key, o := range t.origins {
		dialing[o.name] += uint64(len(o.dials))
		if o.key != key {
			fault("%s is filed under another key", o.name)
		}
		if o.pins < 0 || o.waiting.Load() < 0 {
			fault("%s: %d pins, %d wait", o.name, o.pins, o.waiting.Load())
		}
	}
	for name, l := range t.ledgers {
		s := l.counters()
		closed := s.Closed.IdleTimeout + s.Closed.Lifetime + s.Closed.Stale + s.Closed.Unverified + s.Closed.Server + s.Closed.Error + s.Closed.Excess + s.Closed.Reset
		if known := s.DialErrors + dialing[name] + open[name] + closed; known != s.Dials && !t.shut {
			fault("%s: %d dials begun, but %d failed, %d under way, %d open and %d closed", name, s.Dials, s.DialErrors, dialing[name], open[name], closed)
		}
	}
	return errors.Join(errs...)
}

// quiet is a logger that says nothing.
var quiet = slog.New(slog.DiscardHandler)
