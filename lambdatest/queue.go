package lambdatest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// errState and errUnknownID are refusals of the Runtime API: what is asked for is not possible now, or is about an
// invocation that is not under way.
var (
	errState     = errors.New("not possible in this state")
	errUnknownID = errors.New("no such invocation")
)

// queue brings events and pollers together: it knows what waits, what runs, and who polls. It does no I/O.
type queue struct {
	concurrency int
	timeout     time.Duration
	// kill ends the environment. It is called without mu, when an invocation outlived its timeout.
	kill func(error)

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever what a waiter looks at may have changed
	polls   []*poll       // waiting for an event, longest first
	waiting []*invocation // not delivered yet
	held    []*invocation // sent since holding began; not delivered before it ends
	holding bool
	running map[string]*invocation // delivered and not answered, by request ID
	// current is the invocation whose poller is not back yet. Only with a concurrency of 1 is it known which.
	current    *invocation
	answered   []string              // the last request IDs that were answered, at most concurrency
	extensions map[string]*extension // by identifier
	ready      bool                  // init is done
	initErr    *FunctionError        // reported by POST to init/error
	refuse     error                 // why no more events are taken
	ahead      time.Duration         // of the process's clock
}

// poll is one request for the next event.
type poll struct {
	event chan *invocation // of capacity 1, so that handing over never waits
	sent  chan struct{}    // closed once the beginning of the event is in the socket, or never will be
	once  sync.Once        // closes sent
}

func (p *poll) handedOver() { p.once.Do(func() { close(p.sent) }) }

// invocation is one event and its outcome.
type invocation struct {
	id, trace string
	payload   []byte

	// Guarded by queue.mu.
	delivered time.Time
	timer     *time.Timer
	answering bool // the body of its answer is being read
	completed bool

	// Written before done is closed.
	done   chan struct{}
	result *Result
	err    error
}

func newQueue(c Config, kill func(error)) *queue {
	return &queue{
		concurrency: c.Concurrency,
		timeout:     c.Timeout,
		kill:        kill,
		changed:     make(chan struct{}),
		running:     make(map[string]*invocation),
		extensions:  make(map[string]*extension),
	}
}

// broadcast wakes everyone who waits for a change. The caller holds mu.
func (q *queue) broadcast() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// add takes an event.
func (q *queue) add(inv *invocation) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse != nil {
		return q.refuse
	}
	if q.holding {
		q.held = append(q.held, inv)
		return nil
	}
	q.waiting = append(q.waiting, inv)
	q.dispatch()
	return nil
}

// withdraw takes an event back if it was not delivered yet.
func (q *queue) withdraw(inv *invocation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	same := func(other *invocation) bool { return other == inv }
	q.waiting = slices.DeleteFunc(q.waiting, same)
	q.held = slices.DeleteFunc(q.held, same)
	q.broadcast()
}

// dispatch hands events to polls while there are both and more may run, and returns the polls that got one. More polls
// than may run at once are those of a runtime that polls more often than it was told to. The caller holds mu.
func (q *queue) dispatch() []*poll {
	n := min(len(q.waiting), len(q.polls), q.concurrency-len(q.running))
	if n == 0 || q.refuse != nil {
		return nil
	}
	served := slices.Clone(q.polls[:n])
	for i, inv := range q.waiting[:n] {
		inv.delivered = time.Now()
		inv.timer = time.AfterFunc(q.timeout, func() { q.expire(inv) })
		q.running[inv.id] = inv
		if q.concurrency == 1 {
			q.current = inv
		}
		served[i].event <- inv
	}
	q.waiting = slices.Delete(q.waiting, 0, n)
	q.polls = slices.Delete(q.polls, 0, n)
	q.broadcast()
	return served
}

// poll registers a poller, or refuses it because every event that may run at once is running.
func (q *queue) poll() (*poll, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.running) >= q.concurrency {
		return nil, errState
	}
	if q.current != nil {
		q.current.timer.Stop()
		q.current = nil
	}
	p := &poll{event: make(chan *invocation, 1), sent: make(chan struct{})}
	q.polls = append(q.polls, p)
	q.dispatch()
	q.broadcast()
	return p, nil
}

// unpoll takes a poller out that went away. An event that it was handed meanwhile is for another.
func (q *queue) unpoll(p *poll) {
	q.mu.Lock()
	q.polls = slices.DeleteFunc(q.polls, func(other *poll) bool { return other == p })
	q.broadcast()
	q.mu.Unlock()
	select {
	case inv := <-p.event:
		q.undeliver(inv)
	default:
	}
}

// undeliver puts an event back at the head: its poller cannot have got it.
func (q *queue) undeliver(inv *invocation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[inv.id] != inv || inv.completed {
		return
	}
	inv.timer.Stop()
	delete(q.running, inv.id)
	if q.current == inv {
		q.current = nil
	}
	q.waiting = slices.Insert(q.waiting, 0, inv)
	q.dispatch()
	q.broadcast()
}

// deadline is the time by which inv has to be over, by the clock of the process.
func (q *queue) deadline(inv *invocation) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return inv.delivered.Add(q.timeout).Add(q.ahead)
}

// setClockAhead tells by how much the clock of the process is ahead.
func (q *queue) setClockAhead(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ahead = d
}

