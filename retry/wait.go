package retry

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// wait returns how long to wait before the attempt after a.
func (p Policy) wait(a Attempt) time.Duration {
	least, most := max(p.MinBackoff, 0), p.MaxBackoff
	if most < 0 {
		most = 1<<63 - 1
	}
	wait := least
	if ceiling := min(most, exponential(least, a.Number)); ceiling > least {
		wait += rand.N(ceiling - least + 1)
	}
	if a.Response != nil {
		wait = max(wait, min(most, retryAfter(a.Response.Header, time.Now())))
	}
	return wait
}

// exponential returns d times 2 to the n, or the longest duration.
func exponential(d time.Duration, n int) time.Duration {
	for ; n > 0 && d > 0; n-- {
		if d > (1<<63-1)/2 {
			return 1<<63 - 1
		}
		d *= 2
	}
	return d
}

// retryAfter returns how long the server asks to wait (RFC 9110, section 10.2.3): a number of seconds or a date. It
// returns 0 if it does not ask, or not in a form that makes sense, and the longest duration if it asks for longer than
// that.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h["Retry-After"]
	if len(v) == 0 {
		return 0
	}
	s := strings.Trim(v[0], " \t")
	if s == "" {
		return 0
	}
	seconds := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			date, err := http.ParseTime(s)
			if err != nil {
				return 0
			}
			return max(0, date.Sub(now))
		}
		seconds = min(10*seconds+int64(s[i]-'0'), int64((1<<63-1)/time.Second))
	}
	return time.Duration(seconds) * time.Second
}
