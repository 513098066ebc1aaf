// Package http2 has nothing of HTTP/2 but the name. [net/http.Client] honours its Timeout by the context of a request if it
// knows that the RoundTripper looks at it; else it starts a goroutine for each request and makes a Request.Cancel, which
// costs the RoundTripper another goroutine. It knows its own two, and any type whose name is http2.Transport, by which it
// recognises that of golang.org/x/net/http2: see knownRoundTripperImpl in net/http/client.go.
package http2

import "net/http"

// Transport is a RoundTripper that net/http knows to look at the context of a request.
type Transport struct{ Next http.RoundTripper }

// Known returns next, which must look at the context of a request, as one that net/http knows.
func Known(next http.RoundTripper) *Transport { return &Transport{next} }

// RoundTrip sends req with the RoundTripper below.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.Next.RoundTrip(req)
}

// CloseIdleConnections closes the idle connections of the RoundTripper below, if it has such a method.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.Next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
