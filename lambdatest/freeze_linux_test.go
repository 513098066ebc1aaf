package lambdatest_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func init() { daemonAttr = &syscall.SysProcAttr{Setsid: true} }

// state is that of a process or a thread as proc_pid_stat(5) has it, or 0 if there is none.
func state(dir string) byte {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	return bytes.TrimSpace(b[bytes.LastIndexByte(b, ')')+1:])[0]
}

func procDir(pid int) string { return filepath.Join("/proc", strconv.Itoa(pid)) }

func TestFrozenMeansStoppedForTheProcessAndItsChildren(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	var child int
	invoke(t, fn, event{Do: "child"}, &child)
	for range 5 {
		freeze(t, fn)
		for _, pid := range []int{fn.Pid(), child} {
			threads, err := filepath.Glob(filepath.Join(procDir(pid), "task", "*"))
			if err != nil || len(threads) == 0 {
				t.Fatalf("threads of %d: %v, %v", pid, threads, err)
			}
			for _, thread := range threads {
				if got := state(thread); got != 'T' {
					t.Errorf("%s is in state %c, want T", thread, got)
				}
			}
		}
		thaw(t, fn)
	}
	freeze(t, fn)
	if err := fn.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := state(procDir(fn.Pid())); got != 0 {
		t.Errorf("process is left, in state %c", got)
	}
	awaitGone(t, child)
}

// awaitGone waits for a process that nobody here can wait for: init does, or nobody, and it stays a zombie.
func awaitGone(t testing.TB, pid int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if got := state(procDir(pid)); got == 0 || got == 'Z' {
			return
		}
	}
	t.Errorf("process %d is left, in state %c", pid, state(procDir(pid)))
}

func TestChildrenDoNotOutliveACrash(t *testing.T) {
	t.Parallel()
	fn := start(t, config(t, "lambda"))
	var child int
	invoke(t, fn, event{Do: "child"}, &child)
	if _, err := fn.Invoke(t.Context(), payload(t, event{Do: "exit"})); err == nil {
		t.Fatal("no error")
	}
	awaitGone(t, child)
}

func TestChildrenAreGoneWhenStopReturns(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"child", "daemon"} { // in the group of the function, and in a session of its own
		fn := start(t, config(t, "lambda"))
		var child int
		invoke(t, fn, event{Do: kind}, &child)
		if err := fn.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		// A zombie is for init to wait for.
		if got := state(procDir(child)); got != 0 && got != 'Z' {
			t.Errorf("%s is left, in state %c", kind, got)
		}
	}
}

func TestFunctionDoesNotOutliveItsParent(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	harness := exec.Command(self)
	harness.Env = append(os.Environ(), bootstrapKey+"=harness")
	stdout, err := harness.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscan(stdout, &pid)
	if err := harness.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = harness.Wait() // killed
	if scanErr != nil {
		t.Fatal(scanErr)
	}
	awaitGone(t, pid)
}
