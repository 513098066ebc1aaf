package lambdatest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"
)

// errBusy says that a thread was stopped in the middle of reading a clock.
var errBusy = errors.New("a thread reads the clock")

// AdvanceClock moves the clocks of a frozen process ahead by d, a positive whole number of seconds, as if it had been
// frozen for that long: the wall clock and the monotonic ones. What was to happen meanwhile is overdue when it goes on:
// a timer of a Go program fires. The peers of the process, its children and the kernel, with its timers of TCP, are where
// they were. The deadlines of invocations follow the process's clock; [Result.Duration] does not.
//
// It rewrites the functions by which Linux lets a process read the clock, vdso(7), in the memory of the process, through
// /proc/PID/mem. This works for programs that read the clock in this way, as those of the Go toolchain and of glibc do. A
// kernel may forbid it.
//
// The error is one of d, that the function is not frozen, or why the environment ended; it wraps
// [errors.ErrUnsupported] where clocks cannot be moved, which is everywhere but on Linux on amd64.
func (f *Function) AdvanceClock(d time.Duration) error {
	if d <= 0 || d%time.Second != 0 {
		return fmt.Errorf("lambdatest: advance the clock by %v: want a positive whole number of seconds", d)
	}
	if !canAdvance {
		return fmt.Errorf("lambdatest: advance the clock on %s/%s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
	}
	ctx := context.Background()
	if err := f.take(ctx); err != nil {
		return fmt.Errorf("lambdatest: advance the clock: %w", err)
	}
	defer func() { <-f.control }()
	if !f.frozen {
		return errors.New("lambdatest: advance the clock: the function is not frozen: call Freeze first")
	}
	if d > math.MaxInt64-f.ahead {
		return fmt.Errorf("lambdatest: advance the clock by %v: it is %v ahead already: want at most %v in all", d, f.ahead, time.Duration(math.MaxInt64))
	}
	ahead := f.ahead + d
	err := f.process.setClockAhead(ahead)
	for tries := 0; errors.Is(err, errBusy) && tries < 10; tries++ {
		// It has no event, so it comes to rest again.
		if err = f.process.thaw(); err == nil {
			err = f.process.freeze(ctx, f.stopping)
		}
		if err == nil {
			err = f.process.setClockAhead(ahead)
		}
	}
	if err != nil {
		return fmt.Errorf("lambdatest: advance the clock: %w", err)
	}
	f.ahead = ahead
	f.queue.setClockAhead(ahead)
	return nil
}
