//go:build linux

package trial

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// The user that the proxies know.
const (
	proxyUser     = "user"
	proxyPassword = "secret"
)

// tunnelIdle is after how long the proxies close what is idle, tunnels too. Both count in seconds.
const tunnelIdle = time.Second

// forwardProxies are proxies that a client is told to use. configure writes what they need and returns the command line.
// Why requests are lost when they are forwarded is said besides.
var forwardProxies = []struct {
	name, loses string
	configure   func(t testing.TB, dir, host, port string) []string
}{
	{"squid", crossing, func(t testing.TB, dir, host, port string) []string {
		helper := filepath.Join(dir, "auth.sh")
		script := fmt.Sprintf("#!/bin/sh\nwhile read user password; do\n\t[ \"$user $password\" = '%s %s' ] && echo OK || echo ERR\ndone\n", proxyUser, proxyPassword)
		if err := os.WriteFile(helper, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		conf := writeFile(t, dir, "squid.conf", fmt.Sprintf(`
http_port %s:%s
visible_hostname trial
pid_filename none
cache deny all
cache_mem 8 MB
access_log none
cache_log /dev/null
cache_store_log none
coredump_dir none
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
auth_param basic program %s
auth_param basic children 2 startup=2 idle=1
acl users proxy_auth REQUIRED
http_access allow users
http_access deny all
client_idle_pconn_timeout %d seconds
read_timeout %d seconds
`, host, port, helper, int(tunnelIdle.Seconds()), int(tunnelIdle.Seconds())))
		return []string{program(t, "squid"), "-N", "-f", conf}
	}},
	{"tinyproxy", "it closes the connection after each answer and does not say so", func(t testing.TB, dir, host, port string) []string {
		conf := writeFile(t, dir, "tinyproxy.conf", fmt.Sprintf(`
Listen %s
Port %s
Timeout %d
MaxClients 400
LogLevel Error
BasicAuth %s %s
`, host, port, int(tunnelIdle.Seconds()), proxyUser, proxyPassword))
		return []string{program(t, "tinyproxy"), "-d", "-c", conf}
	}},
}

// TestProxies sends everything through forward proxies that want a password and close what is idle, at the pace of
// their timeout.
func TestProxies(t *testing.T) {
	length(t)
	var results results
	t.Run("group", func(t *testing.T) {
		for _, f := range forwardProxies {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				program(t, f.name)
				dir, addr := publicDir(t), reserveAddr(t)
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					t.Fatal(err)
				}
				launch(t, dir, addr, f.configure(t, dir, host, port))
				through := &url.URL{Scheme: "http", Host: addr, User: url.UserPassword(proxyUser, proxyPassword)}
				for _, way := range []struct {
					name   string
					p      protocol
					secure bool
				}{{"forwarded", h1, false}, {"CONNECT", h1, true}, {"CONNECT", h2, true}} {
					t.Run(way.name+" "+string(way.p), func(t *testing.T) {
						o := &origin{counts: make(map[string]int)}
						at := o.listen(t, "tcp", "127.0.0.1:0", way.secure)
						target := "http://" + at.String() + "/"
						if way.secure {
							target = "https://" + at.String() + "/"
						}
						why := crossing
						if !way.secure {
							why = f.loses
						}
						results.add(tryProxy(t, f.name, way.name+", idle timeout", why, way.p, target, through, o))
						refusesStrangers(t, target, way.p, through, o)
					})
				}
			})
		}
	})
	t.Logf("\n%s", results.table())
}

// tryProxy runs one trial through a proxy.
func tryProxy(t *testing.T, name, event, why string, p protocol, target string, through *url.URL, o *origin) result {
	c := newClients(t, p, func(cfg *transport.Config) { cfg.Proxy = http.ProxyURL(through) })
	for _, l := range c.loads {
		l.url = target
		// Some callers keep their connections busy, and others find them at the end of their time.
		l.rest = func(r *rand.Rand) time.Duration {
			if r.IntN(4) == 0 {
				return shortly(r)
			}
			return about(tunnelIdle)(r)
		}
	}
	c.start(t)
	pause(t.Context(), max(length(t), 3*tunnelIdle))
	c.finish(func() map[string]int { return o.arrivals(t) })
	return c.result(t, name, p, event, why)
}

// refusesStrangers sends a request with a wrong password: the proxy's refusal reaches the caller, and the origin nothing.
func refusesStrangers(t *testing.T, target string, p protocol, through *url.URL, o *origin) {
	stranger := *through
	stranger.User = url.UserPassword(proxyUser, "wrong")
	cfg := settings(p, new(wires))
	cfg.Proxy = http.ProxyURL(&stranger)
	pool, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(headerID, "stranger")
	resp, err := pool.RoundTrip(req)
	switch {
	case err == nil:
		_, _ = io.Copy(io.Discard, resp.Body) // the proxy's page
		resp.Body.Close()
		if resp.StatusCode != http.StatusProxyAuthRequired && resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a wrong password: status %s", resp.Status)
		}
	case !strings.Contains(err.Error(), "407") && !strings.Contains(err.Error(), "401"):
		t.Errorf("a wrong password: %v, want the proxy's status in it", err)
	case strings.Contains(err.Error(), "wrong"):
		t.Errorf("the error tells the password: %v", err)
	}
	if n := o.arrivals(t)["stranger"]; n != 0 {
		t.Errorf("a request with a wrong password arrived")
	}
}
