package pool

import (
	cheap "container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// world is all that is outside of a machine: servers, a network, two clocks, those who make requests, and the driver that carries the
// decisions out. Everything in it happens in an order that its seed decides.
type world struct {
	t    testing.TB
	rnd  *rand.Rand
	m    *Machine
	cfg  Config
	wall int64
	mono int64
	todo todo
	seq  int // of what is to be done
	what string

	origins []*worldOrigin
	conns   map[*Conn]*worldConn       // that are not freed
	waiting map[*Request]*worldRequest // that the driver has in a queue
	dials   map[*Dial]*worldDial       // that are under way
	told    map[error]bool             // errors of dials, and whether a request was told
	tickAt  int64                      // when the driver's timer runs, or -1
	spare   []Decision
	held    map[*Conn]int  // requests that the driver has on each connection
	taken   map[*Conn]bool // connections that somebody took over

	checked bool // the invariants are checked after each event
	healthy bool // nothing goes wrong that is not arranged

	events, asked, answered, failed, gaveUp, lost, froze, collected int
	most                                                            int // steps of one event, beside those of its decisions
	rested                                                          int // events since time has last passed
}

// worldOrigin is a server, and the network that leads to it.
type worldOrigin struct {
	*Origin
	name       string
	h2         bool
	limit      int // streams, as it says
	really     int // streams, as it does
	rtt        time.Duration
	ping       time.Duration // how long a proof takes beside that
	unprovable bool
	refuses    bool // all streams
	goesAway   bool // on each connection, at once
	silent     bool // no SETTINGS
	dialling   dialling
	script     func(n int) (time.Duration, error) // of the n-th dial, in place of dialling
	serve      func() time.Duration               // how long an answer takes, or nil for at random
	begun      int                                // dials
}

// dialling is what becomes of dials.
type dialling int

const (
	dialsWork dialling = iota
	dialsHang
	dialsFail
	dialsVary
)

type worldConn struct {
	*Conn
	id      int
	origin  *worldOrigin
	fin     bool // its server closed it, as a look shows
	mute    bool // its flow was dropped without a word
	closed  bool
	refuses bool // all streams
	on      map[*worldRequest]bool
	free    Instant // when it had a request last
}

type worldDial struct {
	*Dial
	origin *worldOrigin
}

// worldRequest is somebody who wants an answer.
type worldRequest struct {
	Request
	id      int
	origin  *worldOrigin
	want    Want
	again   bool // it has waited before
	on      *worldConn
	grant   Grant
	pending bool // it was granted a connection that it has not used yet
	deaths  int
	ended   bool
	errored error
	epoch   int // so that what was arranged for an earlier attempt does nothing
	began   int64
	asked   Instant
	got     int64  // when it had a connection first, or 0
	then    func() // once it is answered
}

type todoItem struct {
	at  int64
	seq int
	f   func()
}

// todo is a heap by time, and by the order in which it was arranged.
type todo []todoItem

func (t todo) Len() int { return len(t) }
func (t todo) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].seq < t[j].seq
}
func (t todo) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *todo) Push(x any)   { *t = append(*t, x.(todoItem)) }
func (t *todo) Pop() any     { o := *t; x := o[len(o)-1]; *t = o[:len(o)-1]; return x }

func newWorld(t testing.TB, cfg Config, seed uint64) *world {
	return &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), m: New(cfg), cfg: cfg, wall: 1e18, mono: 1e9, tickAt: -1, checked: true,
		conns: make(map[*Conn]*worldConn), waiting: make(map[*Request]*worldRequest), dials: make(map[*Dial]*worldDial),
		told: make(map[error]bool), held: make(map[*Conn]int), taken: make(map[*Conn]bool),
	}
}

// after arranges f for later.
func (w *world) after(d time.Duration, f func()) {
	w.seq++
	cheap.Push(&w.todo, todoItem{w.mono + int64(d), w.seq, f})
}

// soon is a moment, as it takes a goroutine to run.
func (w *world) soon() time.Duration { return time.Duration(w.rnd.IntN(200)) * time.Microsecond }

func (w *world) now() Instant { return Instant{w.wall, w.mono} }

// pass lets time pass, with all that was arranged for it.
func (w *world) pass(d time.Duration) {
	until := w.mono + int64(d)
	for len(w.todo) > 0 && w.todo[0].at <= until {
		item := cheap.Pop(&w.todo).(todoItem)
		w.advance(item.at - w.mono)
		item.f()
	}
	w.advance(until - w.mono)
}

