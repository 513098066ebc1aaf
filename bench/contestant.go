package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// contestant is a kind of client to measure.
type contestant struct {
	name string
	// open makes one, with its own connections, and the function that closes it.
	open func(transport.Config) (http.RoundTripper, func(), error)
}

// The contestants. The http.Transport has the settings that transport.Config gives it, session cache and
// connection limits included, so that what is compared is the pool and not its settings.
var (
	thaw = contestant{"thaw", func(cfg transport.Config) (http.RoundTripper, func(), error) {
		t, err := transport.New(cfg)
		if err != nil {
			return nil, nil, err
		}
		return t, func() { t.CloseIdleConnections(); t.Close() }, nil
	}}
	// retrying is thaw with the layer of retries over the pool.
	retrying = contestant{"thaw, retries", func(cfg transport.Config) (http.RoundTripper, func(), error) {
		pool, closePool, err := thaw.open(cfg)
		if err != nil {
			return nil, nil, err
		}
		rt, err := retry.New(pool, retry.Policy{})
		return rt, closePool, err
	}}
	tuned = contestant{"http.Transport", func(cfg transport.Config) (http.RoundTripper, func(), error) {
		t, err := transport.NewHTTPTransport(cfg)
		if err != nil {
			return nil, nil, err
		}
		return t, t.CloseIdleConnections, nil
	}}
	// stock is what http.DefaultClient uses. Only the certificates it trusts are set, and how it dials.
	stock = contestant{"Go's default", func(cfg transport.Config) (http.RoundTripper, func(), error) {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = cfg.TLS.Clone()
		t.DialContext = cfg.DialContext
		return t, t.CloseIdleConnections, nil
	}}
)

// lane is one contestant at work.
type lane struct {
	http.RoundTripper
	close func()
	dials atomic.Int64
}

// enter makes a contestant that trusts the server, reaches each of its origins, and counts its dials.
func (s *server) enter(c contestant, cfg transport.Config) (*lane, error) {
	l := new(lane)
	dialer := new(net.Dialer)
	cfg.TLS = &tls.Config{RootCAs: s.roots}
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		l.dials.Add(1)
		// Every origin is a port of the loopback address, whatever its name.
		if _, port, err := net.SplitHostPort(addr); err == nil {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
		return dialer.DialContext(ctx, network, addr)
	}
	var err error
	l.RoundTripper, l.close, err = c.open(cfg)
	return l, err
}

// newRequest returns a request to be sent many times, each time by exchange. A POST has a small body that can be
// rewound.
func newRequest(method, url string) (*http.Request, error) {
	var body io.Reader
	if method == http.MethodPost {
		body = bytes.NewReader(bytes.Repeat([]byte("x"), 256))
	}
	return http.NewRequest(method, url, body)
}

// send sends a copy of req and returns the response, its body unread.
func (l *lane) send(req *http.Request) (*http.Response, error) {
	r := req.WithContext(req.Context())
	if req.GetBody != nil {
		var err error
		if r.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return l.RoundTrip(r)
}

// finish reads the body of resp and closes it, so that the connection can be used again.
func finish(resp *http.Response) error {
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the server answered %s", resp.Status)
	case n != int64(len(reply)):
		return fmt.Errorf("the server's answer has %d bytes, not %d", n, len(reply))
	}
	return nil
}

// exchange sends a copy of req and reads the whole response.
func (l *lane) exchange(req *http.Request) error {
	resp, err := l.send(req)
	if err != nil {
		return err
	}
	return finish(resp)
}

// hold sends every request before it reads the first response, so that each has, over HTTP/1.1, its own
// connection. It sends them one after another: over HTTP/2 those of one origin share one.
func (l *lane) hold(reqs []*http.Request) error {
	resps := make([]*http.Response, 0, len(reqs))
	var failed error
	for _, req := range reqs {
		resp, err := l.send(req)
		if err != nil {
			failed = err
			break
		}
		resps = append(resps, resp)
	}
	for _, resp := range resps {
		if err := finish(resp); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// exchanges makes n exchanges, shared by so many callers at once. It returns the first error.
func (l *lane) exchanges(req *http.Request, callers, n int) error {
	if callers == 1 {
		for range n {
			if err := l.exchange(req); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		wg     sync.WaitGroup
		left   atomic.Int64
		failed atomic.Pointer[error]
	)
	left.Store(int64(n))
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := l.exchange(req); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
