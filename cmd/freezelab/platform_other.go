//go:build !linux && !darwin

package main

import "time"

// unsupported says why the lab cannot run here.
const unsupported = "freezing a process needs SIGSTOP and SIGCONT, which this system does not have: run it on Linux or macOS"

// cpuTime is not measured here.
func cpuTime() time.Duration { return 0 }
