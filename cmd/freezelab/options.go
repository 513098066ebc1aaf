package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	n, slowN, hangN int
	cases           *regexp.Regexp
	protocols       []protocol
	clients         []clientName
	bursts          []int

	timeout, burstTimeout                 time.Duration
	freeze, slowFreeze                    time.Duration
	trustIdle, verifyAfter, verifyTimeout time.Duration

	json, list, quiet bool
	html              string

	// Of a run of a user's function.
	bootstrap       string
	events          [][]byte
	fault           fault
	hop             *hop // or nil
	fakeClock       bool
	functionTimeout time.Duration
	resolve         map[string]string
	env             []string
	verbose         bool

	given map[string]bool // the flags that were
}

const usage = `Freezelab runs a Lambda function on this machine, freezes it between invocations with SIGSTOP, breaks its idle
connections meanwhile, and resumes it with the next event already waiting. It does so twice, with http.Client as Go
makes it and with thaw, and prints how both fared. Then both make a burst of requests to a cold HTTP/2 host.

With -bootstrap it does so with a function of yours. Its requests go through a proxy of the lab, which breaks connections;
HTTPS passes it encrypted.

Usage: freezelab [flags]
       freezelab -bootstrap file [-events file] [flags]

`

var examples = `
Freeze cases are named fault/protocol/request, and bursts burst/N; -list prints them.

  faults     fin, rst, nat, hole, restart, none
  protocols  h1, h1tls, h2
  requests   post, stream (a POST whose body cannot be sent again), get

Examples:

  freezelab                                        everything, in under a minute
  freezelab -cases '^(fin|rst)/.*/(post|stream)$' -n 500
  freezelab -cases '^(nat|hole)/' -slow-n 40
  freezelab -cases burst -burst 10,100,1000,2000
  freezelab -json | jq '.cases[] | select(.clients.default.failed > 0) | .name'
  freezelab -html report.html
  freezelab -bootstrap ./bootstrap -events events.json
  freezelab -bootstrap ./bootstrap -events events.json -freeze 5m -hop alb -fake-clock -html report.html

With -bootstrap:

  The events file holds a JSON array of events, or JSON values one after another. An invocation fails if the function
  reports an error, ends, takes longer than -function-timeout, or answers with a statusCode of 500 or more.

  hops  ` + hopList + `

  The proxy is in HTTP_PROXY and HTTPS_PROXY. A client that ignores these is not seen, and Go's goes to localhost and to
  loopback addresses without a proxy: give a downstream on this machine a name, and say with -resolve where it is.

  The fake clock moves the clocks of the process, and nothing else: the certificates and signatures of real services have the
  real time, and a request that is signed with the time, as to AWS, is refused once the clocks are minutes apart.

Exit status: 0 if thaw failed and repeated nothing, or with -bootstrap if no invocation failed; 1 if so, or if the lab
itself failed; 2 for a wrong flag, or on a system that cannot freeze a process; 130 if interrupted.
`

// hopList is what -h says of the hops.
var hopList = func() string {
	var list []string
	for _, h := range hops {
		list = append(list, fmt.Sprintf("%s (%s after %v)", h.Name, h.Fault, h.Limit))
	}
	return strings.Join(list[:6], ", ") + ",\n        " + strings.Join(list[6:], ", ")
}()

