package lambdatest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

func TestInitThatReportsItsErrorFailsTheStartWithIt(t *testing.T) {
	t.Parallel()
	_, err := lambdatest.Start(t.Context(), config(t, "init-error"))
	e := as[*lambdatest.InitError](t, err)
	if e.Err.Type != "Runtime.NoConfig" || e.Err.Message != "no configuration" {
		t.Errorf("reported is %+v", e.Err)
	}
	as[*lambdatest.FunctionError](t, err)
	if !strings.Contains(e.Output, "reported: <nil> 202") || !strings.Contains(err.Error(), "no configuration") {
		t.Errorf("error is %v", err)
	}
}

func TestInitThatReportsItsErrorAndHangsIsKilled(t *testing.T) {
	t.Parallel()
	_, err := lambdatest.Start(t.Context(), config(t, "init-error-hang"))
	if e := as[*lambdatest.InitError](t, err); e.Err.Message != "not JSON" {
		t.Errorf("reported is %+v", e.Err)
	}
}

func TestFunctionErrorSaysWhatItWasTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reported lambdatest.FunctionError
		want     string
	}{
		{lambdatest.FunctionError{Type: "Oops", Message: "it broke"}, "Oops: it broke"},
		{lambdatest.FunctionError{Type: "Oops"}, "Oops"},
		{lambdatest.FunctionError{Message: "it broke"}, "it broke"},
		{lambdatest.FunctionError{}, "no reason given"},
	} {
		for _, err := range []error{&tt.reported, &lambdatest.InitError{Err: &tt.reported}} {
			if got := err.Error(); !strings.HasSuffix(got, " "+tt.want) {
				t.Errorf("%q does not end with %q", got, tt.want)
			}
		}
	}
}

func TestExitDuringInitFailsTheStart(t *testing.T) {
	t.Parallel()
	_, err := lambdatest.Start(t.Context(), config(t, "init-exit"))
	e := as[*lambdatest.ExitError](t, err)
	if e.Phase != lambdatest.PhaseInit || e.Code != 4 || e.Signal != nil {
		t.Errorf("exit is %+v", e)
	}
	if !strings.Contains(err.Error(), "in init: exit status 4") || !strings.Contains(err.Error(), "cannot read configuration") {
		t.Errorf("error is %v", err)
	}
}

func TestProcessThatNeverPollsFailsTheStart(t *testing.T) {
	t.Parallel()
	cfg := config(t, "init-hang")
	cfg.InitTimeout = 700 * time.Millisecond
	_, err := lambdatest.Start(t.Context(), cfg)
	e := as[*lambdatest.InitTimeoutError](t, err)
	if e.Polls != 0 || e.Want != 1 || e.After != cfg.InitTimeout {
		t.Errorf("error is %+v", e)
	}
}

func TestTooFewPollersFailTheStart(t *testing.T) {
	t.Parallel()
	cfg := config(t, "one-poller")
	cfg.InitTimeout = time.Second
	cfg.Concurrency = 2
	_, err := lambdatest.Start(t.Context(), cfg)
	if e := as[*lambdatest.InitTimeoutError](t, err); e.Polls > 1 || e.Want != 2 {
		t.Errorf("error is %+v", e)
	}
}

func TestContextBoundsTheStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := lambdatest.Start(ctx, config(t, "init-hang")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if _, err := lambdatest.Start(ctx, config(t, "lambda")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error with a context that has ended is %v", err)
	}
}

func TestContextOfTheStartDoesNotBoundTheFunction(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	fn, err := lambdatest.Start(ctx, config(t, "lambda"))
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	defer fn.Stop(t.Context())
	var got int
	invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
}

