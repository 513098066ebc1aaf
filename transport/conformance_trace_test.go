package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// hooks is what httptrace told of one request. Hooks of different groups are called by different goroutines, so
// only the order within a group means something.
type hooks struct {
	mu     sync.Mutex
	Dial   []string // in order
	DNS    []string // sorted: addresses may be tried at once
	Fields []string // sorted: HTTP/2 writes headers in no order
	Write  []string // in order
	Read   []string // in order
	info   httptrace.GotConnInfo
}

// told is a hooks without its lock.
type told struct {
	Dial, DNS, Fields, Write, Read []string
	Fault                          fault
	Conn                           bool
}

// trace returns a ClientTrace with every hook. Address addr is written as ORIGIN.
func (h *hooks) trace(addr string) *httptrace.ClientTrace {
	note := func(group *[]string, format string, a ...any) {
		h.mu.Lock()
		defer h.mu.Unlock()
		*group = append(*group, strings.ReplaceAll(fmt.Sprintf(format, a...), addr, "ORIGIN"))
	}
	class := func(err error) []string {
		return slices.DeleteFunc(faultOf(err).classes, func(c string) bool { return strings.HasPrefix(c, "net.OpError") })
	}
	return &httptrace.ClientTrace{
		GetConn: func(hostPort string) { note(&h.Dial, "GetConn %s", hostPort) },
		GotConn: func(info httptrace.GotConnInfo) {
			note(&h.Dial, "GotConn reused %t, was idle %t, for some time %t", info.Reused, info.WasIdle, info.IdleTime > 0)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.info = info
		},
		PutIdleConn:          func(err error) { note(&h.Read, "PutIdleConn %v", class(err)) },
		GotFirstResponseByte: func() { note(&h.Read, "GotFirstResponseByte") },
		Got100Continue:       func() { note(&h.Read, "Got100Continue") },
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			note(&h.Read, "Got1xxResponse %d %v", code, header)
			return nil
		},
		DNSStart: func(info httptrace.DNSStartInfo) { note(&h.DNS, "DNSStart %s", info.Host) },
		DNSDone: func(info httptrace.DNSDoneInfo) {
			// Whether the lookup was shared depends on what the tests beside this one look up.
			note(&h.DNS, "DNSDone %v %v", info.Addrs, class(info.Err))
		},
		ConnectStart:      func(network, addr string) { note(&h.DNS, "ConnectStart %s %s", network, addr) },
		ConnectDone:       func(network, addr string, err error) { note(&h.DNS, "ConnectDone %s %s %v", network, addr, class(err)) },
		TLSHandshakeStart: func() { note(&h.Dial, "TLSHandshakeStart") },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			note(&h.Dial, "TLSHandshakeDone %s %q %q, resumed %t %v", tls.VersionName(s.Version), s.NegotiatedProtocol, s.ServerName, s.DidResume, class(err))
		},
		WroteHeaderField: func(key string, values []string) { note(&h.Fields, "%s: %q", key, values) },
		WroteHeaders:     func() { note(&h.Write, "WroteHeaders") },
		Wait100Continue:  func() { note(&h.Write, "Wait100Continue") },
		WroteRequest:     func(info httptrace.WroteRequestInfo) { note(&h.Write, "WroteRequest %v", class(info.Err)) },
	}
}