// parseOptions reads the command line. It prints what -h asks for to out, and returns flag.ErrHelp.
func parseOptions(args []string, out io.Writer) (options, error) {
	var (
		o                                 options
		cases, protos, clients, burstList string
		eventsFile, faultName, hopName    string
		resolve                           []string
	)
	fs := flag.NewFlagSet("freezelab", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are the caller's to print, once
	fs.IntVar(&o.n, "n", 10, "`freezes` of each client in each case but NAT and black hole")
	fs.IntVar(&o.slowN, "slow-n", 5, "`freezes` of each client in each NAT and black hole case, which are longer")
	fs.IntVar(&o.hangN, "hang-n", 3, "the most `freezes` of http.Client in a black hole case, where it hangs until its timeout")
	fs.StringVar(&cases, "cases", "", "run only the cases and bursts whose names match this `regexp`")
	fs.StringVar(&protos, "protocols", "h1,h1tls,h2", "comma-separated `list` of protocols")
	fs.StringVar(&clients, "clients", "default,thaw", "comma-separated `list` of clients")
	fs.StringVar(&burstList, "burst", "10,100,1000", "comma-separated `list` of burst sizes, or none")
	fs.DurationVar(&o.timeout, "timeout", time.Second, "`limit` on a request after a freeze, of both clients; one that takes longer has failed")
	fs.DurationVar(&o.burstTimeout, "burst-timeout", 30*time.Second, "`limit` on a request of a burst")
	fs.DurationVar(&o.freeze, "freeze", 10*time.Millisecond, "`time` that a freeze lasts, in all cases but NAT and black hole")
	fs.DurationVar(&o.slowFreeze, "slow-freeze", 40*time.Millisecond, "`time` that a freeze lasts in NAT and black hole cases")
	fs.DurationVar(&o.trustIdle, "trust-idle", 20*time.Millisecond, "thaw's TrustIdle, a `time`, in NAT and black hole cases")
	fs.DurationVar(&o.verifyAfter, "verify-after", 20*time.Millisecond, "thaw's VerifyAfter, a `time`, in NAT and black hole cases")
	fs.DurationVar(&o.verifyTimeout, "verify-timeout", 300*time.Millisecond, "thaw's VerifyTimeout, a `time`, in NAT and black hole cases")
	fs.BoolVar(&o.json, "json", false, "print one JSON object in place of the tables")
	fs.BoolVar(&o.list, "list", false, "print the names of the chosen cases and stop")
	fs.BoolVar(&o.quiet, "q", false, "show no progress")
	fs.StringVar(&o.html, "html", "", "write a page with the table, a timeline of each connection and plots to this `file`")
	fs.StringVar(&o.bootstrap, "bootstrap", "", "run the function of this `file`, a program that calls lambda.Start")
	fs.StringVar(&eventsFile, "events", "", "with -bootstrap: send it the events of this `file`; by default {}, twice")
	fs.StringVar(&faultName, "fault", string(faultFIN), "with -bootstrap: the `fault` that befalls its connections in each freeze, all but restart")
	fs.StringVar(&hopName, "hop", "", "with -bootstrap, in place of -fault: what this `hop` does to connections that are idle for as long as a freeze")
	fs.BoolVar(&o.fakeClock, "fake-clock", false, "with -bootstrap: move the clocks of the function ahead by -freeze, and do not wait for that long (Linux on amd64)")
	fs.DurationVar(&o.functionTimeout, "function-timeout", 10*time.Second, "with -bootstrap: `limit` on an invocation")
	fs.Func("resolve", "with -bootstrap: dial `host=address:port` for a downstream; may be given more than once", func(s string) error {
		resolve = append(resolve, s)
		return nil
	})
	fs.Func("env", "with -bootstrap: `KEY=value` for the function's environment, which has nothing of yours; may be given more than once", func(s string) error {
		o.env = append(o.env, s)
		return nil
	})
	fs.BoolVar(&o.verbose, "v", false, "with -bootstrap: show what the function writes")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usage)
			fs.SetOutput(out)
			fs.PrintDefaults()
			fmt.Fprint(out, examples)
		}
		return o, err
	}

	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if fs.NArg() > 0 {
		fault("unexpected argument %q: freezelab takes only flags", fs.Arg(0))
	}
	counts := map[string]int{"n": o.n, "slow-n": o.slowN, "hang-n": o.hangN}
	for _, name := range []string{"n", "slow-n", "hang-n"} {
		if counts[name] < 1 {
			fault("-%s is %d: want 1 or more", name, counts[name])
		}
	}
	positive := func(name string, d time.Duration) {
		if d <= 0 {
			fault("-%s is %v: want a positive duration", name, d)
		}
	}
	positive("timeout", o.timeout)
	positive("burst-timeout", o.burstTimeout)
	positive("freeze", o.freeze)
	positive("slow-freeze", o.slowFreeze)
	positive("trust-idle", o.trustIdle)
	positive("verify-after", o.verifyAfter)
	positive("verify-timeout", o.verifyTimeout)
	positive("function-timeout", o.functionTimeout)
	if trusted := max(o.trustIdle, o.verifyAfter); o.slowFreeze > 0 && o.slowFreeze <= trusted {
		fault("-slow-freeze is %v: want more than -trust-idle and -verify-after (%v), or no client could see the fault", o.slowFreeze, trusted)
	}
	var err error
	if o.cases, err = regexp.Compile(cases); err != nil {
		fault("-cases: %w", err)
	}
	if o.protocols, err = names("protocols", protos, protocols); err != nil {
		errs = append(errs, err)
	}
	if o.clients, err = names("clients", clients, clientNames); err != nil {
		errs = append(errs, err)
	}
	if o.bursts, err = sizes(burstList); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, o.parseOwn(eventsFile, faultName, hopName, resolve)...)
	if len(errs) == 0 && o.bootstrap == "" {
		if c, b := selectCases(o.cases, o.protocols, o.bursts); len(c)+len(b) == 0 {
			fault("no case is left by -cases %q, -protocols %s and -burst %s: -list without them prints all names", cases, protos, burstList)
		}
	}
	return o, errors.Join(errs...)
}

