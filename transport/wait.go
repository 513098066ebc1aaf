package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

// want says what kind of connection an attempt can use.
type want struct {
	pool.Want
	req   *http.Request
	began time.Time // the first attempt
	since instant   // when it first asked, for AcquireTimeout: a request that is turned away still waits for a connection
}

// grant is a connection given to one attempt.
type grant struct {
	c       *conn
	pool    pool.Grant
	lease   *lease
	reused  bool          // it had been used before
	wasIdle bool          // it came out of the idle connections
	idleFor time.Duration // if so
	doubt   bool          // what becomes of the request on it is to be watched
}

// fresh reports whether the connection was made while the request waited for it.
func (g *grant) fresh() bool { return !g.reused && !g.wasIdle }

// waiter is a request in the queue of its origin.
type waiter struct {
	pool.Request
	req   *http.Request
	ctx   context.Context // the request's, for the values that its dial gets to see
	since instant         // when it waited first

	// Guarded by Transport.mu until done is closed, and valid then:
	done      chan struct{} // closed on delivery
	delivered bool
	grant     grant
	err       error
}

// deliver ends the wait. Transport.mu is held.
func (w *waiter) deliver(g grant, err error) {
	w.grant, w.err, w.delivered = g, err, true
	close(w.done)
}

// maxTurnedAway is how long a request without a deadline is tried, while its server takes connections and no requests.
// http.Transport gives up after as long.
const maxTurnedAway = time.Minute

// wait puts w in the queue of o, again if it was there before, and returns what comes. mu is held, and released.
func (t *Transport) wait(o *origin, w *waiter, again bool) (grant, error) {
	began := t.clock.now()
	o.pins++
	o.waiting.Add(1)
	w.done, w.delivered = make(chan struct{}), false
	w.Driver = w
	if err := t.machine.Wait(began, o.book, &w.Request, again); err != nil {
		if errors.Is(err, pool.ErrClosed) {
			err = ErrClosed
		} else {
			err = t.waitError(o, w, ErrPoolExhausted)
		}
		o.waiting.Add(-1)
		t.unpin(o)
		t.unlock()
		return grant{}, err
	}
	t.unlock()

	var timeout, patience <-chan time.Time
	if d := t.cfg.AcquireTimeout; d >= 0 {
		timer := time.NewTimer(max(0, d-time.Duration(began.Mono-w.since.Mono)))
		defer timer.Stop()
		timeout = timer.C
	}
	if _, ok := w.ctx.Deadline(); !ok {
		ticker := time.NewTicker(maxTurnedAway)
		defer ticker.Stop()
		patience = ticker.C
	}
	for {
		var cause error
		select {
		case <-w.done:
		case <-timeout:
			cause = errAcquireTimeout
		case <-w.ctx.Done():
			cause = context.Cause(w.ctx)
		case <-w.req.Cancel:
			cause = errRequestCanceled
		case <-patience:
			cause = errUseless
		}
		if g, err, over := t.endWait(o, w, cause); over {
			return g, err
		}
	}
}

// endWait ends the wait of w, because of cause if it is not over.
func (t *Transport) endWait(o *origin, w *waiter, cause error) (g grant, err error, over bool) {
	t.mu.Lock()
	defer t.unlock()
	switch {
	case w.delivered && (cause == nil || w.err != nil || errors.Is(cause, errUseless)):
		g, err = w.grant, w.err
	case w.delivered: // it came, but too late
		t.unused(w.grant)
		err = t.waitError(o, w, cause)
	case errors.Is(cause, errUseless) && o.book.Setbacks() == 0:
		return grant{}, nil, false
	default:
		err = t.waitError(o, w, cause)
		t.machine.GiveUp(t.clock.now(), &w.Request)
	}
	o.waiting.Add(-1)
	t.unpin(o)
	if errors.Is(err, pool.ErrClosed) {
		err = ErrClosed
	}
	return g, err, true
}

var (
	errRequestCanceled = errors.New("net/http: request canceled") // what net/http says of Request.Cancel

	// errUseless ends a request whose server takes connections, and no requests on them.
	errUseless = errors.New("new connections could not be used")

	// errAcquireTimeout stands for the end of AcquireTimeout, until it is known what was waited for.
	errAcquireTimeout = errors.New("transport: AcquireTimeout has passed")
)

// waitError returns the error of a wait that ends because of err, and says what the pool looked like. mu is held.
func (t *Transport) waitError(o *origin, w *waiter, err error) error {
	waited := max(0, time.Duration(t.clock.now().Mono-w.since.Mono)).Round(time.Millisecond)
	if err == errAcquireTimeout { //nolint:errorlint // it is this value
		// If the limits of the pool have nothing to do with it, another attempt may find a server that answers.
		switch d, coming := o.oldestDial(), t.machine.Coming(&w.Request); {
		case coming && d != nil:
			err = &timeoutError{fmt.Sprintf("AcquireTimeout passed while dial %d was under way for %v", d.id, time.Since(d.began).Round(time.Millisecond))}
		case coming, o.book.Setbacks() > 0:
			err = &timeoutError{"AcquireTimeout passed"}
		default:
			err = ErrPoolExhausted
		}
	}
	s := o.gauges()
	more := ""
	if host, all := t.machine.Room(o.book); host && !all {
		more = fmt.Sprintf("; %d to all origins, and MaxConns is %d", t.machine.Taken(), t.cfg.MaxConns)
	}
	if n := o.book.Setbacks(); n > 0 {
		more += fmt.Sprintf("; its server took no request on the last %d connections, and went away (GOAWAY)", n)
	}
	return opErrorf(err, "no connection to %s within %v: %d open, %d in use, %d dialling, %d waiting%s", o.name,
		waited, s.Open, s.InUse, s.Dialing, s.Waiting, more)
}

// oldestDial returns the one that has been under way for longest, or nil. Transport.mu is held.
func (o *origin) oldestDial() (oldest *dial) {
	for d := range o.dials {
		if oldest == nil || d.began.Before(oldest.began) {
			oldest = d
		}
	}
	return oldest
}
