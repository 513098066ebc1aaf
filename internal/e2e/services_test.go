//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"go/build"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// services is where programs are looked for that are not part of this module. "make services" installs them there.
func services() string { return filepath.Join(build.Default.GOPATH, "thaw-e2e") }

// installed returns the path of a file of a service. Without it the test is skipped, and fails in CI.
func installed(t *testing.T, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{services()}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("a service is missing, which CI has to install: %v", err)
		}
		t.Skipf("a service is missing, which \"make services\" installs: %v", err)
	}
	return path
}

// stripeMock starts stripe-mock.
func stripeMock(t *testing.T) http.Handler {
	t.Helper()
	path := installed(t, "stripe-mock-v0.203.0", "stripe-mock")
	return service(t, regexp.MustCompile(`Listening for HTTP at address: (\S+)`), func() *exec.Cmd {
		return exec.Command(path, "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	})
}

// dynalite starts dynalite, whose tables live in memory.
func dynalite(t *testing.T) http.Handler {
	t.Helper()
	path := installed(t, "dynalite-4.0.0", "node_modules", "dynalite", "cli.js")
	return service(t, regexp.MustCompile(`Dynalite listening at: http://(\S+)`), func() *exec.Cmd {
		// It takes no port 0 for an answer.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return exec.Command("node", path, "--host", "127.0.0.1", "--port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "--createTableMs", "1")
	})
}

// service runs a command, whose output says by ready where it listens, until the end of the test. A command that ends
// before that, because another process took its port, is run again. What is returned hands requests to it.
func service(t *testing.T, ready *regexp.Regexp, command func() *exec.Cmd) http.Handler {
	t.Helper()
	var said string
	for range 3 {
		var addr string
		if addr, said = run(t, ready, command()); addr != "" {
			to := &url.URL{Scheme: "http", Host: addr}
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.Out.Host = r.In.Host // it is signed
			}, Transport: transport}
		}
	}
	t.Fatalf("the service does not start: %s", said)
	return nil
}

// run runs a command and returns what ready finds in its output, or all of that if the command ends.
func run(t *testing.T, ready *regexp.Regexp, cmd *exec.Cmd) (addr, said string) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The signal comes when the thread ends that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	in.Close()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	stop := func() {
		cmd.Process.Kill()
		for range lines {
		}
		<-ended
		out.Close()
	}
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				stop()
				return "", said
			}
			said += line + "\n"
			if m := ready.FindStringSubmatch(line); m != nil {
				go func() {
					for range lines {
					}
				}()
				t.Cleanup(func() {
					cmd.Process.Kill()
					<-ended
					out.Close()
				})
				return m[1], said
			}
		case <-deadline:
			stop()
			return "", fmt.Sprintf("nothing after 30s but %q", said)
		}
	}
}
