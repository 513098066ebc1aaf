package clienttest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Fault is what a request meets in the place of, or besides, an answer: see [Server.Next] and [Server.Every].
type Fault struct {
	name  string
	serve func(*exchange)
}

// String is the name of the function that made the fault.
func (f Fault) String() string { return f.name }

// exchange is a request that meets a fault.
type exchange struct {
	s      *Server
	c      *conn
	w      http.ResponseWriter
	r      *http.Request
	undone <-chan struct{} // closed when the fault is taken back
}

// StallBeforeHeader is an answer that does not come: the request is read by nobody. The connection is fine, so on HTTP/2 a
// PING is answered. When the fault is undone, or the client gives up, the request is handled.
func StallBeforeHeader() Fault {
	return Fault{"StallBeforeHeader", func(x *exchange) {
		x.wait(nil)
		x.handle()
	}}
}

// StallInHeader is an answer whose header breaks off in its middle, until the fault is undone. On HTTP/2 that holds up all
// of the connection, PING included, because the rest of the frame must come first; if other streams are answered at the
// same moment, it can be the header of one of those.
func StallInHeader() Fault {
	return Fault{"StallInHeader", func(x *exchange) {
		status, body := x.record()
		x.c.stallHeader(&headerStall{x.undone, x.r.Context().Done()})
		x.send(status, body)
	}}
}

// StallInBody is an answer whose header comes, and half of the body, and the rest when the fault is undone. As with
// [StallInHeader] and [Truncate], the handler cannot stream: what it writes is sent when it has returned.
func StallInBody() Fault {
	return Fault{"StallInBody", func(x *exchange) {
		status, body := x.record()
		x.send(status, body[:len(body)/2])
		if x.wait(nil) {
			x.w.Write(body[len(body)/2:])
		}
	}}
}

// Truncate is an answer with half of the body that its header announces. Then, on HTTP/1.1, the connection is closed; on
// HTTP/2 the stream is reset with INTERNAL_ERROR.
func Truncate() Fault {
	return Fault{"Truncate", func(x *exchange) {
		status, body := x.record()
		x.send(status, body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}}
}

// RetryLater is an answer of that status, 429 or 503 for example, that has a Retry-After header of that many seconds,
// rounded up; with 0 it has none. The request is not handled.
func RetryLater(status int, after time.Duration) Fault {
	return Fault{fmt.Sprintf("RetryLater(%d, %v)", status, after), func(x *exchange) {
		if after > 0 {
			seconds := int64(after / time.Second)
			if after%time.Second > 0 {
				seconds++
			}
			x.w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		}
		http.Error(x.w, http.StatusText(status), status)
	}}
}

// Redirect is an answer of that status, 302 or 307 for example, that leads to location, a URL or a path. The request
// is not handled.
func Redirect(status int, location string) Fault {
	return Fault{fmt.Sprintf("Redirect(%d, %s)", status, location), func(x *exchange) {
		http.Redirect(x.w, x.r, location, status)
	}}
}

// Delay is an answer that comes d later, in real time, or when the fault is undone. The request is handled then, or when the
// client gives up.
func Delay(d time.Duration) Fault {
	return Fault{fmt.Sprintf("Delay(%v)", d), func(x *exchange) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		x.wait(timer.C)
		x.handle()
	}}
}

// wait waits until the fault is undone or due. It reports false, at once, if the client gave up.
func (x *exchange) wait(due <-chan time.Time) bool {
	select {
	case <-x.undone:
	case <-due:
	case <-x.r.Context().Done():
		return false
	}
	return true
}

func (x *exchange) handle() { x.s.handler.ServeHTTP(x.w, x.r) }

// record has the request handled, and returns the answer, whose header is ready to be sent.
func (x *exchange) record() (status int, body []byte) {
	rec := httptest.NewRecorder()
	x.s.handler.ServeHTTP(rec, x.r)
	body = rec.Body.Bytes()
	header := x.w.Header()
	maps.Copy(header, rec.Result().Header)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	return rec.Code, body
}

// send sends the header, and what there is of the body.
func (x *exchange) send(status int, part []byte) {
	x.w.WriteHeader(status)
	x.w.Write(part)
	x.w.(http.Flusher).Flush()
}

// installed is a fault that waits for requests or holds some up.
type installed struct {
	Fault
	undone chan struct{}
	undo   sync.Once
}

// Next makes each of the faults befall one of the requests to come, in this order, whatever connection they come on. Faults
// of an earlier call that have not befallen one come first. The function that is returned takes those of this call back
// that are left, and lets the requests go on that they hold up. It may be called more than once, and the end of the
// test calls it.
func (s *Server) Next(faults ...Fault) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var undos []func()
	for _, f := range faults {
		i := &installed{Fault: f, undone: make(chan struct{})}
		s.next = append(s.next, i)
		undos = append(undos, s.undo(i))
	}
	return func() {
		for _, undo := range undos {
			undo()
		}
	}
}

// Every makes the fault befall all requests to come that [Server.Next] has nothing for, on connections that are open too.
// Of several such faults the last one counts. The function that is returned takes it back and lets the requests go on that
// it holds up; it may be called more than once, and the end of the test calls it.
func (s *Server) Every(f Fault) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &installed{Fault: f, undone: make(chan struct{})}
	s.every = append(s.every, i)
	return s.undo(i)
}

func (s *Server) undo(i *installed) func() {
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		same := func(j *installed) bool { return i == j }
		s.next = slices.DeleteFunc(s.next, same)
		s.every = slices.DeleteFunc(s.every, same)
		i.undo.Do(func() { close(i.undone) })
	}
}

// fault returns what befalls a request, or nil.
func (s *Server) fault() *installed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.next) > 0 {
		i := s.next[0]
		s.next = slices.Delete(s.next, 0, 1)
		return i
	}
	if n := len(s.every); n > 0 {
		return s.every[n-1]
	}
	return nil
}
