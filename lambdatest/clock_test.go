//go:build linux || darwin

package lambdatest_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestBothClocksOfAFrozenProcessMoveAhead(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	var before clock
	invoke(t, fn, event{Do: "timer"}, &before)
	invoked := time.Now()
	var ahead time.Duration
	for range 3 {
		const step = 40 * time.Minute
		freeze(t, fn)
		err := fn.AdvanceClock(step)
		if errors.Is(err, errors.ErrUnsupported) && (runtime.GOOS != "linux" || runtime.GOARCH != "amd64") {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		ahead += step
		thaw(t, fn)
		var now clock
		invoke(t, fn, event{Do: "clock"}, &now)
		real := time.Since(invoked)
		for name, moved := range map[string]time.Duration{"wall": now.Now.Sub(before.Now), "monotonic": now.Since - before.Since} {
			if moved < ahead || moved > ahead+real+time.Minute {
				t.Errorf("the %s clock moved by %v, want %v and what passed (%v)", name, moved, ahead, real)
			}
		}
	}
	// The timer of an hour is overdue after 40 minutes twice, and the deadline is where the process's clock is.
	var fired string
	invoke(t, fn, event{Do: "overdue"}, &fired)
	var got seen
	invoke(t, fn, event{Do: "context"}, &got)
	if left := time.UnixMilli(got.DeadlineMS).Sub(time.Now().Add(ahead)); left <= 0 || left > fn.Config().Timeout {
		t.Errorf("the deadline is %v ahead of the process's clock, want up to %v", left, fn.Config().Timeout)
	}
}

func TestClockOfARunningProcessStays(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	if err := fn.AdvanceClock(time.Hour); err == nil || !errors.Is(err, errors.ErrUnsupported) && !strings.Contains(err.Error(), "not frozen") {
		t.Errorf("error %v, want one that says that it is not frozen", err)
	}
	for _, d := range []time.Duration{0, -time.Second, 1500 * time.Millisecond} {
		if err := fn.AdvanceClock(d); err == nil || !strings.Contains(err.Error(), "whole number of seconds") {
			t.Errorf("by %v: error %v, want one about the duration", d, err)
		}
	}
}
