package tracing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/internal/legible"
)

// record gathers what is known of one exchange until it ends. The hooks fill it in from several goroutines, and some
// come late: a dial belongs to the pool and goes on when the request that it was begun for has its response, from
// another connection.
type record struct {
	tracers  []Tracer
	contexts []context.Context // what the tracers' Start returned
	hooks    httptrace.ClientTrace
	in       atomic.Int64 // bytes of the response's body
	out      atomic.Int64 // bytes of the request's body, if its length is not known
	known    int64        // the length of the request's body, if it is

	mu    sync.Mutex // guards what follows
	ended bool
	e     Exchange // what is known so far

	conns int // that it was given

	// Of the connection asked for last. A zero time is something that has not happened.
	asked, got, wrote, firstByte time.Time
	writeFailed                  bool
	dial                         []Phase // of the dial that was begun for this exchange
	open                         int     // how many addresses are being connected to, in the last phase of dial
	dialed                       uint64  // the number of the connection that it made
}

// connInfo is what the pool's connections say of themselves.
type connInfo interface {
	ID() uint64
	Created() time.Time
	Uses() uint64
	Protocol() string
	TLS() *tls.ConnectionState
}

func (x *record) hook() {
	x.hooks = httptrace.ClientTrace{
		GetConn:              x.getConn,
		GotConn:              x.gotConn,
		DNSStart:             func(httptrace.DNSStartInfo) { x.beginPhase(PhaseDNS) },
		DNSDone:              func(info httptrace.DNSDoneInfo) { x.endPhase(PhaseDNS, info.Err) },
		ConnectStart:         func(string, string) { x.beginConnect() },
		ConnectDone:          func(_, _ string, err error) { x.endConnect(err) },
		TLSHandshakeStart:    func() { x.beginPhase(PhaseTLS) },
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { x.endPhase(PhaseTLS, err) },
		WroteRequest:         x.wroteRequest,
		GotFirstResponseByte: x.gotFirstByte,
	}
}

// update has change applied, unless the exchange has ended.
func (x *record) update(change func(now time.Time)) {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		change(now)
	}
}

func (x *record) getConn(string) {
	x.update(func(now time.Time) {
		x.e.Conn, x.e.TLS = Conn{}, TLS{}
		x.asked, x.got, x.wrote, x.firstByte = now, time.Time{}, time.Time{}, time.Time{}
		x.writeFailed = false
		x.dial, x.open = nil, 0 // a dial of an earlier time is nothing that this time waited for from its beginning
	})
}

// Dialed implements dialed.Observer.
func (x *record) Dialed(id uint64) {
	x.update(func(time.Time) { x.dialed = id })
}

func (x *record) gotConn(info httptrace.GotConnInfo) {
	c := Conn{Reused: info.Reused, WasIdle: info.WasIdle, Idle: info.IdleTime}
	var state TLS
	if info.Conn != nil {
		if addr := info.Conn.RemoteAddr(); addr != nil {
			c.RemoteAddr = legible.Text(addr.String())
		}
	}
	pooled, ok := info.Conn.(connInfo)
	if ok {
		c.ID, c.Uses, c.Protocol, c.Age = pooled.ID(), pooled.Uses(), pooled.Protocol(), age(pooled.Created())
		state = tlsOf(pooled.TLS())
	}
	x.update(func(now time.Time) {
		x.got, x.e.Conn, x.e.TLS = now, c, state
		x.e.Replays = x.conns
		x.conns++
		own := !c.Reused && !c.WasIdle
		if ok {
			own = c.ID == x.dialed
		}
		if !own || slices.ContainsFunc(x.dial, Phase.unended) {
			x.dial = nil // what it saw of a dial was the making of another connection
		}
	})
}