// told returns what h has been told, once WroteRequest was among it if the request got a connection.
func (h *hooks) told(t *testing.T, err error) told {
	t.Helper()
	eventually(t, 2*time.Second, "WroteRequest was called", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		got := slices.ContainsFunc(h.Dial, func(s string) bool { return strings.HasPrefix(s, "GotConn") })
		return !got || slices.ContainsFunc(h.Write, func(s string) bool { return strings.HasPrefix(s, "WroteRequest") })
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.Sort(h.DNS)
	slices.Sort(h.Fields)
	clone := slices.Clone[[]string]
	return told{clone(h.Dial), clone(h.DNS), clone(h.Fields), clone(h.Write), clone(h.Read), faultOf(err), h.info.Conn != nil}
}

// send makes a round trip, reads the response and returns what the hooks were told.
func (h *hooks) send(t *testing.T, rt http.RoundTripper, req *http.Request, addr string) told {
	t.Helper()
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), h.trace(addr)))
	var err error
	within(t, 10*time.Second, "the round trip", func() {
		var resp *http.Response
		if resp, err = rt.RoundTrip(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	return h.told(t, err)
}

func TestTraceHooksAreCalledAsByHTTPTransport(t *testing.T) {
	post := changed("POST", payload, func(*http.Request) {})
	expect := changed("POST", payload, func(req *http.Request) { req.Header.Set("Expect", "100-continue") })
	long := func(c *transport.Config) { c.ExpectContinueTimeout = 30 * time.Second }
	for _, x := range []exchange{
		{name: "GET", request: get},
		{name: "HEAD", request: changed("HEAD", nil, func(*http.Request) {})},
		{name: "POST", request: post},
		{name: "POST unsized", request: changed("POST", unsized("payload"), func(*http.Request) {})},
		{name: "204", request: get, handler: answer(204, "")},
		{name: "103", request: get, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
		}},
		{name: "100", request: expect, config: long},
		{name: "417", blind: true, request: expect, config: long, handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(417) }},
		{name: "Connection: close", modes: h1Modes, request: get, handler: answer(200, "body", "Connection: close")},
		{name: "Close", request: changed("GET", nil, func(req *http.Request) { req.Close = true })},
		{name: "custom headers", request: changed("GET", nil, func(req *http.Request) {
			req.Host = "other.example"
			req.Header["X-A"] = []string{"1", "2"}
			req.Header["x-lower"] = []string{"3"}
		})},
		{name: "name to resolve", request: func(t *testing.T, base string) *http.Request {
			return get(t, strings.Replace(base, "127.0.0.1", "localhost", 1))
		}},
		{name: "HTTP proxy", modes: httpProxyModes, proxy: httpProxy, request: post},
		{name: "HTTPS proxy", modes: httpProxyModes, proxy: httpsProxy, request: post},
		{name: "SOCKS5 proxy", proxy: socksProxy, request: post},
		{name: "proxy refuses", modes: tlsModes, proxy: refusing(httpProxy, 502), request: post},
		{name: "DialContext fails", request: post, config: func(c *transport.Config) {
			c.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errOfDial }
		}},
		{name: "own DialContext", dial: true, request: post},
		{name: "certificate does not verify", modes: tlsModes, request: post, config: func(c *transport.Config) { c.TLS.RootCAs = x509.NewCertPool() }},
		{name: "body fails", blind: true, request: changed("POST", failing(10), func(*http.Request) {}), handler: unanswered},
		{name: "invalid", request: changed("POST", payload, func(req *http.Request) { req.Method = "a b" })},
		{name: "Proxy fails", request: post, config: func(c *transport.Config) {
			c.Proxy = func(*http.Request) (*url.URL, error) { return nil, errOfProxy }
		}},
	} {
		for _, m := range modesOr(x.modes) {
			t.Run(x.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				h := x.handler
				if h == nil {
					h = echo
				}
				o := m.serve(t, h)
				cfg := m.config()
				p := &proxy{target: o.addr()}
				if x.proxy != nil {
					x.proxy(t, p)
					cfg.Proxy = http.ProxyURL(p.url)
				}
				if x.dial {
					cfg.DialContext = o.dial
				}
				if x.config != nil {
					x.config(&cfg)
				}
				type both struct{ Cold, Warm told }
				// The HTTP/1.1 of both closes a connection, and so does not call PutIdleConn, if its writer has not said within
				// 50 ms after the response that it is done.
				ref := compareRepeatedly(t, 3, cfg, func(t *testing.T, rt http.RoundTripper) (got both) {
					addr := o.addr()
					if p.url != nil {
						addr = p.url.Host
					}
					got.Cold = new(hooks).send(t, rt, x.request(t, o.URL), addr)
					o.take(t)
					got.Warm = new(hooks).send(t, rt, x.request(t, o.URL), addr)
					if x.blind && m.h2 { // a stream that was given up ends when the server says so
						got.Warm = told{}
					}
					if m.h2 {
						got.Warm.Dial = withoutGetConn(got.Warm.Dial)
					}
					return got
				})
				if x.handler == nil && ref.Cold.Fault.err == nil && (!ref.Cold.Conn || len(ref.Cold.Write) == 0 || len(ref.Cold.Read) == 0) {
					t.Errorf("reference: hooks are missing: %+v", ref.Cold)
				}
			})
		}
	}
}

// withoutGetConn leaves the calls of GetConn out. With HTTP/2, http.Transport makes two of them for a request on a
// connection without TLS, and names the origin where it named the proxy before. A pool calls once, as documented.
func withoutGetConn(hooks []string) []string {
	return slices.DeleteFunc(hooks, func(s string) bool { return strings.HasPrefix(s, "GetConn") })
}

func TestTraceHookRefusesAnInformationalResponse(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(flood))
			type seen struct{ Fault fault }
			ref := compare(t, m.config(), func(t *testing.T, rt http.RoundTripper) (got seen) {
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(int, textproto.MIMEHeader) error { return errOfCause },
				})
				within(t, 5*time.Second, "the round trip", func() {
					_, err := rt.RoundTrip(get(t, o.URL).WithContext(ctx))
					got.Fault = faultOf(err)
				})
				return got
			})
			if ref.Fault.err == nil || !m.h2 && !ref.Fault.has("cause") {
				t.Errorf("reference: %v", ref.Fault)
			}
		})
	}
}
