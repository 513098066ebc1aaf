package transport

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// scripted is a connection to a proxy that has its answers ready, and keeps what it is told.
type scripted struct {
	net.Conn
	answers io.Reader
	told    bytes.Buffer
	deaf    bool // writes fail
}

func (c *scripted) Read(p []byte) (int, error) { return c.answers.Read(p) }

func (c *scripted) Write(p []byte) (int, error) {
	if c.deaf {
		return 0, errInjected
	}
	return c.told.Write(p)
}

func (c *scripted) Close() error                { return nil }
func (c *scripted) SetDeadline(time.Time) error { return nil }

func TestSOCKSConnectSpeaksRFC1928(t *testing.T) {
	const (
		noAuth   = "\x05\x00"
		password = "\x05\x02"
		ok4      = "\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90"
		ok6      = "\x05\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1f\x90"
		okName   = "\x05\x00\x00\x03\x04gate\x1f\x90"
		hello    = "\x05\x01\x00"
		helloPw  = "\x05\x02\x00\x02"
		name     = "\x05\x01\x00\x03\x08api.test\x01\xbb"
	)
	joe := url.UserPassword("joe", "pw")
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		name    string
		user    *url.Userinfo
		addr    string
		answers string
		told    string
		err     string // "" for success
	}{
		{"a name", nil, "api.test:443", noAuth + ok4, hello + name, ""},
		{"an answer with an IPv6 address", nil, "api.test:443", noAuth + ok6, hello + name, ""},
		{"an answer with a name", nil, "api.test:443", noAuth + okName, hello + name, ""},
		{"IPv4", nil, "192.0.2.1:80", noAuth + ok4, hello + "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", ""},
		{"IPv6", nil, "[2001:db8::1]:80", noAuth + ok4, hello + "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50", ""},
		{"IPv4 in IPv6", nil, "[::ffff:192.0.2.1]:80", noAuth + ok4, hello + "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", ""},
		{"a password", joe, "api.test:443", password + "\x01\x00" + ok4, helloPw + "\x01\x03joe\x02pw" + name, ""},
		{"a password that is not asked for", joe, "api.test:443", noAuth + ok4, helloPw + name, ""},
		{"a password refused", joe, "api.test:443", password + "\x01\x01", helloPw + "\x01\x03joe\x02pw", "refused the user name"},
		{"a password asked for", nil, "api.test:443", password, hello, "no way to authenticate"},
		{"no method", nil, "api.test:443", "\x05\xff", hello, "no way to authenticate"},
		{"no method for a password", joe, "api.test:443", "\x05\xff", helloPw, "no way to authenticate"},
		{"GSSAPI wanted", joe, "api.test:443", "\x05\x01", helloPw, "no way to authenticate"},
		{"no password", url.User("joe"), "api.test:443", password + "\x01\x00" + ok4, helloPw + "\x01\x03joe\x00" + name, ""},
		{"a long password", url.UserPassword("joe", long), "api.test:443", password, helloPw, "1 to 255 bytes and a password of at most as many"},
		{"SOCKS4", nil, "api.test:443", "\x04\x00", hello, "version 4"},
		{"an HTTP server", nil, "api.test:443", "HTTP/1.1 400 Bad Request\r\n\r\n", hello, "version 72"},
		{"refused", nil, "api.test:443", noAuth + "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", hello + name, "code 5"},
		{"another version later", nil, "api.test:443", noAuth + "\x04\x00\x00\x01\x00\x00\x00\x00\x00\x00", hello + name, "refused"},
		{"silence at once", nil, "api.test:443", "", hello, "EOF"},
		{"silence after the method", nil, "api.test:443", noAuth, hello + name, "EOF"},
		{"cut in the head", nil, "api.test:443", noAuth + ok4[:3], hello + name, "EOF"},
		{"cut in the address", nil, "api.test:443", noAuth + ok4[:7], hello + name, "EOF"},
		{"cut in the port", nil, "api.test:443", noAuth + okName[:len(okName)-1], hello + name, "EOF"},
		{"cut before the name", nil, "api.test:443", noAuth + okName[:4], hello + name, "EOF"},
		{"a long host", nil, long + ":443", noAuth, hello, "256 bytes"},
		{"a bad port", nil, "api.test:65536", noAuth, hello, "65536"},
		{"no port", nil, "api.test", noAuth, hello, "missing port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const server = "the server's first bytes"
			nc := &scripted{answers: strings.NewReader(c.answers)}
			if c.err == "" {
				nc.answers = io.MultiReader(strings.NewReader(c.answers), strings.NewReader(server))
			}
			err := socksConnect(nc, c.user, c.addr)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "pw") {
				t.Errorf("the password is told: %v", err)
			}
			if got := nc.told.String(); got != c.told {
				t.Errorf("the proxy was told %q, want %q", got, c.told)
			}
			if c.err == "" {
				if rest, _ := io.ReadAll(nc.answers); string(rest) != server {
					t.Errorf("left for the server's bytes: %q", rest)
				}
			}
		})
	}
	if err := socksConnect(&scripted{deaf: true, answers: strings.NewReader("")}, nil, "api.test:443"); err == nil {
		t.Error("the proxy cannot be written to, but is connected")
	}
}

