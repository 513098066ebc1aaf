package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/internal/loopbackca"
)

// Headers by which an invocation's request is known to the server.
const (
	headerID   = "Freezelab-Id"
	headerSize = "Freezelab-Size" // of the body, in bytes
)

// streamLimit is how many concurrent streams a server allows on an HTTP/2 connection, a common limit of servers
// and load balancers being 100 to 250.
const streamLimit = 250

// answer is the body of every response.
const answer = `{"ok":true}` + "\n"

// downstream is the API that the function calls: an HTTP server on loopback whose connections can be broken.
type downstream struct {
	protocol  protocol
	authority *loopbackca.Authority
	ledger    ledger
	record    *record // or nil

	mu       sync.Mutex
	listener *faultnet.Listener
	server   *http.Server
	serving  chan struct{} // closed when server has stopped serving listener
	past     int64         // connections accepted before the last restart
}

// newDownstream starts a server on a free port. What becomes of its connections is noted in r, if that is not nil.
func newDownstream(p protocol, a *loopbackca.Authority, r *record) (*downstream, error) {
	d := &downstream{protocol: p, authority: a, record: r, ledger: ledger{counts: make(map[string]int)}}
	l, err := faultnet.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.serve(l)
	return d, nil
}

// serve starts an HTTP server on l.
func (d *downstream) serve(l *faultnet.Listener) {
	s := &http.Server{
		Handler:   d,
		ConnState: d.observe,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, faultnet.Beneath(c))
		},
		Protocols: new(http.Protocols),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{d.authority.Server}},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: streamLimit},
		// Broken connections are what this server is for: they are no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	s.Protocols.SetHTTP1(d.protocol != protoH2)
	s.Protocols.SetHTTP2(d.protocol == protoH2)
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		if d.protocol == protoH1 {
			_ = s.Serve(l) // http.ErrServerClosed
		} else {
			_ = s.ServeTLS(l, "", "")
		}
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listener, d.server, d.serving = l, s, serving
}

// observe is the http.Server's ConnState hook.
func (d *downstream) observe(nc net.Conn, s http.ConnState) {
	faultnet.Observe(nc, s)
	c := faultnet.Beneath(nc)
	switch s {
	case http.StateNew:
		d.record.opened(c, d.protocol.title())
		if d.protocol == protoH1 {
			d.record.ready(c)
		} else {
			d.record.change(c, func(l *lane, _ time.Time) { l.hello = l.opened })
		}
	case http.StateActive: // past the handshake
		d.record.ready(c)
	case http.StateClosed:
		d.record.died(c, causeFunction, "")
	}
}

// connKey is the context key of a request's *faultnet.Conn.
type connKey struct{}

// ServeHTTP answers a request, and never one that came over a broken connection.
func (d *downstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerID)
	c := r.Context().Value(connKey{}).(*faultnet.Conn)
	answered := d.record.begin(c)
	if c.Broken() {
		if r.Method == http.MethodPost {
			d.ledger.add(id) // the client cannot know that nobody acted on it
		}
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done() // the client gave up, or the reset closed the connection
		}
		panic(http.ErrAbortHandler)
	}
	defer answered()
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if want, err := strconv.ParseInt(r.Header.Get(headerSize), 10, 64); err != nil || n != want {
		http.Error(w, fmt.Sprintf("body of %d bytes, want %d", n, want), http.StatusBadRequest)
		return
	}
	d.ledger.add(id)
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, answer)
}

// url is the server's address.
func (d *downstream) url() string {
	scheme := "https"
	if d.protocol == protoH1 {
		scheme = "http"
	}
	return scheme + "://" + d.current().Addr().String() + "/"
}

func (d *downstream) current() *faultnet.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listener
}

// accepted is the number of connections accepted so far.
func (d *downstream) accepted() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.past + d.listener.Accepted()
}

// kept is the number of connections that a client keeps for its next request. A client that has not noticed goes on
// to keep broken ones.
func (d *downstream) kept() int {
	n := 0
	for _, c := range d.current().Open() {
		if c.Broken() || c.State() == http.StateIdle {
			n++
		}
	}
	return n
}

// settle waits until no sound connection is in use and no client has sent anything for a moment.
func (d *downstream) settle(ctx context.Context) error {
	const moment, enough = time.Millisecond, 5 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, enough, errors.New("a connection is still in use after "+enough.String()))
	defer cancel()
	l := d.current()
	for last := int64(-1); ; {
		busy := false
		for _, c := range l.Open() {
			busy = busy || !c.Broken() && c.State() == http.StateActive
		}
		if n := l.Received(); !busy && n == last {
			return nil
		} else if !busy {
			last = n
		}
		if err := sleep(ctx, moment); err != nil {
			return fmt.Errorf("waiting until no connection is in use: %w", err)
		}
	}
}

// apply brings about f on all connections that are sound. Those made later work.
func (d *downstream) apply(ctx context.Context, f fault) error {
	switch f {
	case faultNone:
		return nil
	case faultRestart:
		return d.restart(ctx)
	}
	for _, c := range d.current().Open() {
		if !c.Broken() {
			d.record.died(c, causeOf(f), "")
			c.Break(f.network())
		}
	}
	return nil
}

// restart stops the server as a deployment does, gracefully for a moment and then at once, and starts another on
// the same port.
func (d *downstream) restart(ctx context.Context) error {
	addr := d.current().Addr().String()
	for _, c := range d.current().Open() {
		d.record.died(c, causeRestart, "")
	}
	d.stop(ctx, 5*time.Millisecond)
	// The port is free once the listener is closed, unless a client's socket happens to get it for a moment.
	for {
		l, err := faultnet.Listen(addr)
		if err == nil {
			d.mu.Lock()
			d.past += d.listener.Accepted()
			d.mu.Unlock()
			d.serve(l)
			return nil
		}
		if sleep(ctx, time.Millisecond) != nil {
			return fmt.Errorf("restarting the server: %w", err)
		}
	}
}

// stop closes the listener and all connections. HTTP/2 clients are told with GOAWAY, for which grace is the time.
func (d *downstream) stop(ctx context.Context, grace time.Duration) {
	d.mu.Lock()
	l, s, serving := d.listener, d.server, d.serving
	d.mu.Unlock()
	if grace > 0 {
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		_ = s.Shutdown(ctx) // that it was not enough is expected of HTTP/2
	}
	s.Close()
	<-serving
	for _, c := range l.Open() {
		_ = c.Close()
	}
}

// close ends the server.
func (d *downstream) close() { d.stop(context.Background(), 0) }

// ledger counts how often the server got each request.
type ledger struct {
	mu     sync.Mutex
	counts map[string]int // by id
}

func (l *ledger) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[id]++
}

func (l *ledger) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[id]
}

// sleep waits for d, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
