package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// How much of a response that is given up is read so that its connection can be kept, and for how long.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// patience is drainTime, but in tests that need a connection to be kept on a busy machine.
var patience = drainTime

// discard reads the body of a response that nobody gets to its end, if that is near and takes no longer than d, and closes it.
func discard(resp *http.Response, d time.Duration) {
	if resp == nil || resp.Body == nil {
		return
	}
	if resp.ContentLength <= drainBytes && d > 0 {
		// Close ends a Read that takes too long.
		timer := time.AfterFunc(d, func() { resp.Body.Close() })
		defer timer.Stop()
		io.CopyN(io.Discard, resp.Body, drainBytes+1) //nolint:errcheck // then the connection is lost, as if it had not been tried
	}
	resp.Body.Close()
}

func closeBody(resp *http.Response) {
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
}

// attemptWithin sends req through next, and ends that if the response's header has not come within d.
func attemptWithin(d time.Duration, next http.RoundTripper, req *http.Request) (*http.Response, error) {
	late := &timeoutError{d}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(d, func() { cancel(late) })
	out := req.WithContext(ctx)
	resp, err := next.RoundTrip(out)
	if !timer.Stop() {
		cancel(late) // it is being called
		if err == nil {
			closeBody(resp)
		}
		if cause := context.Cause(ctx); err == nil || !errors.Is(err, cause) {
			err = cause
		}
		return nil, err
	}
	if err != nil || resp == nil {
		cancel(nil)
		return nil, err
	}
	if resp.Request == out {
		resp.Request = req
	}
	resp.Body = releasing(resp, cancel)
	return resp, nil
}

// releasing returns the body of resp, which calls release when it is done with: the context of an attempt must live
// as long as the body is read.
func releasing(resp *http.Response, release context.CancelCauseFunc) io.ReadCloser {
	if resp.Body == nil || resp.Body == http.NoBody {
		release(nil)
		return resp.Body
	}
	if w, ok := resp.Body.(io.Writer); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		return &upgraded{resp.Body, w, release}
	}
	return &body{resp.Body, release}
}

// body is a response body that releases the context of its attempt.
type body struct {
	io.ReadCloser
	release context.CancelCauseFunc
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.release(nil)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.release(nil)
	return b.ReadCloser.Close()
}

// upgraded is the body of a 101 response: the connection. Its two directions end one by one, so only Close releases.
type upgraded struct {
	io.ReadCloser
	io.Writer
	release context.CancelCauseFunc
}

func (u *upgraded) Close() error {
	defer u.release(nil)
	return u.ReadCloser.Close()
}

// CloseWrite is there if the connection has it, as with [http.Transport].
func (u *upgraded) CloseWrite() error {
	if cw, ok := u.Writer.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("retry: CloseWrite: %w", errors.ErrUnsupported)
}
