package transport

import (
	"context"
	"log/slog"
	"runtime"
	"time"

	"github.com/thawhttp/thaw/internal/connlife"
	"github.com/thawhttp/thaw/internal/openbody"
	"github.com/thawhttp/thaw/internal/pool"
)

// This file carries the decisions of the machine out. An event is told with mu held, with the time that was read under it:
//
//	t.mu.Lock()
//	t.machine.Ended(t.clock.now(), &c.book, pool.ByServer)
//	t.unlock()
//
// What later events refer to is done before mu is released: grants, dials, the timer. What takes time, or is others' code, is done
// after that.

// work is what is to be done once mu is released.
type work struct {
	cancels []cancelled
	// Only after Close, when no goroutine may be started any more:
	closes []*conn
	tells  []func()
}

// cancelled is a dial that the machine has ended, and why.
type cancelled struct {
	d   *dial
	why error
}

// unlock carries out what the machine has decided, and releases mu.
func (t *Transport) unlock() {
	w, any := t.carry()
	t.mu.Unlock()
	if any {
		w.finish()
	}
}

// finish does the work. mu is not held.
func (w *work) finish() {
	for _, c := range w.cancels {
		c.d.cancel(c.why)
	}
	for _, c := range w.closes {
		c.shut()
	}
	for _, tell := range w.tells {
		tell()
	}
}

// carry carries out, of what the machine has decided, what must be done while mu is held, and returns the rest.
func (t *Transport) carry() (w work, any bool) {
	decisions := t.machine.Take(t.spare)
	if decisions == nil && t.late == nil {
		return work{}, false
	}
	for i := range decisions {
		t.carryOut(&decisions[i], &w)
	}
	if decisions != nil {
		clear(decisions)
		t.spare = decisions[:0]
	}
	w.tells, t.late = t.late, nil
	return w, true
}

func (t *Transport) carryOut(d *pool.Decision, w *work) {
	switch d.Kind {
	case pool.DoGrant:
		waiter := d.Request.Driver.(*waiter)
		waiter.deliver(t.granted(d.Request.Grant), nil)
	case pool.DoFail:
		d.Request.Driver.(*waiter).deliver(grant{}, d.Err)
	case pool.DoDial:
		t.beginDial(d.Dial, d.Request)
	case pool.DoCancel:
		d := d.Dial.Driver.(*dial)
		w.cancels = append(w.cancels, cancelled{d, d.why()})
	case pool.DoClose:
		c := d.Conn.Driver.(*conn)
		t.removed(c)
		if !t.start(c.shut) {
			w.closes = append(w.closes, c)
		}
	case pool.DoProve:
		c := d.Conn.Driver.(*conn)
		t.start(func() { t.prove(c) })
	case pool.DoSettle:
		if c := d.Conn.Driver.(*conn); c.decided != nil {
			close(c.decided)
			c.decided = nil
		}
	case pool.DoLook:
		t.looks = append(t.looks, d.Conn.Driver.(*conn))
	case pool.DoWake:
		if t.wakeTimer == nil {
			t.wakeTimer = time.AfterFunc(d.In, t.tick)
		} else {
			t.wakeTimer.Reset(d.In)
		}
	case pool.DoCollect:
		t.start(runtime.GC)
	}
}

// tick is called by the timer.
func (t *Transport) tick() {
	t.mu.Lock()
	t.machine.Tick(t.clock.now())
	t.unlock()
}

// start runs f in a goroutine that Close waits for, or returns false after Close. mu is held.
func (t *Transport) start(f func()) bool {
	if t.shut {
		return false
	}
	t.wg.Go(f)
	return true
}

// ended is told by a connection that it is being closed. If the pool did not do it, the peer did, or an error.
func (t *Transport) ended(c *conn) {
	t.mu.Lock()
	switch {
	case !c.pooled:
		c.early.ended = true
	case !c.book.Closed():
		why := pool.Broken
		switch {
		case c.vetting.Load():
			why = pool.Stale
		case c.book.Streams() == 0:
			why = pool.ByServer
		}
		t.machine.Ended(t.clock.now(), &c.book, why)
		t.removed(c)
	}
	t.unlock()
}

// freed is told by a connection that it has been closed. Only then there is room for another one.
func (t *Transport) freed(c *conn) {
	t.mu.Lock()
	if c.pooled {
		t.machine.Freed(t.clock.now(), &c.book)
		t.roomMade()
		t.vacated(c.origin)
	}
	t.unlock()
}

// roomMade tells Warm that a place has become free. mu is held.
func (t *Transport) roomMade() {
	if t.freedNow != nil {
		close(t.freedNow)
		t.freedNow = nil
	}
}