// names parses a comma-separated list of known names, without repetitions and in the order of known.
func names[S ~string](flag, list string, known []S) ([]S, error) {
	chosen := make(map[S]bool)
	for s := range strings.SplitSeq(list, ",") {
		name := S(strings.TrimSpace(s))
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("-%s: %q is unknown: want a list of %s", flag, name, join(known))
		}
		chosen[name] = true
	}
	var ordered []S
	for _, name := range known {
		if chosen[name] {
			ordered = append(ordered, name)
		}
	}
	return ordered, nil
}

// maxBurst keeps a burst, which can dial more than twice its size, within the file descriptors of a process.
const maxBurst = 10_000

// sizes parses the list of burst sizes.
func sizes(list string) ([]int, error) {
	if list == "" || list == "none" {
		return nil, nil
	}
	var ns []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > maxBurst {
			return nil, fmt.Errorf("-burst: %q: want a list of numbers from 1 to %d, or none", s, maxBurst)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// The flags that make sense only with -bootstrap, and only without it.
var (
	ownFlags = []string{"events", "fault", "hop", "fake-clock", "function-timeout", "resolve", "env", "v"}
	labFlags = []string{"slow-n", "hang-n", "cases", "protocols", "clients", "burst", "timeout", "burst-timeout", "slow-freeze",
		"trust-idle", "verify-after", "verify-timeout", "list"}
)

// runtimeVariables are those that package lambdatest reserves.
var runtimeVariables = []string{"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_MAX_CONCURRENCY"}

// parseOwn reads what is for a run of a user's function, and returns all faults.
func (o *options) parseOwn(eventsFile, faultName, hopName string, resolve []string) (errs []error) {
	wrong, why := ownFlags, "needs -bootstrap"
	if o.bootstrap != "" {
		wrong, why = labFlags, "is of the lab's own function: it has no effect with -bootstrap"
	}
	for _, name := range wrong {
		if o.given[name] {
			errs = append(errs, fmt.Errorf("-%s %s", name, why))
		}
	}
	if o.bootstrap == "" {
		return errs
	}
	info, err := os.Stat(o.bootstrap)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("-bootstrap: %w", err))
	case info.IsDir() || info.Mode()&0o111 == 0:
		errs = append(errs, fmt.Errorf("-bootstrap %s: want an executable file, as GOOS=%s go build makes", o.bootstrap, runtime.GOOS))
	}
	o.events = [][]byte{[]byte("{}")}
	if eventsFile != "" {
		text, err := os.ReadFile(eventsFile)
		if err == nil {
			o.events, err = parseEvents(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("-events %s: %w", eventsFile, err))
		}
	}
	o.fault = fault(faultName)
	if o.fault == faultRestart || !slices.Contains(faults, o.fault) {
		errs = append(errs, fmt.Errorf("-fault %q: want one of %s", faultName, join(slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return f == faultRestart }))))
	}
	if o.given["hop"] {
		if o.given["fault"] {
			errs = append(errs, errors.New("-fault and -hop: want one of them, a hop has a fault of its own"))
		}
		if i := slices.IndexFunc(hops, func(h hop) bool { return h.Name == hopName }); i >= 0 {
			o.hop = &hops[i]
		} else {
			errs = append(errs, fmt.Errorf("-hop %q: want one of %s", hopName, join(hopNames())))
		}
	}
	if o.fakeClock && o.freeze%time.Second != 0 {
		errs = append(errs, fmt.Errorf("-fake-clock moves clocks by whole seconds, and -freeze is %v", o.freeze))
	}
	o.resolve = make(map[string]string)
	for _, s := range resolve {
		host, addr, err := parseResolve(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("-resolve %w", err))
		}
		o.resolve[host] = addr
	}
	for _, pair := range o.env {
		switch key, _, ok := strings.Cut(pair, "="); {
		case !ok || key == "":
			errs = append(errs, errors.New("-env: want KEY=value")) // what is there may be a secret
		case slices.Contains(proxyVariables, key):
			errs = append(errs, fmt.Errorf("-env %s: the lab sets that, or it would not see the requests", key))
		case slices.Contains(runtimeVariables, key):
			errs = append(errs, fmt.Errorf("-env %s: the emulated runtime sets that itself", key))
		}
	}
	return errs
}
