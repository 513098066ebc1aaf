package transport

import (
	"math"
	"time"
)

// instant is a point in time on both clocks, in nanoseconds.
//
// Neither clock alone tells how long a connection was idle: a frozen environment may or may not advance the
// monotonic clock, a SnapStart restore can leave it behind, and the wall clock may be set back.
type instant struct{ wall, mono int64 }

// clock is where the pool reads the time. Tests replace it, to let wall and monotonic time part.
type clock interface{ now() instant }

// processStart is what monotonic readings are relative to.
var processStart = time.Now()

type systemClock struct{}

func (systemClock) now() instant {
	t := time.Now()
	return instant{wall: t.UnixNano(), mono: int64(t.Sub(processStart))}
}

// since returns how long ago then was: the larger of the two differences. A wall clock that went backwards
// makes everything infinitely old, because it then says nothing.
//
//go:noinline
func (now instant) since(then instant) time.Duration {
	wall := now.wall - then.wall
	if wall < 0 {
		return math.MaxInt64
	}
	return time.Duration(max(wall, now.mono-then.mono))
}

// waited returns how long ago then was on the monotonic clock, for waits. A restored snapshot can have set it back.
func (now instant) waited(then instant) time.Duration {
	return max(0, time.Duration(now.mono-then.mono))
}

// elapsed returns how long ago then was, for those who measure rather than decide: the larger of the two differences, and
// a wall clock that went backwards says nothing.
func (now instant) elapsed(then instant) time.Duration {
	return time.Duration(max(0, now.wall-then.wall, now.mono-then.mono))
}

// time returns the wall-clock time.
func (now instant) time() time.Time { return time.Unix(0, now.wall) }
