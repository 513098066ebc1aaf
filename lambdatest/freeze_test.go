//go:build linux || darwin

package lambdatest_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

func freeze(t testing.TB, fn *lambdatest.Function) {
	t.Helper()
	if err := fn.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func thaw(t testing.TB, fn *lambdatest.Function) {
	t.Helper()
	if err := fn.Thaw(); err != nil {
		t.Fatal(err)
	}
}

// expired returns a context that has ended.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestEventWaitsForTheThaw(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	fn := start(t, cfg)
	freeze(t, fn)
	p, err := fn.Send(payload(t, event{Do: "context"}))
	if err != nil {
		t.Fatal(err)
	}
	// What passes here must count neither against the deadline nor in the duration.
	if _, err := p.Wait(within(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a frozen function answered: %v", err)
	}
	thawed := time.Now()
	thaw(t, fn)
	res, err := p.Wait(t.Context())
	took := time.Since(thawed)
	if err != nil {
		t.Fatal(err)
	}
	var got seen
	decode(t, res, &got)
	if earliest := thawed.Add(cfg.Timeout).UnixMilli(); got.DeadlineMS < earliest {
		t.Errorf("deadline is %d, want it after %d: it counts from the thaw", got.DeadlineMS, earliest)
	}
	if res.Duration <= 0 || res.Duration > took {
		t.Errorf("duration is %v, and %v passed since the thaw", res.Duration, took)
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestFunctionOutlivesManyFreezes(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	for i := range 30 {
		freeze(t, fn)
		p, err := fn.Send(payload(t, event{Do: "echo", Echo: json.RawMessage("7")}))
		if err != nil {
			t.Fatal(err)
		}
		thaw(t, fn)
		if i%2 == 0 {
			freeze(t, fn) // waits for the answer
			if _, err := p.Wait(expired()); err != nil {
				t.Fatalf("frozen before its answer: %v", err)
			}
			thaw(t, fn)
		}
		res, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got int
		decode(t, res, &got)
	}
}

func TestFreezeAndThawTwiceDoNothingMore(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	thaw(t, fn)
	freeze(t, fn)
	freeze(t, fn)
	thaw(t, fn)
	thaw(t, fn)
	var got int
	invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
}

func TestLargeEventWaitsForTheThaw(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "bytes"))
	freeze(t, fn)
	large := []byte(`"` + strings.Repeat("x", 2<<20) + `"`) // more than a socket takes while nobody reads
	p, err := fn.Send(large)
	if err != nil {
		t.Fatal(err)
	}
	thaw(t, fn)
	res, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Payload) != len(large) {
		t.Errorf("answer has %d bytes, want %d", len(res.Payload), len(large))
	}
}

func TestFreezeWaitsForTheInvocationUnderWay(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 4} {
		cfg := config(t, "lambda")
		cfg.Concurrency = concurrency
		fn := start(t, cfg)
		g := newGate(t)
		running, err := fn.Send(payload(t, event{Do: "get", URL: g.url}))
		if err != nil {
			t.Fatal(err)
		}
		g.await(t, 1)

		// Given up, it leaves the function running, and with it the events that came meanwhile.
		if err := fn.Freeze(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("freeze of a busy function: %v", err)
		}
		frozen := make(chan error, 1)
		go func() { frozen <- fn.Freeze(t.Context()) }()
		g.open()
		if err := <-frozen; err != nil {
			t.Fatal(err)
		}
		res, err := running.Wait(expired())
		if err != nil {
			t.Fatalf("frozen before the answer: %v", err)
		}
		var got string
		decode(t, res, &got)
		thaw(t, fn)
		var seven int
		invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &seven)
	}
}

func TestEventsSentDuringAFreezeReachAllPollersAtTheThaw(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.Concurrency = 4
	fn := start(t, cfg)
	g := newGate(t)
	freeze(t, fn)
	var events []*lambdatest.Pending
	for range 6 {
		p, err := fn.Send(payload(t, event{Do: "get", URL: g.url}))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, p)
	}
	thaw(t, fn)
	g.await(t, 4)
	g.open()
	for _, p := range events {
		res, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got string
		decode(t, res, &got)
	}
}

func TestFreezesAndInvocationsAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.Concurrency = 4
	fn := start(t, cfg)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for range 15 {
				res, err := fn.Invoke(t.Context(), payload(t, event{Do: "echo", Echo: json.RawMessage("7")}))
				if err != nil || res.Err != nil || strings.TrimSpace(string(res.Payload)) != "7" {
					t.Errorf("answer is %v, %v", res, err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var freezer sync.WaitGroup
	freezer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := fn.Freeze(t.Context()); err != nil {
				t.Error(err)
			}
			if err := fn.Thaw(); err != nil {
				t.Error(err)
			}
		}
	})
	senders.Wait()
	close(stop)
	freezer.Wait()
}

func TestKilledProcessFailsTheInvocationUnderWay(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	g := newGate(t)
	p, err := fn.Send(payload(t, event{Do: "get", URL: g.url}))
	if err != nil {
		t.Fatal(err)
	}
	g.await(t, 1)
	if err := syscall.Kill(fn.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, err = p.Wait(t.Context())
	e := as[*lambdatest.ExitError](t, err)
	if e.Signal != syscall.SIGKILL || e.Code != -1 || e.Phase != lambdatest.PhaseInvoke || e.RequestID != p.RequestID() {
		t.Errorf("exit is %+v", e)
	}
	if !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("error is %v", err)
	}
}

func TestProcessKilledWhileFrozenFailsWhatWaits(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	freeze(t, fn)
	p, err := fn.Send(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(fn.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, err = p.Wait(t.Context())
	if e := as[*lambdatest.ExitError](t, err); e.Phase != lambdatest.PhaseIdle {
		t.Errorf("exit is %+v", e)
	}
	as[*lambdatest.ExitError](t, fn.Thaw())
	as[*lambdatest.ExitError](t, fn.Freeze(t.Context()))
}

func TestStopOfAFrozenFunction(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"lambda", "sigterm-exit"} {
		fn := start(t, config(t, kind))
		freeze(t, fn)
		p, err := fn.Send(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := fn.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(t.Context()); !errors.Is(err, lambdatest.ErrStopped) {
			t.Errorf("error of the event that waited is %v", err)
		}
		if err := syscall.Kill(fn.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process is still there: %v", err)
		}
		if kind == "sigterm-exit" && !strings.Contains(fn.Output(), "callback ran") {
			t.Errorf("callback did not run: %q", fn.Output())
		}
	}
}

func TestStopEndsAFreezeThatWaits(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	g := newGate(t)
	if _, err := fn.Send(payload(t, event{Do: "get", URL: g.url})); err != nil {
		t.Fatal(err)
	}
	g.await(t, 1)
	frozen := make(chan error, 1)
	go func() { frozen <- fn.Freeze(t.Context()) }()
	if err := fn.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-frozen; !errors.Is(err, lambdatest.ErrStopped) {
		t.Errorf("error of Freeze is %v", err)
	}
}
