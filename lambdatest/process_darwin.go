package lambdatest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const canFreeze = true

// States of a process, from sys/proc.h.
const (
	sstop = 4
	szomb = 5
)

// groupStopped says whether every process of a group is stopped, or gone.
func groupStopped(group int) (bool, error) {
	procs, err := unix.SysctlKinfoProcSlice("kern.proc.pgrp", group)
	if err != nil {
		return false, fmt.Errorf("looking for stopped processes: %w", err)
	}
	for _, proc := range procs {
		if proc.Proc.P_stat != sstop && proc.Proc.P_stat != szomb {
			return false, nil
		}
	}
	return true, nil
}
