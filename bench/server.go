package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// streams is how many concurrent streams the HTTP/2 server allows on a connection.
	streams = 250
	// slowness is how long the server takes for /slow, so that the requests of a burst overlap.
	slowness = 20 * time.Millisecond
	// wildcard is a domain whose names the server's certificate covers, for benchmarks that need many origins.
	wildcard = "bench.test"
)

// The protocols that the server speaks, each on its own port.
const (
	h1   = "h1"  // HTTP/1.1
	tls1 = "tls" // HTTP/1.1 over TLS
	h2   = "h2"  // HTTP/2 over TLS
)

var protocols = []string{h1, tls1, h2}

// hello is what the server prints when it is ready.
type hello struct {
	Addrs       map[string]string // by protocol
	Certificate []byte            // PEM
}

// serve is the main function of the server's process. It ends when its standard input does, which is when its
// parent closes it or dies.
func serve() error {
	cert, certPEM, err := newCertificate()
	if err != nil {
		return err
	}
	up := hello{Addrs: make(map[string]string), Certificate: certPEM}
	for _, proto := range protocols {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		up.Addrs[proto] = ln.Addr().String()
		srv := &http.Server{
			Handler:   http.HandlerFunc(answer),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
			Protocols: new(http.Protocols),
			HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: streams},
			// Clients that hang up while a connection is set up are part of a burst.
			ErrorLog: log.New(io.Discard, "", 0),
		}
		srv.Protocols.SetHTTP1(proto != h2)
		srv.Protocols.SetHTTP2(proto == h2)
		if proto == h1 {
			go func() { log.Fatal(srv.Serve(ln)) }()
		} else {
			go func() { log.Fatal(srv.ServeTLS(ln, "", "")) }()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(up); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// reply is the body of every response.
var reply = bytes.Repeat([]byte("thaw"), 32)

func answer(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	if r.URL.Path == "/slow" {
		time.Sleep(slowness)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	w.Write(reply)
}

// newCertificate returns a certificate that signs itself, and its PEM for the client to trust.
func newCertificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: wildcard},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		DNSNames:     []string{"*." + wildcard},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certPEM, nil
}

// server is the other process, as the client's process knows it.
type server struct {
	hello
	roots *x509.CertPool
	stop  func() error // ends the process and waits for it
}

// startServer runs this binary again as the server.
func startServer() (*server, error) {
	cmd, err := again(roleServer)
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := sync.OnceValue(func() error {
		stdin.Close()
		return cmd.Wait()
	})
	var up hello
	if err := json.NewDecoder(stdout).Decode(&up); err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not start: %w", err), stop())
	}
	s, err := newServer(up)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	s.stop = stop
	return s, nil
}

// newServer returns the server that said hello. Only the process that started it can stop it.
func newServer(h hello) (*server, error) {
	s := &server{hello: h, roots: x509.NewCertPool()}
	if !s.roots.AppendCertsFromPEM(h.Certificate) {
		return nil, errors.New("the server's certificate does not parse")
	}
	return s, nil
}

// url returns the URL of path over proto, on the loopback address.
func (s *server) url(proto, path string) string {
	return scheme(proto) + "://" + s.Addrs[proto] + path
}

// urlOf is url for one of the origins that exist for benchmarks that need many; the number names it. Only a
// client made by [server.enter] gets there.
func (s *server) urlOf(proto string, origin int) string {
	_, port, _ := net.SplitHostPort(s.Addrs[proto])
	return fmt.Sprintf("%s://o%d.%s:%s/", scheme(proto), origin, wildcard, port)
}

func scheme(proto string) string {
	if proto == h1 {
		return "http"
	}
	return "https"
}
