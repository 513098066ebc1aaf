//go:build linux

package trial

import (
	"encoding/json"
	"path/filepath"
	"syscall"
	"testing"
)

// node answers itself: testdata/server.js.
var node = &family{
	name:      "Node",
	program:   "node",
	protocols: []protocol{h1, h2},
	events:    []string{"idle timeout", "Keep-Alive header", "request limit", "stream limit", "Connection: close", "graceful reload", "full restart"},
	own:       "id ",
	loses: map[string]string{
		"h2 request limit":   streamed,
		"h1 graceful reload": hasty,
		"h2 graceful reload": streamed,
	},
	configure: func(t testing.TB, s *site) (args, env []string) {
		script, err := filepath.Abs("testdata/server.js")
		if err != nil {
			t.Fatal(err)
		}
		options, err := json.Marshal(map[string]any{
			"addr": s.addr, "h2": s.tls(), "cert": s.cert, "key": s.key, "log": s.arrivalsFile(), "answer": answerSize,
			"idle": s.limits.idle.Milliseconds(), "announce": s.limits.announce, "requests": s.limits.requests,
			"streams": s.limits.streams, "close": s.limits.close,
		})
		if err != nil {
			t.Fatal(err)
		}
		return []string{program(t, "node"), script, string(options)}, nil
	},
	reload: func(s *site) error {
		const reloaded = "old workers told to retire"
		n, err := s.process.count(reloaded)
		if err != nil {
			return err
		}
		if err := s.process.signal(syscall.SIGHUP); err != nil {
			return err
		}
		return s.process.says(reloaded, n+1)
	},
}