// jump has both clocks go on while nothing else does.
func (w *world) jump(d int64) {
	w.mono += d
	for i := range w.todo {
		w.todo[i].at += d
	}
}

func (w *world) advance(d int64) {
	if d > 0 {
		w.mono += d
		w.wall += d
		w.rested = 0
	}
}

// event is one call of the machine. What it decided is checked and carried out.
func (w *world) event(what string, f func()) {
	w.t.Helper()
	w.what = what
	w.events++
	if w.rested++; w.rested > 100_000 {
		w.t.Fatalf("%s: the machine never rests", what)
	}
	w.m.steps = 0
	f()
	decisions := w.m.Take(w.spare)
	w.spare = nil
	switch what {
	case "tick", "thaw", "reset", "close idle", "close": // they are about many at once
	default:
		w.most = max(w.most, w.m.steps-6*len(decisions))
	}
	for _, d := range decisions { // what later events refer to
		switch d.Kind {
		case DoDial:
			w.dials[d.Dial] = &worldDial{d.Dial, d.Dial.origin.Driver.(*worldOrigin)}
		case DoGrant:
			w.held[d.Request.Grant.Conn]++
		}
	}
	w.check(decisions)
	for _, d := range decisions {
		w.carry(d)
	}
	if w.spare == nil {
		w.spare = decisions[:0]
	}
}

// carry carries a decision out. What follows from it is another event, later.
func (w *world) carry(d Decision) {
	switch d.Kind {
	case DoWake:
		at := w.mono + int64(d.In)
		w.tickAt = at
		w.after(d.In, func() {
			if w.tickAt == at {
				w.tickAt = -1
				w.event("tick", func() { w.m.Tick(w.now()) })
			}
		})
	case DoGrant:
		r := w.waiting[d.Request]
		delete(w.waiting, d.Request)
		r.grant, r.pending = d.Request.Grant, true
		epoch := r.epoch
		w.after(0, func() {
			if !r.ended && r.epoch == epoch {
				w.use(r)
			}
		})
	case DoFail:
		r := w.waiting[d.Request]
		if r == nil || r.ended {
			w.t.Fatalf("%s: a request ended twice", w.what)
		}
		delete(w.waiting, d.Request)
		if !errors.Is(d.Err, ErrClosed) {
			if told, known := w.told[d.Err]; !known || told {
				w.t.Fatalf("%s: %v ends two requests", w.what, d.Err)
			}
			w.told[d.Err] = true
		}
		w.failed++
		w.end(r, d.Err)
	case DoDial:
		w.begin(w.dials[d.Dial])
	case DoCancel:
		dial := w.dials[d.Dial]
		w.after(w.soon(), func() { w.dialFailed(dial, errors.New("cancelled")) })
	case DoClose:
		c := w.conns[d.Conn]
		w.tell(c)
		w.after(w.soon(), func() { w.freed(c) })
	case DoProve:
		w.prove(w.conns[d.Conn])
	case DoLook:
		c := w.conns[d.Conn]
		w.after(0, func() {
			if c.fin {
				w.die(c, Stale)
			}
		})
	case DoCollect:
		w.collected++
	}
}

func (w *world) freed(c *worldConn) {
	if w.conns[c.Conn] != nil {
		delete(w.conns, c.Conn)
		w.event("freed", func() { w.m.Freed(w.now(), c.Conn) })
	}
}

// die is a connection that ends by itself.
func (w *world) die(c *worldConn, why Reason) {
	if c.closed {
		return
	}
	w.tell(c)
	w.event("ended", func() { w.m.Ended(w.now(), c.Conn, why) })
	w.after(w.soon(), func() { w.freed(c) })
}

// tell tells those who have requests on a connection that it is closed.
func (w *world) tell(c *worldConn) {
	c.closed = true
	for _, r := range c.requests() {
		r.leave()
		r.epoch++
		w.after(w.soon(), func() { w.died(r) })
	}
}

// requests returns those on a connection, in their order.
func (c *worldConn) requests() []*worldRequest {
	all := make([]*worldRequest, 0, len(c.on))
	for r := range c.on {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *worldRequest) int { return a.id - b.id })
	return all
}

// each returns all connections, in their order.
func (w *world) each() []*worldConn {
	all := make([]*worldConn, 0, len(w.conns))
	for _, c := range w.conns {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *worldConn) int { return a.id - b.id })
	return all
}

// leave takes r from its connection.
func (r *worldRequest) leave() {
	if r.on != nil {
		delete(r.on.on, r)
		r.on = nil
	}
}

