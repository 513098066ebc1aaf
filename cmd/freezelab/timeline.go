package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// timeline has a lane for each connection of a run. Freezes and what is between them have a fixed width each, in which time
// is to scale: minutes and milliseconds would not fit on one. Its coordinates are those of the SVG.
type timeline struct {
	ID, Title, Summary string
	Width, Height      int
	Bottom             float64 // of the lanes
	Freezes            []box
	Heads              []head
	Lanes              []drawn
}

type box struct {
	X, Width float64
	Title    string
}

// head is the number of an invocation, above its column.
type head struct {
	X      float64
	Text   string
	Failed bool
	Title  string
}

// drawn is a lane, drawn.
type drawn struct {
	Y        float64
	Name     string // the number of the connection
	Target   string // if it is not that of the lane above
	TargetY  float64
	Title    string // all in words
	From, To float64
	Dial     *box
	Shake    *box
	Uses     []drawnUse
	Death    *head   // where and why it died
	Ghost    float64 // until where the function takes it for alive; 0 if it knows
}

type drawnUse struct {
	box
	Lost bool
}

// The measures of a timeline.
const (
	gutter      = 30.0
	liveWidth   = 54.0
	frozenWidth = 16.0
	laneHeight  = 16.0
	headHeight  = 22.0
)

// scale gives moments their place.
type scale struct {
	at []time.Time
	x  []float64
}

func (s *scale) place(t time.Time) float64 {
	i, found := slices.BinarySearchFunc(s.at, t, time.Time.Compare)
	switch {
	case found:
		return s.x[i]
	case i == 0:
		return s.x[0]
	case i == len(s.at):
		return s.x[i-1]
	}
	share := float64(t.Sub(s.at[i-1])) / float64(s.at[i].Sub(s.at[i-1]))
	return s.x[i-1] + share*(s.x[i]-s.x[i-1])
}

// newScale makes the scale of r.
func newScale(r *record) scale {
	first, last := time.Time{}, time.Time{}
	see := func(t time.Time) {
		if t.IsZero() {
			return
		}
		if first.IsZero() || t.Before(first) {
			first = t
		}
		if t.After(last) {
			last = t
		}
	}
	for _, l := range r.lanes {
		for _, t := range []time.Time{l.opened, l.ready, l.end()} {
			see(t)
		}
		for _, u := range l.uses {
			see(u.from)
			see(u.to)
		}
	}
	for _, w := range r.invocations {
		see(w.from)
		see(w.to)
	}
	for _, f := range r.freezes {
		see(f.from)
		see(f.to)
	}
	s := scale{at: []time.Time{first}, x: []float64{gutter}}
	add := func(t time.Time, width float64) {
		s.at, s.x = append(s.at, t), append(s.x, s.x[len(s.x)-1]+width)
	}
	for _, f := range r.freezes {
		add(f.from, liveWidth)
		add(f.to, frozenWidth)
	}
	add(last, liveWidth)
	return s
}

// newTimeline draws r.
func newTimeline(id, title string, r *record) timeline {
	s := newScale(r)
	end := s.x[len(s.x)-1]
	t := timeline{ID: id, Title: title, Width: int(end) + 12}
	for i, f := range r.freezes {
		x := s.place(f.from)
		t.Freezes = append(t.Freezes, box{x, s.place(f.to) - x, fmt.Sprintf("freeze %d, %v long", i+1, f.to.Sub(f.from).Round(time.Millisecond))})
	}
	failed := 0
	for i, w := range r.invocations {
		h := head{X: s.place(w.from) + 2, Text: fmt.Sprint(i + 1), Failed: w.failed, Title: fmt.Sprintf("invocation %d, %s ms", i+1, ms(w.to.Sub(w.from)))}
		if w.failed {
			failed++
			h.Title += ", failed: " + w.why
		}
		t.Heads = append(t.Heads, h)
	}
	lanes := slices.Clone(r.lanes)
	slices.SortStableFunc(lanes, func(a, b *lane) int { return cmp.Compare(a.target, b.target) })
	y, target := headHeight, ""
	deaths := make(map[death]int)
	for i, l := range lanes {
		d := drawn{Name: fmt.Sprint(i + 1)}
		if name := cmp.Or(l.target, "no request"); name != target {
			target = name
			d.Target, d.TargetY = name, y+11
			y += laneHeight
		}
		d.Y = y
		d.draw(l, s, end)
		if l.cause != "" {
			deaths[l.cause]++
		}
		t.Lanes = append(t.Lanes, d)
		y += laneHeight
	}
	t.Bottom, t.Height = y, int(y)+4
	parts := []string{fmt.Sprintf("%s, %d failed", plural(len(r.invocations), "invocation"), failed), plural(len(r.freezes), "freeze"), plural(len(lanes), "connection")}
	for _, why := range slices.Sorted(maps.Keys(deaths)) {
		parts = append(parts, fmt.Sprintf("%d %s", deaths[why], why))
	}
	t.Summary = strings.Join(parts, ", ") + "."
	return t
}

// draw draws l.
func (d *drawn) draw(l *lane, s scale, edge float64) {
	const least = 3 // a width that can be seen
	span := func(from, to time.Time) box {
		x := s.place(from)
		return box{X: x, Width: max(least, s.place(to)-x)}
	}
	words := []string{"connection " + d.Name}
	d.From, d.To = s.place(l.opened), edge
	if dead := l.end(); !dead.IsZero() {
		d.To = max(s.place(dead), d.From+least)
		why := string(l.cause)
		if l.detail != "" {
			why += ": " + l.detail
		}
		d.Death = &head{X: d.To, Text: why, Failed: l.cause != causeFunction, Title: why}
		if l.cause == causeNAT || l.cause == causeHole {
			d.Ghost = edge
			if !l.ended.IsZero() {
				d.Ghost = s.place(l.ended)
			}
		}
	}
	dialled := l.ready
	if !l.hello.IsZero() {
		dialled = l.hello
		if !l.ready.IsZero() {
			b := span(l.hello, l.ready)
			b.Title = fmt.Sprintf("handshake, %s ms", ms(l.ready.Sub(l.hello)))
			if l.shaking > 0 {
				b.Title += ", " + size(l.shaking)
			}
			d.Shake = &b
			words = append(words, b.Title)
		}
	}
	if !dialled.IsZero() {
		b := span(l.opened, dialled)
		b.X = s.place(dialled) - b.Width // where the end is all that was seen, it is beside what follows
		b.Title = fmt.Sprintf("dial, %s ms", ms(dialled.Sub(l.opened)))
		d.Dial = &b
		words = append(words, b.Title)
	}
	lost := 0
	for _, u := range l.uses {
		to, how := u.to, "answered"
		switch {
		case u.lost:
			lost++
			to, how = u.from, "written into the broken connection, never answered"
		case to.IsZero():
			to, how = u.from, "not answered"
		default:
			how += fmt.Sprintf(" in %s ms", ms(to.Sub(u.from)))
		}
		b := span(u.from, to)
		b.Title = "request, " + how
		if u.requests == 0 {
			b.Title = "burst of bytes, " + how
		}
		d.Uses = append(d.Uses, drawnUse{b, u.lost})
	}
	words = append(words, fmt.Sprintf("used %d times", len(l.uses)-lost))
	if lost > 0 {
		words = append(words, fmt.Sprintf("%d times after it was broken", lost))
	}
	if d.Death != nil {
		words = append(words, d.Death.Title)
	}
	d.Title = strings.Join(words, ", ")
}
