// Package idempotency tells which requests may be processed twice. The pool and the retries have to agree on it.
package idempotency

import "net/http"

// Of reports whether req may be processed twice: by its method (RFC 9110, section 9.2.2), or because it carries an
// idempotency key.
func Of(req *http.Request) bool {
	switch req.Method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return HasKey(req)
}

// HasKey reports whether req carries an idempotency key. A key that is present with no values counts but is not sent,
// as in net/http.
func HasKey(req *http.Request) bool {
	if len(req.Header) == 0 {
		return false
	}
	_, key := req.Header["Idempotency-Key"]
	_, xkey := req.Header["X-Idempotency-Key"]
	return key || xkey
}
