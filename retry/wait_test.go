package retry

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWaitsGrowAndAreDrawnAtRandom(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name        string
		p           Policy
		n           int
		least, most time.Duration
	}{
		{"first", Policy{}, 1, 50 * ms, 100 * ms},
		{"second", Policy{}, 2, 50 * ms, 200 * ms},
		{"sixth", Policy{}, 6, 50 * ms, 2000 * ms},
		{"thousandth", Policy{}, 1000, 50 * ms, 2000 * ms},
		{"no MaxBackoff", Policy{MaxBackoff: Disabled}, 10, 50 * ms, 51200 * ms},
		{"overflow", Policy{MaxBackoff: Disabled}, 1000, 50 * ms, math.MaxInt64},
	} {
		p, err := tt.p.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		low, high := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			wait := p.wait(Attempt{Number: tt.n})
			low, high = min(low, wait), max(high, wait)
		}
		// A thousand draws leave less than a tenth of the range on either side, but for one run in e^100.
		if margin := (tt.most - tt.least) / 10; low < tt.least || low > tt.least+margin || high > tt.most || high < tt.most-margin {
			t.Errorf("%s: waits of %v to %v, want all of %v to %v", tt.name, low, high, tt.least, tt.most)
		}
	}
	for name, p := range map[string]Policy{
		"no MinBackoff": {MinBackoff: Disabled},
		"neither":       {MinBackoff: Disabled, MaxBackoff: Disabled},
	} {
		p, _ := p.withDefaults()
		if wait := p.wait(Attempt{Number: 5}); wait != 0 {
			t.Errorf("%s: a wait of %v, want none", name, wait)
		}
	}
}

func TestRetryAfterIsHonouredUpToMaxBackoff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		p    Policy
		want time.Duration
	}{
		{Policy{}, DefaultMaxBackoff},
		{Policy{MaxBackoff: 20 * time.Second}, 7 * time.Second},
		{Policy{MaxBackoff: Disabled}, 7 * time.Second},
		{Policy{MinBackoff: Disabled}, DefaultMaxBackoff},
		{Policy{MinBackoff: 9 * time.Second, MaxBackoff: 9 * time.Second}, 9 * time.Second},
	} {
		p, err := tt.p.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.wait(Attempt{Number: 1, Response: &http.Response{Header: http.Header{"Retry-After": {"7"}}}}); got != tt.want {
			t.Errorf("%+v: a wait of %v, want %v", tt.p, got, tt.want)
		}
	}
}

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const longest = 9223372036 * time.Second // that a time.Duration holds
	for value, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, " 120\t": 2 * time.Minute, "007": 7 * time.Second,
		"9223372036":                     longest,
		"9223372037":                     longest,
		strings.Repeat("9", 400):         longest,
		"Sun, 01 Jun 2025 12:00:30 GMT":  30 * time.Second,
		"Sunday, 01-Jun-25 12:00:30 GMT": 30 * time.Second,
		"Sun Jun  1 12:00:30 2025":       30 * time.Second,
		"Sun, 01 Jun 2025 12:00:00 GMT":  0,
		"Sun, 01 Jun 2025 11:00:00 GMT":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":  math.MaxInt64,
		"Mon, 01 Jan 0001 00:00:00 GMT":  0,
		"":                               0, " ": 0, "-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "0x10": 0, "1 2": 0, "soon": 0, "１": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, noon); got != want {
			t.Errorf("Retry-After: %q is %v, want %v", value, got, want)
		}
	}
	if got := retryAfter(http.Header{"Retry-After": {"3", "5"}}, noon); got != 3*time.Second {
		t.Errorf("of two headers: %v, want that of the first", got)
	}
	for _, h := range []http.Header{nil, {}, {"Retry-After": nil}} {
		if got := retryAfter(h, noon); got != 0 {
			t.Errorf("%v is %v, want 0", h, got)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"120", "Sun, 01 Jun 2025 12:00:30 GMT", "-1", "99999999999999999999", "1.5", " 3 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := retryAfter(http.Header{"Retry-After": {s}}, noon)
		if d < 0 {
			t.Errorf("%q is %v", s, d)
		}
		digits := strings.Trim(s, " \t")
		if d > 0 && strings.Trim(digits, "0123456789") != "" {
			if _, err := http.ParseTime(digits); err != nil {
				t.Errorf("%q, neither a number nor a date, is %v", s, d)
			}
		}
		// One more digit never makes it shorter.
		if longer := retryAfter(http.Header{"Retry-After": {digits + "0"}}, noon); strings.Trim(digits, "0123456789") == "" && longer < d {
			t.Errorf("%q is %v, but %q is %v", digits, d, digits+"0", longer)
		}
	})
}
