package transport

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/thawhttp/thaw/internal/openbody"
	"github.com/thawhttp/thaw/internal/pool"
)

// response is a response and its body, in one allocation. The http.Response is a copy of the protocol layer's: that
// one is referred to by the stream or the connection, which would keep a leaked body from being collected.
type response struct {
	http.Response
	body body
}

// body is the response body that the caller gets. At its end, or when it is closed, it gives the connection back.
type body struct {
	rc    io.ReadCloser  // the protocol layer's
	orig  *http.Response // the protocol layer's, which gets the trailers
	resp  *http.Response // the caller's
	out   *outgoing      // the request, if it had a body
	c     *conn
	lease *lease
	last  bool // the connection is closed after it in any case

	reading sync.Mutex // held while rc is read; guards n and eof
	n       int64      // bytes read
	eof     bool       // it has been read to its end
	ended   atomic.Bool
	closed  atomic.Bool
}

// response prepares what the caller gets for resp, which came in answer to a.
func (t *Transport) response(a *attempt, resp *http.Response) *http.Response {
	c, l := a.g.c, a.g.lease
	resp.Request = a.req
	resp.TLS = c.tls
	if a.out != nil {
		a.out.body.answered()
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The connection is the caller's now. It counts as in use until he closes it.
		t.takenOver(c)
		if l == nil {
			l = newLease(c)
		}
		l.record.finished() // what is read and written from now on is not the request's
		t.letGo(l)
		if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
			l.begin(rwc)
			resp.Body = &upgraded{ReadWriteCloser: rwc, lease: l}
		}
		return resp
	}
	if c.h2 == nil {
		if v := resp.Header["Keep-Alive"]; v != nil {
			t.learn(c, v)
		}
	}
	if a.req.Close || resp.Close {
		t.retire(c)
	}
	if stateless(resp.Body) {
		if c.h2 != nil && a.out != nil {
			a.out.body.giveBack(l)
		} else {
			t.finish(c, l, pool.Last)
		}
		return resp
	}
	r := &response{Response: *resp}
	r.body.last = a.req.Close || resp.Close
	r.body.rc, r.body.orig, r.body.resp, r.body.out, r.body.c = resp.Body, resp, &r.Response, a.out, c
	if l == nil {
		l = newLease(c)
	}
	l.begin(resp.Body)
	r.body.lease = l
	r.Body = &r.body
	if w := openbody.In(a.req.Context()); w != nil {
		weakly := weak.Make(&r.body)
		l.record.seen = w.Add(c.origin.name, l.record.stack.frames(), func() {
			if b := weakly.Value(); b != nil {
				b.Close()
			}
		})
		l.record.seen.Begin() // from now on it may be closed
	}
	return &r.Response
}

// upgraded is the body of a 101 response: the connection itself.
type upgraded struct {
	io.ReadWriteCloser
	lease   *lease
	reading sync.Mutex // below, one goroutine reads
}

func (u *upgraded) Read(p []byte) (int, error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	return u.ReadWriteCloser.Read(p)
}

func (u *upgraded) Close() error {
	u.lease.end()
	return u.ReadWriteCloser.Close()
}

// CloseWrite is there if the connection has it, as with [http.Transport].
func (u *upgraded) CloseWrite() error {
	if cw, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("transport: CloseWrite: %w", errors.ErrUnsupported)
}

// stateless reports whether a body has nothing to read: http.NoBody, or one of the protocol layer's own like it. Such
// a body holds no stream and no connection.
func stateless(rc io.ReadCloser) bool {
	return rc == nil || rc == http.NoBody || reflect.TypeOf(rc).Size() == 0
}

// learn takes the idle limit that an HTTP/1.1 server announces.
func (t *Transport) learn(c *conn, values []string) {
	d, ok := keepAliveTimeout(values)
	if !ok {
		return
	}
	t.mu.Lock()
	t.machine.KeepAlive(t.clock.now(), &c.book, d)
	t.unlock()
}

// Read reads the body. At the end it gives the connection back before it returns.
func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.eof && !b.closed.Load() {
		return 0, io.EOF // even if end has closed what was below
	}
	n, err := b.rc.Read(p)
	b.n += int64(n)
	if err != nil {
		b.eof = err == io.EOF
		b.end(err)
		if err != io.EOF {
			err = shown(b.c.origin.t.interrupted(b.c.cause(err)))
		}
	}
	return n, err
}

// Close ends the use of the body. What is left of it is read, within DrainBytes and DrainTime, if that can save an
// HTTP/1.1 connection.
func (b *body) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	if !b.ended.Load() && b.c.h2 == nil && !b.last && b.reading.TryLock() { // or somebody reads, and is interrupted by Close
		b.drain()
		b.reading.Unlock()
	}
	if b.c.h2 != nil && b.out != nil && b.ended.Load() {
		b.out.body.letClose()
	}
	err := b.rc.Close()
	b.end(errBodyClosed)
	return err
}

var errBodyClosed = errors.New("transport: response body closed before its end")

// drain reads the body to its end, if that is near.
func (b *body) drain() {
	cfg := &b.c.origin.t.cfg
	if cfg.DrainBytes < 0 || cfg.DrainTime < 0 || b.orig.ContentLength-b.n > cfg.DrainBytes {
		return
	}
	timer := time.AfterFunc(cfg.DrainTime, b.c.shut)
	_, err := io.CopyN(io.Discard, b.rc, min(cfg.DrainBytes, math.MaxInt64-1)+1)
	switch {
	case !timer.Stop():
		b.c.shut() // it is about to be, and must not be given to anybody meanwhile
	case err == io.EOF:
		b.end(io.EOF)
	}
}

// end gives the connection back, once.
func (b *body) end(err error) {
	if b.ended.Swap(true) {
		return
	}
	c := b.c
	if err == io.EOF {
		b.resp.Trailer = b.orig.Trailer // complete now
	}
	l := b.lease
	b.lease = nil
	if l != nil {
		l.end()
	}
	if c.h2 != nil && b.out != nil {
		b.out.body.giveBack(l)
		return
	}
	if err == io.EOF && c.h2 != nil && c.origin.waiting.Load() > 0 {
		// Somebody waits for the stream, and its number is given back only when the protocol layer has cleaned up,
		// which Close waits for.
		b.rc.Close()
	}
	how := pool.Answered
	if err != io.EOF {
		how = pool.Aborted
	}
	c.origin.t.finish(c, l, how)
}

// maxSpare is how many leases a connection keeps for requests to come.
const maxSpare = 64

// finish gives a connection back after a request that ended as how says, with its lease. An HTTP/1.1 connection that the protocol
// layer is done with is closed: how is Last if that is the server's doing.
func (t *Transport) finish(c *conn, l *lease, how pool.How) {
	broken := c.h2 == nil && c.broken()
	switch {
	case broken && how != pool.Last:
		how = pool.Failed
	case !broken && c.h2 == nil:
		c.asked.Store(false)
		how = pool.Answered
	case how == pool.Last && c.h2 != nil:
		how = pool.Answered
	}
	if l != nil {
		l.record.finished()
		l.spent = l.spent || broken // a request that was answered early may still be being written
	}
	t.mu.Lock()
	if l != nil {
		t.release(l.record)
		if l.free() && !c.book.Closed() && len(c.spare) < maxSpare {
			c.spare = append(c.spare, l)
		} else {
			l.record.stop()
		}
	}
	t.done(c, how)
	t.unlock()
}
