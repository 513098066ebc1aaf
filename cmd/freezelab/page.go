package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"strings"
)

// page is what -html writes.
type page struct {
	Title   string
	Lead    string
	Totals  []total
	Verdict []string
	Plots   []plot
	Tables  []grid
	Groups  []group
	Foot    string
}

// total is how one client fared in all.
type total struct {
	Name    string
	Figure  string
	What    string
	Failing bool
}

// grid is a table.
type grid struct {
	Title   string
	Head    []string
	Rows    []row
	Remarks []string
}

// IsNumber reports whether column i holds numbers.
func (g grid) IsNumber(i int) bool { return len(g.Rows) > 0 && g.Rows[0].Cells[i].Number }

type row struct{ Cells []cell }

// cell is a cell of a table. A number is set to the right.
type cell struct {
	Text    string
	Failing bool
	Number  bool
}

// group is the timelines of one case.
type group struct {
	Title     string
	Open      bool // shown at once
	Timelines []timeline
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// writePage writes p to a file. Everything is in it: style, pictures, no script.
func writePage(name string, p page) error {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// creatable says before the lab runs whether the page can be written afterwards. It leaves an existing file alone.
func creatable(name string) error {
	if name == "" {
		return nil
	}
	info, err := os.Lstat(name)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil // a link, a pipe: trying would change something
	}
	f, openErr := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if openErr != nil {
		return openErr
	}
	f.Close()
	if os.IsNotExist(err) {
		return os.Remove(name)
	}
	return nil
}

func text(s string) cell { return cell{Text: s} }

func number(s string) cell { return cell{Text: s, Number: true} }

// count is a number of what should not be.
func count(n int) cell { return cell{Text: fmt.Sprint(n), Number: true, Failing: n > 0} }

// plural is n of what.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// page is the report as a page.
func (r *report) page() page {
	e := r.Environment
	p := page{
		Title: "What a freeze does to connections",
		Lead:  "A Lambda function is frozen between invocations, and its idle connections are broken meanwhile: with http.Client as Go makes it, and with thaw.",
		Foot:  fmt.Sprintf("freezelab, %s, %s/%s, %d CPUs, %.1f s", e.Go, e.GOOS, e.GOARCH, e.CPUs, r.Elapsed.Seconds()),
	}
	for _, who := range r.clients {
		if t := r.total(who); t.Invocations > 0 {
			p.Totals = append(p.Totals, total{
				Name: who.title(), Figure: fmt.Sprintf("%d of %d", t.Failed, t.Invocations), Failing: t.Failed+t.Twice > 0,
				What: fmt.Sprintf("invocations failed, %d were sent twice, %d connections were dialled", t.Twice, t.Dials),
			})
		}
	}
	for _, problem := range r.Problems {
		p.Verdict = append(p.Verdict, "Not carried through: "+problem)
	}
	p.Tables = append(p.Tables, r.freezeGrid()...)
	p.Tables = append(p.Tables, r.burstGrid()...)
	for _, f := range faults {
		var all []caseResult
		for _, c := range r.Cases {
			if c.Fault == f {
				all = append(all, c)
			}
		}
		if len(all) > 0 {
			p.Plots = append(p.Plots, r.plot(f, all))
		}
	}
	for i, c := range r.Cases {
		g := group{Title: fmt.Sprintf("%s, %s, %s", c.name(), c.Protocol.title(), c.Kind.title()), Open: i == 0}
		for _, who := range r.clients {
			if t := c.Clients[who]; t.record != nil {
				g.Timelines = append(g.Timelines, newTimeline(fmt.Sprintf("t%d-%s", i, who), who.title(), t.record))
			}
		}
		p.Groups = append(p.Groups, g)
	}
	return p
}

// freezeGrid is the table of the freezes.
func (r *report) freezeGrid() []grid {
	if len(r.Cases) == 0 {
		return nil
	}
	g := grid{Title: "Freezes", Head: []string{"while it is frozen", "protocol", "request"}, Remarks: []string{
		"Times are of the request, in milliseconds, failed ones included. Dialled are connections that the server accepted, the one made ahead of the first freeze included.",
	}}
	for _, who := range r.clients {
		g.Head = append(g.Head, who.title()+": failed", "dialled", "p50", "max")
	}
	for _, c := range r.Cases {
		cells := []cell{text(string(c.Fault)), text(c.Protocol.title()), text(c.Kind.title())}
		for _, who := range r.clients {
			t := c.Clients[who]
			cells = append(cells, cell{Text: fmt.Sprintf("%d of %d", t.Failed, t.Invocations), Number: true, Failing: t.Failed > 0},
				number(fmt.Sprint(t.Dials)), number(ms(t.P50)), number(ms(t.Max)))
		}
		g.Rows = append(g.Rows, row{cells})
	}
	return []grid{g}
}

// burstGrid is the table of the bursts.
func (r *report) burstGrid() []grid {
	if len(r.Bursts) == 0 {
		return nil
	}
	g := grid{Title: "Bursts to a cold HTTP/2 host", Head: []string{"requests"}}
	for _, who := range r.clients {
		g.Head = append(g.Head, who.title()+": failed", "dialled", "CPU ms", "wall ms")
	}
	for _, b := range r.Bursts {
		cells := []cell{number(fmt.Sprint(b.Requests))}
		for _, who := range r.clients {
			t := b.Clients[who]
			cells = append(cells, count(t.Failed), number(fmt.Sprint(t.Dials)), number(ms(t.CPU)), number(ms(t.Wall)))
		}
		g.Rows = append(g.Rows, row{cells})
	}
	return []grid{g}
}

// plot is the latency of the invocations of all cases of a fault.
func (r *report) plot(f fault, cases []caseResult) plot {
	var series []series
	for _, who := range r.clients {
		var points []point
		for _, c := range cases {
			t := c.Clients[who]
			if t.record == nil {
				continue
			}
			for i, w := range t.record.invocations {
				points = append(points, point{took: w.to.Sub(w.from), failed: w.failed,
					title: fmt.Sprintf("%s, %s, invocation %d", who.title(), c.name(), i+1), why: w.why})
			}
		}
		series = append(series, newSeries(who.title(), who == clientThaw, points))
	}
	return newPlot("plot-"+string(f), f.title(), series)
}

// page is the report as a page.
func (r *ownReport) page() page {
	e := r.Environment
	conditions := r.conditions()
	p := page{
		Title:   "What a freeze does to this function",
		Lead:    r.Bootstrap + ", " + conditions,
		Verdict: r.verdict(),
		Foot:    fmt.Sprintf("freezelab, %s/%s, %d CPUs, %.1f s", e.GOOS, e.GOARCH, e.CPUs, r.Elapsed.Seconds()),
		Totals: []total{
			{Name: "failed", Figure: fmt.Sprintf("%d of %d", r.Failed, len(r.Invocations)), What: "invocations", Failing: r.Failed > 0},
			{Name: "dialled", Figure: fmt.Sprint(r.Dials), What: "connections, for " + plural(r.Requests, "request") + " in the clear and " + plural(r.Bursts, "encrypted burst")},
		},
	}
	invocations := grid{
		Title: "Invocations",
		Head:  []string{"number", "event", "ms", "kept", "broken", "dialled", "requests", "bursts", "lost", "out", "in", "outcome"},
		Remarks: []string{
			"Kept are the connections that the freeze before found open, and broken those of them that it broke. Requests can be seen over plain HTTP; over CONNECT there are bursts of bytes, which over HTTP/1.1 are a request each, mostly. Lost are those that were written into a connection after it was broken.",
		},
	}
	var points []point
	for _, i := range r.Invocations {
		invocations.Rows = append(invocations.Rows, row{[]cell{
			number(fmt.Sprint(i.Number)), number(fmt.Sprint(i.Event)), number(ms(i.Elapsed)), number(fmt.Sprint(i.Kept)), number(fmt.Sprint(i.Broken)),
			number(fmt.Sprint(i.Dials)), number(fmt.Sprint(i.Requests)), number(fmt.Sprint(i.Bursts)), count(i.Lost), number(size(i.Out)), number(size(i.In)),
			{Text: i.outcome(), Failing: i.Error != ""},
		}})
		points = append(points, point{took: i.Elapsed, failed: i.Error != "", title: fmt.Sprintf("invocation %d", i.Number), why: firstLine(i.Error)})
	}
	downstreams := grid{Title: "Downstreams", Head: []string{"to", "dialled", "of them useless", "set up in ms", "handshake"}}
	for _, t := range r.Targets {
		downstreams.Rows = append(downstreams.Rows, row{[]cell{text(t.Name), number(fmt.Sprint(t.Dials)), count(t.Failed), number(ms(t.SetUp)), number(size(t.Handshake))}})
	}
	p.Tables = []grid{invocations, downstreams}
	p.Plots = []plot{newPlot("plot", strings.TrimSuffix(r.Fault.title(), "."), []series{newSeries("invocation", true, points)})}
	p.Groups = []group{{Title: "Connections", Open: true, Timelines: []timeline{newTimeline("t", "", r.record)}}}
	return p
}
