package transport

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/legible"
)

// validate refuses what [http.Transport] refuses, before a connection is taken for it.
func validate(req *http.Request) error {
	switch {
	case req == nil:
		return invalid("nil *http.Request")
	case req.URL == nil:
		return invalid("nil Request.URL")
	case req.Header == nil:
		return invalid("nil Request.Header")
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return invalid("unsupported protocol scheme %q: want http or https", req.URL.Scheme)
	case !validMethod(req.Method):
		return invalid("invalid method %q", req.Method)
	case req.URL.Host == "":
		return invalid("no Host in request URL")
	case strings.ContainsFunc(req.URL.Opaque, isControl) || strings.ContainsFunc(req.URL.RawQuery, isControl):
		return invalid("control character in Request.URL") // which could end the request line, or another one's :path
	}
	if err := validateHost(req.URL); err != nil {
		return err
	}
	if err := validateHeader("header", req.Header); err != nil {
		return err
	}
	return validateHeader("trailer", req.Trailer)
}

// invalid returns an error that says what is wrong with a request.
func invalid(format string, args ...any) error {
	return legible.Error(fmt.Errorf("%w: %s", ErrInvalidRequest, fmt.Sprintf(format, args...)))
}

const (
	// maxHost is the length of the longest host that can be called, in bytes: that of the longest name in DNS (RFC 1035,
	// section 2.3.4). The pool keeps a host's name with all that it remembers of it, and a server chooses it by a redirect.
	maxHost = 255
	// maxWritten is the length of the longest way to write such a host, in characters that are not ASCII, with a port.
	maxWritten = 1024
)

// validateHost refuses hosts that no connection could lead to, before anything is kept of them.
func validateHost(u *url.URL) error {
	if n := len(u.Host); n > maxHost && (n > maxWritten || len(hostport.Host(u)) > maxHost || len(u.Port()) > len("65535")) {
		return invalid("the host of the URL has %d bytes: want at most %d in its ASCII form, and a port of at most 5", n, maxHost)
	}
	if strings.ContainsFunc(u.Host, isControl) {
		return invalid("control character in the host of the URL")
	}
	return nil
}

// validateHTTP1 refuses what net/http finds out only when it writes an HTTP/1.1 request, and then closes the
// connection. HTTP/2 has its own rules for these.
func validateHTTP1(req *http.Request) error {
	if req.ContentLength != 0 && req.Body == nil {
		return invalid("Request.ContentLength is %d with a nil Body", req.ContentLength)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// validateHeader names the field at fault, but not its value, which may be secret.
func validateHeader(what string, h http.Header) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return invalid("invalid %s field name %q", what, name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return invalid("invalid %s field value for %q", what, name)
			}
		}
	}
	return nil
}

// validMethod reports whether m is a token (RFC 9110, section 9.1) or empty, which means GET. The usual methods
// need no look at their letters.
func validMethod(m string) bool {
	switch m {
	case "", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD":
		return true
	}
	for _, r := range m {
		if !httpguts.IsTokenRune(r) {
			return false
		}
	}
	return true
}

// hasBody reports whether req has a body to send.
func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// closeBody closes the body of a request that will not be sent, as every RoundTripper must.
func closeBody(req *http.Request) {
	if req != nil && req.Body != nil {
		req.Body.Close()
	}
}

// wantsClose reports whether req asks for its connection to be closed after it.
func wantsClose(req *http.Request) bool {
	return req.Close || len(req.Header["Connection"]) > 0 && httpguts.HeaderValuesContainsToken(req.Header["Connection"], "close")
}

// needsHTTP1 reports whether req asks for a WebSocket, which a server upgrades on HTTP/1.1 only.
func needsHTTP1(req *http.Request) bool {
	return len(req.Header["Upgrade"]) > 0 && len(req.Header["Connection"]) > 0 &&
		httpguts.HeaderValuesContainsToken(req.Header["Connection"], "upgrade") &&
		strings.EqualFold(req.Header.Get("Upgrade"), "websocket")
}
