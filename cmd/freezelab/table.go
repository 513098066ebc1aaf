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

// ok reports whether thaw held.
func (r *report) ok() bool { return r.OK }

// print writes the report for people.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	if len(r.Cases) > 0 {
		r.freezeTable(&b)
	}
	if len(r.Bursts) > 0 {
		r.burstTable(&b)
	}
	r.reasons(&b)
	if len(r.Problems) > 0 {
		fmt.Fprintf(&b, "Not carried through, and so without the rest of their invocations:\n  %s\n\n", strings.Join(r.Problems, "\n  "))
	}
	r.verdict(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// The columns. A client's have the widths of its heading, so that blocks line up.
const (
	freezeHead = "invoked kept failed twice dialled   p50   p99   max"
	burstHead  = "failed dialled CPU ms wall ms"
)

// header writes the line of client names over the columns named by head, and the line of the columns.
func (r *report) header(b *strings.Builder, margin, head string) {
	fmt.Fprintf(b, "%-*s", len(margin), "")
	for _, who := range r.clients {
		title := " " + who.title() + " "
		left := (len(head) - len(title)) / 2
		fmt.Fprintf(b, " | %s%s%s", strings.Repeat("-", left), title, strings.Repeat("-", len(head)-len(title)-left))
	}
	fmt.Fprintf(b, "\n%s", margin)
	for range r.clients {
		b.WriteString(" | " + head)
	}
	b.WriteByte('\n')
}

func (r *report) freezeTable(b *strings.Builder) {
	margin := fmt.Sprintf("%-15s%-11s", "", "")
	b.WriteString("What happens to idle connections while the function is frozen. Times in milliseconds.\n\n")
	r.header(b, margin, freezeHead)
	var last fault
	for _, c := range r.Cases {
		if c.Fault != last {
			fmt.Fprintf(b, "%s\n", c.Fault.title())
			last = c.Fault
		}
		fmt.Fprintf(b, "  %-13s%-11s", c.Protocol.title(), c.Kind.title())
		for _, who := range r.clients {
			t := c.Clients[who]
			fmt.Fprintf(b, " | %7d%5d%7d%6d%8d%6s%6s%6s", t.Invocations, t.Kept, t.Failed, t.Twice, t.Dials, ms(t.P50), ms(t.P99), ms(t.Max))
		}
		b.WriteByte('\n')
	}
	b.WriteString(`
invoked  freezes, each with an invocation after it.
kept     those that began with a connection kept open, which the fault, if any, broke. A failure mostly leaves none, and
         the invocation after it dials.
failed   the request ended with an error, or had no answer within ` + r.Settings["timeout"] + `.
twice    the server acted on the invocation's request twice, or a POST was sent again after it had been written into a
         broken connection, where the client cannot know that nobody acted on it.
dialled  connections the server accepted, the one made ahead of the first freeze included.
times    of the request within the function, failed ones included.
`)
	if r.ran(fault.slow) {
		fmt.Fprintf(b, `
thaw has its default settings, and for NAT and black hole TrustIdle %s, VerifyAfter %s and VerifyTimeout %s, so that
a freeze of %s is longer than it trusts a connection.
`, r.Settings["trust-idle"], r.Settings["verify-after"], r.Settings["verify-timeout"], r.Settings["slow-freeze"])
	}
	if r.ran(func(f fault) bool { return f == faultHole }) {
		b.WriteString(`
Left out: GET over HTTP/1.1 and HTTP/1.1+TLS into the black hole. A GET may be replayed, so it goes out on the kept
connection; once its bytes are acknowledged, the hole cannot be told from a server that is slow to answer.
`)
		if t := r.total(clientDefault); t.Invocations > 0 {
			fmt.Fprintf(b, "http.Client hangs in the black hole until its timeout: it is frozen there no more than -hang-n (%s) times a case.\n", r.Settings["hang-n"])
		}
	}
	b.WriteByte('\n')
}

// ran reports whether a case was run whose fault is one of those.
func (r *report) ran(those func(fault) bool) bool {
	return slices.ContainsFunc(r.Cases, func(c caseResult) bool { return those(c.Fault) })
}

func (r *report) burstTable(b *strings.Builder) {
	margin := fmt.Sprintf("%26s", "requests")
	fmt.Fprintf(b, "Requests at once to a cold HTTP/2 host that allows %d concurrent streams a connection.\n\n", streamLimit)
	r.header(b, margin, burstHead)
	for _, x := range r.Bursts {
		fmt.Fprintf(b, "%*d", len(margin), x.Requests)
		for _, who := range r.clients {
			t := x.Clients[who]
			fmt.Fprintf(b, " | %6d%8d%7s%8s", t.Failed, t.Dials, ms(t.CPU), ms(t.Wall))
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nCPU is the client process's, user and system.\n\n")
}

// maxReasons is how many kinds of failure are printed for a client; -json has all.
const maxReasons = 8

// reasons writes how the clients failed.
func (r *report) reasons(b *strings.Builder) {
	for _, who := range r.clients {
		errs := r.total(who).Errors
		for _, x := range r.Bursts {
			for reason, n := range x.Clients[who].Errors {
				errs[reason] += n
			}
		}
		if len(errs) == 0 {
			continue
		}
		fmt.Fprintf(b, "How %s failed:\n", who.title())
		sorted := slices.SortedFunc(maps.Keys(errs), func(x, y string) int {
			return cmp.Or(errs[y]-errs[x], cmp.Compare(x, y))
		})
		for i, reason := range sorted {
			if i == maxReasons {
				fmt.Fprintf(b, "         and in %d other ways (-json)\n", len(sorted)-i)
				break
			}
			fmt.Fprintf(b, "%7d  %s\n", errs[reason], reason)
		}
		b.WriteByte('\n')
	}
}

// verdict writes what it comes to.
func (r *report) verdict(b *strings.Builder) {
	e := r.Environment
	fmt.Fprintf(b, "%s, %s/%s, %d CPUs, %.1fs\n", e.Go, e.GOOS, e.GOARCH, e.CPUs, r.Elapsed.Seconds())
	for _, who := range r.clients {
		fmt.Fprintf(b, "%-11s", who.title())
		var parts []string
		if t := r.total(who); t.Invocations > 0 {
			parts = append(parts, fmt.Sprintf("%d of %d invocations failed (%d kept a connection), %d sent twice, the slowest took %s ms", t.Failed, t.Invocations, t.Kept, t.Twice, ms(t.Max)))
		}
		var failed, requests int
		for _, x := range r.Bursts {
			failed += x.Clients[who].Failed
			requests += x.Requests
		}
		if requests > 0 {
			parts = append(parts, fmt.Sprintf("%d of %d requests failed in bursts", failed, requests))
		}
		fmt.Fprintf(b, " %s\n", strings.Join(parts, "; "))
	}
}

// ms is d in milliseconds, with three digits.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
