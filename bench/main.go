// Command bench measures the pool of thaw beside a tuned http.Transport, in one run, with the server in another
// process:
//
//	go run . [flags] [steady] [retry] [idle] [burst] [init]
//
// Steady is the CPU, the wall time and the allocations of a request on established connections; retry is the same with
// the layer of retries over the pool, beside the bare pool; idle is the memory of an idle connection; burst is many
// requests at once to an HTTP/2 server that no connection leads to yet; init is the first invocation of a Lambda function
// that gets a share of a CPU, with lambdahandler.Init and without. All five are measured unless some are named.
//
// The contestants take turns in short slices, and what is printed is ratios: the absolute times of a shared machine
// prove nothing. A second http.Transport takes part, and its ratio to the first is the noise of the run. Brackets
// hold the bounds of a ratio with a confidence of 95 %.
//
// The package's tests assert what hardly depends on the machine: allocations, the memory of an idle connection and
// dials. Its benchmarks are for benchstat and for profiles; see README.md.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	play()
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// report is everything that a run measured.
type report struct {
	Go     string         `json:"go"`
	System string         `json:"system"`
	CPUs   int            `json:"cpus"`
	Steady []steadyResult `json:"steady,omitempty"`
	Retry  []steadyResult `json:"retry,omitempty"` // thaw is with retries, http is thaw without
	Idle   []idleResult   `json:"idle,omitempty"`
	Burst  []burstResult  `json:"burst,omitempty"`
	Init   []initResult   `json:"init,omitempty"`
}

var measurements = []string{"steady", "retry", "idle", "burst", "init"}

// run is the command. Results go to stdout, progress to stderr.
func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run . [flags] [%s]\n", strings.Join(measurements, "] ["))
		flags.PrintDefaults()
	}
	asJSON := flags.Bool("json", false, "print JSON; times are in nanoseconds")
	rounds := flags.Int("rounds", 30, "steady and retry: slices that each contestant gets in each case")
	slice := flags.Duration("slice", defaultSlice, "steady and retry: how long one slice takes")
	only := flags.String("case", "", "steady and retry: measure only the cases whose name contains `text`, as in \"h2 64\"")
	conns := flags.Int("conns", 500, "idle: connections of each contestant")
	repeat := flags.Int("repeat", 3, "idle, burst and init: how many times each is measured")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := flags.Args()
	for _, name := range wanted {
		if !slices.Contains(measurements, name) {
			return fmt.Errorf("there is no measurement %q: want any of %s", name, strings.Join(measurements, ", "))
		}
	}
	for name, n := range map[string]int{"rounds": *rounds, "conns": *conns, "repeat": *repeat, "slice": int(*slice)} {
		if n <= 0 {
			return fmt.Errorf("-%s must be positive", name)
		}
	}
	if len(wanted) == 0 {
		wanted = measurements
	}
	var cases []steadyCase
	for _, c := range steadyCases() {
		if strings.Contains(squeeze(c.String()), squeeze(*only)) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return fmt.Errorf("-case %q is part of no case: they are named like %q", *only, steadyCases()[0])
	}

	s, err := startServer()
	if err != nil {
		return err
	}
	defer s.stop()
	progress := func(format string, args ...any) { fmt.Fprintf(stderr, "measuring "+format+"\n", args...) }
	r := report{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0)}

	for _, m := range []struct {
		name    string
		race    [lanes]contestant
		results *[]steadyResult
	}{{"steady", poolRace, &r.Steady}, {"retry", retryRace, &r.Retry}} {
		if !slices.Contains(wanted, m.name) {
			continue
		}
		for _, c := range cases {
			progress("%s %s", m.name, squeeze(c.String()))
			result, err := runSteady(s, m.race, c, *slice, *rounds)
			if err != nil {
				return err
			}
			*m.results = append(*m.results, result)
		}
	}
	if slices.Contains(wanted, "idle") {
		for _, proto := range protocols {
			progress("idle %s", proto)
			id := &idle{server: s, protocol: proto, conns: *conns}
			for range *repeat {
				if err := id.round(); err != nil {
					return err
				}
			}
			r.Idle = append(r.Idle, id.result())
		}
	}
	if slices.Contains(wanted, "burst") {
		for _, requests := range burstSizes {
			progress("burst of %d", requests)
			results, err := runBursts(s, requests, *repeat)
			if err != nil {
				return err
			}
			r.Burst = append(r.Burst, results...)
		}
	}
	if slices.Contains(wanted, "init") {
		for _, of := range initShares {
			progress("init with %d MB", of.memoryMB)
			result, err := runInit(s, of.memoryMB, of.share, *repeat)
			if err != nil {
				return err
			}
			r.Init = append(r.Init, result)
		}
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.print(stdout)
}

