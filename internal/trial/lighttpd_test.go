//go:build linux

package trial

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lighttpd passes everything on to the origin, on a connection of its own for each request, and tries nothing twice.
var lighttpd = &family{
	name:        "lighttpd",
	program:     "lighttpd",
	protocols:   []protocol{h1, h2},
	events:      []string{"idle timeout", "request limit", "graceful reload", "full restart"},
	granularity: time.Second,
	sized:       true,
	loses: map[string]string{
		"h1 graceful reload": hasty,
		"h2 graceful reload": streamed + "; and it resets streams with PROTOCOL_ERROR",
	},
	configure: func(t testing.TB, s *site) (args, env []string) {
		host, port, err := net.SplitHostPort(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		set := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
		set(`server.modules = ( "mod_proxy", "mod_openssl" )`)
		set(`server.document-root = "%s"`, s.dir)
		set(`server.bind = "%s"`, host)
		set(`server.port = %s`, port)
		set(`server.max-fds = 4096`)
		set(`server.feature-flags = ( "server.graceful-restart-bg" => "enable", "server.graceful-shutdown-timeout" => 5 )`)
		l := s.limits
		if l.idle > 0 {
			set("server.max-keep-alive-idle = %d", int(l.idle.Seconds()))
		} else {
			set("server.max-keep-alive-idle = 60")
		}
		if l.requests > 0 {
			set("server.max-keep-alive-requests = %d", l.requests)
		} else {
			set("server.max-keep-alive-requests = 60000")
		}
		if s.tls() {
			set("ssl.engine = \"enable\"\nssl.pemfile = \"%s\"\nssl.privkey = \"%s\"", s.cert, s.key)
		}
		set(`proxy.server = ( "" => (( "host" => "%s" )) )`, s.origin.socket)
		return []string{program(t, "lighttpd"), "-D", "-f", writeFile(t, s.dir, "lighttpd.conf", b.String())}, nil
	},
	reload: func(s *site) error { return s.process.signal(syscall.SIGUSR1) },
}
