package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// These tests are about who a client is to a server, and the server to the client. A TLS session that is resumed stands for
// the handshake that it came from, with the identities and the checks of that one. What http.Transport does is beside each.

// An identified server demands a certificate and says whose it got, and whether a session was resumed.
type identified struct {
	*origin
	t *testing.T
}

func serveIdentified(t *testing.T, m mode, version uint16) identified {
	t.Helper()
	o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s resumed=%t", r.TLS.PeerCertificates[0].Subject.CommonName, r.TLS.DidResume)
	}), func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, authority().pool
		s.TLS.MinVersion, s.TLS.MaxVersion = version, version
	})
	return identified{o, t}
}

// meet makes a request over a new connection, and returns what the server said or the error.
func (s identified) meet(rt idleCloser) (said string, err error) {
	s.t.Helper()
	rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(get(s.t, s.URL))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// meets is meet where it must succeed.
func (s identified) meets(rt idleCloser) string {
	s.t.Helper()
	said, err := s.meet(rt)
	if err != nil {
		s.t.Fatal(err)
	}
	return said
}

func certified(name string) []tls.Certificate {
	return []tls.Certificate{authority().issueTo(name, time.Now().Add(time.Hour))}
}

var errPin = errors.New("not the key that is pinned")

// forTLS runs f for each protocol and each version of TLS.
func forTLS(t *testing.T, f func(t *testing.T, m mode, version uint16)) {
	for _, m := range tlsModes {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(m.name+"/"+strings.ReplaceAll(tls.VersionName(version), " ", ""), func(t *testing.T) {
				t.Parallel()
				f(t, m, version)
			})
		}
	}
}

// closeIdle closes the idle connections of a http.Transport at the end of the test.
func closeIdle(t testing.TB, rt *http.Transport) *http.Transport {
	t.Cleanup(rt.CloseIdleConnections)
	return rt
}

// Libraries clone http.DefaultTransport and set a certificate of their own.
func TestClonesOfATunedTransportAreWhoTheirOwnersAre(t *testing.T) {
	forTLS(t, func(t *testing.T, m mode, version uint16) {
		s := serveIdentified(t, m, version)
		control := http.DefaultTransport.(*http.Transport).Clone()
		control.TLSClientConfig = &tls.Config{RootCAs: authority().pool}
		control.Proxy, control.Protocols = nil, m.protocols()
		tuned, err := transport.NewHTTPTransport(m.config())
		if err != nil {
			t.Fatal(err)
		}
		for name, rt := range map[string]*http.Transport{"http.DefaultTransport": control, "NewHTTPTransport": tuned} {
			for _, who := range []string{"A", "B", "A"} {
				clone := closeIdle(t, rt.Clone())
				clone.TLSClientConfig.Certificates = certified(who)
				for range 2 {
					if said := s.meets(clone); !strings.HasPrefix(said, who+" ") {
						t.Errorf("%s: %s is taken for %q", name, who, said)
					}
				}
			}
		}
	})
}

func TestATransportMadeOfAnothersConfigIsWhoItsOwnCertificateSays(t *testing.T) {
	forTLS(t, func(t *testing.T, m mode, version uint16) {
		s := serveIdentified(t, m, version)
		cfg := m.config()
		cfg.TLS.Certificates = certified("A")
		first := newPool(t, cfg)
		for want := range 2 {
			if said := s.meets(first); said != fmt.Sprintf("A resumed=%t", want == 1) {
				t.Fatalf("A is taken for %q", said)
			}
		}

		other := first.Config()
		other.TLS.Certificates = certified("B")
		if said := s.meets(newPool(t, other)); said != "B resumed=false" {
			t.Errorf("B is taken for %q", said)
		}

		pinned := first.Config()
		pinned.TLS.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return errPin }
		if said, err := s.meet(newPool(t, pinned)); !errors.Is(err, errPin) {
			t.Errorf("a pin that refuses the server: %q, %v", said, err)
		}
		if said := s.meets(first); said != "A resumed=true" {
			t.Errorf("after that, A is taken for %q", said)
		}
	})
}

// renewable is a RoundTripper and what has it begin anew.
type renewable struct {
	idleCloser
	renew func()
}

type idleCloser interface {
	http.RoundTripper
	CloseIdleConnections()
}

// pools are an http.Transport and a pool with the same TLS configuration.
func pools(t testing.TB, m mode, cfg *tls.Config) map[string]renewable {
	cfg.RootCAs = authority().pool
	control := closeIdle(t, &http.Transport{TLSClientConfig: cfg.Clone(), Protocols: m.protocols()})
	c := m.config()
	c.TLS = cfg
	own := newPool(t, c)
	return map[string]renewable{
		"http.Transport": {control, control.CloseIdleConnections},
		"thaw":           {own, own.Reset},
	}
}

func TestAWithdrawnPinIsAskedForEachConnection(t *testing.T) {
	for name, pin := range map[string]func(*tls.Config, func() error){
		"VerifyPeerCertificate": func(c *tls.Config, f func() error) {
			c.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return f() }
		},
		"VerifyConnection": func(c *tls.Config, f func() error) {
			c.VerifyConnection = func(tls.ConnectionState) error { return f() }
		},
		"the former beside the latter": func(c *tls.Config, f func() error) {
			c.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return f() }
			c.VerifyConnection = func(tls.ConnectionState) error { return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			forTLS(t, func(t *testing.T, m mode, version uint16) {
				s := serveIdentified(t, m, version)
				var asked, withdrawn atomic.Int64
				cfg := &tls.Config{Certificates: certified("A")}
				pin(cfg, func() error {
					asked.Add(1)
					if withdrawn.Load() > 0 {
						return errPin
					}
					return nil
				})
				for name, rt := range pools(t, m, cfg) {
					asked.Store(0)
					withdrawn.Store(0)
					for n := range int64(3) {
						s.meets(rt)
						if got := asked.Load(); got != n+1 {
							t.Errorf("%s: the pin was asked for %d of %d connections", name, got, n+1)
						}
					}
					withdrawn.Store(1)
					if _, err := s.meet(rt); !errors.Is(err, errPin) {
						t.Errorf("%s: the pin is withdrawn, and the next connection: %v", name, err)
					}
					rt.renew()
					if _, err := s.meet(rt); !errors.Is(err, errPin) {
						t.Errorf("%s: the same after Reset: %v", name, err)
					}
				}
			})
		})
	}
}

