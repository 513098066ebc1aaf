package main

import "testing"

func TestRatioAboveTheNoiseIsFound(t *testing.T) {
	// The lanes are thaw, http.Transport and http.Transport again, which is 4 % off in one round of two.
	rounds := func(thaw float64) (r [][lanes]cost) {
		for i := range 20 {
			r = append(r, [lanes]cost{{bytes: thaw}, {bytes: 100}, {bytes: 98 + 4*float64(i%2)}})
		}
		return r
	}
	for _, tt := range []struct {
		thaw  float64
		above bool
	}{{90, false}, {100, false}, {100.5, false}, {110, true}} {
		r := rivalryOf(rounds(tt.thaw), func(c cost) float64 { return c.bytes })
		if r.Ratio.Total != tt.thaw/100 || r.Ratio.Low > r.Ratio.Total || r.Ratio.High < r.Ratio.Total {
			t.Errorf("the ratio of %v to 100 is %+v", tt.thaw, r.Ratio)
		}
		if r.Noise.Low >= 1 || r.Noise.High <= 1 {
			t.Errorf("the noise is %+v, which does not enclose 1", r.Noise)
		}
		if r.Above != tt.above {
			t.Errorf("%v is above 100: %v, want %v; the noise is %v", tt.thaw, r.Above, tt.above, r.Noise)
		}
	}
}
