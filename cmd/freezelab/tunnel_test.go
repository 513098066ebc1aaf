package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/internal/loopbackca"
)

// tap keeps what is written through it.
type tap struct {
	net.Conn
	written []byte
}

func (t *tap) Write(b []byte) (int, error) {
	t.written = append(t.written, b...)
	return t.Conn.Write(b)
}

// clientHello returns what a client sends in a handshake, and in the first write after it.
func clientSends(t *testing.T, version uint16) (shaking, after []byte) {
	t.Helper()
	a, err := loopbackca.New("freezelab")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.PEM)
	near, far := net.Pipe()
	var server sync.WaitGroup
	server.Go(func() {
		c := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{a.Server}})
		if err := c.Handshake(); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
	})
	defer server.Wait()
	wire := &tap{Conn: near}
	c := tls.Client(wire, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MaxVersion: version})
	defer c.Close()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	n := len(wire.written)
	// A read takes the tickets, which the server of a pipe cannot send otherwise.
	go func() { _, _ = c.Read(make([]byte, 1)) }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return wire.written[:n:n], wire.written[n:]
}

func TestEndOfAHandshakeIsSeenFromOutside(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		shaking, after := clientSends(t, version)
		all := append(shaking, after...)
		for _, piece := range []int{1, 7, len(all)} {
			var h handshake
			total, done := 0, false
			for rest := all; len(rest) > 0 && !done; {
				b := rest[:min(piece, len(rest))]
				var n int
				n, done = h.read(b)
				total += n
				rest = rest[len(b):]
			}
			if !done || total != len(shaking) {
				t.Errorf("%s in pieces of %d: over is %v after %d bytes, want %d of %d", tls.VersionName(version), piece, done, total, len(shaking), len(all))
			}
		}
	}
}

func TestWhatIsNoHandshakeIsNone(t *testing.T) {
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00", "\x17\x03\x03\x00\x00"} {
		if n, done := new(handshake).read([]byte(text)); n != 0 || !done {
			t.Errorf("%q: %d bytes of a handshake, over is %v; want none, and over", text, n, done)
		}
	}
}
