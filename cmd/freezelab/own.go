package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

// own is a run of a user's own function.
type own struct {
	opts     options
	stderr   io.Writer
	proxy    *proxy
	record   *record
	function *lambdatest.Function // nil once its environment has ended
	report   *ownReport
}

// briefFreeze is how long a process is stopped whose clock is moved.
const briefFreeze = 20 * time.Millisecond

// runOwn invokes the function of -bootstrap with each event, frozen before each but the first. An error is one of the lab or
// of the function's init; what fails afterwards is in the report.
func runOwn(ctx context.Context, opts options, stderr io.Writer) (_ *ownReport, err error) {
	o := &own{opts: opts, stderr: stderr, record: newRecord()}
	if o.proxy, err = newProxy(opts.resolve, o.record); err != nil {
		return nil, err
	}
	defer o.proxy.close()
	o.report = &ownReport{
		Environment: environment{GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU()},
		Bootstrap:   opts.bootstrap,
		Freeze:      opts.freeze,
		FakeClock:   opts.fakeClock,
		Fault:       opts.ownFault(),
		Hop:         opts.hop,
	}
	defer func() {
		// The function is stopped even if ctx is what ended the run.
		err = errors.Join(err, o.stop(context.WithoutCancel(ctx)))
	}()
	begin := time.Now()
	p := newProgress(stderr, opts.quiet, opts.invocations())
	defer p.done()
	for i := range opts.invocations() {
		n := i % len(opts.events)
		if i == 0 {
			p.step("event %d, in a new environment", n+1)
		} else {
			p.step("event %d, after a freeze of %v", n+1, opts.freeze)
		}
		inv, err := o.invoke(ctx, i, n)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		p.result(nil, "%s", cmp.Or(firstLine(inv.Error), "ok"))
		o.report.Invocations = append(o.report.Invocations, inv)
	}
	// What the last invocation left is over before its connections are counted.
	if err := o.proxy.settle(ctx); err != nil {
		return nil, err
	}
	o.report.Elapsed = time.Since(begin)
	o.report.count(o.record.finish())
	return o.report, nil
}

// start starts an environment.
func (o *own) start(ctx context.Context) (err error) {
	cfg := lambdatest.Config{
		Path:    o.opts.bootstrap,
		Env:     append(o.proxy.environ(), o.opts.env...),
		Timeout: o.opts.functionTimeout,
	}
	if o.opts.verbose {
		cfg.Stdout, cfg.Stderr = o.stderr, o.stderr
	}
	o.function, err = lambdatest.Start(ctx, cfg)
	return err
}

// stop ends the environment.
func (o *own) stop(ctx context.Context) error {
	if o.function == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return o.function.Stop(ctx)
}

// invoke makes invocation i, with event n, after a freeze if there is something to freeze.
func (o *own) invoke(ctx context.Context, i, n int) (inv ownInvocation, err error) {
	inv = ownInvocation{Number: i + 1, Event: n + 1}
	var pending *lambdatest.Pending
	var began time.Time // the thaw, or when the event was sent
	send := func() error {
		pending, err = o.function.Send(o.opts.events[n])
		return err
	}
	if o.function != nil {
		if began, err = o.freeze(ctx, &inv, send); err != nil {
			ended := o.function.Err()
			if ended == nil {
				return inv, err
			}
			// It ended while it was idle: the next event gets another, as in Lambda.
			inv.Note = "the environment ended: " + ended.Error()
			o.function, inv.Kept, inv.Broken = nil, 0, 0
		}
	}
	if o.function == nil {
		inv.New, inv.begun = true, time.Now()
		if err := o.start(ctx); err != nil {
			if i == 0 || ctx.Err() != nil {
				return inv, err
			}
			inv.Error, inv.Elapsed = err.Error(), time.Since(inv.begun)
			o.record.invoked(inv.begun, time.Now(), firstLine(inv.Error))
			return inv, nil
		}
		began = time.Now()
		if err := send(); err != nil {
			return inv, err
		}
	}
	if !inv.New {
		inv.begun = began
	}
	res, err := pending.Wait(ctx)
	inv.Elapsed = time.Since(began)
	switch {
	case ctx.Err() != nil:
		return inv, err
	case err != nil:
		inv.Error = err.Error()
		<-o.function.Done()
		o.function = nil
	case res.Err != nil:
		inv.Error = res.Err.Error()
		inv.Elapsed = res.Duration
	default:
		inv.Error = badStatus(res.Payload)
		inv.Elapsed = res.Duration
	}
	o.record.invoked(began, began.Add(inv.Elapsed), firstLine(inv.Error))
	return inv, nil
}

// freeze freezes the function, breaks its connections, has send leave the event, and thaws the function. It returns when
// that was.
func (o *own) freeze(ctx context.Context, inv *ownInvocation, send func() error) (thawed time.Time, err error) {
	if err := o.function.Freeze(ctx); err != nil {
		return thawed, err
	}
	from := time.Now()
	if err := o.proxy.settle(ctx); err != nil {
		return thawed, err
	}
	inv.Kept = o.proxy.kept()
	hold := o.opts.freeze
	if o.opts.fakeClock {
		hold = briefFreeze
		if err := o.function.AdvanceClock(o.opts.freeze); err != nil {
			return thawed, err
		}
	}
	inv.Broken = o.proxy.apply(o.opts.ownFault())
	if err := sleep(ctx, time.Until(from.Add(hold))); err != nil {
		return thawed, err
	}
	if err := send(); err != nil {
		return thawed, err
	}
	thawed = time.Now()
	o.record.frozen(from, thawed)
	return thawed, o.function.Thaw()
}

// ownFault is what happens to connections in each freeze.
func (o *options) ownFault() fault {
	if o.hop != nil {
		return o.hop.after(o.freeze)
	}
	return o.fault
}

// invocations is how many there are: each event once, but two at least, or as many as -n says and one before.
func (o *options) invocations() int {
	if o.given["n"] {
		return o.n + 1
	}
	return max(2, len(o.events))
}

// badStatus is what is wrong with an answer that is a response of API Gateway or of a function URL with a status of 500 or
// more.
func badStatus(payload []byte) string {
	var a struct {
		StatusCode int `json:"statusCode"`
	}
	if json.Unmarshal(payload, &a) == nil && a.StatusCode >= 500 {
		return fmt.Sprintf("the function answered with statusCode %d", a.StatusCode)
	}
	return ""
}
