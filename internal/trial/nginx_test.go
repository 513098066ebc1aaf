//go:build linux

package trial

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// nginx passes everything on to the origin, on a connection of its own for each request, and tries nothing twice.
var nginx = &family{
	name:      "nginx",
	program:   "nginx",
	protocols: []protocol{h1, h2},
	events:    []string{"idle timeout", "Keep-Alive header", "request limit", "stream limit", "Connection: close", "graceful reload", "full restart"},
	loses: map[string]string{
		"h1 graceful reload": hasty,
		"h2 graceful reload": streamed,
		"h2 request limit":   streamed,
	},
	configure: func(t testing.TB, s *site) (args, env []string) {
		listen, user := "", ""
		if s.tls() {
			listen = " ssl http2"
		}
		if os.Geteuid() == 0 {
			user = "user root;"
		}
		var directives strings.Builder
		set := func(format string, args ...any) { fmt.Fprintf(&directives, format+"\n", args...) }
		l := s.limits
		switch {
		case l.close:
			set("keepalive_timeout 0;")
		case l.announce:
			set("keepalive_timeout %dms %d;", l.idle.Milliseconds(), int(l.idle.Seconds()))
		case l.idle > 0:
			set("keepalive_timeout %dms;", l.idle.Milliseconds())
		}
		if l.requests > 0 {
			set("keepalive_requests %d;", l.requests)
		} else {
			set("keepalive_requests 1000000;")
		}
		if l.streams > 0 {
			set("http2_max_concurrent_streams %d;", l.streams)
		}
		conf := writeFile(t, s.dir, "nginx.conf", fmt.Sprintf(`
daemon off;
%s
worker_processes 2;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s%s;
		ssl_certificate %s;
		ssl_certificate_key %s;
		%s
		location / {
			proxy_pass http://unix:%s:;
			proxy_next_upstream off;
		}
	}
}
`, user, s.addr, listen, s.cert, s.key, directives.String(), s.origin.socket))
		return []string{program(t, "nginx"), "-e", "stderr", "-p", s.dir, "-c", conf}, nil
	},
	reload: func(s *site) error { return s.process.signal(syscall.SIGHUP) },
}
