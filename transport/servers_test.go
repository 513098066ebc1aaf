package transport_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"hash"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// A mode is one way to speak HTTP. The tests of conformance run over each.
type mode struct {
	name string
	tls  bool
	h2   bool
}

var (
	modeH1    = mode{name: "h1"}
	modeH1TLS = mode{name: "h1tls", tls: true}
	modeH2    = mode{name: "h2", tls: true, h2: true}
	modeH2C   = mode{name: "h2c", h2: true}

	allModes = []mode{modeH1, modeH1TLS, modeH2, modeH2C}
	h1Modes  = []mode{modeH1, modeH1TLS}
	h2Modes  = []mode{modeH2, modeH2C}
	tlsModes = []mode{modeH1TLS, modeH2}
)

// protocols returns what Config.Protocols has in mode m.
func (m mode) protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!m.h2 || m.tls)
	p.SetHTTP2(m.h2 && m.tls)
	p.SetUnencryptedHTTP2(m.h2 && !m.tls)
	return p
}

// direct is the Proxy of tests that use none.
func direct(*http.Request) (*url.URL, error) { return nil, nil }

// config returns the settings for mode m, which trust authority.
func (m mode) config() transport.Config {
	return transport.Config{
		Protocols: m.protocols(),
		Proxy:     direct,
		TLS:       &tls.Config{RootCAs: authority().pool},
	}
}

// An origin is a server that records what it is asked and counts its connections.
type origin struct {
	*httptest.Server
	mode    mode
	handler http.Handler

	accepted atomic.Int64
	open     atomic.Int64
	peak     atomic.Int64 // the most that were open at a time

	mu     sync.Mutex
	active int    // handlers running, guarded by mu
	asked  []seen // guarded by mu
}

// seen is one request as the server saw it, but for the body: net/http's server looks at the type of Body, so it
// cannot be watched.
type seen struct {
	Method, URI, Host, Proto string
	Header                   http.Header
	ContentLength            int64
	TransferEncoding         []string
	Trailer                  http.Header
}

// serve starts an origin that speaks mode m. The functions change the server before it starts.
func (m mode) serve(t testing.TB, h http.Handler, change ...func(*httptest.Server)) *origin {
	t.Helper()
	o := &origin{mode: m, handler: h}
	o.Server = httptest.NewUnstartedServer(o)
	o.Listener = countingListener{o.Listener, o}
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.TLS = &tls.Config{Certificates: []tls.Certificate{authority().server}}
	for _, f := range change {
		f(o.Server)
	}
	if m.tls {
		o.EnableHTTP2 = m.h2
		o.StartTLS()
	} else {
		p := new(http.Protocols)
		p.SetHTTP1(true)
		p.SetUnencryptedHTTP2(m.h2)
		o.Config.Protocols = p
		o.Start()
	}
	t.Cleanup(func() {
		o.CloseClientConnections()
		o.Close()
	})
	return o
}

func (o *origin) addr() string { return o.Listener.Addr().String() }

// dial ignores where it is told to go and connects to o.
func (o *origin) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, o.addr())
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := seen{
		Method: r.Method, URI: r.RequestURI, Host: r.Host, Proto: r.Proto, Header: r.Header.Clone(),
		ContentLength: r.ContentLength, TransferEncoding: r.TransferEncoding,
	}
	o.mu.Lock()
	o.active++
	o.mu.Unlock()
	defer func() {
		s.Trailer = r.Trailer.Clone()
		o.mu.Lock()
		o.active--
		o.asked = append(o.asked, s)
		o.mu.Unlock()
	}()
	o.handler.ServeHTTP(w, r)
}

// take waits for the handlers to end, and returns and forgets what they were asked.
func (o *origin) take(t testing.TB) []seen {
	t.Helper()
	eventually(t, 5*time.Second, "the handlers have ended", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.active == 0
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := o.asked
	o.asked = nil
	return asked
}

// countingListener keeps the connection counts of an origin.
type countingListener struct {
	net.Listener
	o *origin
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.o.accepted.Add(1)
	n := l.o.open.Add(1)
	for p := l.o.peak.Load(); n > p && !l.o.peak.CompareAndSwap(p, n); p = l.o.peak.Load() {
	}
	return &countedConn{Conn: c, o: l.o}, nil
}

type countedConn struct {
	net.Conn
	o    *origin
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.o.open.Add(-1) })
	return c.Conn.Close()
}

