//go:build unix

package main

import (
	"sync"
	"syscall"
	"time"
)

// throttle limits a process group to a share of a CPU, by stopping it for the rest of each period, until release is called.
func throttle(pid int, share float64) (release func(), err error) {
	if share >= 1 {
		return func() {}, nil
	}
	run := time.Duration(share * float64(throttlePeriod))
	if err := syscall.Kill(-pid, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	end := make(chan struct{})
	var cycle sync.WaitGroup
	cycle.Go(func() {
		// The group is there: its leader is waited for only after the release.
		for {
			select {
			case <-end:
				_ = syscall.Kill(-pid, syscall.SIGCONT)
				return
			case <-time.After(throttlePeriod - run):
			}
			_ = syscall.Kill(-pid, syscall.SIGCONT)
			time.Sleep(run)
			_ = syscall.Kill(-pid, syscall.SIGSTOP)
		}
	})
	return func() { close(end); cycle.Wait() }, nil
}
