package transport

import (
	"strings"
	"testing"
	"time"
)

func TestKeepAliveTimeoutLeavesAMargin(t *testing.T) {
	for _, c := range []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"timeout=5", 4 * time.Second, true},
		{"timeout=5, max=100", 4 * time.Second, true},
		{"max=100, timeout=5", 4 * time.Second, true},
		{"max=100,Timeout=75", 74 * time.Second, true},
		{" timeout = 60 ", 59 * time.Second, true},
		{`timeout="60"`, 59 * time.Second, true},
		{"timeout=2", time.Second, true},
		{"timeout=1", 500 * time.Millisecond, true},
		{"timeout=0", 0, true},
		{"timeout=2147483647", 2147483646 * time.Second, true},
		{"timeout=x, timeout=9", 8 * time.Second, true},
		{"timeout=4294967296", 0, false},
		{"timeout=-1", 0, false},
		{"timeout=1.5", 0, false},
		{"timeout=", 0, false},
		{"timeout", 0, false},
		{"xtimeout=5", 0, false},
		{"max=100", 0, false},
		{"", 0, false},
	} {
		if got, ok := keepAliveTimeout([]string{c.header}); got != c.want || ok != c.ok {
			t.Errorf("%q: %v, %v; want %v, %v", c.header, got, ok, c.want, c.ok)
		}
	}
	if got, ok := keepAliveTimeout([]string{"max=3", "timeout=10"}); got != 9*time.Second || !ok {
		t.Errorf("in a second field line: %v, %v", got, ok)
	}
	if _, ok := keepAliveTimeout(nil); ok {
		t.Error("no header, but a limit")
	}
}

func FuzzKeepAlive(f *testing.F) {
	for _, s := range []string{"timeout=5, max=100", `timeout="60"`, "timeout=1", "timeout=99999999999999999999", ",,=,timeout", "timeout=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := keepAliveTimeout([]string{s})
		if d < 0 || !ok && d != 0 {
			t.Fatalf("%v, %v", d, ok)
		}
		if ok && !strings.Contains(strings.ToLower(s), "timeout") {
			t.Fatalf("a limit of %v out of nothing", d)
		}
		if d2, ok2 := keepAliveTimeout([]string{s, "timeout=7"}); !ok && (!ok2 || d2 != 6*time.Second) || ok && d2 != d {
			t.Fatalf("with another field line: %v, %v; without: %v, %v", d2, ok2, d, ok)
		}
	})
}
