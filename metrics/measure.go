package metrics

import (
	"math"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// sample is what is known of the pool, or of its part for one origin.
type sample struct {
	transport.Origin
	retries uint64
}

// measure is one metric.
type measure struct {
	name, unit string
	gauge      bool // a value as of now; otherwise it only grows, and a line has the difference
	value      func(s *sample) uint64
}

const (
	count        = "Count"
	milliseconds = "Milliseconds"
)

// measures are all metrics.
var measures = [...]measure{
	ofRetries:  {"Retries", count, false, func(s *sample) uint64 { return s.retries }},
	ofRequests: {"Requests", count, false, func(s *sample) uint64 { return s.Requests }},
	{"Reused", count, false, func(s *sample) uint64 { return s.Reused }},
	{"Dials", count, false, func(s *sample) uint64 { return s.Dials }},
	{"Handshakes", count, false, func(s *sample) uint64 { return s.Handshakes }},
	{"Resumed", count, false, func(s *sample) uint64 { return s.Resumed }},
	{"Waits", count, false, func(s *sample) uint64 { return s.Waits }},
	{"WaitTime", milliseconds, false, func(s *sample) uint64 { return uint64(s.WaitTime) }},
	{"Stale", count, false, func(s *sample) uint64 { return s.Closed.Stale }},
	{"Verified", count, false, func(s *sample) uint64 { return s.Verified }},
	{"Replayed", count, false, func(s *sample) uint64 { return s.Replayed }},
	{"Leaked", count, false, func(s *sample) uint64 { return s.Leaked }},
	{"Open", count, true, func(s *sample) uint64 { return uint64(s.Open) }},
	{"Idle", count, true, func(s *sample) uint64 { return uint64(s.Idle) }},
}

// The places of some of measures.
const (
	ofRetries = iota
	ofRequests
)

// values has a value for each of measures.
type values [len(measures)]uint64

// since returns what became of before until now, and whether anything was counted.
func since(now, before sample) (v values, happened bool) {
	var was values
	for i, m := range measures {
		v[i], was[i] = m.value(&now), m.value(&before)
		if !m.gauge && v[i] < was[i] {
			return since(now, sample{}) // the counters began anew: those of another pool, or of an origin forgotten meanwhile
		}
	}
	for i, m := range measures {
		if !m.gauge {
			v[i] -= was[i]
		}
	}
	return v, v.happened()
}

// happened reports whether anything was counted.
func (v *values) happened() bool {
	for i, m := range measures {
		if !m.gauge && v[i] > 0 {
			return true
		}
	}
	return false
}

// sub takes a part out of a total.
func (v *values) sub(part values) {
	for i := range v {
		v[i] -= min(v[i], part[i])
	}
}

// inUnit returns a value in the unit of its metric; times are counted in nanoseconds, and written to the microsecond.
func (m measure) inUnit(n uint64) float64 {
	if m.unit == milliseconds {
		return math.Round(float64(n)/float64(time.Microsecond)) / 1000
	}
	return float64(n)
}
