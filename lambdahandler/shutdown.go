package lambdahandler

import (
	"sync"
	"time"
)

// invocations knows how many are running.
type invocations struct {
	mu      sync.Mutex // guards what follows
	running int
	begun   uint64
	idle    chan struct{} // closed when none is running, if somebody waits for that; or nil
}

// begin notes that an invocation has begun. It returns its turn, for end.
func (r *invocations) begin() (turn uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running++
	r.begun++
	if r.running > 1 {
		return 0 // it is not alone
	}
	return r.begun
}

// end notes that the invocation with that turn has ended. It reports whether it was alone all the time.
func (r *invocations) end(turn uint64) (alone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if r.running == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
	return turn == r.begun
}

// wait waits until no invocation is running, for d at most.
func (r *invocations) wait(d time.Duration) {
	r.mu.Lock()
	if r.running == 0 {
		r.mu.Unlock()
		return
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}

// shutdown is called on SIGTERM.
func (h *handler) shutdown() {
	h.running.wait(h.grace)
	if err := h.client.Close(); err != nil {
		h.log().Warn("shutdown: closing the client", "error", err)
	}
}
