package lambdatest

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// process is the bootstrap, with its children in a process group where there are such.
type process struct {
	handle     *os.Process
	output     *output
	runtimeAPI string // the address that it was given

	mu     sync.Mutex
	reaped bool // the process ID may be somebody else's

	exited chan struct{}    // closed when it was reaped, its group killed and its output read to the end
	state  *os.ProcessState // written before exited is closed
}

func startProcess(cfg Config, runtimeAPI string) (*process, error) {
	cmd := exec.Command(cfg.Path, cfg.Args...)
	cmd.Dir = cfg.Dir
	cmd.Env = cfg.environ(runtimeAPI)
	cmd.SysProcAttr = sysProcAttr()
	p := &process{output: new(output), runtimeAPI: runtimeAPI, exited: make(chan struct{})}
	writers, err := p.output.attach(cmd, cfg.Stdout, cfg.Stderr)
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go p.run(cmd, started)
	err = <-started
	closeAll(writers)
	if err != nil {
		p.output.drain()
		return nil, err
	}
	return p, nil
}

// run starts the process and waits for its end. On Linux the kernel kills the process when the thread that
// started it ends, so that thread belongs to this goroutine until the process is gone.
func (p *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.handle = cmd.Process
	started <- nil
	p.reap(cmd)
	p.output.drain()
	p.state = cmd.ProcessState
	close(p.exited)
}
