//go:build unix

package lambdatest

import (
	"os"
	"syscall"
)

// signal sends sig to the process and its children.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	return syscall.Kill(-p.handle.Pid, sig)
}

// terminate asks the process to end. A stopped one takes no signal but SIGKILL, so it has to go on first.
func (p *process) terminate() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.signal(syscall.SIGCONT)
}

func (p *process) kill() { _ = p.signal(syscall.SIGKILL) }

func (p *process) suspend() error { return p.signal(syscall.SIGSTOP) }

func (p *process) thaw() error { return p.signal(syscall.SIGCONT) }

// exitSignal returns the signal that ended a process, or nil.
func exitSignal(state *os.ProcessState) os.Signal {
	if state == nil {
		return nil // somebody else waited for it
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return nil
}
