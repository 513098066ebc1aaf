//go:build linux

package trial

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// caddy passes everything on to the origin, on a connection of its own for each request, and tries nothing twice.
var caddy = &family{
	name:      "Caddy",
	program:   "caddy",
	protocols: []protocol{h1, h2},
	events:    []string{"idle timeout", "graceful reload", "full restart"},
	loses: map[string]string{
		"h1 graceful reload": hasty,
		"h2 graceful reload": streamed,
	},
	configure: func(t testing.TB, s *site) (args, env []string) {
		address, tls, timeouts := "http://"+s.addr, "", ""
		if s.tls() {
			address, tls = "https://"+s.addr, fmt.Sprintf("tls %s %s", s.cert, s.key)
		}
		if s.limits.idle > 0 {
			timeouts = fmt.Sprintf("timeouts {\n\t\t\tidle %v\n\t\t}", s.limits.idle)
		}
		conf := writeFile(t, s.dir, "Caddyfile", fmt.Sprintf(`{
	admin unix/%s/admin.sock {
		origins localhost
	}
	auto_https off
	grace_period 5s
	log {
		level ERROR
	}
	servers {
		%s
	}
}
%s {
	%s
	reverse_proxy unix/%s {
		transport http {
			keepalive off
		}
	}
}
`, s.dir, timeouts, address, tls, s.origin.socket))
		return []string{program(t, "caddy"), "run", "--config", conf, "--adapter", "caddyfile"}, []string{"HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir}
	},
	reload: func(s *site) error {
		conf, err := os.Open(filepath.Join(s.dir, "Caddyfile"))
		if err != nil {
			return err
		}
		defer conf.Close()
		admin := &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "admin.sock"))
			},
		}
		req, err := http.NewRequest(http.MethodPost, "http://localhost/load", conf)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "text/caddyfile")
		req.Header.Set("Cache-Control", "must-revalidate") // also if nothing has changed
		resp, err := admin.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
		}
		return err
	},
}
