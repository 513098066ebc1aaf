package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain makes the test binary the function, as the program itself is, and the function of a user.
func TestMain(m *testing.M) {
	if runChild() || runOwnChild() {
		return
	}
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // of the children; a second each
	}
	goleak.VerifyTestMain(m)
}

// runJSON runs the lab with -json and returns the report.
func runJSON(t *testing.T, args string) *report {
	t.Helper()
	if unsupported != "" {
		t.Skip(unsupported)
	}
	var out, progress bytes.Buffer
	t.Logf("freezelab %s", args)
	status := run(t.Context(), append(strings.Fields(args), "-json"), &out, &progress)
	rep := new(report)
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(rep); err != nil {
		t.Fatalf("status %d, %v\n%s", status, err, &progress)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("there is more than one JSON value: %v", err)
	}
	if len(rep.Problems) > 0 {
		t.Fatalf("problems: %s", strings.Join(rep.Problems, "\n"))
	}
	if want := map[bool]int{true: exitOK, false: exitFailed}[rep.OK]; status != want {
		t.Errorf("status %d with ok=%v, want %d", status, rep.OK, want)
	}
	steps := 0
	for _, c := range rep.Cases {
		steps += len(c.Clients)
		for who, tl := range c.Clients {
			checkTally(t, c.Name+" with "+who.title(), tl)
		}
	}
	for _, b := range rep.Bursts {
		steps += len(b.Clients)
	}
	if n := strings.Count(progress.String(), "\n"); n != steps {
		t.Errorf("%d lines of progress, want %d:\n%s", n, steps, &progress)
	}
	return rep
}

// checkTally checks what holds whatever the client does.
func checkTally(t *testing.T, name string, tl *tally) {
	t.Helper()
	sum := 0
	for _, n := range tl.Errors {
		sum += n
	}
	if sum != tl.Failed {
		t.Errorf("%s: %d failed, but %d errors", name, tl.Failed, sum)
	}
	if tl.Failed > tl.Invocations || tl.Kept > tl.Invocations || tl.Twice > tl.Invocations {
		t.Errorf("%s: %d failed and %d sent twice of %d", name, tl.Failed, tl.Twice, tl.Invocations)
	}
	if tl.Dials < 1 {
		t.Errorf("%s: %d dials", name, tl.Dials)
	}
	if tl.P50 <= 0 || tl.P50 > tl.P99 || tl.P99 > tl.Max {
		t.Errorf("%s: p50 %v, p99 %v, max %v", name, tl.P50, tl.P99, tl.Max)
	}
}

func TestDefaultClientFailsEveryPOSTOnAForgottenFlow(t *testing.T) {
	rep := runJSON(t, "-clients default -cases ^nat/.*/(post|stream)$ -slow-n 4")
	if len(rep.Cases) != 6 {
		t.Errorf("%d cases, want 6", len(rep.Cases))
	}
	for _, c := range rep.Cases {
		// A failure leaves no connection, so every other freeze finds one.
		tl := c.Clients[clientDefault]
		if tl.Invocations != 4 || tl.Kept != 2 || tl.Failed != 2 || tl.Dials != 3 {
			t.Errorf("%s: %+v; want 4 invocations, 2 with a kept connection, which fail, and 3 dials", c.Name, *tl)
		}
	}
	if !rep.OK {
		t.Error("not ok, although thaw did not take part")
	}
}

func TestDefaultClientHangsInTheBlackHoleUntilItsTimeout(t *testing.T) {
	const timeout = 500 * time.Millisecond // enough for the requests that go ahead of the first freeze
	rep := runJSON(t, "-clients default -cases ^hole/h[12]/ -slow-n 5 -hang-n 2 -timeout "+timeout.String())
	if len(rep.Cases) != 5 { // three over HTTP/2, and two that can be decided over HTTP/1.1
		t.Errorf("%d cases, want 5", len(rep.Cases))
	}
	for _, c := range rep.Cases {
		tl := c.Clients[clientDefault]
		if tl.Invocations != 2 || tl.Failed < 1 || tl.Failed > tl.Kept || tl.Twice != 0 || tl.Max < timeout {
			t.Errorf("%s: %+v; want 2 invocations, the first or both timed out", c.Name, *tl)
		}
	}
}

func TestNothingBrokenNothingFails(t *testing.T) {
	rep := runJSON(t, "-cases ^none/(h1/post|h1tls/stream|h2/get)$ -n 3")
	for _, c := range rep.Cases {
		for who, tl := range c.Clients {
			if tl.Invocations != 3 || tl.Kept != 3 || tl.Failed != 0 || tl.Twice != 0 || tl.Dials != 1 {
				t.Errorf("%s with %s: %+v; want 3 invocations over one connection", c.Name, who.title(), *tl)
			}
		}
	}
	if !rep.OK {
		t.Error("not ok, although nothing failed")
	}
}

func TestFaultsLeaveTheLabConsistent(t *testing.T) {
	rep := runJSON(t, "-clients default -cases ^(fin/h2|rst/h1|restart/h1tls)/post$ -n 4")
	for _, c := range rep.Cases {
		tl := c.Clients[clientDefault]
		if tl.Invocations != 4 || tl.Twice != 0 {
			t.Errorf("%s: %d invocations, %d sent twice; want 4 and none", c.Name, tl.Invocations, tl.Twice)
		}
		// Every connection is broken by the freeze that comes, and a failed request dials none.
		if tl.Dials != 1+4-int64(tl.Failed) || tl.Kept < 2 {
			t.Errorf("%s: %+v; want a dial for the warm-up and for each request that got through", c.Name, *tl)
		}
	}
}

