package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/transport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// tb is a test that is meant to fail, as the one under test sees it.
type tb struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (f *tb) Helper() {}

func (f *tb) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *tb) Cleanup(cleanup func()) { f.cleanups = append(f.cleanups, cleanup) }

// errFatal is what a call of Fatal panics with.
var errFatal = errors.New("fatal")

func (f *tb) Fatal(args ...any) {
	f.Errorf("%s", fmt.Sprint(args...))
	panic(errFatal)
}

func (f *tb) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(errFatal)
}

// run runs what may call Fatal, and then what was left to clean up.
func (f *tb) run(test func()) {
	defer func() {
		for i := len(f.cleanups) - 1; i >= 0; i-- {
			f.cleanups[i]()
		}
		if v := recover(); v != nil && v != any(errFatal) {
			panic(v)
		}
	}()
	test()
}

// take returns the failures so far, and forgets them.
func (f *tb) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.failures, "\n")
	f.failures = nil
	return all
}

var (
	allProtocols   = []clienttest.Protocol{clienttest.HTTPS, clienttest.HTTP1TLS, clienttest.HTTP2TLS, clienttest.HTTP1, clienttest.HTTP2Plain}
	http1Protocols = []clienttest.Protocol{clienttest.HTTP1TLS, clienttest.HTTP1}
	http2Protocols = []clienttest.Protocol{clienttest.HTTP2TLS, clienttest.HTTP2Plain}
)

// each runs a test over protocols, with Go's client and with thaw's.
func each(t *testing.T, over []clienttest.Protocol, f func(t *testing.T, d *clienttest.Server, c *http.Client), opts ...clienttest.DownstreamOption) {
	for _, p := range over {
		for _, which := range []string{"net/http", "thaw"} {
			t.Run(p.String()+"/"+which, func(t *testing.T) {
				t.Parallel()
				d := clienttest.Downstream(t, append(opts, clienttest.WithProtocol(p))...)
				if which == "thaw" {
					f(t, d, thaw(t, d).Client)
				} else {
					f(t, d, plain(t, d))
				}
			})
		}
	}
}

func speaksHTTP2(tr *http.Transport) bool {
	return tr.Protocols.HTTP2() || tr.Protocols.UnencryptedHTTP2()
}

// plain returns a client of net/http's for d.
func plain(t *testing.T, d *clienttest.Server) *http.Client {
	tr := &http.Transport{TLSClientConfig: d.TLS(), Protocols: d.Protocols()}
	if !speaksHTTP2(tr) {
		// Its next request may come before a connection is back in the pool, and dial another.
		tr.MaxConnsPerHost = 1
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// thaw returns a client of thaw's for d.
func thaw(t *testing.T, d *clienttest.Server, opts ...client.Option) *client.Client {
	t.Helper()
	opts = append(opts, client.WithTransport(transport.Config{TLS: d.TLS(), Protocols: d.Protocols()}))
	c, err := client.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// get returns the status and the body that a GET is answered with.
func get(ctx context.Context, c *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func mustGet(t *testing.T, c *http.Client, url string) {
	t.Helper()
	if status, body, err := get(t.Context(), c, url); status != 200 || err != nil {
		t.Fatalf("GET %s: %d %q %v", url, status, body, err)
	}
}

// soon is a context for what must not come: long enough for it to come if it does.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok is true of what gives no signal.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5s: %s", what)
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