// echo answers with the method and a digest of the request's body.
func echo(w http.ResponseWriter, r *http.Request) {
	var d digest
	if _, err := io.Copy(&d, r.Body); err != nil {
		http.Error(w, "request body: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Method", r.Method)
	w.Header()["X-Multi"] = []string{"one", "two"}
	fmt.Fprintf(w, "%s %s", r.Method, d.String())
}

// A digest stands for the bytes written to it: short ones as they are, long ones by length and hash.
type digest struct {
	n    int64
	head []byte
	sum  hash.Hash
}

func (d *digest) Write(p []byte) (int, error) {
	if d.sum == nil {
		d.sum = sha256.New()
	}
	d.n += int64(len(p))
	d.head = append(d.head, p[:min(len(p), 256-len(d.head))]...)
	return d.sum.Write(p)
}

func (d *digest) String() string {
	if d.n <= 128 {
		return string(d.head)
	}
	return fmt.Sprintf("%d bytes, sha256 %x", d.n, d.sum.Sum(nil)[:8])
}

// certificates are the ones that all servers share.
type certificates struct {
	pool   *x509.CertPool // trusts the authority
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	server tls.Certificate
	client tls.Certificate
}

// serverNames are the names that the server certificates are valid for.
var serverNames = []string{"localhost", "example.com", "*.example.com", "xn--bcher-kva.example"}

var authority = sync.OnceValue(func() *certificates {
	c := &certificates{pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c.key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key))))
	c.pool.AddCert(c.cert)
	c.server = c.issue(time.Now().Add(time.Hour))
	c.client = c.issue(time.Now().Add(time.Hour))
	return c
})

// issue makes a certificate, for servers and clients, that ends at notAfter.
func (c *certificates) issue(notAfter time.Time) tls.Certificate {
	return c.issueTo("origin", notAfter)
}

// issueTo is issue with the name of the one whom it certifies.
func (c *certificates) issueTo(name string, notAfter time.Time) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(notAfter.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: serverNames, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A silent server accepts connections and never says a word.
func silent(t testing.TB) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return l.Addr().String()
}

// within fails the test if f takes longer than d. f runs in another goroutine, so it must not call t.Fatal.
func within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s takes longer than %v", what, d)
	}
}

// eventually waits up to d for ok to be true.
func eventually(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// A proxy is an HTTP or a SOCKS5 proxy that connects to one target, whatever it is asked for.
type proxy struct {
	url    *url.URL
	target string
	refuse int // the status, or the SOCKS5 reply, to answer with

	user, password string // required if user is not empty

	mu    sync.Mutex
	asked []string // guarded by mu
}

func (p *proxy) note(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, fmt.Sprintf(format, a...))
}

// take returns and forgets what p was asked.
func (p *proxy) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// serveHTTP starts p as a proxy that speaks HTTP/1.1, with or without TLS.
func (p *proxy) serveHTTP(t testing.TB, withTLS bool) *proxy {
	forward := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: p.dial}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		p.note("%s %s for %q from %s:%s %v", r.Method, r.RequestURI, r.Host, user, password, r.Header["User-Agent"])
		r.Header.Del("Proxy-Authorization")
		switch {
		case p.user != "" && (user != p.user || password != p.password):
			w.Header().Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusProxyAuthRequired)
		case p.refuse != 0:
			w.WriteHeader(p.refuse)
		case r.Method == "CONNECT":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			p.splice(c)
		default:
			r.RequestURI = ""
			resp, err := forward.RoundTrip(r)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			for k, v := range resp.Header {
				w.Header()[k] = v
			}
			w.WriteHeader(resp.StatusCode)
			io.Copy(w, resp.Body)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if withTLS {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{authority().server}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	p.url = must(url.Parse(s.URL))
	return p
}

func (p *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.target)
}

// splice connects c to the target until one of them ends.
func (p *proxy) splice(c net.Conn) {
	defer c.Close()
	to, err := p.dial(context.Background(), "", "")
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(to, c); to.Close() })
	io.Copy(c, to)
	c.Close()
	wg.Wait()
}

// serveSOCKS5 starts p as a SOCKS5 proxy (RFC 1928, RFC 1929).
func (p *proxy) serveSOCKS5(t testing.TB, scheme string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				p.socks5(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		within(t, 5*time.Second, "the SOCKS5 proxy's end", wg.Wait)
	})
	p.url = &url.URL{Scheme: scheme, Host: l.Addr().String()}
	return p
}

func (p *proxy) socks5(c net.Conn) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	methods := read(int(read(2)[1]))
	method := byte(0)
	if p.user != "" {
		method = 2
	}
	if !bytes.Contains(methods, []byte{method}) {
		p.note("methods %v", methods)
		c.Write([]byte{5, 0xff})
		return
	}
	c.Write([]byte{5, method})
	if method == 2 {
		user := string(read(int(read(2)[1])))
		password := string(read(int(read(1)[0])))
		p.note("methods %v, user %s:%s", methods, user, password)
		if user != p.user || password != p.password {
			c.Write([]byte{1, 1})
			return
		}
		c.Write([]byte{1, 0})
	} else {
		p.note("methods %v", methods)
	}
	var host string
	head := read(4)
	switch head[3] {
	case 1, 4:
		host = net.IP(read(map[byte]int{1: 4, 4: 16}[head[3]])).String()
	case 3:
		host = string(read(int(read(1)[0])))
	}
	port := read(2)
	p.note("command %d, type %d, %s:%d", head[1], head[3], host, int(port[0])<<8|int(port[1]))
	c.Write([]byte{5, byte(p.refuse), 0, 1, 0, 0, 0, 0, 0, 0})
	if p.refuse == 0 {
		p.splice(c)
	}
}
