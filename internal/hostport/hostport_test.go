package hostport

import (
	"net/url"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"http://api.test":          "api.test:80",
		"https://api.test/path":    "api.test:443",
		"https://api.test:8443":    "api.test:8443",
		"https://user:pw@api.test": "api.test:443",
		"http://[::1]":             "[::1]:80",
		"socks5://proxy.test":      "proxy.test:1080",
		"socks5h://proxy.test":     "proxy.test:1080",
		"https://bücher.test":      "xn--bcher-kva.test:443",
		"https://ü-.test":          "ü-.test:443", // no valid name, so it is left as it is
	} {
		u, err := url.Parse(given)
		if err != nil {
			t.Fatal(err)
		}
		if got := Of(u); got != want {
			t.Errorf("Of(%q) is %q, want %q", given, got, want)
		}
	}
}
