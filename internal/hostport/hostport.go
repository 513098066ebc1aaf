// Package hostport names the address that a URL leads to, in one form for the pool, its statistics and the traces.
package hostport

import (
	"net"
	"net/url"

	"golang.org/x/net/idna"
)

// Of returns the "host:port" of u, with the default port where it has none, and an internationalized name in its
// ASCII form.
func Of(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "http":
			port = "80"
		case "https":
			port = "443"
		case "socks5", "socks5h":
			port = "1080"
		}
	}
	return net.JoinHostPort(Host(u), port)
}

// Host returns the host of u, an internationalized name in its ASCII form.
func Host(u *url.URL) string {
	host := u.Hostname()
	if !isASCII(host) {
		if a, err := idna.Lookup.ToASCII(host); err == nil {
			return a
		}
	}
	return host
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
