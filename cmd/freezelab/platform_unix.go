//go:build linux || darwin

package main

import (
	"syscall"
	"time"
)

// unsupported says why the lab cannot run here.
const unsupported = ""

// cpuTime is the user and system time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
