package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// ownReport is what came out of a run of a user's function. Its JSON form is what -json prints; durations are in
// nanoseconds.
type ownReport struct {
	OK          bool            `json:"ok"` // no invocation failed
	Environment environment     `json:"environment"`
	Bootstrap   string          `json:"bootstrap"`
	Freeze      time.Duration   `json:"freeze_ns"`
	FakeClock   bool            `json:"fake_clock"`
	Hop         *hop            `json:"hop,omitempty"`
	Fault       fault           `json:"fault"` // what happened to connections in each freeze
	Elapsed     time.Duration   `json:"elapsed_ns"`
	Invocations []ownInvocation `json:"invocations"`
	Failed      int             `json:"failed"`
	Dials       int             `json:"dials"`
	Requests    int             `json:"requests"` // over plain HTTP; encrypted ones cannot be counted
	Bursts      int             `json:"bursts"`   // of bytes to downstreams over CONNECT
	Targets     []target        `json:"targets"`
	Saved       saved           `json:"saved"`

	record *record
}

// ownInvocation is one invocation.
type ownInvocation struct {
	Number   int           `json:"number"`
	Event    int           `json:"event"`           // of the file, the first is 1
	New      bool          `json:"new_environment"` // nothing was frozen before it
	Note     string        `json:"note,omitempty"`
	Error    string        `json:"error,omitempty"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	Kept     int           `json:"kept"`   // connections that the freeze before it found open
	Broken   int           `json:"broken"` // of them those that were broken
	Dials    int           `json:"dials"`
	Requests int           `json:"requests"`
	Bursts   int           `json:"bursts"`
	Lost     int           `json:"lost"`      // of the latter two, those that were written into a broken connection
	Out      int64         `json:"bytes_out"` // over CONNECT, after the handshake
	In       int64         `json:"bytes_in"`

	begun time.Time // what happens from here to the next one's belongs to it: the thaw, or the start of its environment
}

// target is one place that the function talked to.
type target struct {
	Name      string        `json:"name"`
	Dials     int           `json:"dials"`
	Failed    int           `json:"dials_failed"`
	SetUp     time.Duration `json:"set_up_ns"` // median, from the accepted connection to the first request
	Handshake int64         `json:"handshake_bytes"`
}

// saved is what the run says about what thaw would have saved.
type saved struct {
	Failures int           `json:"failures"` // invocations that failed after a freeze that broke connections
	Dials    int           `json:"dials"`    // that were made although a connection could have been used again
	Time     time.Duration `json:"time_ns"`  // what these took to set up
	Bytes    int64         `json:"bytes"`    // and the bytes of their handshakes
}

// count fills in what the record says.
func (r *ownReport) count(rec *record) {
	r.record = rec
	r.Dials = len(rec.lanes)
	of := func(t time.Time) *ownInvocation {
		at, exact := slices.BinarySearchFunc(r.Invocations, t, func(i ownInvocation, t time.Time) int { return i.begun.Compare(t) })
		if !exact {
			at--
		}
		return &r.Invocations[max(0, at)]
	}
	byTarget := make(map[string][]*lane)
	for _, l := range rec.lanes {
		inv := of(l.opened)
		inv.Dials++
		byTarget[l.target] = append(byTarget[l.target], l)
		for _, u := range l.uses {
			inv := of(u.from)
			inv.Requests += u.requests
			inv.Bursts += 1 - u.requests
			inv.Out += u.out
			inv.In += u.in
			if u.lost {
				inv.Lost++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byTarget)) {
		lanes := byTarget[name]
		times, bytes := setUp(lanes)
		t := target{Name: cmp.Or(name, "(no request)"), Dials: len(lanes), Failed: len(lanes) - len(times), SetUp: quantile(times, 0.5)}
		if len(bytes) > 0 {
			t.Handshake = bytes[(len(bytes)-1)/2]
		}
		r.Targets = append(r.Targets, t)
	}
	for _, inv := range r.Invocations {
		r.Requests += inv.Requests
		r.Bursts += inv.Bursts
		if inv.Error == "" {
			continue
		}
		r.Failed++
		if inv.Broken > 0 {
			r.Saved.Failures++
		}
	}
	r.OK = r.Failed == 0
	for _, l := range spared(rec, r.Fault != faultNone) {
		r.Saved.Dials++
		r.Saved.Time += l.ready.Sub(l.opened)
		r.Saved.Bytes += l.shaking
	}
}

// print writes the report for people.
func (r *ownReport) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n\n", r.Bootstrap, r.conditions())
	b.WriteString("invocation event   ms kept broken dialled requests bursts lost    out     in\n")
	for _, i := range r.Invocations {
		kept, broken := "-", "-" // nothing was frozen
		if !i.New {
			kept, broken = fmt.Sprint(i.Kept), fmt.Sprint(i.Broken)
		}
		fmt.Fprintf(&b, "%10d%6d%5s%5s%7s%8d%9d%7d%5d%7s%7s  %s\n", i.Number, i.Event, ms(i.Elapsed), kept, broken, i.Dials, i.Requests, i.Bursts, i.Lost,
			size(i.Out), size(i.In), i.outcome())
	}
	b.WriteString(`
ms        from the thaw to the answer.
kept      connections that the freeze before found open, and broken those of them that it broke.
dialled   connections that the function made.
requests  over plain HTTP, where they can be seen.
bursts    of bytes to a downstream over CONNECT, which is not decrypted: over HTTP/1.1 a burst is a request, mostly; over HTTP/2
          it is one or several, or what the protocol itself has to say.
lost      requests and bursts that were written into a connection after it was broken.
out, in   bytes over CONNECT, handshakes not included.

`)
	fmt.Fprintf(&b, "%-44s dialled  set up in  handshake\n", "downstream")
	for _, t := range r.Targets {
		shake := "-"
		if t.Handshake > 0 {
			shake = size(t.Handshake)
		}
		fmt.Fprintf(&b, "%-44s %7d%8s ms%11s", t.Name, t.Dials, ms(t.SetUp), shake)
		if t.Failed > 0 {
			fmt.Fprintf(&b, "  %d never carried a request", t.Failed)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\n%s\n", strings.Join(r.verdict(), "\n"))
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *ownReport) ok() bool { return r.OK }

// printJSON writes the report as one JSON object.
func (r *ownReport) printJSON(w io.Writer) error { return printJSON(w, r) }

// outcome is what became of the invocation, on one line.
func (i ownInvocation) outcome() string {
	what := "ok"
	if i.Error != "" {
		what = "failed: " + strings.TrimPrefix(firstLine(i.Error), "lambdatest: ")
	}
	if i.Note != "" {
		what += " (" + firstLine(i.Note) + ")"
	}
	return what
}

// conditions is what the function went through.
func (r *ownReport) conditions() string {
	s := "frozen for " + r.Freeze.String()
	if r.FakeClock {
		s += " by its own clocks, which were moved"
	}
	switch {
	case r.Hop == nil:
		s += ". " + r.Fault.title() + "."
	case r.Fault == faultNone:
		s += fmt.Sprintf(". Behind %s, with an idle limit of %v: nothing happens to connections.", r.Hop.Title, r.Hop.Limit)
	default:
		s += fmt.Sprintf(". Behind %s, with an idle limit of %v. %s.", r.Hop.Title, r.Hop.Limit, r.Fault.title())
	}
	return s
}

// verdict is what it comes to, in lines.
func (r *ownReport) verdict() []string {
	n := len(r.Invocations)
	lines := []string{fmt.Sprintf("%d of %d invocations failed; %d connections dialled for them, for %d requests in the clear and %d bursts of encrypted bytes.",
		r.Failed, n, r.Dials, r.Requests, r.Bursts)}
	s := r.Saved
	if s.Failures > 0 {
		lines = append(lines, fmt.Sprintf("%d of the failures came after a freeze that had broken connections. thaw looks at a connection, or asks the peer, before it uses it, and fails none of those whose connection is all that was wrong.", s.Failures))
	}
	if s.Dials > 0 {
		lines = append(lines, fmt.Sprintf("%d of the dials were made while a sound connection to the same place lay unused, or just after the function had closed one. A pool outside the handler spares them: %s ms and %s of handshakes here, as measured from the accepted connection to its first request.",
			s.Dials, ms(s.Time), size(s.Bytes)))
	}
	if s.Failures == 0 && s.Dials == 0 {
		lines = append(lines, "There is nothing in this run that thaw would have saved.")
	}
	return lines
}

// size is a number of bytes with three digits.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 99_950:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 999_500:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
}

// firstLine is s up to its first line break.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
