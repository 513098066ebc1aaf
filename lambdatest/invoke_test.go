package lambdatest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

func TestInvokeReturnsTheAnswerOfTheHandler(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	var last string
	for _, want := range []string{`{"a":1}`, `"text"`, `null`, `[]`} {
		var got json.RawMessage
		res := invoke(t, fn, event{Do: "echo", Echo: json.RawMessage(want)}, &got)
		if string(got) != want {
			t.Errorf("answer is %s, want %s", got, want)
		}
		if res.ContentType != "application/json" {
			t.Errorf("content type is %q", res.ContentType)
		}
		if res.Duration <= 0 {
			t.Errorf("duration is %v", res.Duration)
		}
		if res.RequestID == "" || res.RequestID == last {
			t.Errorf("request ID is %q after %q", res.RequestID, last)
		}
		last = res.RequestID
	}
}

func TestEmptyPayloadIsAnEmptyObject(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "greeter"))
	res, err := fn.Invoke(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	decode(t, res, &got)
	if got != "Hello, " {
		t.Errorf("answer is %q", got)
	}
}

func TestErrorOfTheHandlerLeavesTheEnvironmentWorking(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	res, err := fn.Invoke(t.Context(), payload(t, event{Do: "error"}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Err == nil || res.Err.Type != "errorString" || res.Err.Message != "no such customer" {
		t.Errorf("error is %+v", res.Err)
	}
	if want := `{"errorMessage":"no such customer","errorType":"errorString"}`; string(res.Payload) != want {
		t.Errorf("payload is %s, want %s", res.Payload, want)
	}
	var got int
	invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
	if got != 7 {
		t.Errorf("next answer is %d", got)
	}
}

func TestPanicOfTheHandlerIsItsErrorAndEndsTheEnvironment(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	res, err := fn.Invoke(t.Context(), payload(t, event{Do: "panic"}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Err == nil || res.Err.Type != "string" || res.Err.Message != "cannot go on" {
		t.Fatalf("error is %+v", res.Err)
	}
	var frames []struct{ Label string }
	if err := json.Unmarshal(res.Err.StackTrace, &frames); err != nil || len(frames) == 0 {
		t.Errorf("stack trace is %s (%v)", res.Err.StackTrace, err)
	}

	_, err = fn.Invoke(t.Context(), payload(t, event{Do: "echo"}))
	exit := as[*lambdatest.ExitError](t, err)
	if exit.Code != 1 || exit.Phase != lambdatest.PhaseInvoke || exit.RequestID != res.RequestID {
		t.Errorf("exit is %+v", exit)
	}
	<-fn.Done()
	if !errors.As(fn.Err(), &exit) {
		t.Errorf("Err is %v", fn.Err())
	}
}

func TestContextOfTheHandlerHasTraceDeadlineAndIdentity(t *testing.T) {
	t.Parallel()
	const timeout = 17 * time.Second
	const trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
	cfg := config(t, "lambda")
	cfg.Timeout = timeout
	cfg.FunctionName = "orders"
	cfg.TraceHeader = func() string { return trace }
	fn := start(t, cfg)

	var got seen
	before := time.Now()
	res := invoke(t, fn, event{Do: "context"}, &got)
	after := time.Now()
	if got.Trace != trace || got.TraceVariable != trace || res.TraceHeader != trace {
		t.Errorf("trace is %q in the context, %q in the variable, %q in the result", got.Trace, got.TraceVariable, res.TraceHeader)
	}
	if got.RequestID != res.RequestID {
		t.Errorf("request ID is %q, the result's %q", got.RequestID, res.RequestID)
	}
	if want := "arn:aws:lambda:us-east-1:123456789012:function:orders"; got.ARN != want {
		t.Errorf("ARN is %q, want %q", got.ARN, want)
	}
	earliest, latest := before.Add(timeout).UnixMilli(), after.Add(timeout).UnixMilli()
	if got.DeadlineMS < earliest || got.DeadlineMS > latest {
		t.Errorf("deadline is %d, want it from %d to %d", got.DeadlineMS, earliest, latest)
	}
}

func TestDefaultTraceHeaderIsASampledTraceOfItsOwn(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	form := regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=1$`)
	var first, second seen
	invoke(t, fn, event{Do: "context"}, &first)
	invoke(t, fn, event{Do: "context"}, &second)
	if !form.MatchString(first.Trace) || !form.MatchString(second.Trace) {
		t.Errorf("traces are %q and %q", first.Trace, second.Trace)
	}
	if first.Trace == second.Trace {
		t.Errorf("two invocations have one trace, %q", first.Trace)
	}
}

func TestEmptyTraceHeaderIsLeftOut(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.TraceHeader = func() string { return "" }
	fn := start(t, cfg)
	var got seen
	if res := invoke(t, fn, event{Do: "context"}, &got); got.Trace != "" || res.TraceHeader != "" {
		t.Errorf("trace is %q, in the result %q", got.Trace, res.TraceHeader)
	}
}

func TestPayloadsUpToTheLimitPassBothWays(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "bytes"))
	full := []byte(`"` + strings.Repeat("x", lambdatest.MaxPayload-2) + `"`)
	res, err := fn.Invoke(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(res.Payload, full) {
		t.Errorf("answer has %d bytes, want the %d that were sent", len(res.Payload), len(full))
	}
}

func TestPayloadsThatLambdaRefusesAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	large := []byte(`"` + strings.Repeat("x", lambdatest.MaxPayload-1) + `"`)
	for _, test := range []struct {
		name, message string
		payload       []byte
		want          error
	}{
		{"large", "6291457 bytes, the limit is 6291456", large, lambdatest.ErrPayloadTooLarge},
		{"text", "invalid character 'h'", []byte(`hello`), lambdatest.ErrInvalidPayload},
		{"cut", "unexpected end of JSON input", []byte(`{"a":`), lambdatest.ErrInvalidPayload},
		{"latin1", "it is not UTF-8", []byte("\"caf\xe9\""), lambdatest.ErrInvalidPayload},
		{"two", "after top-level value", []byte(`1 2`), lambdatest.ErrInvalidPayload},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := fn.Invoke(t.Context(), test.payload); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.message) {
				t.Errorf("error is %v, want %v with %q", err, test.want, test.message)
			}
			if _, err := fn.Send(test.payload); !errors.Is(err, test.want) {
				t.Errorf("error of Send is %v, want %v", err, test.want)
			}
		})
	}
}

func TestAnswerAboveTheLimitIsAFunctionError(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	res, err := fn.Invoke(t.Context(), payload(t, event{Do: "large", N: 7 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Err == nil || res.Err.Type != "Function.ResponseSizeTooLarge" || !strings.Contains(res.Err.Message, "6291556 bytes") {
		t.Errorf("error is %v", res.Err)
	}
}

func TestStreamedAnswerIsCollected(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	const n = 750_000 // 6.75 MB: more than a buffered answer may have
	res, err := fn.Invoke(t.Context(), payload(t, event{Do: "stream", N: n}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	if res.ContentType != "application/vnd.awslambda.http-integration-response" {
		t.Errorf("content type is %q", res.ContentType)
	}
	// A preamble of JSON, eight zero bytes, the body: see "Response streaming for Lambda functions".
	_, body, ok := bytes.Cut(res.Payload, make([]byte, 8))
	if !ok || string(body) != strings.Repeat("streamed ", n) {
		t.Errorf("body has %d bytes of %d (found: %v)", len(body), 9*n, ok)
	}
}

func TestStreamedAnswerThatBreaksOffIsAFunctionError(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	res, err := fn.Invoke(t.Context(), payload(t, event{Do: "stream-break", N: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Err == nil || res.Err.Message != "source broke off" || res.Err.Type != "errorString" {
		t.Errorf("error is %+v", res.Err)
	}
	if !strings.HasSuffix(string(res.Payload), "streamed ") {
		t.Errorf("payload of %d bytes lacks what came before", len(res.Payload))
	}
	var got int
	invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
}

func TestPollersHandleEventsAtOnce(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{4, 8} {
		cfg := config(t, "lambda")
		cfg.Concurrency = concurrency
		fn := start(t, cfg)
		g := newGate(t)
		var wg sync.WaitGroup
		for range concurrency {
			wg.Go(func() {
				res, err := fn.Invoke(t.Context(), payload(t, event{Do: "get", URL: g.url}))
				if err != nil || res.Err != nil {
					t.Errorf("error is %v, of the function %v", err, res)
				}
			})
		}
		g.await(t, concurrency) // all under way at once
		extra, err := fn.Send(payload(t, event{Do: "context"}))
		if err != nil {
			t.Fatal(err)
		}
		g.open()
		wg.Wait()
		res, err := extra.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got seen
		decode(t, res, &got)
		if got.Trace != res.TraceHeader || got.TraceVariable != "" {
			t.Errorf("trace is %q in the context and %q in the variable", got.Trace, got.TraceVariable)
		}
	}
}

func TestInvokeThatIsGivenUpTakesItsEventBack(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	g := newGate(t)
	first, err := fn.Send(payload(t, event{Do: "get", URL: g.url}))
	if err != nil {
		t.Fatal(err)
	}
	g.await(t, 1)
	reason := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	// The function is busy, so the event waits; were it delivered, the function would exit.
	if _, err := fn.Invoke(ctx, payload(t, event{Do: "exit"})); !errors.Is(err, reason) {
		t.Errorf("error is %v, want %v", err, reason)
	}
	if _, err := first.Wait(ctx); !errors.Is(err, reason) {
		t.Errorf("error of Wait is %v, want %v", err, reason)
	}
	g.open()
	res, err := first.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := first.Wait(ctx); again != res || err != nil {
		t.Errorf("waiting again gives %v, %v", again, err)
	}
	var got int
	invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
}
