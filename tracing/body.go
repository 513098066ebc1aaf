package tracing

import (
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
)

// body is the response body that the caller gets. Its end is the end of the exchange.
//
// The record must not refer to it: the record is in the context that the protocol layer holds on to, and a leaked body
// could then not be collected, neither here nor by the pool.
type body struct {
	rc      io.ReadCloser
	x       *record
	length  int64 // negative if it is not known
	cleanup runtime.Cleanup
}

func newBody(resp *http.Response, x *record) *body {
	b := &body{rc: resp.Body, x: x, length: resp.ContentLength}
	b.cleanup = runtime.AddCleanup(b, func(x *record) { x.end(ErrLeaked) }, x)
	return b
}

// Read reads the body and counts. The exchange has ended by the time the end or an error is returned.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	b.x.in.Add(int64(n))
	switch {
	case err == io.EOF:
		b.end(nil)
	case err != nil:
		b.end(err)
	}
	runtime.KeepAlive(b) // the body is not leaked while it is read
	return n, err
}

// Close closes the body, and ends the exchange unless it has ended.
func (b *body) Close() error {
	if b.length < 0 || b.x.in.Load() < b.length {
		b.x.closedEarly()
	}
	err := b.rc.Close()
	b.end(nil)
	runtime.KeepAlive(b)
	return err
}

func (b *body) end(err error) {
	if b.x.end(err) {
		b.cleanup.Stop()
	}
}

// requestBody counts what is sent of a body whose length is not known.
type requestBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// watchRequestBody has the body of the request counted. One of a known length is left as it is, because the RoundTripper
// below may know its type and send it better: in one write with the header, or from a file without a copy.
func (x *record) watchRequestBody(out *http.Request) {
	if out.Body == nil || out.Body == http.NoBody {
		return
	}
	if x.known = out.ContentLength; x.known > 0 {
		return
	}
	out.Body = requestBody{out.Body, &x.out}
	if again := out.GetBody; again != nil {
		out.GetBody = func() (io.ReadCloser, error) {
			rc, err := again()
			if err != nil {
				return nil, err
			}
			x.out.Store(0)
			return requestBody{rc, &x.out}, nil
		}
	}
}