func FuzzSocksReply(f *testing.F) {
	f.Add([]byte("\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90"), false)
	f.Add([]byte("\x05\x02\x01\x00\x05\x00\x00\x03\xff"), true)
	f.Add([]byte("\x05\x00\x05\x00\x00\x09\x00\x00"), false)
	f.Fuzz(func(t *testing.T, answers []byte, withUser bool) {
		var user *url.Userinfo
		if withUser {
			user = url.UserPassword("joe", "pw")
		}
		r := bytes.NewReader(answers)
		err := socksConnect(&scripted{answers: r}, user, "api.test:443")
		if err != nil {
			return
		}
		// It succeeded: then the answers were whole, and nothing beyond them was read.
		used := answers[:len(answers)-r.Len()]
		head := used[2:]
		if used[1] == socksPassword {
			head = used[4:]
		}
		want := map[byte]int{socksAddrIPv4: 10, socksAddrIPv6: 22}[head[3]]
		if head[3] == socksAddrName {
			want = 7 + int(head[4])
		}
		if head[0] != 5 || head[1] != 0 || want != 0 && len(head) != want {
			t.Fatalf("took %x for success", used)
		}
		if want == 0 {
			t.Fatalf("took address type %d for success: it has no known length, so the server's bytes cannot be found", head[3])
		}
	})
}

func TestHTTPConnect(t *testing.T) {
	for _, c := range []struct {
		name   string
		proxy  string
		answer string
		auth   string
		err    string
	}{
		{"accepted", "http://proxy.test:3128", "HTTP/1.1 200 Connection established\r\n\r\n", "", ""},
		{"accepted by HTTP/1.0", "http://proxy.test:3128", "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", "", ""},
		{"with credentials", "http://joe:secret@proxy.test:3128", "HTTP/1.1 200 OK\r\n\r\n", "Basic am9lOnNlY3JldA==", ""},
		{"with a user only", "http://joe@proxy.test:3128", "HTTP/1.1 200 OK\r\n\r\n", "Basic am9lOg==", ""},
		{"refused", "http://joe:secret@proxy.test:3128", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "Basic am9lOnNlY3JldA==", "407 Proxy Authentication Required"},
		{"forbidden", "http://proxy.test:3128", "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!", "", "403 Forbidden"},
		{"no answer", "http://proxy.test:3128", "", "", "EOF"},
		{"cut", "http://proxy.test:3128", "HTTP/1.1 200 OK\r\nVia: x", "", "EOF"},
		{"no HTTP", "http://proxy.test:3128", "SSH-2.0-x\r\n", "", "malformed"},
		{"an endless header", "http://proxy.test:3128", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20), "", "exceeds 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := url.Parse(c.proxy)
			if err != nil {
				t.Fatal(err)
			}
			nc := &scripted{answers: strings.NewReader(c.answer)}
			err = httpConnect(nc, u, "api.test:443")
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is told: %v", err)
			}
			told := nc.told.String()
			if !strings.HasPrefix(told, "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n") {
				t.Errorf("the proxy was told %q", told)
			}
			if got := strings.Contains(told, "Proxy-Authorization: "+c.auth+"\r\n"); got != (c.auth != "") || strings.Contains(told, "Authorization") && c.auth == "" {
				t.Errorf("credentials: %q, want %q", told, c.auth)
			}
		})
	}
}
