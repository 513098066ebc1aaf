package retry

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/thawhttp/thaw/internal/idempotency"
)

// withKey returns req, or a copy of it with a new idempotency key if it is one of those that get one.
func withKey(req *http.Request, hosts []string) *http.Request {
	if req.Method != http.MethodPost && req.Method != http.MethodPatch || idempotency.HasKey(req) || !keyed(req.URL, hosts) {
		return req
	}
	out := *req
	if out.Header = req.Header.Clone(); out.Header == nil {
		out.Header = make(http.Header)
	}
	out.Header.Set("Idempotency-Key", newKey())
	return &out
}

// keyed reports whether hosts, which are in lower case, name that of u.
func keyed(u *url.URL, hosts []string) bool {
	host, bare := strings.ToLower(u.Host), strings.ToLower(u.Hostname())
	if strings.Contains(bare, ":") {
		bare = "[" + bare + "]"
	}
	if u.Port() == "" {
		host += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	return slices.Contains(hosts, host) || slices.Contains(hosts, bare)
}

// newKey returns a random UUID, version 4 (RFC 9562, section 5.4).
func newKey() string {
	var b [16]byte
	rand.Read(b[:]) // which never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
