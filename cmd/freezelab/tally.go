package main

import (
	"math"
	"regexp"
	"slices"
	"time"
)

// tally is how one client fared in one case.
type tally struct {
	Invocations int            `json:"invocations"`
	Kept        int            `json:"kept"` // of them those with a connection kept through the freeze
	Failed      int            `json:"failed"`
	Twice       int            `json:"sent_twice"`
	Dials       int64          `json:"dials"`
	P50         time.Duration  `json:"p50_ns"`
	P99         time.Duration  `json:"p99_ns"`
	Max         time.Duration  `json:"max_ns"`
	Errors      map[string]int `json:"errors,omitempty"`

	elapsed []time.Duration // of each invocation's request, failed ones included
	record  *record         // for a page, or nil
}

// add counts an invocation.
func (t *tally) add(o outcome, kept bool) {
	t.Invocations++
	if kept {
		t.Kept++
	}
	t.elapsed = append(t.elapsed, o.Elapsed)
	if o.Error == "" {
		return
	}
	t.Failed++
	if t.Errors == nil {
		t.Errors = make(map[string]int)
	}
	t.Errors[reason(o.Error)]++
}

// finish computes the quantiles.
func (t *tally) finish() {
	slices.Sort(t.elapsed)
	t.P50, t.P99, t.Max = quantile(t.elapsed, 0.50), quantile(t.elapsed, 0.99), quantile(t.elapsed, 1)
}

// quantile returns the smallest element of sorted that at least the share q of all do not exceed (nearest rank).
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// addresses matches what makes two messages of the same failure differ.
var addresses = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// reason is an error message without port numbers, so that equal failures count as equal.
func reason(msg string) string { return addresses.ReplaceAllString(msg, "127.0.0.1:*") }
