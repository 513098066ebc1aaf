package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
)

// outgoing is a request on its way: a copy of the caller's, whose body says what became of it.
type outgoing struct {
	http.Request
	body requestBody
}

// errDetached is what the protocol layer reads from the body of an attempt that is over.
var errDetached = errors.New("transport: request body read after the attempt ended")

// requestBody is the body of one attempt. It remembers whether anything was read from it, and keeps Close from the
// caller's body until the attempt is known to be the last, so that an untouched body can be sent elsewhere.
//
// The protocol layer may read and close it at once, and even read it after it was closed.
type requestBody struct {
	rc    io.ReadCloser
	state atomic.Uint32 // of the bits below
	err   error         // of a failed read other than io.EOF; written before bodyFailed is set
	// lease, on HTTP/2, has the wait for the response's header begin when the body is sent; turn is the lease's.
	lease *leaseRecord
	turn  uint64
	// proceed, on HTTP/2, is closed when the body may be sent: see expectContinue.
	proceed *expectation
	// then is called when the body is done with: see whenSent. It is written before bodyAwaited is set.
	then func()
}

const (
	bodyRead     = 1 << iota // Read was called
	bodyClosed               // the protocol layer called Close
	bodyEOF                  // it has been read to its end
	bodyFailed               // the caller's body returned an error
	bodyFinal                // the attempt is the last one
	bodyDetached             // the attempt is over
	bodyAwaited              // somebody waits for bodyDone
	bodyDone     = bodyClosed | bodyEOF | bodyFailed
)

func (b *requestBody) Read(p []byte) (int, error) {
	if b.proceed != nil && !b.proceed.wait() {
		return 0, errDetached
	}
	for {
		old := b.state.Load()
		if old&(bodyClosed|bodyDetached) != 0 {
			return 0, errDetached
		}
		if b.state.CompareAndSwap(old, old|bodyRead) {
			break
		}
	}
	n, err := b.rc.Read(p)
	switch {
	case err == io.EOF:
		if b.set(bodyEOF)&bodyEOF == 0 && b.lease != nil {
			b.lease.expectHeader(b.turn)
		}
	case err != nil && b.state.Load()&bodyClosed == 0: // else it is the protocol layer's Close that ended the read
		b.err = err
		b.set(bodyFailed)
	}
	return n, err
}

// set sets a bit of the state, and has then called if it is the first of bodyDone. It returns the state before.
func (b *requestBody) set(bit uint32) uint32 {
	old := b.state.Or(bit)
	if bit&bodyDone != 0 && old&bodyDone == 0 && old&bodyAwaited != 0 {
		b.then()
	}
	return old
}

// whenSent has f called once the protocol layer is done with the body: at once, or when it is.
func (b *requestBody) whenSent(f func()) {
	b.then = f
	if b.state.Or(bodyAwaited)&bodyDone != 0 {
		f()
	}
}

// Close passes the call on once something was read, or the attempt is the last: then the body is not to be sent
// elsewhere.
func (b *requestBody) Close() error {
	if b.proceed != nil {
		b.proceed.refuse()
	}
	if old := b.set(bodyClosed); old&bodyClosed == 0 && old&(bodyRead|bodyFinal) != 0 {
		return b.rc.Close()
	}
	return nil
}

// answered notes that a response came: there will be no other attempt.
func (b *requestBody) answered() {
	if old := b.state.Or(bodyFinal); old&bodyClosed != 0 && old&(bodyRead|bodyFinal) == 0 {
		b.rc.Close()
	}
}

// touched reports whether anything was read of the body.
func (b *requestBody) touched() bool { return b.state.Load()&bodyRead != 0 }

// failure returns the error of the caller's own body, if that is what ended the attempt.
func (b *requestBody) failure() error {
	if b.state.Load()&bodyFailed != 0 {
		return b.err
	}
	return nil
}

// finish closes the caller's body if that has not happened. The attempt is over and was the last one.
func (b *requestBody) finish() {
	if old := b.state.Or(bodyClosed | bodyDetached | bodyFinal); old&bodyClosed == 0 || old&(bodyRead|bodyFinal) == 0 {
		b.rc.Close()
	}
}

// resend returns what the next attempt is to send: the same body if nothing was read of it, else a new one from
// GetBody. It returns false if there is neither.
func (b *requestBody) resend(req *http.Request) (io.ReadCloser, bool, error) {
	old := b.state.Or(bodyDetached)
	if old&bodyRead == 0 {
		return b.rc, true, nil
	}
	b.finish()
	return again(req)
}

// again returns the body of req once more.
func again(req *http.Request) (io.ReadCloser, bool, error) {
	if req.GetBody == nil {
		return nil, false, nil
	}
	rc, err := req.GetBody()
	return rc, err == nil, err
}

var nopCloserTypes = [...]reflect.Type{
	reflect.TypeOf(io.NopCloser(nil)),
	reflect.TypeOf(io.NopCloser(struct {
		io.Reader
		io.WriterTo
	}{})),
}

// inMemory reports whether net/http recognises body as one that cannot block or fail: it then sends header and body in
// one write. A wrapper would hide that. These are the bodies that http.NewRequest makes of readers over memory.
func inMemory(body io.ReadCloser) bool {
	if t := reflect.TypeOf(body); t != nopCloserTypes[0] && t != nopCloserTypes[1] {
		return false
	}
	switch reflect.ValueOf(body).Field(0).Interface().(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}
