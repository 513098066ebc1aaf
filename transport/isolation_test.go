package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tag is the text that a body of n bytes consists of, if it belongs to the request with an id.
func tag(id string, n int) []byte {
	unit := id + "|"
	return []byte(strings.Repeat(unit, n/len(unit)+1)[:n])
}

// tagged answers with the request's id in the header and all over the body, whose size X-Size says. X-Pause names where it
// waits a little. It refuses a request body that is not the request's own.
func tagged(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("X-Id")
	n, _ := strconv.Atoi(r.Header.Get("X-Size"))
	pause := func(where string) {
		if r.Header.Get("X-Pause") == where {
			<-time.After(time.Millisecond)
		}
	}
	pause("request")
	if b, err := io.ReadAll(r.Body); err == nil && !bytes.Equal(b, tag(id, len(b))) {
		http.Error(w, "a foreign request body", http.StatusTeapot)
		return
	}
	pause("header")
	w.Header().Set("X-Id", id)
	w.Header().Set("X-Host", r.Host)
	body := tag(id, n)
	w.Write(body[:n/2])
	if r.Header.Get("X-Pause") == "body" {
		http.NewResponseController(w).Flush()
		pause("body")
	}
	w.Write(body[n/2:])
}

// phases are where a request can be cancelled, beside the phases of its body.
var phases = []string{
	"before", "GetConn", "GotConn", "WroteHeaders", "WroteRequest", "GotFirstResponseByte", "RoundTrip", "request body", "body", "later", "deadline",
}

// cancelAt returns a context that ends in a phase of a request, and a function that the caller calls in those that it sees.
func cancelAt(phase string, r *rand.Rand) (ctx context.Context, at func(phase string), cancel func()) {
	ctx, cancel = context.WithCancel(context.Background())
	at = func(now string) {
		if now == phase {
			cancel()
		}
	}
	stop := func() bool { return true }
	switch phase {
	case "later":
		stop = time.AfterFunc(time.Duration(r.IntN(2000))*time.Microsecond, cancel).Stop
	case "deadline":
		end := cancel
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(2000))*time.Microsecond)
		inner := cancel
		cancel = func() { inner(); end() }
	}
	at("before")
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { at("GetConn") },
		GotConn:              func(httptrace.GotConnInfo) { at("GotConn") },
		WroteHeaders:         func() { at("WroteHeaders") },
		WroteRequest:         func(httptrace.WroteRequestInfo) { at("WroteRequest") },
		GotFirstResponseByte: func() { at("GotFirstResponseByte") },
		Got1xxResponse:       func(int, textproto.MIMEHeader) error { return nil },
	})
	all := cancel
	return ctx, at, func() { stop(); all() }
}

// bodyOf is a request body that says when it is read.
type bodyOf struct {
	io.Reader
	at func(string)
}

func (b bodyOf) Read(p []byte) (int, error) {
	b.at("request body")
	return b.Reader.Read(p)
}

// Every byte that a caller gets is of the answer to its own request, from the server that it asked, whatever became of the
// requests before it on the connection: cancelled in any phase, timed out, closed early. THAW_ISOLATION_REQUESTS sets how
// many requests there are, in all modes together.
func TestEveryByteIsOfTheOwnAnswer(t *testing.T) {
	total := 6000
	if s := os.Getenv("THAW_ISOLATION_REQUESTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("THAW_ISOLATION_REQUESTS: %v", err)
		}
		total = n
	}
	forModes(t, modes, func(t *testing.T, m mode) {
		seeds, _ := modelRand(t, 0)
		var servers []*server
		for range 3 {
			servers = append(servers, serve(t, m, func(s *http.Server) {
				s.Handler = http.HandlerFunc(tagged)
				s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 20}
			}))
		}
		p := newPool(t, m, Config{MaxConnsPerHost: 6, ResponseHeaderTimeout: 20 * time.Second, Logger: quiet})
		const workers = 24
		var next, answered, cut atomic.Int64
		var wg sync.WaitGroup
		for range workers {
			r := rand.New(rand.NewPCG(seeds.Uint64(), seeds.Uint64()))
			wg.Go(func() {
				for next.Add(1) <= int64(total/len(modes)) && !t.Failed() {
					whole, err := askTagged(p, servers[r.IntN(len(servers))], r, next.Load())
					switch {
					case err != nil:
						t.Error(err)
					case whole:
						answered.Add(1)
					default:
						cut.Add(1)
					}
				}
			})
		}
		wg.Wait()
		p.settled(t)
		if err := check(p.Transport); err != nil {
			t.Error(err)
		}
		st := p.Stats()
		if st.InUse != 0 || st.Streams != 0 || st.Waiting != 0 {
			t.Errorf("left: %+v", st.Origin)
		}
		if answered.Load() == 0 || cut.Load() == 0 || st.Reused == 0 {
			t.Errorf("%d answered, %d cut short, %d on used connections: want some of each", answered.Load(), cut.Load(), st.Reused)
		}
		t.Logf("%d requests read to their ends, %d cut short, on %d connections; %d requests on used ones, %d sent again",
			answered.Load(), cut.Load(), st.Dials, st.Reused, st.Replayed)
	})
}

