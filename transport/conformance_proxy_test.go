package transport_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

var (
	// Over an HTTP proxy http.Transport speaks unencrypted HTTP/2 with the proxy itself, which no proxy expects.
	httpProxyModes = []mode{modeH1, modeH1TLS, modeH2}

	httpProxy  = func(t *testing.T, p *proxy) { p.serveHTTP(t, false) }
	httpsProxy = func(t *testing.T, p *proxy) { p.serveHTTP(t, true) }
	socksProxy = func(t *testing.T, p *proxy) { p.serveSOCKS5(t, "socks5") }
)

// credentials makes start's proxy ask for user:password, and gives it given.
func credentials(start func(*testing.T, *proxy), given *url.Userinfo) func(*testing.T, *proxy) {
	return func(t *testing.T, p *proxy) {
		p.user, p.password = "user", "secret"
		start(t, p)
		p.url.User = given
	}
}

// refusing makes start's proxy answer with status.
func refusing(start func(*testing.T, *proxy), status int) func(*testing.T, *proxy) {
	return func(t *testing.T, p *proxy) {
		p.refuse = status
		start(t, p)
	}
}

func TestProxiesAreUsedAsByHTTPTransport(t *testing.T) {
	to := func(host string) func(*testing.T, string) *http.Request {
		return func(t *testing.T, base string) *http.Request {
			scheme, _, _ := strings.Cut(base, ":")
			return request(t, "POST", scheme+"://"+host, payload())
		}
	}
	right, wrong := url.UserPassword("user", "secret"), url.UserPassword("user", "guess")
	post := to("example.com")
	none := func(err error) func(*transport.Config) {
		return func(c *transport.Config) {
			c.Proxy = func(*http.Request) (*url.URL, error) { return nil, err }
		}
	}
	via := func(proxy string) func(*transport.Config) {
		return func(c *transport.Config) { c.Proxy = http.ProxyURL(must(url.Parse(proxy))) }
	}
	broken := func(c *transport.Config) {
		c.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errOfDial}
		}
	}
	run(t, []exchange{
		{name: "HTTP", modes: httpProxyModes, proxy: httpProxy, request: post},
		{name: "HTTP, port given", modes: httpProxyModes, proxy: httpProxy, request: to("example.com:8443")},
		{name: "HTTP, IPv6 literal", modes: httpProxyModes, proxy: httpProxy, request: to("[::1]:8443")},
		{name: "HTTP, IDN host", modes: httpProxyModes, proxy: httpProxy, request: to("bücher.example")},
		{name: "HTTP, userinfo of the origin", modes: httpProxyModes, proxy: httpProxy, request: to("a:secret@example.com")},
		{name: "HTTP with credentials", modes: httpProxyModes, proxy: credentials(httpProxy, right), request: post},
		{name: "HTTP with wrong credentials", modes: tlsModes, proxy: credentials(httpProxy, wrong), request: post, fault: "any"},
		{name: "HTTP without credentials", modes: tlsModes, proxy: credentials(httpProxy, nil), request: post, fault: "any"},
		{name: "HTTP with wrong credentials, no TLS", modes: []mode{modeH1}, proxy: credentials(httpProxy, wrong), request: post, status: 407},
		{name: "HTTP refusing with 502", modes: tlsModes, proxy: refusing(httpProxy, 502), request: post, fault: "any"},
		{name: "HTTP refusing with 502, through a client", modes: tlsModes, client: func(*http.Client) {}, proxy: refusing(httpProxy, 502), request: post, fault: "any"},
		{name: "HTTP refusing with 204", modes: tlsModes, proxy: refusing(httpProxy, 204), request: post, fault: "any"},
		{name: "HTTP refusing with 502, no TLS", modes: []mode{modeH1}, proxy: refusing(httpProxy, 502), request: post, status: 502},
		{name: "HTTPS", modes: httpProxyModes, proxy: httpsProxy, request: post},
		{name: "HTTPS with credentials", modes: httpProxyModes, proxy: credentials(httpsProxy, right), request: post},
		{name: "HTTPS refusing with 502", modes: tlsModes, proxy: refusing(httpsProxy, 502), request: post, fault: "any"},
		{name: "HTTPS that does not verify", modes: httpProxyModes, proxy: httpsProxy, request: post, fault: "x509.UnknownAuthorityError",
			config: func(c *transport.Config) { c.TLS.RootCAs = x509.NewCertPool() }},
		{name: "origin behind HTTP does not verify", modes: tlsModes, proxy: httpProxy, request: to("wrong.test"), fault: "x509.HostnameError"},
		{name: "SOCKS5", proxy: socksProxy, request: post},
		{name: "SOCKS5, IPv4 literal", proxy: socksProxy, request: to("127.0.0.1:8443")},
		{name: "SOCKS5, IPv6 literal", proxy: socksProxy, request: to("[::1]:8443")},
		{name: "SOCKS5, IDN host", proxy: socksProxy, request: to("bücher.example")},
		{name: "SOCKS5 with credentials", proxy: credentials(socksProxy, right), request: post},
		{name: "SOCKS5 with credentials that are not asked for", proxy: func(t *testing.T, p *proxy) {
			socksProxy(t, p)
			p.url.User = right
		}, request: post},
		{name: "SOCKS5 with wrong credentials", proxy: credentials(socksProxy, wrong), request: post, fault: "any"},
		{name: "SOCKS5 without credentials", proxy: credentials(socksProxy, nil), request: post, fault: "any", blind: true},
		{name: "SOCKS5 refusing", proxy: refusing(socksProxy, 5), request: post, fault: "any"},
		{name: "SOCKS5H", proxy: func(t *testing.T, p *proxy) { p.serveSOCKS5(t, "socks5h") }, request: post},

		{name: "Proxy returns nil", config: none(nil), request: get},
		{name: "Proxy fails", config: none(errOfProxy), request: post, fault: "proxy"},
		{name: "Proxy fails, through a client", config: none(errOfProxy), client: func(*http.Client) {}, request: post, fault: "proxy"},
		{name: "proxy cannot be dialled", modes: httpProxyModes, proxy: httpProxy, config: broken, request: post, fault: "dial"},
		{name: "SOCKS5 proxy cannot be dialled", proxy: socksProxy, config: broken, request: post, fault: "dial"},
		{name: "default port of HTTP", modes: []mode{modeH1}, dial: true, config: via("http://proxy.test"), request: post},
		{name: "default port of HTTPS", modes: []mode{modeH1TLS}, dial: true, config: via("https://example.com"), blind: true,
			request: func(t *testing.T, _ string) *http.Request { return get(t, "http://other.test") }},
		{name: "default port of SOCKS5", request: post, fault: "dial", config: func(c *transport.Config) {
			via("socks5://proxy.test")(c)
			c.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
				if addr != "proxy.test:1080" {
					return nil, errors.New("dialling " + addr)
				}
				return nil, errOfDial
			}
		}},
	})
}

