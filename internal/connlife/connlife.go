// Package connlife is what the pool tells package tracing/otel of a connection that has ended. It keeps that out of the
// pool's contract.
package connlife

import "time"

// End is the end of a connection that a request could have had.
type End struct {
	Origin   string        // "https://host:port"
	Protocol string        // "http/1.1" or "h2"
	Lived    time.Duration // from its establishment, the TLS handshake included, until the pool closed it or found it closed
}
