//go:build linux

package trial

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// gunicorn runs testdata/app.py, which answers itself.
var gunicorn = &family{
	name:        "gunicorn",
	program:     "gunicorn",
	protocols:   []protocol{h1},
	events:      []string{"idle timeout", "Connection: close", "graceful reload", "full restart"},
	own:         "id ",
	granularity: time.Second,
	loses: map[string]string{
		"graceful reload": "workers that are told to stop reset the connections they had kept, with what came on them",
	},
	configure: func(t testing.TB, s *site) (args, env []string) {
		dir, err := filepath.Abs("testdata")
		if err != nil {
			t.Fatal(err)
		}
		idle := 60
		switch {
		case s.limits.close:
			idle = 0
		case s.limits.idle > 0:
			idle = int(s.limits.idle.Seconds())
		}
		args = []string{program(t, "gunicorn"), "--workers=2", "--worker-class=gthread", "--threads=32", "--worker-connections=1000",
			fmt.Sprintf("--keep-alive=%d", idle), "--bind=" + s.addr, "--graceful-timeout=5", "--worker-tmp-dir=" + s.dir, "--log-level=warning", "app:application"}
		return args, []string{"PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1", "TRIAL_LOG=" + s.arrivalsFile(), fmt.Sprintf("TRIAL_ANSWER=%d", answerSize)}
	},
	reload: func(s *site) error { return s.process.signal(syscall.SIGHUP) },
}
