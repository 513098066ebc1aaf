package retry

import (
	"errors"
	"fmt"
	"time"

	"github.com/thawhttp/thaw/internal/legible"
)

// Error is the error of a request after its last attempt. Every error of the RoundTripper made by [New] is one, so
// errors.As finds out how often a request was sent; errors.Is and errors.As reach the cause. (Of a request that the
// Timeout of an [http.Client] ended, that client keeps only the text.)
type Error struct {
	Attempts int   // made, 1 if the request was sent only once
	Err      error // of the last one, or what ended the wait for another

	doubtful bool // an earlier attempt may have been processed
}

func (e *Error) Error() string {
	if e.Attempts <= 1 {
		return legible.Text(e.Err.Error())
	}
	return legible.Text(fmt.Sprintf("retry: failed after %d attempts: %v", e.Attempts, e.Err))
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the cause is a timeout. *url.Error asks its immediate cause for it.
func (e *Error) Timeout() bool { return timedOut(e.Err) }

// Unprocessed reports whether it is certain that no server did anything with the request, on any of its attempts.
func (e *Error) Unprocessed() bool { return !e.doubtful && unprocessed(e.Err) }

// timedOut reports whether err is a timeout.
func timedOut(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// timeoutError is the end of an attempt by AttemptTimeout. It does not match context.DeadlineExceeded: the request's
// context has not ended.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return "retry: no response header within the " + e.after.String() + " of an attempt"
}

// Timeout is true, as net.Error has it.
func (e *timeoutError) Timeout() bool { return true }
