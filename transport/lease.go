package transport

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/internal/openbody"
)

// lease notices a response body that is garbage collected without having been closed. A body refers to its lease;
// once both are garbage, the cleanup of the lease runs. A lease whose body has ended goes back to its connection, so
// that registering the cleanup, which costs more than a small request's other bookkeeping, is not done for each
// request.
type lease struct {
	record *leaseRecord
	spent  bool // it serves no other request
}

// free reports whether the lease can serve another request. The one that it served has ended.
func (l *lease) free() bool {
	if l.spent {
		return false
	}
	l.record.req = http.Request{}
	return true
}

// leaseRecord is what the cleanup gets to see.
type leaseRecord struct {
	c      *conn
	active atomic.Bool
	body   io.ReadCloser           // the protocol layer's, while active
	stack  *callers                // where the request was made, with LeakStacks; or nil
	done   context.CancelCauseFunc // called at the end of the request, if somebody waits for it; or nil
	seen   *openbody.Entry         // in the watch of the request's context, or nil
	held   *holding                // in Transport.held, or nil; guarded by Transport.mu
	req    http.Request            // what the protocol layer is given, if it is a copy of the caller's without a body of its own

	// For ResponseHeaderTimeout on HTTP/2. A timer and a channel that are made once serve all requests of the lease. The
	// timer is not set anew for each: when it runs, it looks how much time is left.
	mu      sync.Mutex // guards what follows
	cancel  chan struct{}
	timer   *time.Timer
	due     time.Duration // when it must have come, since processStart; zero while the request is being sent
	turn    uint32        // counts the requests
	waiting bool          // for a response's header
	running bool          // the timer is set
	ended   bool          // cancel is closed
}

// callers is a stack, its innermost frames.
type callers struct {
	pcs [32]uintptr
	n   int
}

func (s *callers) frames() []uintptr {
	if s == nil {
		return nil
	}
	return s.pcs[:s.n]
}

func newLease(c *conn) *lease {
	l := &lease{record: &leaseRecord{c: c}}
	runtime.AddCleanup(l, leaked, l.record)
	return l
}

// begin makes the lease watch over body.
func (l *lease) begin(body io.ReadCloser) {
	r := l.record
	r.body = body
	r.noteStack()
	r.active.Store(true)
}

// noteStack notes where the request was made, with LeakStacks.
func (r *leaseRecord) noteStack() {
	if !r.c.origin.t.cfg.LeakStacks {
		return
	}
	if r.stack == nil {
		r.stack = new(callers)
	}
	r.stack.n = runtime.Callers(5, r.stack.pcs[:]) // without the pool's own frames
}

// end stops the watch: the body has come to its end.
func (l *lease) end() {
	l.record.active.Store(false)
	l.record.body = nil
	l.record.sawEnd()
}

// sawEnd has the watch forget the body.
func (r *leaseRecord) sawEnd() {
	if r.seen != nil {
		r.seen.End()
		r.seen = nil
	}
}

// finished ends what waits for the end of the request. It must not be called with Transport.mu held: contexts can be
// the user's code.
func (r *leaseRecord) finished() {
	if r.done != nil {
		r.done(nil)
		r.done = nil
	}
}

// await begins an HTTP/2 request. It returns the channel that ends the request when it is closed, and the number of the
// request among those of the lease. If there is no body to send first, the wait for the response's header begins.
func (r *leaseRecord) await(sent bool) (<-chan struct{}, uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel == nil {
		r.cancel = make(chan struct{})
	}
	r.waiting, r.due = true, 0
	r.turn++
	if sent {
		r.arm()
	}
	return r.cancel, r.turn
}

// expectHeader begins the wait for the response's header: the request with that turn has been sent.
func (r *leaseRecord) expectHeader(turn uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn == turn {
		r.arm()
	}
}

// arm sees to it that the timer runs. mu is held.
func (r *leaseRecord) arm() {
	d := r.c.origin.t.cfg.ResponseHeaderTimeout
	if d < 0 || !r.waiting {
		return
	}
	r.due = time.Since(processStart) + d
	switch {
	case r.running:
	case r.timer == nil:
		r.timer = time.AfterFunc(d, r.expire)
	default:
		r.timer.Reset(d)
	}
	r.running = true
}

// expire is the timer's function.
func (r *leaseRecord) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	if !r.waiting || r.due == 0 {
		return
	}
	if left := r.due - time.Since(processStart); left > 0 {
		r.running = true
		r.timer.Reset(left)
		return
	}
	r.abortLocked()
}

// stop ends the timer: the lease will not be used again.
func (r *leaseRecord) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}

// abort ends the request, whatever it is doing.
func (r *leaseRecord) abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abortLocked()
}

func (r *leaseRecord) abortLocked() {
	if !r.ended {
		r.ended = true
		close(r.cancel)
	}
}

// awaited ends the wait. It reports whether the request had been ended before.
func (r *leaseRecord) awaited() (ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = false
	return r.ended
}

// leaked is called when a lease has become garbage. If that is because its connection was closed, there is nothing
// to do. Otherwise the body is closed on the program's behalf.
func leaked(r *leaseRecord) {
	if !r.active.Load() {
		return
	}
	c := r.c
	t := c.origin.t
	t.mu.Lock()
	t.release(r)
	c.origin.ledger.counts.Leaked++
	t.note(note{level: slog.LevelWarn, msg: "response body was garbage collected without Close", c: c, stack: r.stack.frames()})
	rescue := func() {
		defer r.finished()
		r.sawEnd()
		if _, upgraded := r.body.(io.Writer); upgraded {
			r.body.Close()
			return
		}
		resp := &http.Response{ContentLength: -1} // what it was nobody will ask
		(&body{rc: r.body, orig: resp, resp: resp, c: c}).Close()
	}
	started := t.start(rescue)
	t.unlock()
	if !started {
		rescue()
	}
}