// died is what a request does whose connection has died.
func (w *world) died(r *worldRequest) {
	if r.ended {
		return
	}
	w.done(r, Failed)
	if r.deaths++; r.deaths > 4 || w.rnd.IntN(2) == 0 {
		w.lost++
		w.end(r, errors.New("lost"))
		return
	}
	r.want.Fresh = r.deaths >= 2
	w.ask(r)
}

// end ends a request.
func (w *world) end(r *worldRequest, err error) {
	r.ended, r.errored = true, err
	r.leave()
}

// done gives back what r was granted.
func (w *world) done(r *worldRequest, how How) {
	r.leave()
	c := r.grant.Conn
	if wc := w.conns[c]; wc != nil {
		wc.free = w.now()
	}
	w.held[c]--
	w.event("done", func() { w.m.Done(w.now(), c, how, 0) })
	if (how == Failed || how == Last) && !c.Closed() {
		w.bad("a connection is dead, and is kept")
	}
}

// unused gives back what r was granted, and has not used.
func (w *world) unused(r *worldRequest) {
	w.held[r.grant.Conn]--
	w.event("unused", func() { w.m.Unused(w.now(), r.grant) })
}

// begin begins a dial.
func (w *world) begin(d *worldDial) {
	o := d.origin
	o.begun++
	fail := func(after time.Duration, what string) {
		w.after(after, func() { w.dialFailed(d, errors.New(what)) })
	}
	if o.script != nil {
		took, err := o.script(o.begun)
		if err != nil {
			fail(took, err.Error())
		} else {
			w.after(took, func() { w.dialed(d) })
		}
		return
	}
	mode := o.dialling
	if mode == dialsVary {
		mode = dialling(w.rnd.IntN(3))
	}
	switch mode {
	case dialsHang:
		fail(5*time.Second, "timed out")
	case dialsFail:
		fail(o.rtt/2+w.soon(), "refused")
	default:
		w.after(o.rtt+w.soon(), func() { w.dialed(d) })
	}
}

func (w *world) dialFailed(d *worldDial, err error) {
	if w.dials[d.Dial] == nil {
		return
	}
	delete(w.dials, d.Dial)
	err = fmt.Errorf("dial %d: %w", w.events, err)
	w.told[err] = false
	w.event("dial failed", func() { w.m.DialFailed(w.now(), d.Dial, err) })
}

func (w *world) dialed(d *worldDial) {
	if w.dials[d.Dial] == nil {
		return
	}
	delete(w.dials, d.Dial)
	o := d.origin
	w.seq++
	c := &worldConn{Conn: new(Conn), id: w.seq, origin: o, on: make(map[*worldRequest]bool), free: w.now()}
	c.Driver = c
	made := Made{Protocol: HTTP1, RTT: o.rtt, Lifetime: time.Duration(20+w.rnd.IntN(20)) * time.Second, Unprovable: o.unprovable}
	if o.h2 {
		made.Protocol = HTTP2
	}
	w.conns[c.Conn] = c
	w.event("dialed", func() { w.m.Dialed(w.now(), d.Dial, c.Conn, made) })
	if o.h2 {
		w.after(time.Duration(w.rnd.IntN(20))*ms, func() {
			if !c.closed && !c.mute && !o.silent {
				w.event("settings", func() { w.m.Settings(w.now(), c.Conn, o.limit) })
			}
		})
	}
	if o.goesAway {
		w.after(o.rtt/2, func() { w.goAway(c, true) })
	}
}

// goAway has a server take no more requests on a connection, and maybe none of those that it has.
func (w *world) goAway(c *worldConn, all bool) {
	if c.closed {
		return
	}
	w.event("go away", func() { w.m.GoAway(w.now(), c.Conn) })
	if !all || c.closed {
		return
	}
	for _, r := range c.requests() {
		r.epoch++
		w.done(r, Aborted)
		w.ask(r)
	}
}

// prove answers the question whether somebody is there.
func (w *world) prove(c *worldConn) {
	o := c.origin
	proven := func(after time.Duration) {
		w.after(after, func() { w.event("proven", func() { w.m.Proven(w.now(), c.Conn) }) })
	}
	switch {
	case c.fin:
		w.after(w.soon(), func() { w.die(c, Stale) })
	case c.mute && w.rnd.IntN(2) == 0: // else nobody says a word
		w.after(time.Duration(w.rnd.IntN(1500))*ms, func() { w.event("unproven", func() { w.m.Unproven(w.now(), c.Conn) }) })
	case c.mute:
	case !w.healthy && !o.h2 && w.rnd.IntN(6) == 0:
		w.after(0, func() { w.event("unprovable", func() { w.m.Unprovable(w.now(), c.Conn) }) })
	case !w.healthy && w.rnd.IntN(4) == 0:
		proven(time.Duration(w.rnd.IntN(1200)) * ms)
	default:
		proven(max(o.rtt, o.ping))
	}
}

