package retry

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/idempotency"
)

// DefaultDecide is the decision unless [Policy] names another: Retry
//
//   - after an error, if [SafeToRetry] says so;
//   - after 429 (Too Many Requests), whatever the method: the server says that it did not process the request;
//   - after 502, 503 and 504, if the request is idempotent: by its method (RFC 9110, section 9.2.2), or because it
//     carries an Idempotency-Key or X-Idempotency-Key header;
//
// and each only if the body can be sent again: there is none, or it has GetBody. It stops after everything else. That
// includes 500, which is as likely a bug as an accident.
func DefaultDecide(a Attempt) Decision {
	if a.Err != nil {
		if SafeToRetry(a.Request, a.Err) {
			return Retry
		}
		return Stop
	}
	switch a.Response.StatusCode {
	case http.StatusTooManyRequests:
		if rewindable(a.Request) {
			return Retry
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if idempotency.Of(a.Request) && rewindable(a.Request) {
			return Retry
		}
	}
	return Stop
}

// SafeToRetry reports whether req, which failed with err, may be sent again, for callers with a loop of their own. It
// is what [DefaultDecide] goes by. True means that
//
//   - req is idempotent, or err proves that it was not processed: the connection could not be made, nothing was
//     written, or the HTTP/2 server said so;
//   - its body can be sent again: there is none, or it has GetBody;
//   - its context has not ended, and err is none that would only come again, such as a certificate that does not
//     verify or a closed pool.
//
// An error says that the request was not processed, or that it would only come again, by methods Unprocessed() bool and
// Permanent() bool, somewhere in its tree; those of package transport and *[Error] do.
//
// Of a RoundTripper whose errors do not say so, such as [http.Transport], a *[net.OpError] of a dial and a *[net.DNSError] are
// taken to be of the request's own connection. A body that is read from another service must not fail with these as they
// are.
//
// If an [http.Client] has followed a redirect, its error is that of another request, and req was processed. The URL in a
// *[url.Error] tells, unless a server redirects to the very same one: turn redirects off where that may be.
func SafeToRetry(req *http.Request, err error) bool {
	return err != nil && !ended(req) && rewindable(req) && !permanent(err) &&
		(idempotency.Of(req) || unprocessed(err) && !redirected(req, err))
}

// redirected reports whether err is that of another request, to which the one of req was redirected.
func redirected(req *http.Request, err error) bool {
	e, ok := errors.AsType[*url.Error](err)
	if !ok {
		return false
	}
	last, err := url.Parse(e.URL)
	if err != nil {
		return true
	}
	first := *req.URL
	first.User, last.User = nil, nil // whose password *url.Error does not show
	return first.String() != last.String()
}

// rewindable reports whether the body of req can be sent again.
func rewindable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// ended reports whether the caller has given up on req.
func ended(req *http.Request) bool {
	select {
	case <-req.Cancel:
		return true
	default:
		return req.Context().Err() != nil
	}
}

// unprocessed reports whether err proves that the server did nothing with the request.
func unprocessed(err error) bool {
	if e, ok := errors.AsType[interface {
		error
		Unprocessed() bool
	}](err); ok {
		return e.Unprocessed()
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "dial" || e.Op == "proxyconnect") {
		return true
	}
	if e, ok := errors.AsType[http2.StreamError](err); ok && e.Code == http2.ErrCodeRefusedStream {
		return true
	}
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// permanent reports whether another attempt would meet err again, or make things worse.
func permanent(err error) bool {
	if e, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err); ok && e.Permanent() {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true // the server does not speak TLS
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "remote error" || e.Op == "local error") {
		return true // a TLS alert: the two sides cannot agree
	}
	return errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, errors.ErrUnsupported)
}
