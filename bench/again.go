package main

import (
	"fmt"
	"os"
	"os/exec"
)

// roleEnv is set in the processes that this binary starts from itself, and says what they are for. The server is
// one, so that the CPU time and the allocations of this process are the client's alone.
const roleEnv = "THAW_BENCH_ROLE"

const (
	roleServer = "server"
	roleIdle   = "idle"

	roleFunction = "function"
)

// again returns the command that runs this binary in the role. Its standard input and output are the caller's to
// connect.
func again(role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// play plays the role of this process, if it was started for one, and does not return then.
func play() {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		return
	case roleServer:
		err = serve()
	case roleIdle:
		err = carryOutIdleOrder()
	case roleFunction:
		err = serveFunction()
	default:
		err = fmt.Errorf("%s=%q is not a role", roleEnv, role)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Getenv(roleEnv), err)
		os.Exit(1)
	}
	os.Exit(0)
}
