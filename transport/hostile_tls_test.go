package transport

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"time"
)

var tlsModes = modes[1:3]

// serverHello is a TLS record with the header of a message in it, and what there is of the message.
func serverHello(version byte, message string) string {
	n := len(message) + 4
	return string([]byte{22, 3, version, byte(n >> 8), byte(n), 2, 0, byte(len(message) >> 8), byte(len(message))}) + message
}

func TestHostileTLSServer(t *testing.T) {
	say := func(what string) func(*hostile) {
		return func(h *hostile) {
			io.WriteString(h, what)
			h.stall()
		}
	}
	with := func(cert tls.Certificate, _ *x509.CertPool) func(*tls.Config) {
		return func(cfg *tls.Config) { cfg.Certificates = []tls.Certificate{cert} }
	}
	expired := with(newCert(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	future := with(newCert(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }))
	handshake := func(h *hostile) { h.Conn.(*tls.Conn).Handshake(); h.stall() }
	attacks(t, tlsModes, []attack{
		{name: "accepts and never speaks", raw: true, serve: (*hostile).stall, err: "TLS handshake not done within 80ms"},
		{name: "stalls in the middle", raw: true, serve: say(serverHello(3, strings.Repeat("x", 40))[:20]), err: "TLS handshake not done within 80ms"},
		{name: "a byte at a time", raw: true, serve: func(h *hostile) {
			for _, b := range []byte(serverHello(3, strings.Repeat("x", 4000))) {
				if _, err := h.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(time.Millisecond)
			}
		}, err: "TLS handshake not done within 80ms"},
		{name: "closes at once", raw: true, serve: func(*hostile) {}, err: "TLS handshake with"},
		{name: "plain HTTP on the TLS port", raw: true, serve: say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), err: "server gave HTTP response to HTTPS client"},
		{name: "no TLS", raw: true, serve: say("220 mail.test ESMTP\r\n"), err: "first record does not look like a TLS handshake"},
		{name: "a message of 16 MiB", raw: true, serve: say("\x16\x03\x03\x00\x04\x02\xff\xff\xff"), err: "exceeds maximum"},
		{name: "an oversized record", raw: true, serve: say("\x16\x03\x03\xff\xff"), err: "oversized record"},
		{name: "endless warnings", raw: true, serve: say(strings.Repeat("\x15\x03\x03\x00\x02\x01\x5a", 1000)), err: "too many ignored records"},
		{name: "endless empty records", raw: true, serve: say(strings.Repeat("\x16\x03\x03\x00\x00", 1000)), err: "TLS handshake with"},
		{name: "TLS 1.0 chosen", raw: true, serve: say(serverHello(1, "\x03\x01"+strings.Repeat("r", 32)+"\x00\xc0\x13\x00")), err: "unsupported protocol version 301"},
		{name: "TLS 1.1 at most", serve: handshake, tls: func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, err: "protocol version not supported"},
		{name: "expired", serve: handshake, tls: expired, err: "certificate has expired"},
		{name: "not valid yet", serve: handshake, tls: future, err: "is not yet valid"},
		{name: "for another name", serve: handshake, host: "localhost", err: "not valid for any names, but wanted to match localhost"},
		{name: "for a name that forges a line of a log", serve: handshake, host: "localhost", tls: with(newCert(func(c *x509.Certificate) {
			c.DNSNames = []string{"evil.test\nlevel=INFO msg=" + strings.Repeat("fine", 5000)}
		})), err: `certificate is valid for evil.test\nlevel=INFO`},
		{name: "signed by itself", serve: handshake, tls: with(newCert()), err: "certificate signed by unknown authority"},
	})
}

func TestHostileProxy(t *testing.T) {
	connect := func(answer string) func(*hostile) {
		return func(h *hostile) {
			h.request()
			io.WriteString(h, answer)
			h.stall()
		}
	}
	attacks(t, tlsModes, []attack{
		{name: "never answers CONNECT", proxy: "http", serve: (*hostile).stall, err: "dial not done within 80ms"},
		{name: "endless header", proxy: "http", serve: endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"), err: "exceeds 1048576 bytes"},
		{name: "endless status line", proxy: "http", serve: endless("HTTP/1.1 200 ", "OK"), err: "exceeds 1048576 bytes"},
		{name: "no HTTP", proxy: "http", serve: connect("SSH-2.0-x\r\n"), err: "malformed HTTP"},
		{name: "a status that tells the password", proxy: "http", serve: connect("HTTP/1.1 407 joe:" + secret + "\r\nContent-Length: 0\r\n\r\n"), err: "407 Proxy Authentication Required"},
		{name: "a header that tells the password", proxy: "http", serve: connect("HTTP/1.1 200 OK\r\njoe " + secret + "\r\n\r\n"), err: "malformed MIME header"},
		{name: "only 1xx", proxy: "http", serve: connect("HTTP/1.1 100 Continue\r\n\r\n"), err: "100 Continue"},
		{name: "connects to itself", proxy: "http", serve: connect("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), err: "not done within 80ms"},
		{name: "SOCKS, never answers", proxy: "socks5", serve: (*hostile).stall, err: "dial not done within 80ms"},
		{name: "SOCKS, stalls in the address", proxy: "socks5", serve: func(h *hostile) {
			io.WriteString(h, "\x05\x00\x05\x00\x00\x03\xffabc")
			h.stall()
		}, err: "dial not done within 80ms"},
		{name: "SOCKS, speaks HTTP", proxy: "socks5", serve: func(h *hostile) { io.WriteString(h, "HTTP/1.1 400 Bad Request\r\n\r\n"); h.stall() }, err: "speaks version 72"},
		{name: "HTTPS, stalls in the handshake", proxy: "https", serve: (*hostile).stall, err: "not done within 80ms"},
	})
}