func TestProxyRefusalNamesTheStatus(t *testing.T) {
	for status, p := range map[int]func(*testing.T, *proxy){
		407: credentials(httpProxy, nil),
		502: refusing(httpProxy, 502),
	} {
		for _, m := range tlsModes {
			via := &proxy{target: "127.0.0.1:1"}
			p(t, via)
			cfg := m.config()
			cfg.Proxy = http.ProxyURL(via.url)
			compare(t, cfg, func(t *testing.T, rt http.RoundTripper) struct{} {
				_, err := rt.RoundTrip(get(t, "https://example.com"))
				if err == nil || !strings.Contains(err.Error(), http.StatusText(status)) {
					t.Errorf("refused with %d: %v", status, err)
				}
				return struct{}{}
			})
		}
	}
}

func TestProxiedConnectionsAreReused(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *proxy){
		"HTTP": httpProxy, "HTTPS": httpsProxy, "SOCKS5": socksProxy, "with credentials": credentials(httpProxy, url.UserPassword("user", "secret")),
	} {
		for _, m := range httpProxyModes {
			t.Run(name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(echo))
				p := &proxy{target: o.addr()}
				start(t, p)
				cfg := m.config()
				cfg.Proxy = http.ProxyURL(p.url)
				type seen struct {
					Conns   int64
					Proxied []string
				}
				scheme, _, _ := strings.Cut(o.URL, ":")
				compare(t, cfg, func(t *testing.T, rt http.RoundTripper) (got seen) {
					before := o.accepted.Load()
					for range 3 {
						if out := (exchange{}).do(t, rt, get(t, scheme+"://example.com")); out.Code != 200 {
							t.Errorf("status %d, %v", out.Code, out.Fault)
						}
					}
					if m.tls { // else it is the proxy that connects to the origin
						got.Conns = o.accepted.Load() - before
					}
					got.Proxied = p.take()
					return got
				})
			})
		}
	}
}

func TestUpgradeThroughProxies(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *proxy){"HTTP": httpProxy, "SOCKS5": socksProxy} {
		for _, m := range tlsModes { // the HTTP proxy of these tests forwards no upgrade
			t.Run(name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(upgrade))
				p := &proxy{target: o.addr()}
				start(t, p)
				cfg := m.config()
				cfg.Proxy = http.ProxyURL(p.url)
				compare(t, cfg, func(t *testing.T, rt http.RoundTripper) (got conversation) {
					req := get(t, "https://example.com")
					req.Header.Set("Connection", "Upgrade")
					req.Header.Set("Upgrade", "websocket")
					within(t, 10*time.Second, "the conversation", func() { got.upgraded(t, rt, req, func() {}) })
					o.take(t)
					return got
				})
			})
		}
	}
}

// TestSilentProxy connects to proxies that accept and never answer, or that close at once.
func TestSilentProxy(t *testing.T) {
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadByte()
			c.Close()
		}
	}()
	type seen struct{ Fault fault }
	for _, scheme := range []string{"http", "https", "socks5"} {
		for _, m := range tlsModes {
			for name, addr := range map[string]string{"silent": silent(t), "closing": closing.Addr().String()} {
				t.Run(name+"/"+scheme+"/"+m.name, func(t *testing.T) {
					t.Parallel()
					cfg := m.config()
					cfg.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: addr})
					compare(t, cfg, func(t *testing.T, rt http.RoundTripper) (got seen) {
						ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
						if name == "closing" {
							ctx, cancel = context.WithCancel(t.Context())
						}
						defer cancel()
						req := request(t, "POST", "https://example.com", payload()).WithContext(ctx)
						body := recordClose(req)
						within(t, 2*time.Second, "the request", func() {
							_, err := rt.RoundTrip(req)
							if err == nil {
								t.Error("no error")
							}
							if name == "closing" && errors.Is(err, io.EOF) {
								err = errors.New("EOF") // or a reset connection, as it happens
							}
							got.Fault = faultOf(err)
						})
						eventually(t, time.Second, "the request's body is closed", body.closed.Load)
						return got
					})
				})
			}
		}
	}
}
