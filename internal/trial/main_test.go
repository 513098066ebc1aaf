//go:build linux

package trial

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain fails if a goroutine is left behind. The process inherits the workers whose servers have ended, so that it
// can tell when they have, too: the first process of a container may be none that would do so.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// length is how long a trial lasts. THAW_TRIAL sets it; without it there is none, because all of them together keep a machine
// busy for minutes.
func length(t testing.TB) time.Duration {
	t.Helper()
	s := os.Getenv("THAW_TRIAL")
	if s == "" {
		t.Skip("set THAW_TRIAL to how long each trial is to last, 1s for example, or use make trial")
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		t.Fatalf("THAW_TRIAL is %q: want a positive duration like 5s", s)
	}
	return d
}

// missing ends a test that needs what is not there. On a user's machine it is skipped; in CI everything must be there.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("in CI nothing may be missing: %s", fmt.Sprintf(format, args...))
	}
	t.Skipf(format, args...)
}

// program returns the path of an installed program.
func program(t testing.TB, name string) string {
	t.Helper()
	path, ok := lookFor(name)
	if !ok {
		missing(t, "%s is not installed", name)
	}
	return path
}

// lookFor looks for a program where servers are, too, which a user's PATH may lack.
func lookFor(name string) (path string, ok bool) {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, true
		}
	}
	return "", false
}
