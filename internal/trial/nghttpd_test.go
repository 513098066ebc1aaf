//go:build linux

package trial

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// nghttpd answers itself, and its log of frames shows what arrived.
var nghttpd = &family{
	name:      "nghttpd",
	program:   "nghttpd",
	protocols: []protocol{h2},
	events:    []string{"stream limit", "full restart"},
	own:       "trial-id: ",
	silent:    true,
	configure: func(t testing.TB, s *site) (args, env []string) {
		host, port, err := net.SplitHostPort(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, s.dir, "index.html", strings.Repeat("x", answerSize))
		streams := 100
		if s.limits.streams > 0 {
			streams = s.limits.streams
		}
		// The shell only sends the log of frames to the file where it is looked for.
		command := fmt.Sprintf("exec %s -v -a %s -d %s -m %d %s %s %s >>%s", program(t, "nghttpd"), host, s.dir, streams, port, s.key, s.cert, s.arrivalsFile())
		return []string{"/bin/sh", "-c", command}, nil
	},
}
