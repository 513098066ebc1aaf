package lambdatest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const canFreeze = true

// killTime is how long killed processes may take to go. One that waits for a device may never.
const killTime = 500 * time.Millisecond

// sysProcAttr gives the process a group of its own, and has the kernel kill it when its parent dies.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// reap waits for the end of the process and kills what is left of its group, and what left it. As long as the process
// has not been waited for, nobody else can get its ID, so the group is killed before that.
func (p *process) reap(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, p.handle.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			p.kill()
			killHeirs(p.handle.Pid, apiVariable+"="+p.runtimeAPI)
		}
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	_ = cmd.Wait() // its outcome is in cmd.ProcessState
}

// killHeirs kills the processes of a group and all that inherited the entry, in whatever group or session they are, and
// returns when they are gone, or after killTime. The entry is in no other process's environment: the port is still
// listened on. None must be found twice, because the environment of one that is just being executed cannot be read for
// a moment.
func killHeirs(group int, entry string) {
	killed := make(map[int]bool)
	until := time.Now().Add(killTime)
	for none := 0; none < 2 && time.Now().Before(until); time.Sleep(time.Millisecond) {
		procs, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		none++
		for _, proc := range procs {
			pid, err := strconv.Atoi(proc.Name())
			if err != nil {
				continue
			}
			// Found before its files are read, and held by a pidfd, it cannot be another one afterwards.
			heir, err := os.FindProcess(pid)
			if err != nil {
				continue
			}
			dir := filepath.Join("/proc", proc.Name())
			state, pgrp, err := stat(filepath.Join(dir, "stat"))
			switch {
			case err != nil || gone(state):
			case killed[pid]:
				none = 0
			case pgrp == group || hasEntry(dir, entry):
				none, killed[pid] = 0, true
				_ = heir.Kill()
			}
			_ = heir.Release()
		}
	}
}

// hasEntry reports whether a process was given the entry of the environment when it was executed.
func hasEntry(dir, entry string) bool {
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	return err == nil && bytes.Contains(environ, []byte(entry+"\x00"))
}

// gone reports whether the state of a process is that of one that has ended: see proc_pid_stat(5).
func gone(state byte) bool { return state == 'Z' || state == 'X' }

// procfs is where proc(5) is mounted.
type procfs string

// groupStopped says whether every thread of every process of a group is stopped, or gone.
func groupStopped(group int) (bool, error) { return procfs("/proc").groupStopped(group) }

// groupStopped looks at the leader first: while it runs there is no need to look for the others.
func (root procfs) groupStopped(group int) (bool, error) {
	// Where nothing is mounted, everybody seems to be gone.
	if _, err := os.Stat(filepath.Join(string(root), "self")); err != nil {
		return false, fmt.Errorf("looking for stopped processes: %w", err)
	}
	stopped, err := root.threadsStopped(group)
	if err != nil || !stopped {
		return false, err
	}
	procs, err := os.ReadDir(string(root))
	if err != nil {
		return false, fmt.Errorf("looking for stopped processes: %w", err)
	}
	for _, proc := range procs {
		pid, err := strconv.Atoi(proc.Name())
		if err != nil || pid == group {
			continue
		}
		if _, pgrp, err := stat(filepath.Join(string(root), proc.Name(), "stat")); err != nil || pgrp != group {
			continue // not of the group, or gone
		}
		if stopped, err := root.threadsStopped(pid); err != nil || !stopped {
			return false, err
		}
	}
	return true, nil
}

// threadsStopped says whether every thread of a process is stopped or gone. The state of the process itself is
// only that of its first thread.
func (root procfs) threadsStopped(pid int) (bool, error) {
	dir := filepath.Join(string(root), strconv.Itoa(pid), "task")
	tasks, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for stopped threads: %w", err)
	}
	for _, task := range tasks {
		state, _, err := stat(filepath.Join(dir, task.Name(), "stat"))
		if err != nil {
			continue // gone
		}
		if state != 'T' && state != 't' && !gone(state) { // stopped, or stopped by a tracer
			return false, nil
		}
	}
	return true, nil
}

// stat reads the state and the process group from a stat file: see proc_pid_stat(5).
func stat(path string) (state byte, pgrp int, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	// "pid (command) state ppid pgrp …", and the command may hold anything, parentheses too.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 3 {
		return 0, 0, fmt.Errorf("%s: unexpected format", path)
	}
	pgrp, err = strconv.Atoi(string(fields[2]))
	return fields[0][0], pgrp, err
}