// askTagged makes a random request and returns whether its answer was read to the end. An error is a foreign byte, or a
// failure that nothing explains.
func askTagged(p *testPool, s *server, r *rand.Rand, n int64) (whole bool, err error) {
	id := fmt.Sprintf("%s-%x-%x", s.url[len(s.url)-5:], n, r.Uint32())
	phase := ""
	if r.IntN(3) == 0 {
		phase = phases[r.IntN(len(phases))]
	}
	ctx, at, cancel := cancelAt(phase, r)
	defer cancel()
	req := newRequest(ctx, "GET", s.url+"/", id, noBody)
	if sent := []int{0, 10, 3000, 100000}[r.IntN(4)]; sent > 0 && r.IntN(2) == 0 {
		req.Method, req.ContentLength = "POST", int64(sent)
		req.Body = io.NopCloser(bodyOf{bytes.NewReader(tag(id, sent)), at})
	}
	size := []int{0, 30, 500, 5000, 70000}[r.IntN(5)]
	req.Header.Set("X-Size", strconv.Itoa(size))
	req.Header.Set("X-Pause", []string{"", "", "", "request", "header", "body"}[r.IntN(6)])

	resp, err := p.RoundTrip(req)
	if err != nil {
		if phase == "" {
			return false, fmt.Errorf("%s: %w", id, err)
		}
		return false, nil
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("X-Id"); got != id || resp.StatusCode != 200 || resp.Header.Get("X-Host") != req.URL.Host {
		return false, fmt.Errorf("%s got the answer to %s, %s", id, got, resp.Status)
	}
	at("RoundTrip")
	want := size
	if r.IntN(5) == 0 {
		want = r.IntN(size + 1)
	}
	b := make([]byte, want)
	got, err := io.ReadFull(resp.Body, b[:want/2])
	if err == nil {
		at("body")
		var more int
		more, err = io.ReadFull(resp.Body, b[want/2:])
		got += more
	}
	if !bytes.Equal(b[:got], tag(id, got)) {
		return false, fmt.Errorf("%s got foreign bytes: %q", id, b[:min(got, 100)])
	}
	if err == nil && want == size {
		var one [1]byte
		if n, end := resp.Body.Read(one[:]); n > 0 || end != io.EOF && phase == "" {
			return false, fmt.Errorf("%s got more than its answer: %d bytes, %w", id, n, end)
		}
		return true, nil
	}
	if err != nil && phase == "" {
		return false, fmt.Errorf("%s: body: %w", id, err)
	}
	return false, nil
}

// connOf sends a request and returns the connection that it got.
func connOf(t *testing.T, p *Transport, req *http.Request) *conn {
	t.Helper()
	var c *conn
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { c = info.Conn.(*conn) }})
	resp, err := p.RoundTrip(req.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return c
}

// A connection is shared by requests to one scheme, host and port through one proxy with one set of credentials, and by
// nobody else.
func TestConnectionsAreNotShared(t *testing.T) {
	s := serve(t, plain)
	secure := serve(t, modes[1])
	proxies := []string{"http://a:1@", "http://a:2@", "http://b:1@", "http://", "socks5://a:1@"}
	p := newPool(t, plain, Config{
		// All of them lead to the one server: an HTTP proxy for http URLs is but a server.
		Proxy: func(req *http.Request) (*url.URL, error) {
			if i, err := strconv.Atoi(req.Header.Get("X-Proxy")); err == nil {
				return url.Parse(proxies[i] + s.url[len("http://"):])
			}
			return nil, nil
		},
	})
	target := func(u, proxy string) *http.Request {
		req := newRequest(t.Context(), "GET", u, "it", noBody)
		if proxy != "" {
			req.Header.Set("X-Proxy", proxy)
		}
		return req
	}
	owner := make(map[uint64]string)
	for _, req := range []*http.Request{
		target(s.url, ""), target(secure.url, ""), target(strings.Replace(s.url, "127.0.0.1", "localhost", 1), ""),
		target(s.url, "0"), target(s.url, "1"), target(s.url, "2"), target(s.url, "3"),
		target("http://another.test", "0"), target("http://another.test", "3"),
	} {
		who := fmt.Sprintf("%s through %q", req.URL, req.Header.Get("X-Proxy"))
		first, second := connOf(t, p.Transport, req), connOf(t, p.Transport, req)
		if first.id != second.id {
			t.Errorf("%s: two connections where one is enough", who)
		}
		// A proxy that is sent the requests themselves has connections of its own, whatever their hosts are.
		shares := req.URL.Host == "another.test"
		if other := owner[first.id]; (other != "") != shares {
			t.Errorf("%s has the connection of %q", who, other)
		}
		owner[first.id] = who
	}
}

