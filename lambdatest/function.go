package lambdatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The time a process has to shut down, from SIGTERM to SIGKILL. Lambda gives 500 ms to one with an internal
// extension and none to any other, which gets no SIGTERM at all: see "Shutdown phase" on the page "Understanding
// the Lambda execution environment lifecycle". Here that one has a moment too, for what a signal handler may have to
// write.
const (
	graceExtension = 500 * time.Millisecond
	graceNone      = 50 * time.Millisecond
)

// graceInit is the time that a process has to exit after it reported a failed init.
const graceInit = 100 * time.Millisecond

// Function is one execution environment: a process and the Runtime API that it polls. All methods are safe for
// concurrent use. A Function has to be stopped.
type Function struct {
	cfg     Config
	queue   *queue
	api     *runtimeAPI
	process *process

	// control holds one token for Freeze, AdvanceClock, Thaw and Stop, which take turns. It guards frozen and ahead.
	control chan struct{}
	frozen  bool
	ahead   time.Duration // of the process's clocks, by AdvanceClock

	stop     sync.Once
	stopping chan struct{} // closed by the first Stop

	mu    sync.Mutex
	cause error // why the process has to end, or nil

	done chan struct{} // closed when nothing of the environment is left
	err  error         // why it ended; written before done is closed
}

// Start runs the bootstrap and returns when init is done: when each of its [Config.Concurrency] pollers waits for
// its first event, and each extension it registered waits too. ctx bounds the start only. When Start fails nothing is
// left behind.
//
// The error is that of the configuration, all its faults at once, or of starting the process, or an [InitError], an
// [InitTimeoutError], an [ExitError] in [PhaseInit], or that of ctx.
func Start(ctx context.Context, cfg Config) (*Function, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lambdatest: start: %w", context.Cause(ctx))
	}
	f := &Function{
		cfg:      cfg,
		control:  make(chan struct{}, 1),
		stopping: make(chan struct{}),
		done:     make(chan struct{}),
	}
	f.queue = newQueue(cfg, f.kill)
	if f.api, err = serveRuntimeAPI(cfg, f.queue); err != nil {
		return nil, err
	}
	if f.process, err = startProcess(cfg, f.api.addr); err != nil {
		f.api.close()
		return nil, fmt.Errorf("lambdatest: start %s: %w", cfg.Path, err)
	}
	go f.reap()
	if err := f.awaitInit(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// awaitInit waits for the end of the init phase. If init fails it waits until nothing is left.
func (f *Function) awaitInit(ctx context.Context) error {
	timeout := time.NewTimer(f.cfg.InitTimeout)
	defer timeout.Stop()
	for {
		idle, changed := f.queue.idle()
		reported, polls := f.queue.initFailure()
		switch {
		case reported != nil:
			// Most runtimes exit now, and may have more to write before they do.
			grace := time.NewTimer(graceInit)
			defer grace.Stop()
			select {
			case <-f.done:
			case <-grace.C:
				f.kill(&InitError{Err: reported})
			}
			<-f.done
			return f.err
		case idle:
			f.queue.start()
			return nil
		}
		select {
		case <-changed:
		case <-f.done:
			return f.err
		case <-timeout.C:
			f.kill(&InitTimeoutError{After: f.cfg.InitTimeout, Polls: polls, Want: f.cfg.Concurrency})
			<-f.done
			return f.err
		case <-ctx.Done():
			f.kill(fmt.Errorf("lambdatest: start: init interrupted: %w", context.Cause(ctx)))
			<-f.done
			return f.err
		}
	}
}

// reap waits for the end of the process, then ends everything else. It runs in a goroutine of its own, the last
// of the environment to end; what waits for an outcome learns it only then.
func (f *Function) reap() {
	<-f.process.exited
	phase, requestID := f.queue.phase()
	reported, _ := f.queue.initFailure()
	f.api.close()

	f.mu.Lock()
	err := f.cause
	f.mu.Unlock()
	if err == nil && reported != nil {
		err = &InitError{Err: reported}
	}
	output := f.process.output.String()
	if err == nil {
		state := f.process.state
		err = &ExitError{Phase: phase, RequestID: requestID, Code: state.ExitCode(), Signal: exitSignal(state)}
	}
	if e, ok := errors.AsType[withOutput](err); ok {
		e.setOutput(output)
	}
	f.queue.close(err)
	f.err = err
	close(f.done)
}

// because notes why the process is going to end; the first reason counts.
func (f *Function) because(reason error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cause == nil {
		f.cause = reason
	}
}

// kill ends the process and its children at once, for the given reason.
func (f *Function) kill(reason error) {
	f.because(reason)
	f.queue.end(reason)
	f.process.kill()
}

// Stop ends the environment as Lambda does: SIGTERM to the process and its children, then SIGKILL when its time is
// over, 500 ms if it registered an extension (lambda.WithEnableSIGTERM does) and next to nothing if not. A frozen
// process is thawed for it. Events that are not answered yet fail with [ErrStopped]. Stop returns when neither a
// process nor a goroutine is left; if the environment has ended before, at once and without an error.
//
// When ctx ends first, the process is killed and the context's error returned, with nothing left either.
func (f *Function) Stop(ctx context.Context) error {
	select {
	case <-f.done: // even if ctx has ended too
		return nil
	default:
	}
	f.stop.Do(func() { close(f.stopping) }) // a Freeze that waits for the function gives up
	f.queue.end(ErrStopped)
	select {
	case f.control <- struct{}{}:
		defer func() { <-f.control }()
	case <-f.done:
		return nil
	case <-ctx.Done(): // while another call holds it
		f.kill(ErrStopped)
		<-f.done
		return stopInterrupted(ctx)
	}

	f.because(ErrStopped)
	grace := graceNone
	if f.queue.hasExtension() {
		grace = graceExtension
	}
	if err := f.process.terminate(); err != nil {
		grace = 0 // ended already, or there is no SIGTERM here
	}
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	var err error
	select {
	case <-f.done:
		return nil
	case <-timeout.C:
	case <-ctx.Done():
		err = stopInterrupted(ctx)
	}
	f.process.kill()
	<-f.done
	return err
}

func stopInterrupted(ctx context.Context) error {
	return fmt.Errorf("lambdatest: stop: the process was killed: %w", context.Cause(ctx))
}

// Done is closed when the environment has ended and nothing of it is left.
func (f *Function) Done() <-chan struct{} { return f.done }

// Err returns nil until Done is closed, then why the environment ended: [ErrStopped], [TimeoutError] or [ExitError].
func (f *Function) Err() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// Config returns the configuration in force, a copy.
func (f *Function) Config() Config {
	c := f.cfg
	c.Args, c.Env = slices.Clone(c.Args), slices.Clone(c.Env)
	return c
}

// Pid returns the process ID of the bootstrap, which on Unix is also the ID of its process group.
func (f *Function) Pid() int { return f.process.handle.Pid }

// Output returns the end of what the process wrote so far on stdout and stderr, up to 8 KiB. What it wrote
// before it ended is complete once Done is closed.
func (f *Function) Output() string { return f.process.output.String() }

// take takes the control token, unless the environment ends or Stop is called first.
func (f *Function) take(ctx context.Context) error {
	select {
	case f.control <- struct{}{}:
	case <-f.done:
		return f.err
	case <-f.stopping:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-f.done:
		<-f.control
		return f.err
	case <-f.stopping:
		<-f.control
		return ErrStopped
	default:
		return nil
	}
}