// begin finds the invocation that an answer is for, and admits one answer only.
func (q *queue) begin(id string) (*invocation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	inv := q.running[id]
	switch {
	case inv == nil && slices.Contains(q.answered, id):
		return nil, errState
	case inv == nil:
		return nil, errUnknownID
	case inv.answering:
		return nil, errState
	}
	inv.answering = true
	return inv, nil
}

// abort admits another answer: the one that began broke off.
func (q *queue) abort(inv *invocation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	inv.answering = false
}

// finish takes the answer that began.
func (q *queue) finish(inv *invocation, res *Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[inv.id] != inv {
		return
	}
	delete(q.running, inv.id)
	q.answered = append(q.answered, inv.id)
	if len(q.answered) > q.concurrency {
		q.answered = slices.Delete(q.answered, 0, 1)
	}
	// With one poller the invocation is over, and its time no longer counts, when the next poll comes.
	if q.concurrency > 1 {
		inv.timer.Stop()
	}
	res.RequestID, res.TraceHeader, res.Duration = inv.id, inv.trace, time.Since(inv.delivered)
	q.complete(inv, res, nil)
	q.dispatch()
	q.broadcast()
}

// complete publishes the outcome of an invocation; the first one counts. The caller holds mu.
func (q *queue) complete(inv *invocation, res *Result, err error) {
	if inv.completed {
		return
	}
	inv.completed, inv.result, inv.err = true, res, err
	close(inv.done)
}

// expire ends an invocation whose time is over.
func (q *queue) expire(inv *invocation) {
	late := &TimeoutError{RequestID: inv.id, After: q.timeout}
	q.mu.Lock()
	if time.Since(inv.delivered) < q.timeout {
		q.mu.Unlock()
		return // delivered again, or its time started again, while this timer fired
	}
	if q.concurrency > 1 {
		// The environment and the handler go on, so the invocation stays in running until its answer comes.
		if q.running[inv.id] == inv {
			q.complete(inv, nil, late)
		}
		q.mu.Unlock()
		return
	}
	over := q.current != inv
	late.Answered = inv.completed
	q.mu.Unlock()
	if !over {
		q.kill(late)
	}
}

// hold keeps the events that are sent from now on; those sent before are delivered.
func (q *queue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holding = true
}

// release lets the events that were held go, and returns the polls that got one.
func (q *queue) release() []*poll {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holding = false
	q.waiting = append(q.waiting, q.held...)
	q.held = nil
	return q.dispatch()
}

// restart counts the time of what is running from now.
func (q *queue) restart() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, inv := range q.running {
		inv.delivered = now
		inv.timer.Reset(q.timeout)
	}
}

// idle says whether every poller waits, every extension does, and no event is left to deliver. What it says is true
// until changed is closed.
func (q *queue) idle() (idle bool, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	idle = len(q.polls) >= q.concurrency && len(q.running) == 0 && len(q.waiting) == 0
	for _, ext := range q.extensions {
		idle = idle && ext.polls > 0
	}
	return idle, q.changed
}

// start ends the init phase: events may come.
func (q *queue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = true
}

// failInit takes the error of an initialization that failed, and refuses it after init.
func (q *queue) failInit(e *FunctionError) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ready || q.initErr != nil {
		return errState
	}
	q.initErr = e
	q.broadcast()
	return nil
}

// initFailure returns the error of an initialization that failed, and the number of polls that wait.
func (q *queue) initFailure() (e *FunctionError, polls int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.initErr, len(q.polls)
}

// end refuses further events for the given reason and leaves what is running alone.
func (q *queue) end(reason error) {
	if e, ok := errors.AsType[*TimeoutError](reason); ok {
		own := *e // whoever is refused sees it at once, and the other has no output yet
		reason = &own
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse == nil {
		q.refuse = notDelivered(reason)
	}
}

func notDelivered(reason error) error {
	return fmt.Errorf("lambdatest: event not delivered: %w", reason)
}

// close completes everything that is not: the environment is gone, for the given reason.
func (q *queue) close(reason error) {
	q.end(reason)
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := errors.AsType[*TimeoutError](reason); ok && errors.As(q.refuse, new(*TimeoutError)) {
		q.refuse = notDelivered(e) // with the output, from now on
	}
	if q.current != nil {
		q.current.timer.Stop()
	}
	for _, inv := range q.running {
		inv.timer.Stop()
		q.complete(inv, nil, reasonFor(inv, reason))
	}
	for _, inv := range slices.Concat(q.waiting, q.held) {
		q.complete(inv, nil, q.refuse)
	}
	q.waiting, q.held = nil, nil
	q.broadcast()
}

// reasonFor returns the error of an invocation that was running when the environment ended.
func reasonFor(inv *invocation, reason error) error {
	if e, ok := errors.AsType[*TimeoutError](reason); ok {
		return e // only one was running
	}
	if e, ok := errors.AsType[*ExitError](reason); ok {
		own := *e
		own.Phase, own.RequestID = PhaseInvoke, inv.id
		return &own
	}
	return fmt.Errorf("lambdatest: invocation %s: %w", inv.id, reason)
}

// phase says in which phase the environment is, and with which invocation.
func (q *queue) phase() (p Phase, requestID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ready {
		return PhaseInit, ""
	}
	if q.current != nil {
		return PhaseInvoke, q.current.id
	}
	for id := range q.running {
		return PhaseInvoke, id
	}
	return PhaseIdle, ""
}
