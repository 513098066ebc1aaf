package transport

import (
	"strconv"
	"strings"
	"time"
)

// keepAliveTimeout returns how long a connection may be idle by the Keep-Alive header of a response: the server's
// timeout less a margin of a second, or of half of it if it is below two seconds. It returns false if the header
// names none. The header is described in RFC 2068, section 19.7.1.1; servers write "timeout=5, max=100".
func keepAliveTimeout(values []string) (time.Duration, bool) {
	for _, v := range values {
		for param := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(param, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "timeout") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				continue
			}
			d := time.Duration(seconds) * time.Second
			return d - min(time.Second, d/2), true
		}
	}
	return 0, false
}
