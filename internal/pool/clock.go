package pool

import (
	"math"
	"time"
)

// Instant is a reading of both clocks, in nanoseconds. Neither clock alone tells how much time has passed: a frozen environment
// may or may not advance the monotonic clock, the restore of a snapshot can leave it behind, and the wall clock may be set
// back.
type Instant struct{ Wall, Mono int64 }

// Since returns how long ago then was: the larger of the two differences.
func (now Instant) Since(then Instant) time.Duration {
	return time.Duration(max(0, now.Wall-then.Wall, now.Mono-then.Mono))
}

// Time returns what the wall clock said.
func (now Instant) Time() time.Time { return time.Unix(0, now.Wall) }

// moment is a point in the machine's own time, in nanoseconds since its first event. It never goes back.
type moment int64

const (
	never moment = math.MaxInt64

	// Forever is a limit that is none: it never passes.
	Forever time.Duration = math.MaxInt64 / 2

	longAgo = -moment(Forever) // all limits have passed since then
)

// parted is by how much the clocks must have parted between two events for the timer of the driver to come too late.
const parted = int64(time.Millisecond)

// advance lets the time pass until now. Between two events passes what the clock says that says more, so that every age is the
// larger of the differences on both clocks, or more (rule 1). A wall clock that was set back says nothing: all limits of
// connections have passed then.
func (m *Machine) advance(now Instant) {
	if m.read == (Instant{}) {
		m.read = now
		return
	}
	wall, mono := now.Wall-m.read.Wall, now.Mono-m.read.Mono
	step := max(wall, mono, 0)
	if wall < 0 {
		m.eachConn(func(c *Conn) {
			m.suspect(c)
			c.born, c.idleAt = longAgo, longAgo
		})
	}
	if step-mono > parted {
		m.wakeAt = never // the driver's timer goes by the monotonic clock
	}
	m.now += moment(step)
	m.read = now
}

// age returns how long ago then was.
func (m *Machine) age(then moment) time.Duration { return time.Duration(m.now - then) }

// passed reports whether a limit has passed since then.
func (m *Machine) passed(then moment, limit time.Duration) bool {
	return limit < Forever && m.age(then) >= limit
}

// timer is the deadline of one thing, which has it as a part of itself.
type timer struct {
	slot[timer]
	of timed
}

// timed is a connection, a dial, an origin, or what is known of leaks.
type timed interface {
	// due does what is due, and has itself called for what is due next. overdue is how late that is.
	due(m *Machine, overdue time.Duration)
}

// within has t run after d, or sooner if it would have run sooner anyway: whatever it belongs to looks then at what is due, and
// sets it again. So a connection that is used and given back moves nothing in the heap.
func (m *Machine) within(t *timer, d time.Duration) {
	if d >= Forever {
		return
	}
	at := m.now + moment(max(d, 1))
	if !t.queued() || t.key > int64(at) {
		m.timers.put(&t.slot, t, int64(at))
	}
}

// Tick does what is due. The driver calls it when the time of a [DoWake] has passed, and may call it at any other time.
func (m *Machine) Tick(now Instant) {
	m.advance(now)
	m.wakeAt = never
	if m.shut {
		return
	}
	for t := m.timers.first(); t != nil && t.key <= int64(m.now); t = m.timers.first() {
		m.steps++
		overdue := time.Duration(int64(m.now) - t.key)
		t.leave()
		t.of.due(m, overdue)
	}
}
