package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/thawhttp/thaw/internal/loopbackca"
)

// lab runs the cases that the options choose.
type lab struct {
	opts       options
	authority  *loopbackca.Authority
	executable string    // this program
	stderr     io.Writer // for progress
}

func newLab(opts options, stderr io.Writer) (*lab, error) {
	a, err := loopbackca.New("freezelab")
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &lab{opts: opts, authority: a, executable: exe, stderr: stderr}, nil
}

// clientSettings are those of who where it need not verify connections after a freeze of milliseconds: the pool's are
// its defaults.
func (l *lab) clientSettings(who clientName) clientSettings {
	return clientSettings{Client: who, Root: l.authority.PEM, Timeout: l.opts.timeout}
}

// caseSettings are those of who in c.
func (l *lab) caseSettings(c freezeCase, who clientName) clientSettings {
	s := l.clientSettings(who)
	if c.Fault.slow() {
		s.TrustIdle, s.VerifyAfter, s.VerifyTimeout = l.opts.trustIdle, l.opts.verifyAfter, l.opts.verifyTimeout
	}
	return s
}

// hangs reports whether every request of who in c waits for its timeout.
func hangs(c freezeCase, who clientName) bool {
	return c.Fault == faultHole && who == clientDefault
}

// cycles is how often who is frozen in c.
func (l *lab) cycles(c freezeCase, who clientName) int {
	switch {
	case hangs(c, who):
		return min(l.opts.slowN, l.opts.hangN)
	case c.Fault.slow():
		return l.opts.slowN
	default:
		return l.opts.n
	}
}

// run runs everything and returns what came out. Only the end of ctx stops it: a case that cannot be carried through is
// a problem in the report.
func (l *lab) run(ctx context.Context) (*report, error) {
	start := time.Now()
	cases, bursts := selectCases(l.opts.cases, l.opts.protocols, l.opts.bursts)
	rep := &report{
		Environment: environment{GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU()},
		Settings:    l.opts.settings(),
		LeftOut:     leftOut(),
		Cases:       []caseResult{}, // in JSON an empty list, not null
		Bursts:      []burstResult{},
		clients:     l.opts.clients,
	}
	p := newProgress(l.stderr, l.opts.quiet, len(l.opts.clients)*(len(cases)+len(bursts)))
	defer p.done()
	var waited map[freezeCase]attempt
	for _, c := range cases {
		r := caseResult{Name: c.name(), freezeCase: c, Clients: make(map[clientName]*tally)}
		for _, who := range l.opts.clients {
			n := l.cycles(c, who)
			p.step("%-18s %-11s %d freezes", c.name(), who.title(), n)
			var a attempt
			if hangs(c, who) {
				if waited == nil {
					waited = l.runHanging(ctx, cases)
				}
				a = waited[c]
			} else {
				a.tally, a.err = l.runCase(ctx, c, who, n)
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			p.result(a.err, "%d failed", a.tally.Failed)
			rep.problem(c.name(), who, a.err)
			r.Clients[who] = a.tally
		}
		rep.Cases = append(rep.Cases, r)
	}
	for _, n := range bursts {
		r := burstResult{Requests: n, Clients: make(map[clientName]*burstTally)}
		for _, who := range l.opts.clients {
			p.step("%-18s %-11s %d requests", burstName(n), who.title(), n)
			t, err := l.runBurst(ctx, who, n)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			p.result(err, "%d failed, %d dials", t.Failed, t.Dials)
			rep.problem(burstName(n), who, err)
			r.Clients[who] = t
		}
		rep.Bursts = append(rep.Bursts, r)
	}
	rep.Elapsed = time.Since(start)
	rep.OK = len(rep.Problems) == 0 && rep.thawHeld()
	return rep, nil
}

// attempt is what became of a case of one client.
type attempt struct {
	tally *tally
	err   error
}

// runHanging runs those of the cases in which http.Client hangs, all at once: they wait and hardly use the CPU.
func (l *lab) runHanging(ctx context.Context, cases []freezeCase) map[freezeCase]attempt {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		done    = make(map[freezeCase]attempt)
	)
	for _, c := range cases {
		if !hangs(c, clientDefault) {
			continue
		}
		running.Go(func() {
			t, err := l.runCase(ctx, c, clientDefault, l.cycles(c, clientDefault))
			mu.Lock()
			defer mu.Unlock()
			done[c] = attempt{t, err}
		})
	}
	running.Wait()
	return done
}

// settings are the options that bear on the figures, for the report.
func (o *options) settings() map[string]string {
	return map[string]string{
		"n":              fmt.Sprint(o.n),
		"slow-n":         fmt.Sprint(o.slowN),
		"hang-n":         fmt.Sprint(o.hangN),
		"timeout":        o.timeout.String(),
		"burst-timeout":  o.burstTimeout.String(),
		"freeze":         o.freeze.String(),
		"slow-freeze":    o.slowFreeze.String(),
		"trust-idle":     o.trustIdle.String(),
		"verify-after":   o.verifyAfter.String(),
		"verify-timeout": o.verifyTimeout.String(),
	}
}