func TestMissingBinaryFailsTheStart(t *testing.T) {
	t.Parallel()
	if _, err := lambdatest.Start(t.Context(), lambdatest.Config{Path: "no/such/bootstrap"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestExitDuringAnInvocationFailsIt(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	p, err := fn.Send(payload(t, event{Do: "exit"}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Wait(t.Context())
	e := as[*lambdatest.ExitError](t, err)
	if e.Phase != lambdatest.PhaseInvoke || e.Code != 3 || e.RequestID != p.RequestID() {
		t.Errorf("exit is %+v", e)
	}
	if !strings.Contains(err.Error(), p.RequestID()) || !strings.Contains(err.Error(), "out of disk") {
		t.Errorf("error is %v", err)
	}
	// The environment is gone, and says so to whoever comes later.
	if _, err := fn.Send(nil); err == nil || !strings.Contains(err.Error(), "not delivered") {
		t.Errorf("error of the next event is %v", err)
	} else {
		as[*lambdatest.ExitError](t, err)
	}
}

func TestHandlerThatHangsTimesOutAndEndsTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.Timeout = 500 * time.Millisecond
	fn := start(t, cfg)
	hanging, err := fn.Send(payload(t, event{Do: "hang"}))
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine the environment may be gone before this one is sent.
	waiting, sendErr := fn.Send(payload(t, event{Do: "echo"}))

	_, err = hanging.Wait(t.Context())
	e := as[*lambdatest.TimeoutError](t, err)
	if e.RequestID != hanging.RequestID() || e.After != cfg.Timeout || e.Answered {
		t.Errorf("error is %+v", e)
	}
	if !strings.Contains(err.Error(), e.RequestID+": Task timed out after 0.50 seconds") {
		t.Errorf("error is %v", err)
	}
	if sendErr == nil {
		_, sendErr = waiting.Wait(t.Context())
	}
	if as[*lambdatest.TimeoutError](t, sendErr); !strings.Contains(sendErr.Error(), "not delivered") {
		t.Errorf("error of the event that waited is %v", sendErr)
	}
	<-fn.Done()
	as[*lambdatest.TimeoutError](t, fn.Err())
}

// Events are refused from the timeout on, before the process has ended and all of its output is there.
func TestErrorOfAnEventAfterATimeoutCanBeLookedAtAtOnce(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.Timeout = 200 * time.Millisecond
	fn := start(t, cfg)
	if _, err := fn.Send(payload(t, event{Do: "hang"})); err != nil {
		t.Fatal(err)
	}
	for fn.Err() == nil {
		if _, err := fn.Send(payload(t, event{Do: "echo"})); err != nil {
			if e := as[*lambdatest.TimeoutError](t, err); !strings.Contains(e.Error(), "Task timed out") { // the race detector watches
				t.Errorf("error is %v", e)
			}
		}
		runtime.Gosched()
	}
	_, err := fn.Send(payload(t, event{Do: "echo"}))
	if e := as[*lambdatest.TimeoutError](t, err); !strings.Contains(e.Output, "hanging") {
		t.Errorf("at the end the output is %q", e.Output)
	}
}

func TestFunctionThatAnswersAndPollsNoMoreTimesOut(t *testing.T) {
	t.Parallel()
	cfg := config(t, "answers-once")
	cfg.Timeout = 2 * time.Second
	fn := start(t, cfg)
	res, err := fn.Invoke(t.Context(), nil)
	if err != nil || string(res.Payload) != "1" {
		t.Fatalf("answer is %v, %v", res, err)
	}
	_, err = fn.Invoke(t.Context(), nil)
	if e := as[*lambdatest.TimeoutError](t, err); !e.Answered || e.RequestID != res.RequestID {
		t.Errorf("error is %+v", e)
	}
}

func TestTimeoutWithConcurrencyLeavesTheProcessRunning(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.Timeout = 2 * time.Second
	cfg.Concurrency = 4
	fn := start(t, cfg)
	g := newGate(t)
	_, err := fn.Invoke(t.Context(), payload(t, event{Do: "get", URL: g.url}))
	as[*lambdatest.TimeoutError](t, err)
	if fn.Err() != nil {
		t.Fatalf("environment ended: %v", fn.Err())
	}
	g.open() // the answer that comes now is too late, and must not end the process
	for range 8 {
		var got int
		invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := lambdatest.Start(t.Context(), lambdatest.Config{
		Env:         []string{"SECRET", "=x", "AWS_LAMBDA_RUNTIME_API=elsewhere", "AWS_LAMBDA_MAX_CONCURRENCY=2"},
		MemoryMB:    -1,
		Timeout:     -1,
		InitTimeout: -2,
		Concurrency: -3,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"Path is empty", "KEY=value", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_MAX_CONCURRENCY",
		"MemoryMB is -1: want a positive value, or 0 for 128", "Timeout is -1ns: want", "InitTimeout is -2ns: want", "Concurrency is -3: want",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("error repeats an entry that may be a secret:\n%v", err)
	}
}
