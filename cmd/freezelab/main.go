// Freezelab shows what a freeze does to the connections of an AWS Lambda function, with http.Client as Go makes it
// and with thaw.
//
// It starts a real function (itself, as a program that calls lambda.Start) under an emulated Runtime API, stops it
// with SIGSTOP between invocations, breaks its idle connections meanwhile, and resumes it with SIGCONT and the next
// event already waiting, as Lambda does. Then it has both clients make a burst of requests at once to a cold HTTP/2
// host. Everything runs on loopback and needs nothing but Go:
//
//	go run ./cmd/freezelab
//
// With -bootstrap it does the same to a function of yours, whose requests go through a proxy of the lab that can break
// connections, HTTPS through CONNECT without decrypting it. It says which invocations failed, and how many connections
// were dialled for them:
//
//	go run ./cmd/freezelab -bootstrap ./bootstrap -events events.json -freeze 5m -hop alb -fake-clock
//
// What the function is behind, -hop, or -fault, says what becomes of its idle connections in a freeze. With -fake-clock
// the clocks of the function are moved, and five minutes need not pass.
//
// With -html it writes one page: a timeline of each connection, the table, and the latency of each invocation.
//
// Run it with -h for the flags. It exits with status 1 if thaw failed a request or sent one twice, or if an invocation of
// your function failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	if runChild() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the program but for the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseOptions(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "freezelab: %v\nRun freezelab -h for the flags.\n", err)
		return exitUsage
	}
	if unsupported != "" {
		fmt.Fprintln(stderr, "freezelab:", unsupported)
		return exitUsage
	}
	if opts.list {
		cases, bursts := selectCases(opts.cases, opts.protocols, opts.bursts)
		for _, c := range cases {
			fmt.Fprintln(stdout, c.name())
		}
		for _, n := range bursts {
			fmt.Fprintln(stdout, burstName(n))
		}
		return exitOK
	}
	if err := creatable(opts.html); err != nil {
		fmt.Fprintf(stderr, "freezelab: -html: %v\n", err)
		return exitUsage
	}
	rep, err := carryOut(ctx, opts, stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "freezelab: interrupted")
		return exitInterrupted
	}
	if err != nil {
		fmt.Fprintln(stderr, "freezelab:", err)
		return exitFailed
	}
	write := rep.print
	if opts.json {
		write = rep.printJSON
	}
	if err := write(stdout); err != nil {
		fmt.Fprintln(stderr, "freezelab:", err)
		return exitFailed
	}
	if opts.html != "" {
		if err := writePage(opts.html, rep.page()); err != nil {
			fmt.Fprintln(stderr, "freezelab:", err)
			return exitFailed
		}
	}
	if !rep.ok() {
		return exitFailed
	}
	return exitOK
}

// results are what a run ends with.
type results interface {
	print(io.Writer) error
	printJSON(io.Writer) error
	page() page
	ok() bool
}

// carryOut runs the lab, or the user's function.
func carryOut(ctx context.Context, opts options, stderr io.Writer) (results, error) {
	if opts.bootstrap != "" {
		return runOwn(ctx, opts, stderr)
	}
	l, err := newLab(opts, stderr)
	if err != nil {
		return nil, err
	}
	return l.run(ctx)
}