// A client certificate, and what a TLS configuration trusts, stay with the Transport that has the configuration.
func TestTLSConfigurationsAreNotShared(t *testing.T) {
	_, roots := testCert()
	mine, mineRoots := newCert(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	forModes(t, tlsModes, func(t *testing.T, m mode) {
		var with, without atomic.Int64
		s := serve(t, m, func(s *http.Server) {
			s.TLSConfig.ClientAuth, s.TLSConfig.ClientCAs = tls.VerifyClientCertIfGiven, mineRoots
			s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if len(r.TLS.PeerCertificates) > 0 {
					with.Add(1)
				} else {
					without.Add(1)
				}
			})
		})
		certified := newPool(t, m, Config{TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{mine}}})
		anonymous := newPool(t, m, Config{})
		stranger := newPool(t, m, Config{TLS: &tls.Config{RootCAs: x509.NewCertPool()}})
		for range 5 {
			for _, p := range []*testPool{certified, anonymous} {
				connOf(t, p.Transport, s.request(t.Context(), "GET", "it", noBody))
				p.CloseIdleConnections() // so that sessions are resumed
				p.settled(t)
			}
			_, err := stranger.RoundTrip(s.request(t.Context(), "GET", "it", noBody))
			var unknown x509.UnknownAuthorityError
			if !errors.As(err, &unknown) {
				t.Errorf("a Transport that trusts nobody: %v", err)
			}
		}
		if with.Load() != 5 || without.Load() != 5 {
			t.Errorf("%d requests with a certificate and %d without, want 5 of each", with.Load(), without.Load())
		}
		if certified.Stats().Resumed == 0 || anonymous.Stats().Resumed == 0 {
			t.Error("no session was resumed, so nothing was shown about them")
		}
	})
}

// The credentials of a proxy go to the proxy, and never through it.
func TestProxyCredentialsStayWithTheProxy(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		for _, scheme := range []string{"http", "socks5"} {
			if scheme == "http" && !m.tls {
				continue // a request for an http URL is the proxy's to read, credentials included
			}
			t.Run(scheme, func(t *testing.T) {
				var seen sync.Map
				s := serve(t, m, func(s *http.Server) {
					s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						for name, values := range r.Header {
							seen.Store(name, fmt.Sprint(values))
						}
					})
				})
				proxy := serveTunnel(t, scheme, strings.SplitAfter(s.url, "//")[1])
				p := newPool(t, m, Config{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(scheme + "://joe:" + secret + "@" + proxy) }})
				for range 3 {
					connOf(t, p.Transport, s.request(t.Context(), "GET", "it", noBody))
				}
				n := 0
				seen.Range(func(name, value any) bool {
					n++
					if strings.Contains(value.(string), secret) || name == "Proxy-Authorization" {
						t.Errorf("the origin saw %s: %s", name, value)
					}
					return true
				})
				if n == 0 {
					t.Error("the origin saw no header at all")
				}
				for name := range p.Stats().Origins {
					if strings.Contains(name, secret) {
						t.Errorf("Stats shows the proxy's password: %s", name)
					}
				}
			})
		}
	})
}

// serveTunnel starts a proxy that connects everyone to target, after any credentials.
func serveTunnel(t *testing.T, scheme, target string) (addr string) {
	t.Helper()
	u := serveHostile(t, plain, func(h *hostile) {
		if scheme == "http" {
			if h.request() == nil {
				return
			}
			io.WriteString(h, "HTTP/1.1 200 OK\r\n\r\n")
		} else {
			read := func(n int) []byte {
				b := make([]byte, n)
				io.ReadFull(h.r, b)
				return b
			}
			read(int(read(2)[1]))
			h.Write([]byte{socksVersion, socksPassword})
			read(int(read(2)[1])) // the user
			read(int(read(1)[0])) // the password
			h.Write([]byte{1, 0})
			if head := read(4); head[3] == socksAddrName {
				read(int(read(1)[0]) + 2)
			} else {
				read(map[byte]int{socksAddrIPv4: 4, socksAddrIPv6: 16}[head[3]] + 2)
			}
			h.Write([]byte{socksVersion, 0, 0, socksAddrIPv4, 0, 0, 0, 0, 0, 0})
		}
		to, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(to, h.r); to.Close() })
		io.Copy(h, to)
		h.Close()
		wg.Wait()
	})
	return strings.TrimPrefix(u, "http://")
}