// age returns how long ago then was, on the clock that says more: the monotonic one may stop in a freeze.
func age(then time.Time) time.Duration {
	now := time.Now()
	return max(0, now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

func (x *record) beginPhase(name string) {
	x.update(func(now time.Time) {
		if x.got.IsZero() {
			x.dial = append(x.dial, Phase{Name: name, Began: now, Took: unended})
		}
	})
}

// unended is how long a phase took that has not ended.
const unended = -1

func (p Phase) unended() bool { return p.Took == unended }

// last returns the phase that was begun last, if it has that name.
func (x *record) last(name string) *Phase {
	if n := len(x.dial); n > 0 && x.dial[n-1].Name == name {
		return &x.dial[n-1]
	}
	return nil
}

func (x *record) endPhase(name string, err error) {
	x.update(func(now time.Time) {
		if p := x.last(name); p != nil && p.unended() {
			p.Took, p.Err = now.Sub(p.Began), err
		}
	})
}

// beginConnect begins to connect to one of the addresses of the origin. A dialler tries several, one after the other or
// at once (RFC 8305); together they are one phase, which ends with the first success or the last failure.
func (x *record) beginConnect() {
	x.update(func(now time.Time) {
		if !x.got.IsZero() {
			return
		}
		switch p := x.last(PhaseConnect); {
		case p == nil:
			x.dial = append(x.dial, Phase{Name: PhaseConnect, Began: now, Took: unended})
			x.open = 0
		case p.Err != nil:
			p.Took, p.Err = unended, nil
		}
		x.open++
	})
}

func (x *record) endConnect(err error) {
	x.update(func(now time.Time) {
		x.open--
		if p := x.last(PhaseConnect); p != nil && p.unended() && (err == nil || x.open <= 0) {
			p.Took, p.Err = now.Sub(p.Began), err
		}
	})
}

func (x *record) wroteRequest(info httptrace.WroteRequestInfo) {
	x.update(func(now time.Time) {
		if info.Err != nil {
			x.writeFailed = true
		} else {
			x.wrote = now
		}
	})
}

func (x *record) gotFirstByte() {
	x.update(func(now time.Time) { x.firstByte = first(x.firstByte, now) })
}

// answered notes the response.
func (x *record) answered(resp *http.Response) {
	x.update(func(now time.Time) {
		x.e.Answered, x.e.Status, x.e.Proto = now, resp.StatusCode, resp.Proto
		if x.e.TLS == (TLS{}) {
			x.e.TLS = tlsOf(resp.TLS)
		}
	})
}

func (x *record) closedEarly() {
	x.update(func(time.Time) { x.e.ClosedEarly = true })
}

// end ends the exchange, because of err if it is not nil, and tells the tracers. It reports whether that had not been
// done before.
func (x *record) end(err error) bool {
	now := time.Now()
	x.mu.Lock()
	if x.ended {
		x.mu.Unlock()
		return false
	}
	x.ended = true
	switch {
	case x.e.ClosedEarly:
		err = nil // a Read that Close interrupted fails, but that is what the caller wanted
	case errors.Is(err, ErrLeaked): // whenever the garbage was collected, that is the reason
	case err != nil && x.overdue(now) && !errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	x.e.Ended, x.e.Err = now, err
	x.e.BytesIn, x.e.BytesOut = x.in.Load(), x.sent()
	if err != nil {
		x.e.Failed = x.failed()
	}
	x.time()
	e := x.e
	x.mu.Unlock()
	for i := len(x.tracers) - 1; i >= 0; i-- {
		x.tracers[i].End(x.contexts[i], e)
	}
	return true
}

// overdue reports whether the request's deadline has passed. The Timeout of [http.Client] is one, but ends the request by
// Request.Cancel too, and the error may be of that.
func (x *record) overdue(now time.Time) bool {
	deadline, ok := x.contexts[len(x.contexts)-1].Deadline()
	return ok && !now.Before(deadline)
}

// sent returns how much of the request's body was sent. mu is held.
func (x *record) sent() int64 {
	if x.known <= 0 {
		return x.out.Load()
	}
	if !x.wrote.IsZero() || x.got.IsZero() && x.e.Status != 0 { // or no hooks are called
		return x.known
	}
	return 0
}

// failed returns the phase that the exchange has failed in. mu is held.
func (x *record) failed() string {
	switch {
	case x.e.Status != 0:
		return PhaseBody
	case !x.got.IsZero() && (x.writeFailed || x.wrote.IsZero() && x.firstByte.IsZero()):
		return PhaseWrite
	case !x.got.IsZero():
		return PhaseHeader
	case x.asked.IsZero():
		return ""
	}
	if n := len(x.dial); n > 0 {
		if p := x.dial[n-1]; p.unended() || p.Err != nil {
			return p.Name
		}
	}
	return PhaseWait
}

// time works out what took how long. mu is held.
func (x *record) time() {
	e, t := &x.e, &x.e.Timing
	t.Total = e.Ended.Sub(e.Began)
	for i := range x.dial {
		p := &x.dial[i]
		if p.unended() {
			p.Took = e.Ended.Sub(p.Began)
		}
		switch p.Name {
		case PhaseDNS:
			t.DNS += p.Took
		case PhaseConnect:
			t.Connect += p.Took
		case PhaseTLS:
			t.TLS += p.Took
		}
	}
	e.Dial = x.dial
	if !x.asked.IsZero() {
		t.Wait = first(x.got, e.Ended).Sub(x.asked)
	}
	if x.got.IsZero() {
		return
	}
	answered := first(x.firstByte, e.Ended)
	written := first(x.wrote, answered)
	if written.After(answered) {
		written = answered
	}
	t.Write = written.Sub(x.got)
	t.FirstByte = answered.Sub(written)
}

// first returns the first of the times that is not zero.
func first(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}
