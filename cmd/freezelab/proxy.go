package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// proxy is what the requests of a user's function go through. HTTPS passes it encrypted, through CONNECT.
type proxy struct {
	listener *faultnet.Listener
	server   *http.Server
	serving  chan struct{} // closed when server has stopped
	forward  *httputil.ReverseProxy
	resolve  map[string]string // the address to dial in place of a host
	record   *record
	passed   atomic.Int64 // bytes from downstreams, through tunnels

	bound  context.Context // of dials
	cancel context.CancelFunc

	mu      sync.Mutex                  // guards what follows
	tunnels map[*faultnet.Conn]net.Conn // by the function's end, the downstream's
	closed  bool
	running sync.WaitGroup // tunnels; none is added once closed
}

// dialTimeout is how long the downstream may take to accept a connection.
const dialTimeout = 10 * time.Second

func newProxy(resolve map[string]string, r *record) (*proxy, error) {
	l, err := faultnet.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, resolve: resolve, record: r, serving: make(chan struct{}), tunnels: make(map[*faultnet.Conn]net.Conn)}
	p.bound, p.cancel = context.WithCancel(context.Background())
	silent := log.New(io.Discard, "", 0) // broken connections are what this is for
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		// A connection each, so that none of them is stale: what fails here is the function's.
		Transport:     &http.Transport{DialContext: p.dial, DisableKeepAlives: true, DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      silent,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "freezelab: "+err.Error(), http.StatusBadGateway)
		},
	}
	p.server = &http.Server{
		Handler: p,
		ConnState: func(c net.Conn, s http.ConnState) {
			faultnet.Observe(c, s)
			switch own := faultnet.Beneath(c); s {
			case http.StateNew:
				p.record.opened(own, "")
			case http.StateClosed:
				p.record.died(own, causeFunction, "")
			}
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, faultnet.Beneath(c))
		},
		ErrorLog: silent,
	}
	go func() {
		defer close(p.serving)
		_ = p.server.Serve(l) // http.ErrServerClosed
	}()
	return p, nil
}

// url is the address of the proxy.
func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

// close ends the proxy and all connections.
func (p *proxy) close() {
	p.cancel()
	p.server.Close()
	<-p.serving
	p.mu.Lock()
	p.closed = true
	for c, up := range p.tunnels {
		_ = c.Close()
		up.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// dial connects to a downstream.
func (p *proxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if to, ok := p.resolve[host]; ok {
		addr = to
	}
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, network, addr)
}

// ServeHTTP answers a request to the proxy: CONNECT, or one with an absolute URL (RFC 9112, section 3.2.2).
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*faultnet.Conn)
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r, c)
		return
	case r.URL.Host == "":
		http.Error(w, "freezelab: this is a proxy", http.StatusBadRequest)
		return
	}
	p.record.change(c, func(l *lane, now time.Time) {
		switch target := "http://" + r.URL.Host; l.target {
		case "", target:
			l.target, l.ready = target, l.opened
		default:
			l.target = "http, several hosts" // a client may keep one connection to a proxy for all of them
		}
	})
	end := p.record.begin(c)
	if c.Broken() {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	defer end()
	p.forward.ServeHTTP(w, r)
}

// connect makes a tunnel of the connection.
func (p *proxy) connect(w http.ResponseWriter, r *http.Request, c *faultnet.Conn) {
	p.record.change(c, func(l *lane, _ time.Time) { l.target = "https://" + r.Host })
	up, err := p.dial(p.bound, "tcp", r.Host)
	if err != nil {
		p.record.died(c, causeDial, err.Error())
		http.Error(w, "freezelab: "+err.Error(), http.StatusBadGateway)
		return
	}
	_, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		up.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		up.Close()
		_ = c.Close()
		return
	}
	p.tunnels[c] = up
	p.running.Go(func() {
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.tunnels, c)
		}()
		if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			up.Close()
			_ = c.Close()
			return
		}
		t := &tunnel{client: c, upstream: up, record: p.record, passed: &p.passed}
		t.run(io.MultiReader(early(buffered.Reader), c))
	})
}

// early is what has arrived ahead of the answer to CONNECT.
func early(r *bufio.Reader) io.Reader { return io.LimitReader(r, int64(r.Buffered())) }

// settle waits until nothing has passed for a moment, but not for long: a function may be talking in the background.
func (p *proxy) settle(ctx context.Context) error {
	const moment, enough = 2 * time.Millisecond, 500 * time.Millisecond
	until := time.Now().Add(enough)
	for last := int64(-1); time.Now().Before(until); {
		n := p.listener.Received() + p.passed.Load()
		if n == last {
			return nil
		}
		last = n
		if err := sleep(ctx, moment); err != nil {
			return err
		}
	}
	return nil
}

// kept is the number of connections of the function that are sound.
func (p *proxy) kept() int {
	n := 0
	for _, c := range p.listener.Open() {
		if !c.Broken() {
			n++
		}
	}
	return n
}

// apply brings about f on all connections that are sound, and returns how many these were.
func (p *proxy) apply(f fault) int {
	if f == faultNone {
		return 0
	}
	n := 0
	for _, c := range p.listener.Open() {
		if c.Broken() {
			continue
		}
		n++
		p.record.died(c, causeOf(f), "")
		c.Break(f.network())
		p.mu.Lock()
		if up := p.tunnels[c]; up != nil {
			up.Close()
		}
		p.mu.Unlock()
	}
	return n
}

// proxyVariables are those by which programs find their proxy, in capitals and not.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// environ are the variables that send a program's requests through the proxy. The Runtime API is on 127.0.0.1, which Go's
// client never asks a proxy for, and others not with NO_PROXY.
func (p *proxy) environ() []string {
	var env []string
	for _, name := range proxyVariables {
		value := p.url()
		if strings.EqualFold(name, "NO_PROXY") {
			value = "127.0.0.1"
		}
		env = append(env, name+"="+value)
	}
	return env
}

var errResolve = errors.New("want host=address:port, such as api.example.com=127.0.0.1:8443")

// parseResolve reads a value of -resolve.
func parseResolve(s string) (host, addr string, err error) {
	host, addr, ok := strings.Cut(s, "=")
	if !ok || host == "" {
		return "", "", fmt.Errorf("%q: %w", s, errResolve)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", "", fmt.Errorf("%q: %w", s, errResolve)
	}
	return host, addr, nil
}
