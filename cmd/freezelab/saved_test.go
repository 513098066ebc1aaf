package main

import (
	"testing"
	"time"
)

// at is a moment of a test.
func at(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }

// used is a lane that was opened then, ready 10 ms later, and used from and to these moments.
func used(opened int, spans ...int) *lane {
	l := &lane{target: "https://a", opened: at(opened), ready: at(opened + 10), shaking: 100}
	for i := 0; i < len(spans); i += 2 {
		l.uses = append(l.uses, use{span: span{at(spans[i]), at(spans[i+1])}})
	}
	return l
}

func closed(l *lane, when int, why death) *lane {
	l.ended, l.cause = at(when), why
	return l
}

func broken(l *lane, when int) *lane {
	l.broken, l.cause = at(when), causeFIN
	return l
}

func TestOnlyDialsBesideASoundIdleConnectionAreSpared(t *testing.T) {
	elsewhere := used(200, 210, 220)
	elsewhere.target = "https://b"
	for name, tt := range map[string]struct {
		lanes []*lane
		broke bool
		want  int
	}{
		"one":                                {[]*lane{used(0, 10, 20)}, false, 0},
		"a second one while it is busy":      {[]*lane{used(0, 10, 300), used(200, 210, 220)}, false, 0},
		"a second one while it is idle":      {[]*lane{used(0, 10, 20), used(200, 210, 220)}, false, 1},
		"three, each left idle":              {[]*lane{used(0, 10, 20), used(200, 210, 220), used(400, 410, 420)}, false, 2},
		"two at once beside an idle one":     {[]*lane{used(0, 10, 20), used(200, 210, 300), used(205, 215, 300)}, false, 1},
		"the first one is used again":        {[]*lane{used(0, 10, 20, 500, 510), used(200, 210, 220)}, false, 0},
		"elsewhere":                          {[]*lane{used(0, 10, 20), elsewhere}, false, 0},
		"closed by the function":             {[]*lane{closed(used(0, 10, 20), 30, causeFunction), used(200, 210, 220)}, false, 1},
		"closed, but a freeze would have":    {[]*lane{closed(used(0, 10, 20), 30, causeFunction), used(200, 210, 220)}, true, 0},
		"closed after the freeze":            {[]*lane{closed(used(0, 10, 20), 150, causeFunction), used(200, 210, 220)}, true, 1},
		"closed by the downstream":           {[]*lane{closed(used(0, 10, 20), 30, causeDownstream), used(200, 210, 220)}, false, 0},
		"broken in the freeze":               {[]*lane{broken(used(0, 10, 20), 105), used(200, 210, 220)}, true, 0},
		"never ready":                        {[]*lane{{target: "https://a", opened: at(0)}, used(200, 210, 220)}, false, 0},
		"the second one was never ready":     {[]*lane{used(0, 10, 20), {target: "https://a", opened: at(200)}}, false, 0},
		"of no use to the one being dialled": {[]*lane{used(195, 210, 220), used(200, 230, 240)}, false, 0},
	} {
		r := &record{lanes: tt.lanes, freezes: []span{{at(100), at(110)}}}
		if got := spared(r, tt.broke); len(got) != tt.want {
			t.Errorf("%s: %d spared, want %d", name, len(got), tt.want)
		}
	}
}
