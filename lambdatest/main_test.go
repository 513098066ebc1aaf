package lambdatest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/lambdatest"
)

// bootstrapKey is the variable that makes the test binary the bootstrap of a function; its value says which.
const bootstrapKey = "LAMBDATEST_BOOTSTRAP"

func TestMain(m *testing.M) {
	if kind := os.Getenv(bootstrapKey); kind != "" {
		bootstrap(kind)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// bootstrap is the function under test.
func bootstrap(kind string) {
	switch kind {
	case "lambda":
		lambda.Start(handle)
	case "bytes": // answers with the event itself, which costs no JSON
		lambda.Start(bytesHandler{})
	case "greeter":
		lambda.Start(func(_ context.Context, event struct{ Name string }) (string, error) {
			return "Hello, " + event.Name, nil
		})
	case "sigterm": // a callback that does not exit, so SIGKILL has to
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() { fmt.Println("callback ran") }))
	case "sigterm-exit":
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() {
			fmt.Println("callback ran")
			os.Exit(0)
		}))
	case "init-error":
		doc := `{"errorType":"Runtime.NoConfig","errorMessage":"no configuration"}`
		res, err := http.Post("http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error",
			"application/json", strings.NewReader(doc))
		fmt.Println("reported:", err, res.StatusCode)
		os.Exit(1)
	case "init-error-hang":
		_, _ = http.Post("http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error",
			"application/json", strings.NewReader("not JSON"))
		hang()
	case "init-exit":
		fmt.Fprintln(os.Stderr, "cannot read configuration")
		os.Exit(4)
	case "init-hang":
		fmt.Println("waiting for nothing")
		hang()
	case "one-poller":
		res, err := http.Get("http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/next")
		fmt.Println(res, err)
	case "answers-once": // and polls no more
		base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
		res, err := http.Get(base + "next")
		if err != nil {
			os.Exit(1)
		}
		_, _ = http.Post(base+res.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "", strings.NewReader("1"))
		hang()
	case "harness": // a program that uses this package, to be killed
		self, err := os.Executable()
		if err != nil {
			os.Exit(1)
		}
		fn, err := lambdatest.Start(context.Background(), lambdatest.Config{Path: self, Env: []string{bootstrapKey + "=lambda"}})
		if err != nil {
			os.Exit(1)
		}
		if err := fn.Freeze(context.Background()); err != nil {
			os.Exit(1)
		}
		fmt.Println(fn.Pid())
		hang()
	case "sleeper":
		fmt.Println("asleep")
		hang()
	default:
		fmt.Fprintln(os.Stderr, "no such bootstrap:", kind)
		os.Exit(2)
	}
}

// hang waits until the process is ended. The timer keeps the Go runtime from calling that a deadlock.
func hang() { <-time.After(time.Hour) }

type bytesHandler struct{}

func (bytesHandler) Invoke(_ context.Context, payload []byte) ([]byte, error) { return payload, nil }

// event tells the handler what to do.
type event struct {
	Do   string          `json:"do"`
	URL  string          `json:"url,omitempty"`
	N    int             `json:"n,omitempty"`
	Echo json.RawMessage `json:"echo,omitempty"`
}

// seen is what the handler finds in its context.
type seen struct {
	Trace, TraceVariable string
	RequestID, ARN       string
	DeadlineMS           int64
}

// clock is what the handler reads from its clocks.
type clock struct {
	Now   time.Time
	Since time.Duration // by the monotonic clock
}

// began is when the process began, and overdue is closed by the timer that the event "timer" sets.
var (
	began   = time.Now()
	overdue chan struct{}
)

// unmarshalable is a reader that is not JSON, so that it is answered with as it is.
type unmarshalable struct {
	io.Reader
	C chan int
}

type brokenReader struct{ io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = errors.New("source broke off")
	}
	return n, err
}

// daemonAttr makes a child leave the process group of its parent.
var daemonAttr *syscall.SysProcAttr

func handle(ctx context.Context, e event) (any, error) {
	switch e.Do {
	case "echo":
		return e.Echo, nil
	case "error":
		return nil, errors.New("no such customer")
	case "panic":
		panic("cannot go on")
	case "exit":
		fmt.Fprintln(os.Stderr, "out of disk")
		os.Exit(3)
	case "hang":
		fmt.Fprintln(os.Stderr, "hanging")
		hang()
	case "get": // returns when the test lets it
		res, err := http.Get(e.URL)
		if err != nil {
			return nil, err
		}
		return "released", res.Body.Close()
	case "context":
		deadline, _ := ctx.Deadline()
		lc, _ := lambdacontext.FromContext(ctx)
		trace, _ := ctx.Value("x-amzn-trace-id").(string)
		return seen{
			Trace: trace, TraceVariable: os.Getenv("_X_AMZN_TRACE_ID"),
			RequestID: lc.AwsRequestID, ARN: lc.InvokedFunctionArn,
			DeadlineMS: deadline.UnixMilli(),
		}, nil
	case "environ":
		return os.Environ(), nil
	case "timer":
		overdue = make(chan struct{})
		time.AfterFunc(time.Hour, func() { close(overdue) })
		fallthrough
	case "clock":
		return clock{Now: time.Now(), Since: time.Since(began)}, nil
	case "overdue":
		select {
		case <-overdue:
			return "fired", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "directory":
		return os.Getwd()
	case "args":
		return os.Args[1:], nil
	case "stream", "stream-break":
		var body io.Reader = strings.NewReader(strings.Repeat("streamed ", e.N))
		if e.Do == "stream-break" {
			body = brokenReader{body}
		}
		return &events.LambdaFunctionURLStreamingResponse{StatusCode: 200, Body: body}, nil
	case "large": // a reader is passed on as it is
		return unmarshalable{Reader: strings.NewReader(strings.Repeat("x", e.N))}, nil
	case "child", "daemon":
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), bootstrapKey+"=sleeper")
		cmd.Stderr = os.Stderr // which it thus holds open
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if e.Do == "daemon" {
			cmd.SysProcAttr = daemonAttr
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		_, err = fmt.Fscanln(stdout, new(string)) // it runs
		return cmd.Process.Pid, err
	}
	return nil, fmt.Errorf("no such thing to do: %q", e.Do)
}

// config is that of a function whose bootstrap is the test binary. Its times suit a machine that is busy with other things.
func config(t testing.TB, kind string) lambdatest.Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return lambdatest.Config{
		Path:        self,
		Env:         []string{bootstrapKey + "=" + kind},
		Timeout:     30 * time.Second,
		InitTimeout: 30 * time.Second,
	}
}

// start starts a function and stops it at the end of the test.
func start(t testing.TB, cfg lambdatest.Config) *lambdatest.Function {
	t.Helper()
	fn, err := lambdatest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		select {
		case <-fn.Done():
		default:
			t.Error("stopped, but not done")
		}
	})
	return fn
}

func payload(t testing.TB, e event) []byte {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// invoke expects the handler to succeed, and decodes its answer into out.
func invoke(t testing.TB, fn *lambdatest.Function, e event, out any) *lambdatest.Result {
	t.Helper()
	res, err := fn.Invoke(t.Context(), payload(t, e))
	if err != nil {
		t.Fatal(err)
	}
	decode(t, res, out)
	return res
}

func decode(t testing.TB, res *lambdatest.Result, out any) {
	t.Helper()
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	if err := json.Unmarshal(res.Payload, out); err != nil {
		t.Fatalf("%v in %q", err, res.Payload)
	}
}

func as[E error](t testing.TB, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("error is %T (%v), want %T", err, err, e)
	}
	return e
}
