package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

// experiment is one client in one case: a function, and the server it calls.
type experiment struct {
	lab      *lab
	c        freezeCase
	client   clientName
	function *lambdatest.Function
	server   *downstream
	record   *record // or nil
}

// runCase freezes a function with the client who n times, with the fault of c each time, and counts. An error is one of
// the function or of the lab, not of a request after a freeze; the tally says how far things went.
func (l *lab) runCase(ctx context.Context, c freezeCase, who clientName, n int) (_ *tally, err error) {
	t := new(tally)
	var r *record
	if l.opts.html != "" {
		r = newRecord()
	}
	d, err := newDownstream(c.Protocol, l.authority, r)
	if err != nil {
		return t, err
	}
	defer d.close()
	s := childSettings{clientSettings: l.caseSettings(c, who), URL: d.url()}
	f, err := lambdatest.Start(ctx, lambdatest.Config{
		Path:         l.executable,
		Env:          []string{s.env()},
		FunctionName: "freezelab",
		Timeout:      l.opts.timeout + 10*time.Second, // beyond the client's own
	})
	if err != nil {
		return t, err
	}
	defer func() {
		// The function is stopped even if ctx is what ended the experiment.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, f.Stop(stop))
	}()
	e := &experiment{lab: l, c: c, client: who, function: f, server: d, record: r}
	// At the end of the case, for what arrived late.
	defer func() {
		for i := range n {
			if d.ledger.count(strconv.Itoa(i)) > 1 {
				t.Twice++
			}
		}
		t.Dials, t.record = d.accepted(), r.finish()
		t.finish()
	}()
	if err := e.warmUp(ctx); err != nil {
		return t, err
	}
	for i := range n {
		o, kept, err := e.cycle(ctx, event{ID: strconv.Itoa(i), Kind: c.Kind})
		if err != nil {
			return t, err
		}
		t.add(o, kept)
	}
	return t, nil
}

// warmUp makes the connection that the first freeze finds. It is not counted; the connection is.
func (e *experiment) warmUp(ctx context.Context) error {
	r, err := e.function.Invoke(ctx, encode(event{ID: "warm-up", Kind: kindGet}))
	if err != nil {
		return err
	}
	o, err := e.outcome(r)
	if err == nil && o.Error != "" {
		err = fmt.Errorf("the request ahead of the first freeze failed: %s", o.Error)
	}
	return err
}

// cycle freezes the function, breaks its connections, and makes the invocation ev that finds them broken. Kept is whether
// there was one to break: there is none after a failure.
func (e *experiment) cycle(ctx context.Context, ev event) (o outcome, kept bool, err error) {
	hold := e.lab.opts.freeze
	if e.c.Fault.slow() {
		hold = e.lab.opts.slowFreeze
	}
	if err := e.function.Freeze(ctx); err != nil {
		return o, false, err
	}
	from := time.Now()
	if err := e.server.settle(ctx); err != nil {
		return o, false, err
	}
	kept = e.server.kept() > 0
	if err := e.server.apply(ctx, e.c.Fault); err != nil {
		return o, kept, err
	}
	if err := sleep(ctx, time.Until(from.Add(hold))); err != nil {
		return o, kept, err
	}
	p, err := e.function.Send(encode(ev))
	if err != nil {
		return o, kept, err
	}
	thawed := time.Now()
	e.record.frozen(from, thawed)
	if err := e.function.Thaw(); err != nil {
		return o, kept, err
	}
	r, err := p.Wait(ctx)
	if err != nil {
		return o, kept, err
	}
	if o, err = e.outcome(r); err == nil {
		e.record.invoked(thawed, thawed.Add(o.Elapsed), o.Error)
	}
	return o, kept, err
}

// outcome reads the function's answer, and checks that the request was what the case says.
func (e *experiment) outcome(r *lambdatest.Result) (outcome, error) {
	if r.Err != nil {
		return outcome{}, fmt.Errorf("the function failed: %w", r.Err)
	}
	var o outcome
	if err := json.Unmarshal(r.Payload, &o); err != nil {
		return outcome{}, fmt.Errorf("the function answered %q: %w", r.Payload, err)
	}
	if want := e.c.Protocol.proto(); o.Error == "" && o.Proto != want {
		return outcome{}, fmt.Errorf("the request was made over %s, not %s", o.Proto, want)
	}
	return o, nil
}

func encode(ev event) []byte {
	b, err := json.Marshal(ev)
	if err != nil {
		panic(err) // two strings always encode
	}
	return b
}
