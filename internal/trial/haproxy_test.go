//go:build linux

package trial

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// haproxy passes everything on to the origin, on a connection of its own for each request, and tries nothing twice.
var haproxy = &family{
	name:      "HAProxy",
	program:   "haproxy",
	protocols: []protocol{h1, h2},
	events:    []string{"idle timeout", "stream limit", "Connection: close", "graceful reload", "full restart"},
	loses:     map[string]string{"h1 graceful reload": hasty},
	configure: func(t testing.TB, s *site) (args, env []string) {
		bind, global, defaults := "", "", "timeout http-keep-alive 60s"
		if s.tls() {
			pem := ""
			for _, name := range []string{s.cert, s.key} {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				pem += string(b)
			}
			bind = " ssl alpn h2 crt " + writeFile(t, s.dir, "both.pem", pem)
		}
		l := s.limits
		if l.idle > 0 {
			defaults = fmt.Sprintf("timeout http-keep-alive %dms", l.idle.Milliseconds())
		}
		if l.close {
			defaults = "option httpclose"
		}
		if l.streams > 0 {
			global = fmt.Sprintf("tune.h2.max-concurrent-streams %d", l.streams)
		}
		conf := writeFile(t, s.dir, "haproxy.cfg", fmt.Sprintf(strings.TrimLeft(`
global
	maxconn 4000
	stats socket %s/stats.sock mode 600 level admin expose-fd listeners
	%s
defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
	retries 0
	http-reuse never
	%s
frontend web
	bind %s%s
	default_backend origin
backend origin
	server origin unix@%s
`, "\n"), s.dir, global, defaults, s.addr, bind, s.origin.socket))
		return []string{program(t, "haproxy"), "-W", "-db", "-f", conf}, nil
	},
	reload: func(s *site) error { return s.process.signal(syscall.SIGUSR2) },
}
