//go:build linux

package trial

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/thawhttp/thaw/transport"
	"golang.org/x/net/dns/dnsmessage"
)

// play is what an actor does: see network.act.
func play(role string) error {
	dec, enc := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	switch role {
	case "server":
		return playServer(dec, enc)
	case "client":
		return playClient(dec, enc)
	}
	return fmt.Errorf("no role is called %q", role)
}

// playServer serves HTTP on port 80 and HTTPS on port 443 of all addresses. It is asked how often a request has come.
func playServer(dec *json.Decoder, enc *json.Encoder) error {
	var mu sync.Mutex
	counts := make(map[string]int) // guarded by mu
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(headerID)
		mu.Lock()
		counts[id]++
		mu.Unlock()
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, answer(id))
	})
	cert, _ := credentials()
	for _, port := range []string{"80", "443"} {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		s := &http.Server{
			Handler:   handler,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
			ErrorLog:  log.New(io.Discard, "", 0), // broken connections are no news
		}
		defer s.Close()
		serve := func() error { return s.Serve(l) }
		if port == "443" {
			serve = func() error { return s.ServeTLS(l, "", "") }
		}
		go func() { _ = serve() }() // http.ErrServerClosed
	}
	for {
		var id *string
		if err := dec.Decode(&id); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := 0
		if id != nil {
			mu.Lock()
			n = counts[*id]
			mu.Unlock()
		}
		if err := enc.Encode(n); err != nil {
			return err
		}
	}
}

// clientOrder is the first order of a client: who it is.
type clientOrder struct {
	Plain     bool // a tuned http.Transport in place of the pool
	Protocol  protocol
	TLS       bool
	TrustIdle time.Duration // VerifyAfter, too
	// VerifyTimeout is the pool's; zero is its default.
	VerifyTimeout time.Duration
}

// requestOrder is every other order. Names replaces what the client's name server knows.
type requestOrder struct {
	Method, Host, ID string
	Timeout          time.Duration
	Names            map[string][]string // addresses by name
}

// requestAnswer is what came of a request.
type requestAnswer struct {
	Err    string
	Took   time.Duration
	Dial   time.Duration // the last one, name resolution included
	Reused bool
	Port   string // of the client's end
	Remote string
}

// playClient sends requests.
func playClient(dec *json.Decoder, enc *json.Encoder) error {
	var order clientOrder
	if err := dec.Decode(&order); err != nil {
		return err
	}
	names, err := newNameServer()
	if err != nil {
		return err
	}
	defer names.close()
	var mu sync.Mutex
	var dialTook time.Duration // guarded by mu
	dialer := &net.Dialer{Resolver: names.resolver()}
	cfg := settings(order.Protocol, new(wires))
	cfg.TLS.ServerName = "example.com"
	cfg.TrustIdle, cfg.VerifyAfter, cfg.VerifyTimeout = order.TrustIdle, order.TrustIdle, order.VerifyTimeout
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		began := time.Now()
		nc, err := dialer.DialContext(ctx, network, addr)
		mu.Lock()
		dialTook = time.Since(began)
		mu.Unlock()
		return nc, err
	}
	var rt http.RoundTripper
	if order.Plain {
		plain, err := transport.NewHTTPTransport(cfg)
		if err != nil {
			return err
		}
		rt = plain
	} else {
		pool, err := transport.New(cfg)
		if err != nil {
			return err
		}
		defer pool.Close()
		rt = pool
	}
	if err := enc.Encode("ready"); err != nil {
		return err
	}
	for {
		var req requestOrder
		if err := dec.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if req.Names != nil {
			names.know(req.Names)
		}
		var a requestAnswer
		began := time.Now()
		if err := send(rt, order, req, &a); err != nil {
			a.Err = err.Error()
		}
		a.Took = time.Since(began)
		mu.Lock()
		a.Dial = dialTook
		mu.Unlock()
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
}

func send(rt http.RoundTripper, order clientOrder, r requestOrder, a *requestAnswer) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		a.Reused = info.Reused
		_, a.Port, _ = net.SplitHostPort(info.Conn.LocalAddr().String())
		a.Remote, _, _ = net.SplitHostPort(info.Conn.RemoteAddr().String())
	}})
	u := url.URL{Scheme: "http", Host: r.Host, Path: "/"}
	if order.TLS {
		u.Scheme = "https"
	}
	var body io.Reader
	if r.Method == http.MethodPost {
		body = strings.NewReader("a body")
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), body)
	if err != nil {
		return err
	}
	req.Header.Set(headerID, r.ID)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && string(b) != answer(r.ID) {
		err = errNotItsOwn
	}
	return err
}

// nameServer is a DNS server on loopback that knows what it is told, with no time to live.
type nameServer struct {
	conn   net.PacketConn
	served chan struct{}

	mu    sync.Mutex // guards names
	names map[string][]string
}

func newNameServer() (*nameServer, error) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &nameServer{conn: pc, served: make(chan struct{})}
	go s.serve()
	return s, nil
}

func (s *nameServer) close() {
	s.conn.Close()
	<-s.served
}

func (s *nameServer) know(names map[string][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = names
}

// resolver asks s and nobody else.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) serve() {
	defer close(s.served)
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply, err := s.reply(buf[:n]); err == nil {
			_, _ = s.conn.WriteTo(reply, from) // who gets no answer asks again
		}
	}
}

// reply answers one question.
func (s *nameServer) reply(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	if len(m.Questions) != 1 {
		return nil, errors.New("not one question")
	}
	q := m.Questions[0]
	s.mu.Lock()
	addrs := s.names[strings.TrimSuffix(q.Name.String(), ".")]
	s.mu.Unlock()
	for _, addr := range addrs {
		ip := net.ParseIP(addr)
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch v4 := ip.To4(); {
		case q.Type == dnsmessage.TypeA && v4 != nil:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: [4]byte(v4)}})
		case q.Type == dnsmessage.TypeAAAA && v4 == nil:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: [16]byte(ip)}})
		}
	}
	return m.Pack()
}