// removed is called once a connection is out of the pool. mu is held.
func (t *Transport) removed(c *conn) {
	for _, l := range c.spare {
		l.record.stop()
	}
	c.spare = nil
	t.debug("connection closed", c)
	for _, watch := range t.watchers {
		end := connlife.End{Origin: c.origin.name, Protocol: c.Protocol(), Lived: t.clock.now().Since(c.created)}
		t.tell(telling{tell: func() { watch(end) }})
	}
}

// frames is told by an HTTP/2 connection what its server said.
func (t *Transport) frames(c *conn, ev frameEvents) {
	t.mu.Lock()
	if ev.settings {
		switch {
		case ev.hasStreams:
			c.early.streams = int(min(ev.streams, 1<<20))
		case !c.early.settings:
			c.early.streams = defaultStreams
		}
		c.early.settings = true
	}
	c.early.goAway = c.early.goAway || ev.goAway
	if c.pooled {
		t.tellFrames(c, ev.settings, ev.goAway)
	}
	t.unlock()
}

// tellFrames tells the machine what the server of a connection said. mu is held.
func (t *Transport) tellFrames(c *conn, settings, goAway bool) {
	now := t.clock.now()
	if settings {
		t.machine.Settings(now, &c.book, c.early.streams)
	}
	if goAway {
		t.machine.GoAway(now, &c.book)
	}
}

// defaultStreams is how many streams x/net/http2 opens if the server's SETTINGS name no limit.
const defaultStreams = 1000

// retire has a connection take no more requests after those that it has.
func (t *Transport) retire(c *conn) {
	t.mu.Lock()
	t.machine.Retire(t.clock.now(), &c.book)
	t.unlock()
}

// takenOver has a connection be the caller's own.
func (t *Transport) takenOver(c *conn) {
	t.mu.Lock()
	t.machine.TakenOver(t.clock.now(), &c.book)
	t.unlock()
}

// tellings are what others are told: lines for the log, and ends of connections for those who watch. One goroutine tells them in their
// order, so that nobody waits for others' code.
type tellings struct {
	queue   []telling
	running bool
	dropped int // lines that the log was too slow for
}

// telling is one of them. What is optional is left out if Close has waited for long enough.
type telling struct {
	tell     func()
	optional bool
}

// maxTellings is how many lines may wait for the log.
const maxTellings = 1000

// maxCloseTells is how long Close waits for a slow log.
const maxCloseTells = time.Second

// tell has something told, soon. mu is held.
func (t *Transport) tell(what telling) {
	ts := &t.tellings
	if ts.running || t.start(t.tellAll) {
		ts.running = true
		ts.queue = append(ts.queue, what)
		return
	}
	t.late = append(t.late, what.tell)
}

// tellAll tells what is to be told.
func (t *Transport) tellAll() {
	for {
		t.mu.Lock()
		queue := t.tellings.queue
		t.tellings.queue = nil
		if len(queue) == 0 {
			t.tellings.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		for _, what := range queue {
			if !what.optional || !t.hurry.Load() {
				what.tell()
			}
		}
	}
}

// note is a line of the log about a connection.
type note struct {
	level  slog.Level
	msg    string
	c      *conn
	reason pool.Reason
	stack  []uintptr
	args   []any
}

// note has n logged. Of very many that wait for a slow log, those at debug level are left out. mu is held.
func (t *Transport) note(n note) {
	ts := &t.tellings
	if len(ts.queue) >= maxTellings && n.level <= slog.LevelDebug {
		ts.dropped++
		return
	}
	if ts.dropped > 0 {
		n.args = append(n.args, "lines_left_out", ts.dropped)
		ts.dropped = 0
	}
	l := t.cfg.Logger
	t.tell(telling{tell: func() { n.log(l) }, optional: n.level <= slog.LevelDebug})
}

func (n note) log(l *slog.Logger) {
	if l == nil {
		l = slog.Default()
	}
	args := []any{"origin", n.c.origin.name, "conn", n.c.id, "protocol", n.c.Protocol(), "uses", n.c.Uses()}
	if n.reason != pool.NoReason {
		args = append(args, "reason", n.reason.String())
	}
	if len(n.stack) > 0 {
		args = append(args, "stack", openbody.Stack(n.stack))
	}
	l.Log(context.Background(), n.level, n.msg, append(args, n.args...)...)
}

// debug notes what happened to a connection, if somebody wants to read it. mu is held.
func (t *Transport) debug(msg string, c *conn) {
	if t.verbose {
		t.note(note{level: slog.LevelDebug, msg: msg, c: c, reason: c.book.Reason()})
	}
}
