//go:build unix && !linux

package lambdatest

import (
	"os/exec"
	"syscall"
)

// sysProcAttr gives the process a group of its own.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// reap waits for the end of the process and kills what is left of its group. Its ID could be somebody else's by
// then, but IDs are not given again that soon.
func (p *process) reap(cmd *exec.Cmd) {
	_ = cmd.Wait() // its outcome is in cmd.ProcessState
	p.kill()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
}
