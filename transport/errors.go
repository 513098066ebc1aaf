package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/thawhttp/thaw/internal/legible"
)

var (
	// ErrClosed is the error of using a [Transport] after Close, and of the requests that Close interrupted.
	ErrClosed = errors.New("transport: closed")

	// ErrPoolExhausted is the error of a request that got no connection because of a limit of the pool: of MaxWaitersPerHost, or
	// because AcquireTimeout passed while all that MaxConnsPerHost, MaxConns and MaxStreamsPerConn allow was in use; and of Warm
	// that is asked for more connections than the limits allow.
	ErrPoolExhausted error = &timeoutError{"transport: pool exhausted"}

	// ErrInvalidRequest is the error of a request that the pool refuses because it is incomplete or malformed, and of a URL
	// given to Warm that is.
	ErrInvalidRequest = errors.New("transport: invalid request")
)

// errUnsolicited ends an HTTP/1.1 connection.
var errUnsolicited = errors.New("the server sent bytes that no request had asked for")

// opError says what the pool was doing when err happened. It passes on what callers look for in an error of
// [http.Transport]: Unwrap for errors.Is and errors.As, and Timeout, because *url.Error asks its immediate cause for it.
type opError struct {
	msg string
	err error
}

func (e *opError) Error() string { return legible.Text(e.msg + ": " + e.err.Error()) }
func (e *opError) Unwrap() error { return e.err }

func (e *opError) Timeout() bool { return isTimeout(e.err) }

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// opErrorf wraps err with a message that names what was tried. An answer in plain HTTP to a TLS handshake gets the
// error that [http.Client] gives for it.
func opErrorf(err error, format string, args ...any) error {
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(header.RecordHeader[:]) == "HTTP/" {
		err = fmt.Errorf("%w (%w)", http.ErrSchemeMismatch, err)
	}
	return &opError{msg: "transport: " + fmt.Sprintf(format, args...), err: err}
}

// verdict says of an error of RoundTrip what a layer above must know to send the request again.
type verdict struct {
	error
	unprocessed bool // no server did anything with the request
	permanent   bool // another attempt would meet the error again, or make things worse
}

func (v *verdict) Error() string     { return legible.Text(v.error.Error()) }
func (v *verdict) Unwrap() error     { return v.error }
func (v *verdict) Unprocessed() bool { return v.unprocessed }
func (v *verdict) Permanent() bool   { return v.permanent }

// Timeout is passed on, because *url.Error asks its immediate cause for it.
func (v *verdict) Timeout() bool { return isTimeout(v.error) }

// gone reports whether err says that the pool takes no request, or no more for now.
func gone(err error) bool { return errors.Is(err, ErrClosed) || errors.Is(err, ErrPoolExhausted) }

// quoting is in the messages of those errors of net/http that quote what a server or a proxy sent: a status line, a
// header, a trailer.
var quoting = []string{"malformed ", "Content-Length", "transfer encoding", "railer key"}

// unquotedError is an error without what its message quoted.
type unquotedError struct {
	msg string
	err error
}

func (e *unquotedError) Error() string { return e.msg }
func (e *unquotedError) Unwrap() error { return e.err }

// unquoted returns err with a message that says what is wrong with a response, and leaves out what the response said:
// that may be secret.
func unquoted(err error) error {
	msg := err.Error()
	for _, what := range quoting {
		_, after, ok := strings.Cut(msg, what)
		if !ok {
			continue
		}
		from, to := strings.IndexByte(after, '"'), strings.LastIndexByte(after, '"')
		if from < to {
			before := msg[:len(msg)-len(after)]
			return &unquotedError{before + after[:from] + `"..."` + after[to+1:], err}
		}
	}
	return err
}

// shown returns err as callers get to see it: without what a server said in it, and fit for a line of a log.
func shown(err error) error { return legible.Error(unquoted(err)) }

// timeoutError is the end of one of the pool's own timeouts. It does not match context.DeadlineExceeded: the request's
// context has not ended.
type timeoutError struct{ msg string }

func timedOutAfter(what string, d time.Duration) *timeoutError {
	return &timeoutError{what + " not done within " + d.String()}
}

func (e *timeoutError) Error() string   { return e.msg }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
