//go:build linux

package trial

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The headers that a request of a trial carries.
const (
	headerID   = "Trial-Id"
	headerSize = "Trial-Size" // of the body, in bytes
)

// ledger says how often each request arrived at the application behind a server.
type ledger interface {
	arrivals(t testing.TB) map[string]int
}

// origin is the application behind the servers that are proxies. They are told to send nothing twice, so what it counts
// is what the client had sent. It counts a request when its header has come.
//
// It listens on a Unix socket, which needs no ports, and closes no connection that its client has not closed: the test
// process forks, and sockets that are closed in a fork stay open until the child's exec.
type origin struct {
	socket string

	mu     sync.Mutex // guards counts
	counts map[string]int
}

func newOrigin(t testing.TB, dir string) *origin {
	t.Helper()
	o := &origin{socket: filepath.Join(dir, "origin.sock"), counts: make(map[string]int)}
	o.listen(t, "unix", o.socket, false)
	if err := os.Chmod(o.socket, 0o777); err != nil {
		t.Fatal(err)
	}
	return o
}

// listen serves o on one more address, with TLS or without.
func (o *origin) listen(t testing.TB, network, addr string, secure bool) net.Addr {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := credentials()
	s := &http.Server{
		Handler:   o,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog:  log.New(io.Discard, "", 0), // servers that are stopped are no news
	}
	serve := func() error { return s.Serve(l) }
	if secure {
		serve = func() error { return s.ServeTLS(l, "", "") }
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = serve() // http.ErrServerClosed
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return l.Addr()
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerID)
	o.mu.Lock()
	o.counts[id]++
	o.mu.Unlock()
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if want, err := strconv.ParseInt(r.Header.Get(headerSize), 10, 64); err != nil || n != want {
		http.Error(w, fmt.Sprintf("body of %d bytes, want %d", n, want), http.StatusBadRequest)
		return
	}
	io.WriteString(w, answer(id))
}

func (o *origin) arrivals(testing.TB) map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := make(map[string]int, len(o.counts))
	for id, n := range o.counts {
		counts[id] = n
	}
	return counts
}

// answer is the body of the response to the request with that id: enough of it to come in several packets.
func answer(id string) string { return id + "\n" + strings.Repeat("x", answerSize) + "\n" }

const answerSize = 3000

// logbook is the ledger of an application that answers itself: a file with the id of a request on each line, written
// when its header has come.
type logbook struct {
	path   string
	prefix string // of the lines that count
}

func (l logbook) arrivals(t testing.TB) map[string]int {
	t.Helper()
	b, err := os.ReadFile(l.path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for line := range strings.Lines(string(b)) {
		if _, id, ok := strings.Cut(line, l.prefix); ok {
			counts[strings.TrimSpace(id)]++
		}
	}
	return counts
}
