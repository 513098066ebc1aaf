//go:build linux || darwin

package lambdahandler_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

// The tests of this file run the handler in a process of its own, under an emulated Lambda. They do not run in parallel
// with those that close connections: a child process holds every socket from its fork to its exec.

// function starts the function under test.
func function(t *testing.T, cfg lambdatest.Config) (*lambdatest.Function, *output) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := new(output)
	cfg.Path, cfg.Stdout, cfg.Stderr = self, out, out
	cfg.Env = append(cfg.Env, bootstrapKey+"=1")
	fn, err := lambdatest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fn.Stop(context.Background()); err != nil {
			t.Log(err)
		}
	})
	return fn, out
}

// output is what a function prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// metric returns the sum of a metric over all lines.
func (o *output) metric(name string) (sum float64, lines int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := bufio.NewScanner(bytes.NewReader(o.b.Bytes())); s.Scan(); {
		var line map[string]any
		if json.Unmarshal(s.Bytes(), &line) == nil && line["_aws"] != nil {
			lines++
			n, _ := line[name].(float64)
			sum += n
		}
	}
	return sum, lines
}

func event(t *testing.T, e task) []byte {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustSend(t *testing.T, fn *lambdatest.Function, e task) {
	t.Helper()
	res, err := fn.Invoke(t.Context(), event(t, e))
	switch {
	case err != nil:
		t.Fatal(err)
	case res.Err != nil:
		t.Fatal(res.Err)
	}
}

func TestAFunctionKeepsItsConnectionThroughAFreeze(t *testing.T) {
	srv := downstream(t)
	fn, out := function(t, lambdatest.Config{})
	for range 5 {
		mustSend(t, fn, task{URL: srv.URL})
		if err := fn.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := fn.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "five lines of metrics", func() bool { _, lines := out.metric("Requests"); return lines == 5 })
	dials, _ := out.metric("Dials")
	if requests, _ := out.metric("Requests"); requests != 5 || dials != 1 {
		t.Errorf("%v requests, %v dials; want 5, 1", requests, dials)
	}
}

func TestAFrozenFunctionLosesNoRequestToAServerThatCloses(t *testing.T) {
	srv := downstream(t)
	fn, out := function(t, lambdatest.Config{})
	mustSend(t, fn, task{URL: srv.URL})
	const n = 5
	for range n {
		if err := fn.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		srv.CloseClientConnections()
		pending, err := fn.Send(event(t, task{URL: srv.URL}))
		if err != nil {
			t.Fatal(err)
		}
		if err := fn.Thaw(); err != nil {
			t.Fatal(err)
		}
		if res, err := pending.Wait(t.Context()); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
	}
	eventually(t, "a dial for each freeze", func() bool { dials, _ := out.metric("Dials"); return dials == n+1 })
}

func TestAManagedInstanceHandlesEventsAtOnce(t *testing.T) {
	const concurrency, caps = 8, 4
	var mu sync.Mutex
	var open, most int
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(time.Millisecond)
		w.Header().Set("Content-Length", "10000")
		_, _ = w.Write(bytes.Repeat([]byte("."), 10000))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch s {
		case http.StateNew:
			open++
			most = max(most, open)
		case http.StateClosed:
			open--
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	fn, out := function(t, lambdatest.Config{Concurrency: concurrency, Timeout: 5 * time.Second})
	const n = 400
	var wg sync.WaitGroup
	for i := range concurrency {
		wg.Go(func() {
			for j := range n / concurrency {
				res, err := fn.Invoke(t.Context(), event(t, task{URL: srv.URL, Leave: (i+j)%10 == 0}))
				if err != nil || res.Err != nil {
					t.Error(err, res.Err)
					return
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "every request is in a line", func() bool { requests, _ := out.metric("Requests"); return requests == n })
	mu.Lock()
	defer mu.Unlock()
	if most > caps {
		t.Errorf("%d connections at once, want at most %d", most, caps)
	}
	if dials, _ := out.metric("Dials"); dials > 2*caps {
		t.Errorf("%v dials for %d requests", dials, n)
	}
}

// In an environment of its own a timeout ends the process; a managed instance outlives it.
func TestAManagedInstanceOutlivesAnInvocationThatTimesOut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			_, _ = io.Copy(io.Discard, r.Body) // then the server notices when the client goes
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(srv.Close)
	fn, _ := function(t, lambdatest.Config{Concurrency: 2, Timeout: 500 * time.Millisecond})
	res, err := fn.Invoke(t.Context(), event(t, task{URL: srv.URL + "/hang"}))
	if err != nil {
		t.Fatal(err)
	}
	// The margin leaves the handler the time to answer.
	if res.Err == nil || !strings.Contains(res.Err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("the answer is %v, want the handler's own", res.Err)
	}
	mustSend(t, fn, task{URL: srv.URL})
}

func TestARequestUnderWayIsFinishedOnSIGTERM(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-time.After(100 * time.Millisecond)
		_, _ = io.WriteString(w, "done")
	}))
	srv.Listener = watchedListener{srv.Listener, ended}
	srv.Start()
	t.Cleanup(srv.Close)
	fn, _ := function(t, lambdatest.Config{})
	pending, err := fn.Send(event(t, task{URL: srv.URL}))
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- fn.Stop(context.Background()) }()
	// The process is told to end while the request is under way.
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the connection ended with %v, want EOF", err)
	}
	<-stopped
	if res, err := pending.Wait(t.Context()); err == nil && res.Err == nil && string(res.Payload) != `"done"` {
		t.Errorf("answered %s", res.Payload)
	}
}

// watchedListener tells how the reading of its first connection ends.
type watchedListener struct {
	net.Listener
	ended chan<- error
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watchedConn{c, l.ended}, nil
}

type watchedConn struct {
	net.Conn
	ended chan<- error
}

func (c watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // by which the server takes a read back
		select {
		case c.ended <- err:
		default:
		}
	}
	return n, err
}
