//go:build linux

package trial

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// apacheModules is where Debian keeps them. It is the program that is missing if they are.
const apacheModules = "/usr/lib/apache2/modules"

// apache passes everything on to the origin, on a connection of its own for each request, and tries nothing twice.
var apache = &family{
	name:      "Apache",
	program:   "apache2",
	protocols: []protocol{h1, h2},
	events:    []string{"idle timeout", "Keep-Alive header", "request limit", "stream limit", "Connection: close", "HTTP/1.0", "graceful reload", "full restart"},
	loses: map[string]string{
		"h1 graceful reload": hasty,
		"h2 graceful reload": "it ends HTTP/2 sessions under way",
		"h2 stream limit":    streamed,
	},
	configure: func(t testing.TB, s *site) (args, env []string) {
		var b strings.Builder
		set := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
		for _, m := range []string{"mpm_event", "authz_core", "env", "headers", "setenvif", "proxy", "proxy_http", "ssl", "http2"} {
			set("LoadModule %s_module %s/mod_%s.so", m, apacheModules, m)
		}
		set("ServerRoot %s", s.dir)
		set("DefaultRuntimeDir %s", s.dir)
		set("PidFile httpd.pid")
		set("ErrorLog /dev/stderr")
		set("ServerName 127.0.0.1")
		set("Listen %s", s.addr)
		if os.Geteuid() == 0 {
			set("User www-data\nGroup www-data")
		}
		// Each process has more threads than there are callers: one that has no thread to spare closes the connections that it
		// keeps. And none is ended because there are too many.
		set("ThreadLimit 256\nServerLimit 2\nStartServers 2\nThreadsPerChild 256\nMinSpareThreads 1\nMaxSpareThreads 512\nMaxRequestWorkers 512")
		l := s.limits
		switch {
		case l.close:
			set("KeepAlive Off")
		case l.idle > 0:
			set("KeepAliveTimeout %dms", l.idle.Milliseconds())
		default:
			set("KeepAliveTimeout 60")
		}
		if l.idle > 0 && !l.announce {
			set("Header unset Keep-Alive")
		}
		set("MaxKeepAliveRequests %d", l.requests)
		if s.tls() {
			set("Protocols h2\nSSLEngine on\nSSLCertificateFile %s\nSSLCertificateKeyFile %s", s.cert, s.key)
			if l.streams > 0 {
				set("H2MaxSessionStreams %d", l.streams)
			}
		} else {
			set("Protocols http/1.1")
		}
		if l.http10 {
			set("SetEnv force-response-1.0 1\nSetEnv downgrade-1.0 1")
		}
		set("ProxyPass / unix:%s|http://origin/ disablereuse=on retry=0", s.origin.socket)
		return []string{program(t, "apache2"), "-DFOREGROUND", "-f", writeFile(t, s.dir, "httpd.conf", b.String())}, nil
	},
	reload: func(s *site) error { return s.process.signal(syscall.SIGUSR1) },
}
