package lambdatest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// errExited says that the process ended while it was being frozen.
var errExited = errors.New("the process ended")

// Freeze stops the process and its children, and returns when the kernel says that all their threads have stopped.
// It first waits for what Lambda waits for: that every event sent before is answered, and that every poller, and every
// extension, has polled again. A poll that has arrived was sent, so the function never stops with half a request in its
// buffers. Goroutines that the handler left behind are stopped wherever they are, as in Lambda. With a Concurrency above 1
// an invocation that timed out is waited for until its handler has returned.
//
// Events sent after the call wait for [Function.Thaw]. Freezing a frozen function does nothing.
//
// The error is that of ctx, with the function running on; [ErrStopped]; why the environment ended; or one that
// wraps [errors.ErrUnsupported] where processes cannot be stopped.
func (f *Function) Freeze(ctx context.Context) error {
	if !canFreeze {
		return fmt.Errorf("lambdatest: freeze on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	if err := f.take(ctx); err != nil {
		return fmt.Errorf("lambdatest: freeze: %w", err)
	}
	defer func() { <-f.control }()
	if f.frozen {
		return nil
	}
	f.queue.hold()
	err := f.awaitIdle(ctx)
	if err == nil {
		if err = f.process.freeze(ctx, f.stopping); err != nil {
			_ = f.process.thaw()
		}
	}
	if errors.Is(err, errExited) {
		<-f.done
		err = f.err
	}
	if err != nil {
		f.queue.release()
		return fmt.Errorf("lambdatest: freeze: %w", err)
	}
	f.frozen = true
	return nil
}

// awaitIdle waits until every poller waits for an event.
func (f *Function) awaitIdle(ctx context.Context) error {
	for {
		idle, changed := f.queue.idle()
		if idle {
			return nil
		}
		select {
		case <-changed:
		case <-f.done:
			return f.err
		case <-f.stopping:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Thaw lets a frozen function go on. The events that wait for it are in its sockets by then, so it finds them as a
// function does that an event wakes; their deadlines and durations count from the thaw. Thawing a function that is not
// frozen does nothing. The error is why the environment ended.
func (f *Function) Thaw() error {
	if err := f.take(context.Background()); err != nil {
		return fmt.Errorf("lambdatest: thaw: %w", err)
	}
	defer func() { <-f.control }()
	if !f.frozen {
		return nil
	}
	for _, p := range f.queue.release() {
		select {
		case <-p.sent:
		case <-f.process.exited:
		}
	}
	f.queue.restart()
	f.frozen = false
	if err := f.process.thaw(); err != nil {
		<-f.done // the process has ended: nothing else can go wrong
		return fmt.Errorf("lambdatest: thaw: %w", f.err)
	}
	return nil
}

// freeze stops the group and waits until all of it has stopped. If ctx ends first, or stopping is closed, the group may be
// stopped or not.
func (p *process) freeze(ctx context.Context, stopping <-chan struct{}) error {
	if err := p.suspend(); err != nil {
		return errExited
	}
	// The kernel stops a running thread within microseconds and one in a system call when that lets go.
	wait := 50 * time.Microsecond
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		stopped, err := groupStopped(p.handle.Pid)
		if err != nil || stopped {
			return err
		}
		select {
		case <-timer.C:
		case <-p.exited:
			return errExited
		case <-stopping:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wait = min(2*wait, 2*time.Millisecond)
		timer.Reset(wait)
	}
}
