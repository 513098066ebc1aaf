package main

import (
	"testing"
	"time"
)

func TestQuantilesAreNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tt := range []struct {
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{7}, 0.5, 7},
		{[]time.Duration{7}, 0.99, 7},
		{[]time.Duration{1, 2}, 0.5, 1},
		{[]time.Duration{1, 2, 3}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(tt.sorted, tt.q); got != tt.want {
			t.Errorf("quantile %v of %v: %d, want %d", tt.q, tt.sorted, got, tt.want)
		}
	}
}

func TestEqualFailuresAreCountedTogether(t *testing.T) {
	var tl tally
	for _, msg := range []string{
		"read tcp 127.0.0.1:40001->127.0.0.1:8080: read: connection reset by peer",
		"read tcp 127.0.0.1:40002->127.0.0.1:8080: read: connection reset by peer",
		"",
		"EOF",
	} {
		tl.add(outcome{Error: msg, Elapsed: time.Millisecond}, msg != "")
	}
	if tl.Invocations != 4 || tl.Kept != 3 || tl.Failed != 3 || len(tl.Errors) != 2 {
		t.Errorf("%d invocations, %d kept, %d failed, reasons %v; want 4, 3, 3 and two reasons", tl.Invocations, tl.Kept, tl.Failed, tl.Errors)
	}
}

func TestMillisecondsHaveThreeDigits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                        "0.00",
		420 * time.Microsecond:   "0.42",
		9996 * time.Microsecond:  "10.0",
		12340 * time.Microsecond: "12.3",
		99960 * time.Microsecond: "100",
		time.Second:              "1000",
	} {
		if got := ms(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
