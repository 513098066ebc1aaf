//go:build !unix

package lambdatest

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

func sysProcAttr() *syscall.SysProcAttr { return nil }

// reap waits for the end of the process.
func (p *process) reap(cmd *exec.Cmd) {
	_ = cmd.Wait() // its outcome is in cmd.ProcessState
}

// terminate fails: there is no signal that asks a process to end.
func (p *process) terminate() error { return errors.ErrUnsupported }

// kill ends the process, without its children.
func (p *process) kill() { _ = p.handle.Kill() }

func (p *process) suspend() error { return errors.ErrUnsupported }

func (p *process) thaw() error { return errors.ErrUnsupported }

// exitSignal returns nil: no signal ends a process here.
func exitSignal(*os.ProcessState) os.Signal { return nil }
