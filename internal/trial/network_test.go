//go:build linux

package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A network is three network namespaces in a row: a client's, a router's, which translates addresses, and a server's.
// What goes wrong goes wrong in the router: both ends are as they would be anywhere else.
//
//	client 10.81.1.2 -- 10.81.1.1 router 10.81.2.1 -- 10.81.2.2 and .3 server
//	2001:db8:1::2 -- 2001:db8:1::1 2001:db8:2::1 -- 2001:db8:2::2
type network struct {
	t                      *testing.T // that it is used in
	client, router, server string     // namespaces
	peer                   *actor     // the server
}

// The server's addresses.
const (
	serverAddr  = "10.81.2.2"
	serverMoved = "10.81.2.3"
	serverIPv6  = "2001:db8:2::2"
)

// namespaces are named after the process that made them.
var namespace = regexp.MustCompile(`^trial-(\d+)-[crs]$`)

// newNetwork builds a network with a server in it. It is gone when the test ends.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "network namespaces need root")
	}
	program(t, "ip")
	program(t, "nft")
	removeStale(t)
	name := fmt.Sprintf("trial-%d-", os.Getpid())
	n := &network{t: t, client: name + "c", router: name + "r", server: name + "s"}
	for _, ns := range []string{n.client, n.router, n.server} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			missing(t, "ip netns add %s: %v: %s", ns, err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("ip netns del %s: %v: %s", ns, err, out)
			}
		})
		n.run("ip", "-n", ns, "link", "set", "lo", "up")
	}
	n.link(n.client, n.router, "c", "10.81.1", "2001:db8:1")
	n.link(n.server, n.router, "s", "10.81.2", "2001:db8:2")
	n.run("ip", "-n", n.server, "addr", "add", serverMoved+"/24", "dev", "s")
	n.in(n.router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	n.in(n.router, "nft", `
		table ip nat {
			chain leaving { type nat hook postrouting priority 100; oifname "s0" masquerade; }
		}
		table inet faults {
			chain passing { type filter hook forward priority 0; }
		}`)
	n.peer = n.act(n.server, "server", nil)
	return n
}

// during runs f as a subtest on the network. The actors that it starts end with it.
func (n *network) during(name string, f func(n *network)) {
	n.t.Run(name, func(t *testing.T) {
		at := *n
		at.t = t
		peer := *n.peer
		peer.t = t
		at.peer = &peer
		f(&at)
	})
}

// removeStale removes the namespaces of tests that were killed.
func removeStale(t *testing.T) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if m := namespace.FindStringSubmatch(e.Name()); m != nil {
			if _, err := os.Stat(filepath.Join("/proc", m[1])); errors.Is(err, os.ErrNotExist) {
				_ = exec.Command("ip", "netns", "del", e.Name()).Run() // another test may do the same
			}
		}
	}
}

// link connects a namespace to the router and sends everything from there.
func (n *network) link(ns, router, dev, v4, v6 string) {
	n.run("ip", "link", "add", dev, "netns", ns, "type", "veth", "peer", "name", dev+"0", "netns", router)
	for _, end := range []struct{ ns, dev, host string }{{ns, dev, "2"}, {router, dev + "0", "1"}} {
		n.run("ip", "-n", end.ns, "addr", "add", v4+"."+end.host+"/24", "dev", end.dev)
		n.run("ip", "-n", end.ns, "addr", "add", v6+"::"+end.host+"/64", "dev", end.dev, "nodad")
		n.run("ip", "-n", end.ns, "link", "set", end.dev, "up")
	}
	n.run("ip", "-n", ns, "route", "add", "default", "via", v4+".1")
	n.run("ip", "-n", ns, "-6", "route", "add", "default", "via", v6+"::1")
}

// run runs a command.
func (n *network) run(args ...string) string {
	n.t.Helper()
	out, err := exec.Command(program(n.t, args[0]), args[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs a command in a namespace.
func (n *network) in(ns string, args ...string) string {
	n.t.Helper()
	return n.run(append([]string{"ip", "netns", "exec", ns}, args...)...)
}

// fault has the router do what rule says, after the faults that there are.
func (n *network) fault(rule string) {
	n.t.Helper()
	n.in(n.router, "nft", "add rule inet faults passing "+rule)
}

// heal ends all faults.
func (n *network) heal() {
	n.t.Helper()
	n.in(n.router, "nft", "flush chain inet faults passing")
}

// roleVariable makes the test's own program an actor. Network namespaces belong to threads, so each end is a process of
// its own; that it can be stopped is needed besides.
const roleVariable = "THAW_TRIAL_ROLE"

// actor is a process in a namespace. It does what it is told on its standard input, and tells what came of it.
type actor struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// act starts an actor with its first order.
func (n *network) act(ns, role string, order any) *actor {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(program(n.t, "ip"), "netns", "exec", ns, self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	a := &actor{t: n.t, cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		in.Close() // it ends with its input
		watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		if !watchdog.Stop() || err != nil {
			n.t.Errorf("the %s ended with %v", role, err)
		}
	})
	a.tell(order)
	a.hear(new(any))
	return a
}

// tell gives an order.
func (a *actor) tell(order any) {
	a.t.Helper()
	if err := a.enc.Encode(order); err != nil {
		a.t.Fatal(err)
	}
}

// hear waits for the answer to an order.
func (a *actor) hear(answer any) {
	a.t.Helper()
	if err := a.dec.Decode(answer); err != nil {
		a.t.Fatal(err)
	}
}

// signal stops the process or has it go on.
func (a *actor) signal(sig syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.t.Fatal(err)
	}
}
