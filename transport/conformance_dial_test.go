package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/transport"
)

func TestTLSFaultsAreToldAsByHTTPTransport(t *testing.T) {
	versions := func(lowest, highest uint16) func(*httptest.Server) {
		return func(s *httptest.Server) { s.TLS.MinVersion, s.TLS.MaxVersion = lowest, highest }
	}
	alpn := func(protos ...string) func(*httptest.Server) {
		return func(s *httptest.Server) { s.TLS.NextProtos = protos }
	}
	to := func(host string) func(*testing.T, string) *http.Request {
		return func(t *testing.T, _ string) *http.Request { return request(t, "POST", "https://"+host, payload()) }
	}
	post := changed("POST", payload, func(*http.Request) {})
	clientCert := func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, authority().pool
		s.TLS.MaxVersion = tls.VersionTLS12 // in TLS 1.3 the server says no only after the handshake
	}
	only := func(h2 bool) func(*transport.Config) {
		return func(c *transport.Config) {
			c.Protocols = new(http.Protocols)
			c.Protocols.SetHTTP1(!h2)
			c.Protocols.SetHTTP2(h2)
		}
	}
	run(t, []exchange{
		{name: "unknown authority", modes: tlsModes, request: post, fault: "x509.UnknownAuthorityError",
			config: func(c *transport.Config) { c.TLS.RootCAs = x509.NewCertPool() }},
		{name: "unknown authority, through a client", modes: tlsModes, request: post, fault: "tls.CertificateVerificationError",
			client: func(*http.Client) {}, config: func(c *transport.Config) { c.TLS.RootCAs = x509.NewCertPool() }},
		{name: "wrong name", modes: tlsModes, dial: true, request: to("wrong.test"), fault: "x509.HostnameError"},
		{name: "wrong address", modes: tlsModes, dial: true, request: to("127.0.0.2"), fault: "tls.CertificateVerificationError"},
		{name: "expired", modes: tlsModes, request: post, fault: "x509.CertificateInvalidError", server: func(s *httptest.Server) {
			s.TLS.Certificates = []tls.Certificate{authority().issue(time.Now().Add(-time.Hour))}
		}},
		{name: "refused by VerifyConnection", modes: tlsModes, request: post, fault: "dial",
			config: func(c *transport.Config) {
				c.TLS.VerifyConnection = func(tls.ConnectionState) error { return errOfDial }
			}},
		{name: "not verified", modes: tlsModes, dial: true, request: to("wrong.test"),
			config: func(c *transport.Config) { c.TLS.InsecureSkipVerify = true }},
		{name: "ServerName", modes: tlsModes, dial: true, request: to("wrong.test"),
			config: func(c *transport.Config) { c.TLS.ServerName = "example.com" }},
		{name: "TLS 1.0 and 1.1 only", modes: tlsModes, request: post, fault: "net.OpError", server: versions(tls.VersionTLS10, tls.VersionTLS11)},
		{name: "TLS 1.2 only", modes: tlsModes, request: post, server: versions(tls.VersionTLS12, tls.VersionTLS12)},
		{name: "TLS 1.3 asked for, 1.2 offered", modes: tlsModes, request: post, fault: "net.OpError", server: versions(tls.VersionTLS12, tls.VersionTLS12),
			config: func(c *transport.Config) { c.TLS.MinVersion = tls.VersionTLS13 }},
		{name: "client certificate missing", modes: tlsModes, request: post, fault: "any", server: clientCert},
		{name: "client certificate", modes: tlsModes, request: post, server: clientCert,
			config: func(c *transport.Config) { c.TLS.Certificates = []tls.Certificate{authority().client} }},
		{name: "HTTP/1.1 from a server without h2", modes: []mode{modeH2}, request: post, server: alpn("http/1.1")},
		{name: "no common protocol", modes: tlsModes, request: post, server: alpn("frob"), fault: "net.OpError"},
		{name: "only HTTP/2 allowed, only HTTP/1.1 offered", modes: []mode{modeH2}, request: post, server: alpn("http/1.1"), config: only(true), fault: "net.OpError"},
		{name: "only HTTP/1.1 allowed, both offered", modes: []mode{modeH2}, request: post, config: only(false)},

		{name: "https to a server without TLS", modes: []mode{modeH1}, dial: true, request: to("example.com"), fault: "tls.RecordHeaderError", blind: true},
		{name: "https to a server without TLS, through a client", modes: []mode{modeH1}, dial: true, request: to("example.com"),
			client: func(*http.Client) {}, fault: "scheme mismatch", blind: true},
		{name: "http to a server with TLS", modes: []mode{modeH1TLS}, dial: true, status: 400, blind: true,
			request: func(t *testing.T, _ string) *http.Request { return get(t, "http://example.com") }},
	})
}

