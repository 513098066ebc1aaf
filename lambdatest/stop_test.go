package lambdatest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/lambdatest"
)

func TestStopEndsTheFunctionForEverybody(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	g := newGate(t)
	running, err := fn.Send(payload(t, event{Do: "get", URL: g.url}))
	if err != nil {
		t.Fatal(err)
	}
	g.await(t, 1)
	waiting, err := fn.Send(nil)
	if err != nil {
		t.Fatal(err)
	}
	if fn.Err() != nil {
		t.Errorf("Err of a running function is %v", fn.Err())
	}
	var stops sync.WaitGroup
	for range 3 {
		stops.Go(func() {
			if err := fn.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	for _, p := range []*lambdatest.Pending{running, waiting} {
		if _, err := p.Wait(t.Context()); !errors.Is(err, lambdatest.ErrStopped) {
			t.Errorf("error of an event that was not answered is %v", err)
		}
	}
	if _, err := fn.Invoke(t.Context(), nil); !errors.Is(err, lambdatest.ErrStopped) {
		t.Errorf("error of Invoke is %v", err)
	}
	if err := fn.Thaw(); !errors.Is(err, lambdatest.ErrStopped) {
		t.Errorf("error of Thaw is %v", err)
	}
	if !errors.Is(fn.Err(), lambdatest.ErrStopped) {
		t.Errorf("Err is %v", fn.Err())
	}
}

func TestSIGTERMCallbackRunsBeforeTheEnd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM")
	}
	for _, kind := range []string{"sigterm", "sigterm-exit"} {
		fn := start(t, config(t, kind))
		var got int
		invoke(t, fn, event{Do: "echo", Echo: json.RawMessage("7")}, &got)
		if err := fn.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(fn.Output(), "callback ran") {
			t.Errorf("%s: callback did not run: %q", kind, fn.Output())
		}
		if !errors.Is(fn.Err(), lambdatest.ErrStopped) {
			t.Errorf("%s: Err is %v", kind, fn.Err())
		}
	}
}

func TestStopKillsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "sigterm"))
	err := stopAtOnce(t, fn)
	if runtime.GOOS != "windows" && !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// stopAtOnce stops fn with a context that has ended.
func stopAtOnce(t *testing.T, fn *lambdatest.Function) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := fn.Stop(ctx)
	select {
	case <-fn.Done():
	default:
		t.Fatal("stopped, but not done")
	}
	return err
}

func TestStopKillsWhenItsContextEndsWhileAnotherCallIsUnderWay(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM")
	}
	const attempts = 5 // on a busy machine the first Stop may be over by then
	for range attempts {
		fn := start(t, config(t, "sigterm"))
		var first sync.WaitGroup
		first.Go(func() {
			if err := fn.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
		for !strings.Contains(fn.Output(), "callback ran") && fn.Err() == nil {
			runtime.Gosched()
		}
		err := stopAtOnce(t, fn)
		first.Wait()
		if errors.Is(err, context.Canceled) {
			return
		}
	}
	t.Errorf("in %d attempts no Stop ended with its context", attempts)
}

func TestStopAfterTheEndIsNoError(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	if err := fn.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // of ways to go on that are open at once, one is chosen at random
		if err := fn.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnvironmentIsThatOfLambdaAndNotTheCallers(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the caller's")
	t.Setenv("AWS_PROFILE", "the caller's")
	t.Setenv("AWS_LAMBDA_MAX_CONCURRENCY", "9")
	t.Setenv("GITHUB_TOKEN", "the caller's")
	t.Setenv("TMPDIR", t.TempDir())
	cfg := config(t, "lambda")
	cfg.FunctionName = "orders"
	cfg.MemoryMB = 512
	cfg.Env = append(cfg.Env, "TABLE=orders", "AWS_REGION=eu-central-1")
	fn := start(t, cfg)
	var got []string
	invoke(t, fn, event{Do: "environ"}, &got)
	for _, want := range []string{
		"_HANDLER=bootstrap",
		"AWS_LAMBDA_FUNCTION_NAME=orders",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/orders",
		"AWS_REGION=eu-central-1",
		"AWS_DEFAULT_REGION=us-east-1",
		"TABLE=orders",
		"LAMBDA_TASK_ROOT=" + filepath.Dir(cfg.Path),
		"PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + os.Getenv("TMPDIR"),
	} {
		if !slices.Contains(got, want) {
			t.Errorf("environment lacks %s", want)
		}
	}
	for _, pair := range got {
		if strings.Contains(pair, "the caller's") || strings.HasPrefix(pair, "AWS_LAMBDA_MAX_CONCURRENCY=") {
			t.Errorf("environment has the caller's %s", pair)
		}
	}
}

func TestArgsAndDirReachTheProcess(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t, "lambda")
	cfg.Args = []string{"-one", "two"}
	cfg.Dir = dir
	fn := start(t, cfg)
	var args, environ []string
	var wd string
	invoke(t, fn, event{Do: "args"}, &args)
	invoke(t, fn, event{Do: "directory"}, &wd)
	invoke(t, fn, event{Do: "environ"}, &environ)
	if !slices.Equal(args, cfg.Args) || wd != dir || !slices.Contains(environ, "LAMBDA_TASK_ROOT="+dir) {
		t.Errorf("arguments are %q in %s, want %q in %s", args, wd, cfg.Args, dir)
	}
}

func TestOutputGoesToTheWriters(t *testing.T) {
	t.Parallel()
	var out, both bytes.Buffer // each written by one goroutine, and read when that is over
	for _, test := range []struct {
		name           string
		stdout, stderr *bytes.Buffer
	}{
		{"apart", &out, &both},
		{"together", &both, &both},
	} {
		out.Reset()
		both.Reset()
		cfg := config(t, "init-exit")
		cfg.Stdout, cfg.Stderr = test.stdout, test.stderr
		_, err := lambdatest.Start(t.Context(), cfg)
		as[*lambdatest.ExitError](t, err)
		if got := both.String(); got != "cannot read configuration\n" || out.Len() > 0 {
			t.Errorf("%s: stderr is %q, stdout %q", test.name, got, out.String())
		}
		if !strings.Contains(err.Error(), "cannot read configuration") {
			t.Errorf("%s: error lacks the output: %v", test.name, err)
		}
	}
}

func TestConfigInForceHasTheDefaults(t *testing.T) {
	t.Parallel()
	cfg := config(t, "lambda")
	cfg.Timeout, cfg.InitTimeout = 0, 0
	got := start(t, cfg).Config()
	if got.FunctionName != "function" || got.MemoryMB != 128 || got.Timeout.String() != "3s" ||
		got.InitTimeout.String() != "10s" || got.Concurrency != 1 || got.TraceHeader == nil {
		t.Errorf("configuration is %+v", got)
	}
}
