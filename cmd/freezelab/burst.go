package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"
)

// burstTally is one burst of one client.
type burstTally struct {
	Failed int            `json:"failed"`
	Dials  int64          `json:"dials"`
	CPU    time.Duration  `json:"cpu_ns"` // user and system time of the client's process
	Wall   time.Duration  `json:"wall_ns"`
	Errors map[string]int `json:"errors,omitempty"`
}

// burstResult is one burst of all clients.
type burstResult struct {
	Requests int                        `json:"requests"`
	Clients  map[clientName]*burstTally `json:"clients"`
}

// burst makes n requests at once with c, which has no connection yet, and reads all answers to their ends. It runs in
// a child process, so that the CPU time is the client's alone.
func burst(c *http.Client, url string, n int) burstTally {
	var (
		ready, done sync.WaitGroup
		start       = make(chan struct{})
		errs        = make([]error, n)
	)
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			_, errs[i] = call(context.Background(), c, url, event{ID: fmt.Sprintf("burst-%d", i), Kind: kindGet})
		})
	}
	ready.Wait()
	cpu, begin := cpuTime(), time.Now()
	close(start)
	done.Wait()
	t := burstTally{Wall: time.Since(begin), CPU: cpuTime() - cpu, Errors: make(map[string]int)}
	for _, err := range errs {
		if err != nil {
			t.Failed++
			t.Errors[reason(err.Error())]++
		}
	}
	return t
}

// runBurst has who make a burst of n requests to a cold HTTP/2 host. With an error, which is not one of a request, all
// count as failed.
func (l *lab) runBurst(ctx context.Context, who clientName, n int) (*burstTally, error) {
	lost := &burstTally{Failed: n}
	d, err := newDownstream(protoH2, l.authority, nil)
	if err != nil {
		return lost, err
	}
	defer d.close()
	s := childSettings{clientSettings: l.clientSettings(who), URL: d.url(), Burst: n}
	s.Timeout = l.opts.burstTimeout
	cmd := exec.CommandContext(ctx, l.executable)
	cmd.Env = append(os.Environ(), s.env())
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return lost, fmt.Errorf("%w: %s", err, bytes.TrimSpace(problems.Bytes()))
	}
	t := new(burstTally)
	if err := json.Unmarshal(out.Bytes(), t); err != nil {
		return lost, fmt.Errorf("the child process wrote %q: %w", out.Bytes(), err)
	}
	t.Dials = d.accepted()
	return t, nil
}
