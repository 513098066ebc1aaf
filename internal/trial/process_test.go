//go:build linux

package trial

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to start or to stop.
const patience = 20 * time.Second

// process is a server that a test started, with all of its workers.
type process struct {
	t    testing.TB
	args []string
	env  []string
	dir  string // where it runs and where its log is
	addr string // it is ready when it accepts there

	mu  sync.Mutex // guards cmd and exited, which start replaces
	cmd *exec.Cmd
	// exited is closed when the process has ended.
	exited chan struct{}
}

// launch starts a server and waits until it accepts connections. When the test ends, the server is killed, and the test
// fails if a process of it is left.
func launch(t testing.TB, dir, addr string, args []string, env ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, env: env, dir: dir, addr: addr}
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", filepath.Base(args[0]), p.lastWords())
		}
	})
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// start starts the server, again after stop, and waits until it accepts connections.
func (p *process) start() error {
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own holds its workers. Should the test be killed, the server is asked to stop.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // how it ended does not matter, and its log tells
	}()
	p.mu.Lock()
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	return p.ready(exited)
}

// ready waits until the server accepts connections.
func (p *process) ready(exited <-chan struct{}) error {
	if poll(patience, func() bool {
		select {
		case <-exited:
			return true
		default:
		}
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}) {
		select {
		case <-exited:
			return fmt.Errorf("%s ended at once:\n%s", filepath.Base(p.args[0]), p.lastWords())
		default:
			return nil
		}
	}
	return fmt.Errorf("%s does not accept connections on %s after %v:\n%s", filepath.Base(p.args[0]), p.addr, patience, p.lastWords())
}

// signal sends sig to the server's first process.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Signal(sig)
}

// count returns how often the server's output has text.
func (p *process) count(text string) (int, error) {
	b, err := os.ReadFile(p.logFile())
	return bytes.Count(b, []byte(text)), err
}

// says waits until the server's output has text n times.
func (p *process) says(text string, n int) error {
	if !poll(patience, func() bool {
		count, err := p.count(text)
		return err == nil && count >= n
	}) {
		return fmt.Errorf("%s has not said %q %d times after %v", filepath.Base(p.args[0]), text, n, patience)
	}
	return nil
}

// ended reports whether the server has ended by itself, or does so within a second.
func (p *process) ended() bool {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	select {
	case <-exited:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// stop ends the server with sig, kills what does not end in time, and fails the test if anything is left. Stopping
// what has ended does nothing.
func (p *process) stop(sig syscall.Signal) {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	group := -cmd.Process.Pid
	left := func() bool {
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(group, nil, syscall.WNOHANG, nil) // workers that the first process left to us
		}
		return !errors.Is(syscall.Kill(group, 0), syscall.ESRCH)
	}
	if sig == syscall.SIGKILL {
		_ = syscall.Kill(group, sig)
	} else {
		_ = cmd.Process.Signal(sig)
	}
	ended := poll(patience, func() bool {
		select {
		case <-exited:
			return !left()
		default:
			return false
		}
	})
	if !ended {
		p.t.Errorf("%s has not ended %v after %v", filepath.Base(p.args[0]), patience, sig)
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-exited
		if !poll(patience, func() bool { return !left() }) {
			p.t.Errorf("processes of %s are left in group %d", filepath.Base(p.args[0]), -group)
		}
	}
}

func (p *process) logFile() string { return filepath.Join(p.dir, "output.log") }

// lastWords returns the end of what the server wrote.
func (p *process) lastWords() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// poll asks done again and again, for at most d, and reports whether it said yes.
func poll(d time.Duration, done func() bool) bool {
	for end := time.Now().Add(d); ; {
		if done() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// reserveAddr returns a loopback address whose port is the caller's until the end of the test: the kernel gives it to
// nobody else, and to no client that dials while the server is down, which would be connected to itself. A socket is bound
// to it and does not listen, which hinders no server that sets SO_REUSEADDR. To listen and to close would not do: a process
// that is started at that moment holds a copy of the listener until its execve is over.
func reserveAddr(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socket", err))
	}
	t.Cleanup(func() {
		if err := syscall.Close(fd); err != nil {
			t.Error(os.NewSyscallError("close", err))
		}
	})
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(os.NewSyscallError("setsockopt", err))
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(os.NewSyscallError("bind", err))
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(os.NewSyscallError("getsockname", err))
	}
	return fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
}

// publicDir returns a new folder that servers can read which give up the rights of the user who started them. Its path is
// short enough for the sockets in it, which T.TempDir does not promise.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "trial") //nolint:usetesting // T.TempDir is for this user alone, and its path may be too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writeFile writes a file of a server's folder and returns its path.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
