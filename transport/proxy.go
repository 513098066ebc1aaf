package transport

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/thawhttp/thaw/internal/hostport"
)

// isHTTPProxy reports whether u is a proxy that speaks HTTP.
func isHTTPProxy(u *url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "" }

// proxyOf returns the proxy for req, or nil.
func (t *Transport) proxyOf(req *http.Request) (*url.URL, error) {
	u, err := t.cfg.Proxy(req)
	if err != nil {
		return nil, opErrorf(withoutCredentials(err), "choosing the proxy for %s://%s", req.URL.Scheme, req.URL.Host)
	}
	if u == nil {
		return nil, nil
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	case "":
		u := *u
		u.Scheme = "http"
		return &u, nil
	default:
		return nil, fmt.Errorf("%w %.40q: want http, https, socks5 or socks5h", errProxyScheme, u.Scheme)
	}
}

// withoutCredentials returns err, of a Proxy function, with a message that shows no credentials. url.Parse quotes the URL that
// it refuses, or the part of it that is wrong, which can be half of a password.
func withoutCredentials(err error) error {
	_, parsed := errors.AsType[*url.Error](err)
	if parsed || strings.Contains(err.Error(), "@") {
		return &unquotedError{"the Proxy function of the Config failed; what it says may quote credentials and is left out", err}
	}
	return err
}

var errProxyScheme = errors.New("transport: unsupported proxy scheme")

// dialTCP opens the transport-layer connection to the origin of d, through its proxy if it has one. DialTimeout limits all
// of it, and TLSHandshakeTimeout the handshake with an HTTPS proxy too.
func (t *Transport) dialTCP(ctx context.Context, d *dial) (net.Conn, error) {
	if most := t.cfg.DialTimeout; most >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, most, timedOutAfter("dial", most))
		defer cancel()
	}
	nc, err := t.dialThrough(ctx, d)
	if err != nil {
		if timeout, ok := errors.AsType[*timeoutError](context.Cause(ctx)); ok && errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", timeout, err)
		}
		return nil, err
	}
	return nc, nil
}

func (t *Transport) dialThrough(ctx context.Context, d *dial) (net.Conn, error) {
	o := d.origin
	if o.proxy == nil {
		return t.dialAddr(ctx, o.key.host)
	}
	addr := hostport.Of(o.proxy)
	nc, err := t.dialAddr(ctx, addr)
	if err != nil {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err} // as net/http has it, Go issue 16997
	}
	if o.proxy.Scheme == "https" {
		tc, err := t.handshake(ctx, newRawConn(nc), d.proxyTLS) // below TLS, which reads ahead
		if err != nil {
			return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
		}
		nc = tc
	}
	switch {
	case !isHTTPProxy(o.proxy):
		err = interruptible(ctx, nc, func() error { return socksConnect(nc, o.proxy.User, o.key.host) })
	case o.key.scheme == "https":
		err = interruptible(ctx, nc, func() error { return httpConnect(nc, o.proxy, o.key.host) })
	}
	if err != nil {
		nc.Close()
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	return nc, nil
}

// dialAddr calls the dialler of the configuration.
func (t *Transport) dialAddr(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := t.cfg.DialContext(ctx, "tcp", addr)
	if err == nil && nc == nil {
		return nil, errors.New("Config.DialContext returned neither a connection nor an error")
	}
	return nc, err
}

// interruptible runs f, which reads and writes nc, and closes nc if ctx ends first.
func interruptible(ctx context.Context, nc net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	err := f()
	if !stop() {
		return &opError{msg: "waiting for the proxy", err: context.Cause(ctx)}
	}
	return err
}

// maxConnectHeader limits a proxy's answer to CONNECT, in bytes.
const maxConnectHeader = 1 << 20

// httpConnect has an HTTP proxy connect nc to addr (RFC 9110, section 9.3.6).
func httpConnect(nc net.Conn, proxy *url.URL, addr string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: make(http.Header)}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(u.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := req.Write(nc); err != nil {
		return err
	}
	// Nothing is lost with the buffered reader: a TLS server does not speak first.
	limited := &io.LimitedReader{R: nc, N: maxConnectHeader}
	resp, err := http.ReadResponse(bufio.NewReader(limited), req)
	if err != nil {
		if limited.N <= 0 {
			return fmt.Errorf("the header of the proxy's answer to CONNECT exceeds %d bytes", maxConnectHeader)
		}
		return unquoted(err)
	}
	if resp.ProtoMajor != 1 {
		return fmt.Errorf("the proxy answered CONNECT with HTTP/%d.%d, want HTTP/1.1", resp.ProtoMajor, resp.ProtoMinor)
	}
	if resp.StatusCode != http.StatusOK {
		// Not with its own words for it: they may hold the credentials that it was sent.
		return fmt.Errorf("the proxy answered CONNECT %s with %d %s", addr, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}