func TestBurstIsMeasuredInAProcessOfItsOwn(t *testing.T) {
	rep := runJSON(t, "-cases burst -burst 10,20")
	if len(rep.Bursts) != 2 || len(rep.Cases) != 0 {
		t.Fatalf("%d bursts and %d cases, want 2 and 0", len(rep.Bursts), len(rep.Cases))
	}
	for i, n := range []int{10, 20} {
		b := rep.Bursts[i]
		for _, who := range clientNames {
			tl := b.Clients[who]
			if b.Requests != n || tl.Failed != 0 || tl.Dials < 1 || tl.CPU <= 0 || tl.Wall <= 0 {
				t.Errorf("burst of %d with %s: %+v", b.Requests, who.title(), *tl)
			}
		}
	}
}

func TestStatusSaysThatThawFailed(t *testing.T) {
	rep := runJSON(t, "-clients thaw -cases burst -burst 5 -burst-timeout 1ns")
	if tl := rep.Bursts[0].Clients[clientThaw]; rep.OK || tl.Failed != 5 {
		t.Errorf("ok=%v with %d of 5 failed, want 5 and not ok", rep.OK, tl.Failed)
	}
}

func TestCaseThatCannotBeCarriedThroughIsReported(t *testing.T) {
	if unsupported != "" {
		t.Skip(unsupported)
	}
	var out bytes.Buffer
	// No warm-up request can succeed.
	status := run(t.Context(), strings.Fields("-clients thaw -cases ^none/h1/get$ -n 1 -timeout 1ns"), &out, io.Discard)
	if status != exitFailed {
		t.Errorf("status %d, want %d", status, exitFailed)
	}
	for _, want := range []string{"Not carried through", "none/h1/get with thaw: the request ahead of the first freeze failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &out)
		}
	}
}

func TestInterruptedRunLeavesNoProcess(t *testing.T) {
	if unsupported != "" {
		t.Skip(unsupported)
	}
	// A freeze that does not end by itself is interrupted while the function is stopped.
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if status := run(ctx, []string{"-cases", "^none/h1/get$", "-clients", "default", "-freeze", "1h"}, &out, io.Discard); status != exitInterrupted {
		t.Errorf("status %d, want %d", status, exitInterrupted)
	}
	if out.Len() > 0 {
		t.Errorf("printed: %s", &out)
	}
	noChildren(t)
}

// noChildren checks that this process has none, on Linux.
func noChildren(t *testing.T) {
	t.Helper()
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		if children, err := os.ReadFile(task); err == nil && len(children) > 0 {
			t.Errorf("processes left: %s", children)
		}
	}
}

func TestTablesShowEveryRowAndFootnote(t *testing.T) {
	rep := &report{
		Settings: map[string]string{"timeout": "1s", "hang-n": "1"},
		Elapsed:  time.Second,
		Cases: []caseResult{{
			freezeCase: freezeCase{faultHole, protoH2, kindGet},
			Clients: map[clientName]*tally{
				clientDefault: {Invocations: 1, Failed: 1, Dials: 1, P50: time.Second, P99: time.Second, Max: time.Second, Errors: map[string]int{"timed out": 1}},
				clientThaw:    {Invocations: 5, Kept: 4, Twice: 2, Dials: 6, P50: time.Millisecond, P99: time.Millisecond, Max: time.Millisecond},
			},
		}},
		Bursts: []burstResult{{
			Requests: 1000,
			Clients:  map[clientName]*burstTally{clientDefault: {Dials: 2459, CPU: 4 * time.Second, Wall: 2 * time.Second}, clientThaw: {Failed: 3, Dials: 4}},
		}},
		Problems: []string{"fin/h1/get with thaw: gone"},
		clients:  clientNames,
	}
	var out bytes.Buffer
	if err := rep.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		faultHole.title(), "HTTP/2", "GET", "Left out: GET over HTTP/1.1", "-hang-n (1)", "within 1s", "2459", "1  timed out",
		"1 of 1 invocations failed", "0 of 5 invocations failed (4 kept a connection), 2 sent twice", "3 of 1000 requests failed", "fin/h1/get with thaw: gone",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &out)
		}
	}
	var widths []int
	for line := range strings.Lines(out.String()) {
		if strings.Count(line, " | ") == 2 {
			widths = append(widths, len(line), strings.LastIndex(line, " | "))
		}
		if len(line) > 141 {
			t.Errorf("%d columns, want 140 at most: %s", len(line)-1, line)
		}
	}
	// Two headings and one row for each table: those of a table end in the same column.
	if len(widths) != 12 {
		t.Fatalf("%d lines in the tables, want 6:\n%s", len(widths)/2, &out)
	}
	for _, i := range []int{2, 4, 8, 10} {
		if base := i / 6 * 6; widths[i] != widths[base] || widths[i+1] != widths[base+1] {
			t.Errorf("line %d of the tables is out of line:\n%s", i/2, &out)
		}
	}
	if rep.thawHeld() {
		t.Error("thaw held, although it sent requests twice and failed some")
	}
}
