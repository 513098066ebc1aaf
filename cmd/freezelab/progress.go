package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress says on w what the lab is doing: one line that is overwritten if w is a terminal, else a line a step.
type progress struct {
	w        io.Writer
	terminal bool
	total    int
	at       int
	line     string
	since    time.Time
}

func newProgress(w io.Writer, quiet bool, total int) *progress {
	p := &progress{w: w, total: total}
	if quiet {
		p.w = io.Discard
	} else if f, ok := w.(*os.File); ok {
		s, err := f.Stat()
		p.terminal = err == nil && s.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// eraseLine is what erases a terminal's line and returns to its beginning.
const eraseLine = "\r\x1b[K"

// step begins a step.
func (p *progress) step(format string, args ...any) {
	p.at++
	p.since = time.Now()
	p.line = fmt.Sprintf("[%*d/%d] %s", len(fmt.Sprint(p.total)), p.at, p.total, fmt.Sprintf(format, args...))
	if p.terminal {
		fmt.Fprint(p.w, eraseLine, p.line)
	}
}

// result ends it. An error is for the report; here it is only mentioned.
func (p *progress) result(err error, format string, args ...any) {
	if p.terminal {
		return
	}
	aborted := ""
	if err != nil {
		aborted = ", aborted"
	}
	fmt.Fprintf(p.w, "%s: %s%s, %.1fs\n", p.line, fmt.Sprintf(format, args...), aborted, time.Since(p.since).Seconds())
}

// done leaves the terminal as it was.
func (p *progress) done() {
	if p.terminal {
		fmt.Fprint(p.w, eraseLine)
	}
}
