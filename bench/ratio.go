package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// ratio is one contestant's cost divided by another's.
type ratio struct {
	// Total is the ratio of what all rounds cost. Unlike the median of the rounds it has its share of what comes
	// now and then, such as garbage collections.
	Total float64 `json:"total"`
	// Low and High bound Total with a confidence of 95 %, by the bootstrap: it is computed again and again from
	// rounds drawn at random. A disturbed machine widens them, and more rounds narrow them.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Median is that of the rounds' ratios.
	Median float64 `json:"median"`
}

// ratioOf compares the costs of the same rounds.
func ratioOf(costs, base []float64) ratio {
	const draws = 2000
	random := rand.New(rand.NewPCG(1, 2))
	total := func(pick func(int) int) float64 {
		var a, b float64
		for i := range costs {
			i = pick(i)
			a += costs[i]
			b += base[i]
		}
		return a / b
	}
	rounds, drawn := make([]float64, len(costs)), make([]float64, draws)
	for i := range rounds {
		rounds[i] = costs[i] / base[i]
	}
	for i := range drawn {
		drawn[i] = total(func(int) int { return random.IntN(len(costs)) })
	}
	return ratio{
		Total:  total(func(i int) int { return i }),
		Low:    quantile(drawn, 0.025),
		High:   quantile(drawn, 0.975),
		Median: quantile(rounds, 0.5),
	}
}

func (r ratio) String() string { return fmt.Sprintf("%.2f [%.2f..%.2f]", r.Total, r.Low, r.High) }

// quantile returns the quantile q of values, interpolated between its neighbours.
func quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 == len(v) {
		return v[i]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}

// each returns what value says of each item.
func each[T any](items []T, value func(T) float64) []float64 {
	values := make([]float64, len(items))
	for i, item := range items {
		values[i] = value(item)
	}
	return values
}

// rivalry compares thaw with http.Transport in one quantity.
type rivalry struct {
	Thaw  float64 `json:"thaw"`  // the median of the rounds
	HTTP  float64 `json:"http"`  // the same of http.Transport
	Ratio ratio   `json:"ratio"` // of thaw to http.Transport
	Noise ratio   `json:"noise"` // of a second http.Transport to the first
	// Above says that thaw is above http.Transport by more than the noise: its ratio is farther above 1 than the
	// bounds of the noise are from 1, to either side.
	Above bool `json:"above"`
}

func rivalryOf(rounds [][lanes]cost, value func(cost) float64) rivalry {
	of := func(lane int) []float64 {
		return each(rounds, func(round [lanes]cost) float64 { return value(round[lane]) })
	}
	r := rivalry{
		Thaw:  quantile(of(laneThaw), 0.5),
		HTTP:  quantile(of(laneHTTP), 0.5),
		Ratio: ratioOf(of(laneThaw), of(laneHTTP)),
		Noise: ratioOf(of(laneAgain), of(laneHTTP)),
	}
	r.Above = r.Ratio.Total > max(1, r.Noise.High, 1/r.Noise.Low)
	return r
}

// aboveByHalf reports whether thaw's count is above http.Transport's by more than the fraction of an object that
// chance costs a request.
func (r rivalry) aboveByHalf() bool { return r.Thaw > r.HTTP+0.5 }

// pair prints the medians of thaw and http.Transport in the unit.
func (r rivalry) pair(format string, unit float64) string {
	return fmt.Sprintf(format+" "+format, r.Thaw/unit, r.HTTP/unit)
}