// newRequest returns one that has not asked yet.
func (w *world) newRequest(o *worldOrigin) *worldRequest {
	w.asked++
	return &worldRequest{id: w.asked, origin: o, began: w.mono, want: Want{Careful: w.rnd.IntN(2) == 0}}
}

// ask has a request ask for a connection, and wait.
func (w *world) ask(r *worldRequest) {
	r.epoch++
	r.asked = w.now()
	var g Grant
	var ok bool
	w.event("ask", func() {
		if g, ok = w.m.Ask(w.now(), r.origin.Origin, &r.want); ok {
			w.held[g.Conn]++
			w.checkGrant(r.want, g)
		}
	})
	if ok {
		r.grant = g
		w.use(r)
		return
	}
	var err error
	w.event("wait", func() {
		r.Request = Request{Want: r.want}
		w.waiting[&r.Request] = r
		if err = w.m.Wait(w.now(), r.origin.Origin, &r.Request, r.again); err != nil {
			delete(w.waiting, &r.Request)
		}
		r.again = true
	})
	if err != nil {
		w.failed++
		w.end(r, err)
	}
}

// use is what a request does with its connection: it looks at it, sends, and is answered or not.
func (w *world) use(r *worldRequest) {
	c := w.conns[r.grant.Conn]
	r.pending = false
	switch {
	case c == nil || c.closed:
		w.died(r)
		return
	case c.fin: // as a look shows
		r.deaths++
		r.want.Fresh = r.deaths > 2
		w.held[c.Conn]--
		w.event("found dead", func() { w.m.FoundDead(w.now(), r.grant) })
		if !c.closed {
			w.t.Fatal("a dead connection was not closed")
		}
		w.ask(r)
		return
	case c.life == retired: // the protocol layer takes no more
		w.unused(r)
		w.ask(r)
		return
	}
	w.checkUse(r, c)
	if r.got == 0 {
		r.got = w.mono
	}
	r.on = c
	c.on[r] = true
	epoch := r.epoch
	o := c.origin
	if o.h2 && (o.refuses || c.refuses || len(c.on) > o.really) {
		w.after(o.rtt/2, func() {
			if !r.ended && r.epoch == epoch {
				w.done(r, Refused)
				w.ask(r)
			}
		})
		return
	}
	takes := time.Duration(w.rnd.IntN(50)) * ms
	switch {
	case c.mute:
		takes = time.Second
	case o.serve != nil:
		takes = o.serve()
	case !w.healthy && w.rnd.IntN(50) == 0:
		takes = time.Duration(w.rnd.IntN(5)) * time.Second
	}
	w.after(takes, func() {
		if !r.ended && r.epoch == epoch {
			w.answer(r, c)
		}
	})
}

// answer ends a request on its connection, one way or the other.
func (w *world) answer(r *worldRequest, c *worldConn) {
	how := Answered
	switch {
	case c.mute:
		how = Silent
	case c.fin:
		w.die(c, Broken)
		return
	case !w.healthy && w.rnd.IntN(20) == 0:
		how = []How{Aborted, Failed, Silent}[w.rnd.IntN(3)]
	}
	if how != Answered && !c.origin.h2 {
		how = Failed
	}
	if how == Failed {
		r.leave()
		for _, other := range c.requests() { // it is the connection that failed
			other.leave()
			other.epoch++
			w.after(w.soon(), func() { w.died(other) })
		}
	}
	if how == Answered && !w.healthy && w.rnd.IntN(40) == 0 {
		w.goAway(c, false) // "Connection: close"
	}
	w.end(r, nil)
	w.done(r, how)
	if how != Answered {
		w.lost++
	} else {
		w.answered++
	}
	if r.then != nil {
		r.then()
	}
}

// giveUp has somebody stop waiting. Who is being answered stays.
func (w *world) giveUp(r *worldRequest) {
	if r.ended || r.on != nil {
		return
	}
	w.gaveUp++
	r.epoch++
	if w.waiting[&r.Request] != nil {
		delete(w.waiting, &r.Request)
		w.event("give up", func() { w.m.GiveUp(w.now(), &r.Request) })
	} else if r.pending {
		w.unused(r)
	}
	w.end(r, errors.New("gave up"))
}
