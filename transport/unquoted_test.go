package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestErrorsDoNotQuoteWhatAServerSent(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, answer string
		want         string // in the error
		proxy        bool   // it is a proxy's answer to CONNECT
	}{
		{"StatusLine", "secret\r\n\r\n", "malformed HTTP response", false},
		{"Version", "HTTP/secret 200 OK\r\n\r\n", "malformed HTTP version", false},
		{"StatusCode", "HTTP/1.1 secret\r\n\r\n", "malformed HTTP status code", false},
		{"HeaderWithoutColon", ok + "Set-Cookie secret\r\n\r\n", "malformed MIME header", false},
		{"FirstHeaderFolded", ok + " secret\r\n\r\n", "malformed MIME header initial line", false},
		{"NoHeaderName", ok + ": secret\r\n\r\n", "malformed MIME header line", false},
		{"ContentLength", ok + "Content-Length: secret\r\n\r\n", "bad Content-Length", false},
		{"ContentLengths", ok + "Content-Length: 1\r\nContent-Length: secret\r\n\r\n", "multiple Content-Length headers", false},
		{"TransferEncoding", ok + "Transfer-Encoding: secret\r\n\r\n", "unsupported transfer encoding", false},
		{"TransferEncodings", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: secret\r\n\r\n", "too many transfer encodings", false},
		{"TrailerNames", ok + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n", "bad trailer key", false},
		{"Trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Signature secret\r\n\r\n", "malformed MIME header", false},
		{"Proxy", "secret\r\n\r\n", "malformed HTTP response", true},
		{"ProxyHeader", ok + "Proxy-Auth secret\r\n\r\n", "malformed MIME header", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serveH1(t, &h1Peer{converse: func(_ int, c *net.TCPConn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(c, tt.answer)
				}
			}})
			var cfg Config
			target := s.url
			if tt.proxy {
				proxy, err := url.Parse(s.url)
				if err != nil {
					t.Fatal(err)
				}
				proxy.User = url.UserPassword("secret", "secret")
				cfg.Proxy, target = http.ProxyURL(proxy), "https://origin.test"
			}
			p := newPool(t, plain, cfg)
			resp, err := p.RoundTrip(newRequest(context.Background(), "POST", target, "id", noBody))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Fatal("no error")
			}
			if msg := err.Error(); strings.Contains(msg, "secret") || !strings.Contains(msg, tt.want) {
				t.Errorf("the error is %q, want it to say %q and not what was sent", msg, tt.want)
			}
		})
	}
}

func TestErrorsThatQuoteNothingAreLeftAlone(t *testing.T) {
	for _, err := range []error{
		io.ErrUnexpectedEOF,
		&net.DNSError{Err: "no such host", Name: "origin.test"},
		&unquotedError{`malformed HTTP response`, nil},
		&unquotedError{`the caller's "own" words`, nil},
		&unquotedError{`one malformed " only`, nil},
	} {
		if got := unquoted(err); !errors.Is(got, err) || got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
	}
}