func TestUnencryptedHTTP2ToAServerWithoutItFails(t *testing.T) {
	o := modeH1.serve(t, http.HandlerFunc(echo))
	type seen struct{ Fault fault }
	ref := compare(t, modeH2C.config(), func(t *testing.T, rt http.RoundTripper) seen {
		return seen{exchange{}.do(t, rt, get(t, o.URL)).Fault}
	})
	if ref.Fault.err == nil {
		t.Error("reference: no error")
	}
}

func TestDialFaultsAreToldAsByHTTPTransport(t *testing.T) {
	refusing := faultnet.Unheard(t)
	post := func(t *testing.T, base string) *http.Request { return request(t, "POST", base, payload()) }
	dial := func(f func() (net.Conn, error)) func(*transport.Config) {
		return func(c *transport.Config) {
			c.DialContext = func(context.Context, string, string) (net.Conn, error) { return f() }
		}
	}
	fail := dial(func() (net.Conn, error) { return nil, errOfDial })
	to := func(c *transport.Config) {
		c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, refusing)
		}
	}
	ends := func() (net.Conn, error) {
		client, server := net.Pipe()
		server.Close()
		return client, nil
	}
	run(t, []exchange{
		{name: "refused", request: post, config: to, fault: "refused"},
		{name: "refused, as a net.OpError", request: post, config: to, fault: "net.OpError"},
		{name: "refused, through a client", request: post, config: to, fault: "refused", client: func(*http.Client) {}},
		{name: "DialContext fails", request: post, config: fail, fault: "dial"},
		{name: "DialContext fails, through a client", request: post, config: fail, fault: "dial", client: func(*http.Client) {}},
		{name: "DialContext returns nil, nil", request: post, fault: "any", config: dial(func() (net.Conn, error) { return nil, nil })},
		{name: "DialContext returns a timeout", request: post, fault: "timeout", config: dial(func() (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
		})},
		{name: "DialContext returns context.Canceled", request: post, fault: "canceled", config: dial(func() (net.Conn, error) { return nil, context.Canceled })},
		{name: "connection closed at once", modes: tlsModes, request: post, fault: "any", config: dial(ends)},
	})
}

// pipeListener accepts net.Pipe connections, which have no file descriptor.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "example.com" }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestConnectionsThatAreNoSockets(t *testing.T) {
	type answers struct{ First, Second, Third string }
	for _, m := range allModes {
		for name, wrap := range map[string]func(*pipeListener, *transport.Config){
			"net.Pipe": func(l *pipeListener, c *transport.Config) { c.DialContext = l.dial },
			"a wrapped connection": func(l *pipeListener, c *transport.Config) {
				c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := l.dial(ctx, network, addr)
					return struct{ net.Conn }{conn}, err
				}
			},
		} {
			t.Run(name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
				o := m.serve(t, http.HandlerFunc(echo), func(s *httptest.Server) {
					s.Listener.Close()
					s.Listener = l
				})
				cfg := m.config()
				wrap(l, &cfg)
				compare(t, cfg, func(t *testing.T, rt http.RoundTripper) (got answers) {
					for _, answer := range []*string{&got.First, &got.Second, &got.Third} {
						*answer = exchange{}.do(t, rt, request(t, "POST", o.URL, payload())).Body
						if *answer != "POST payload" {
							t.Errorf("answer %q", *answer)
						}
					}
					return got
				})
			})
		}
	}
}