func TestAReplacedCertificateIsShownFromTheNextConnectionOn(t *testing.T) {
	forTLS(t, func(t *testing.T, m mode, version uint16) {
		s := serveIdentified(t, m, version)
		var current atomic.Pointer[tls.Certificate]
		cfg := &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return current.Load(), nil
		}}
		for name, rt := range pools(t, m, cfg) {
			for _, who := range []string{"A", "A", "B", "C"} {
				current.Store(&certified(who)[0])
				if who == "C" {
					rt.renew()
				}
				if said := s.meets(rt); said != who+" resumed=false" {
					t.Errorf("%s: %s is taken for %q", name, who, said)
				}
			}
		}
	})
}

// All copies of a snapshot have what it had. The ticket that a connection from before it gets after Reset is such a thing too.
func TestResetForgetsTLSSessions(t *testing.T) {
	forTLS(t, func(t *testing.T, m mode, version uint16) {
		s := serveIdentified(t, m, version)
		cfg := m.config()
		cfg.TLS.Certificates = certified("A")
		p := newPool(t, cfg)
		s.meets(p)
		if said := s.meets(p); said != "A resumed=true" {
			t.Fatalf("before Reset: %q", said)
		}
		p.Reset()
		if said := s.meets(p); said != "A resumed=false" {
			t.Errorf("after Reset: %q", said)
		}
		if said := s.meets(p); said != "A resumed=true" {
			t.Errorf("and then: %q", said)
		}
	})
}

func TestATicketThatComesAfterResetIsOfNoUse(t *testing.T) {
	o := modeH1TLS.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "resumed=%t", r.TLS.DidResume)
	}))
	cfg := modeH1TLS.config()
	gate := make(chan struct{}) // nothing of what the server sends after the handshake comes before it is closed
	var shut atomic.Bool
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &gatedConn{nc, &shut, gate}, err
	}
	p := newPool(t, cfg)
	req := get(t, o.URL)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		TLSHandshakeDone: func(tls.ConnectionState, error) { shut.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) {
			p.Reset()
			close(gate)
		},
	}))
	resp, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	for _, want := range []string{"resumed=false", "resumed=true"} {
		if said := (identified{o, t}).meets(p); said != want {
			t.Errorf("after Reset: %s, want %s", said, want)
		}
	}
}

// gatedConn reads nothing while the gate is shut.
type gatedConn struct {
	net.Conn
	shut *atomic.Bool
	gate chan struct{}
}

func (c *gatedConn) Read(p []byte) (int, error) {
	if c.shut.Load() {
		<-c.gate
	}
	return c.Conn.Read(p)
}

func TestASessionCacheOfTheCallersOwnIsLeftAlone(t *testing.T) {
	forTLS(t, func(t *testing.T, m mode, version uint16) {
		s := serveIdentified(t, m, version)
		cache := &watchedCache{ClientSessionCache: tls.NewLRUClientSessionCache(0)}
		for name, rt := range pools(t, m, &tls.Config{Certificates: certified("A"), ClientSessionCache: cache}) {
			cache.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			for n := range 3 {
				if said := s.meets(rt); said != fmt.Sprintf("A resumed=%t", n > 0) {
					t.Errorf("%s: connection %d: %s", name, n, said)
				}
				rt.renew()
			}
		}
		if cache.puts.Load() == 0 {
			t.Error("the caller's cache was not used")
		}
	})
}

// watchedCache counts what is put into it.
type watchedCache struct {
	tls.ClientSessionCache
	puts atomic.Int64
}

func (c *watchedCache) Put(key string, s *tls.ClientSessionState) {
	c.puts.Add(1)
	c.ClientSessionCache.Put(key, s)
}

// The handshake with an HTTPS proxy has the same rules as that with an origin.
func TestAnHTTPSProxySeesTheCertificateOfNow(t *testing.T) {
	o := modeH1.serve(t, http.HandlerFunc(echo))
	var seen []string
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprintf("%s resumed=%t", r.TLS.PeerCertificates[0].Subject.CommonName, r.TLS.DidResume))
		w.Header().Set("Connection", "close")
	}))
	front.TLS = &tls.Config{Certificates: []tls.Certificate{authority().server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority().pool}
	front.StartTLS()
	defer front.Close()
	cfg := modeH1.config()
	cfg.Proxy = http.ProxyURL(must(http.NewRequest("GET", front.URL, nil)).URL)
	cfg.TLS.Certificates = certified("A")
	p := newPool(t, cfg)
	(identified{o, t}).meets(p)
	(identified{o, t}).meets(p)
	p.Reset()
	(identified{o, t}).meets(p)
	other := p.Config()
	other.TLS.Certificates = certified("B")
	(identified{o, t}).meets(newPool(t, other))
	want := []string{"A resumed=false", "A resumed=true", "A resumed=false", "B resumed=false"}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("the proxy saw %v, want %v", seen, want)
	}
}
