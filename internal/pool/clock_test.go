package pool

import (
	"testing"
	"time"
)

func TestTimePassesByTheClockThatSaysMore(t *testing.T) {
	for _, c := range []struct {
		name       string
		wall, mono time.Duration
		passes     time.Duration // by the machine
		since      time.Duration // by Since
	}{
		{"nothing happened", 0, 0, 0, 0},
		{"both run", time.Second, time.Second, time.Second, time.Second},
		{"frozen, the monotonic clock stands still", time.Hour, 0, time.Hour, time.Hour},
		{"frozen, both go on", time.Hour, time.Hour, time.Hour, time.Hour},
		{"the wall clock was slowed down", time.Second, time.Minute, time.Minute, time.Minute},
		{"the wall clock was set back", -time.Nanosecond, time.Second, time.Second, time.Second},
		{"restored from a snapshot", time.Hour, -time.Hour, time.Hour, time.Hour},
		{"restored at once", 0, -time.Hour, 0, 0},
	} {
		then := Instant{Wall: 1e18, Mono: 5e12}
		now := Instant{Wall: then.Wall + int64(c.wall), Mono: then.Mono + int64(c.mono)}
		m := New(Config{})
		m.advance(then)
		began := m.now
		m.advance(now)
		if got := m.age(began); got != c.passes {
			t.Errorf("%s: %v have passed, want %v", c.name, got, c.passes)
		}
		if got := now.Since(then); got != c.since {
			t.Errorf("%s: since then %v, want %v", c.name, got, c.since)
		}
	}
}

// All that was known of connections is as old as can be, and what is under way goes on.
func TestAWallClockThatWasSetBackSaysNothing(t *testing.T) {
	for _, s := range speakers {
		w := quiet(t, 256)
		o := w.origin(s, 64, inOrder(10*ms))
		w.call(o, 0, time.Second)
		w.pass(time.Second)
		w.wall -= int64(ms)
		r := w.call(o, 0, time.Second)
		w.pass(time.Second)
		w.answers([]*worldRequest{r})
		if n := o.counts.Closed[Lifetime] + o.counts.Closed[IdleTimeout]; n != 1 || o.begun != 2 {
			t.Errorf("%s: %d closed as too old, %d dials; want the one from before, and another", s.name, n, o.begun)
		}
		r = w.call(o, 0, time.Second)
		w.pass(time.Second)
		w.answers([]*worldRequest{r})
		if o.begun != 2 {
			t.Errorf("%s: %d dials: what was made since is in doubt too", s.name, o.begun)
		}
	}
}
