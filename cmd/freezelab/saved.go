package main

import (
	"slices"
	"time"
)

// spared returns the dials that a pool would have spared: those made while a sound connection to the same place lay idle
// that was not used again, or that the function had closed after use. Each such connection spares one dial. Where a
// connection is shared, over HTTP/2, more could be spared than can be seen.
//
// A connection that the function closed counts until the next freeze in which connections are broken.
func spared(r *record, broke bool) []*lane {
	var out []*lane
	taken := make(map[*lane]bool)
	for i, b := range r.lanes {
		if b.ready.IsZero() {
			continue
		}
		at := slices.IndexFunc(r.lanes[:i], func(a *lane) bool { return !taken[a] && r.couldServe(a, b.opened, broke) && a.target == b.target })
		if at >= 0 {
			taken[r.lanes[at]] = true
			out = append(out, b)
		}
	}
	return out
}

// couldServe reports whether a could have carried at t a request that it did not carry.
func (r *record) couldServe(a *lane, t time.Time, broke bool) bool {
	if a.ready.IsZero() || !a.ready.Before(t) {
		return false
	}
	for _, u := range a.uses {
		if u.during(t) || !u.from.Before(t) {
			return false // busy, or in use later on
		}
	}
	switch end := a.end(); {
	case end.IsZero() || end.After(t):
		return true
	case a.cause != causeFunction:
		return false
	default:
		return !broke || !slices.ContainsFunc(r.freezes, func(f span) bool { return !f.from.Before(end) && f.from.Before(t) })
	}
}

// setUp is what the connections took to make: from when they were accepted until the first request could be sent.
func setUp(lanes []*lane) (times []time.Duration, bytes []int64) {
	for _, l := range lanes {
		if !l.ready.IsZero() {
			times = append(times, l.ready.Sub(l.opened))
			bytes = append(bytes, l.shaking)
		}
	}
	slices.Sort(times)
	slices.Sort(bytes)
	return times, bytes
}