func runSteady(s *server, race [lanes]contestant, c steadyCase, slice time.Duration, rounds int) (steadyResult, error) {
	st, err := newSteady(s, race, c, slice)
	if err != nil {
		return steadyResult{}, fmt.Errorf("%s: %w", c, err)
	}
	defer st.close()
	for range rounds {
		if err := st.round(); err != nil {
			return steadyResult{}, err
		}
	}
	return st.result(), nil
}

// squeeze makes every run of spaces one.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// print writes the tables.
func (r report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s %s, %d CPUs. Ratios are thaw to http.Transport, unless a table says otherwise; noise is the latter to itself.\n", r.Go, r.System, r.CPUs)
	fmt.Fprintf(w, "Brackets: 95 %% confidence. Pairs: thaw, http.Transport, medians of the rounds.\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	steady := func(what string, results []steadyResult, verdict func(steadyResult) string) {
		fmt.Fprintf(t, "\n%s, a request\tcpu\tnoise\tµs\twall\tnoise\tµs\tallocs\tbytes\t\n", what)
		for _, s := range results {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.steadyCase,
				s.CPU.Ratio, s.CPU.Noise, s.CPU.pair("%.1f", 1e3),
				s.Wall.Ratio, s.Wall.Noise, s.Wall.pair("%.1f", 1e3),
				s.Allocs.pair("%.1f", 1), s.Bytes.pair("%.0f", 1), verdict(s))
		}
	}
	if len(r.Steady) > 0 {
		steady("steady state", r.Steady, steadyResult.verdict)
	}
	if len(r.Retry) > 0 {
		steady("with retries, to the bare pool", r.Retry, steadyResult.retryVerdict)
	}
	if len(r.Idle) > 0 {
		fmt.Fprintf(t, "\nidle connection\tmemory\tnoise\tbytes\t\n")
		for _, i := range r.Idle {
			fmt.Fprintf(t, "%s, %d of them\t%s\t%s\t%s\t%s\n", i.Protocol, i.Conns,
				i.Bytes.Ratio, i.Bytes.Noise, i.Bytes.pair("%.0f", 1), i.verdict())
		}
	}
	if len(r.Burst) > 0 {
		fmt.Fprintf(t, "\ncold burst, HTTP/2\tclient\tdials\tmost\tfailed\tcpu ms\twall ms\t\n")
		for _, b := range r.Burst {
			fmt.Fprintf(t, "%d requests\t%s\t%d\t%d\t%d\t%.1f\t%.1f\t%s\n", b.Requests, b.Contestant, b.Dials,
				b.MaxDials, b.Failed, float64(b.CPU)/1e6, float64(b.Wall)/1e6, b.verdict())
		}
	}
	if len(r.Init) > 0 {
		fmt.Fprintf(t, "\nfirst invocation, HTTP/1.1 over TLS\tof a CPU\twith Init, ms\twithout, ms\tdials\t\n")
		for _, i := range r.Init {
			fmt.Fprintf(t, "%d MB\t%.0f %%\t%.1f\t%.1f\t%d %d\t\n", i.MemoryMB, i.Share*100, float64(i.With)/1e6, float64(i.Without)/1e6, i.DialsWith, i.DialsWithout)
		}
	}
	return t.Flush()
}

// The verdicts name what is above the target, and are empty if nothing is.

func (s steadyResult) verdict() string {
	var above []string
	if s.CPU.Above {
		above = append(above, "cpu")
	}
	if s.Allocs.aboveByHalf() {
		above = append(above, "allocs")
	}
	if len(above) == 0 {
		return ""
	}
	return "above: " + strings.Join(above, ", ")
}

// What the layer of retries may cost over the bare pool.
const (
	retryAllocs = 3
	retryCPU    = 1.03
)

func (s steadyResult) retryVerdict() string {
	var above []string
	if s.CPU.Above && s.CPU.Ratio.Total > retryCPU {
		above = append(above, "cpu")
	}
	if s.Allocs.Thaw > s.Allocs.HTTP+retryAllocs {
		above = append(above, "allocs")
	}
	if len(above) == 0 {
		return ""
	}
	return "above: " + strings.Join(above, ", ")
}

func (i idleResult) verdict() string {
	if i.Bytes.Above {
		return "above"
	}
	return ""
}

func (b burstResult) verdict() string {
	if b.Contestant == thaw.name && (b.Failed > 0 || b.MaxDials > burstLimit(b.Requests)) {
		return fmt.Sprintf("above: want dials <= %d, failed 0", burstLimit(b.Requests))
	}
	return ""
}
