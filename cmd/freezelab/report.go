package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// report is all that came out of a run. Its JSON form is what -json prints; durations are in nanoseconds.
type report struct {
	OK          bool              `json:"ok"` // thaw failed nothing and sent nothing twice, and there are no problems
	Environment environment       `json:"environment"`
	Settings    map[string]string `json:"settings"` // by flag
	Elapsed     time.Duration     `json:"elapsed_ns"`
	Cases       []caseResult      `json:"cases"`
	LeftOut     []string          `json:"left_out"` // cases that no client can tell from a slow server
	Bursts      []burstResult     `json:"bursts"`
	Problems    []string          `json:"problems,omitempty"` // of cases that were not carried through

	clients []clientName
}

// environment is where it came out.
type environment struct {
	GOOS   string `json:"goos"`
	GOARCH string `json:"goarch"`
	Go     string `json:"go"`
	CPUs   int    `json:"cpus"`
}

// caseResult is one row of the table.
type caseResult struct {
	Name string `json:"name"`
	freezeCase
	Clients map[clientName]*tally `json:"clients"`
}

// problem records why a case was not carried through, if it was not.
func (r *report) problem(name string, who clientName, err error) {
	if err != nil {
		r.Problems = append(r.Problems, fmt.Sprintf("%s with %s: %v", name, who.title(), err))
	}
}

// total adds up the freeze cases of who.
func (r *report) total(who clientName) tally {
	sum := tally{Errors: make(map[string]int)}
	for _, c := range r.Cases {
		t, ok := c.Clients[who]
		if !ok {
			continue
		}
		sum.Invocations += t.Invocations
		sum.Kept += t.Kept
		sum.Failed += t.Failed
		sum.Twice += t.Twice
		sum.Dials += t.Dials
		sum.Max = max(sum.Max, t.Max)
		for reason, n := range t.Errors {
			sum.Errors[reason] += n
		}
	}
	return sum
}

// thawHeld reports whether thaw kept its promise.
func (r *report) thawHeld() bool {
	t := r.total(clientThaw)
	failed := t.Failed + t.Twice
	for _, b := range r.Bursts {
		if t, ok := b.Clients[clientThaw]; ok {
			failed += t.Failed
		}
	}
	return failed == 0
}

// printJSON writes the report as one JSON object.
func (r *report) printJSON(w io.Writer) error { return printJSON(w, r) }

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
