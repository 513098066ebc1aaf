package main

import (
	"fmt"
	"math"
	"time"
)

// plot is the latency of invocations, one after another, on a logarithmic scale. Its coordinates are those of the SVG.
type plot struct {
	ID, Title, Summary string
	Width, Height      int
	Left, Right, Base  float64 // of the field
	Ticks              []tick
	Series             []series
}

type tick struct {
	Y    float64
	Text string
}

// series is the invocations of one client.
type series struct {
	Name  string
	Thaw  bool // it has thaw's marks
	Marks []mark

	points []point
}

// mark is an invocation in a plot.
type mark struct {
	X, Y   float64
	Failed bool
	Title  string
}

// point is an invocation to be plotted.
type point struct {
	took       time.Duration
	failed     bool
	title, why string
}

func newSeries(name string, thaw bool, points []point) series {
	return series{Name: name, Thaw: thaw, points: points}
}

// newPlot places the points.
func newPlot(id, title string, all []series) plot {
	const width, height, left, right, top, bottom = 360, 190, 40, 8, 8, 24
	p := plot{ID: id, Title: title, Width: width, Height: height, Left: left, Right: width - right, Base: height - bottom}
	longest, low, high := 1, math.Inf(1), math.Inf(-1)
	for _, s := range all {
		longest = max(longest, len(s.points))
		for _, q := range s.points {
			d := math.Log10(milliseconds(q.took))
			low, high = min(low, d), max(high, d)
		}
	}
	if low > high {
		low, high = 0, 1
	}
	low, high = math.Floor(low), math.Ceil(high)
	if high == low {
		high++
	}
	y := func(decade float64) float64 { return p.Base - (decade-low)/(high-low)*(p.Base-top) }
	for decade := low; decade <= high; decade++ {
		p.Ticks = append(p.Ticks, tick{y(decade), time.Duration(math.Round(math.Pow(10, decade) * float64(time.Millisecond))).String()})
	}
	step := (p.Right - p.Left) / float64(longest)
	for _, s := range all {
		failed, slowest := 0, time.Duration(0)
		for i, q := range s.points {
			title := fmt.Sprintf("%s: %s ms", q.title, ms(q.took))
			if q.failed {
				failed++
				title += ", failed: " + q.why
			}
			slowest = max(slowest, q.took)
			s.Marks = append(s.Marks, mark{p.Left + step*(float64(i)+0.5), y(math.Log10(milliseconds(q.took))), q.failed, title})
		}
		p.Summary += fmt.Sprintf("%s: %d of %s failed, the slowest took %s ms. ", s.Name, failed, plural(len(s.points), "invocation"), ms(slowest))
		p.Series = append(p.Series, s)
	}
	return p
}

// milliseconds is d in milliseconds, but not so few that they have no logarithm.
func milliseconds(d time.Duration) float64 {
	return max(float64(d)/float64(time.Millisecond), 0.01)
}
