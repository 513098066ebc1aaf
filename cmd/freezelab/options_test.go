package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestDefaultsChooseEverything(t *testing.T) {
	o, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cases, bursts := selectCases(o.cases, o.protocols, o.bursts)
	// Six faults, three protocols, three requests, less the two that cannot be decided.
	if len(cases) != 6*3*3-2 {
		t.Errorf("%d cases, want 52", len(cases))
	}
	if !slices.Equal(bursts, []int{10, 100, 1000}) {
		t.Errorf("bursts %v", bursts)
	}
	for _, name := range leftOut() {
		if slices.ContainsFunc(cases, func(c freezeCase) bool { return c.name() == name }) {
			t.Errorf("%s is both run and left out", name)
		}
	}
	if got := strings.Join(leftOut(), " "); got != "hole/h1/get hole/h1tls/get" {
		t.Errorf("left out: %s", got)
	}
}

func TestCasesAreChosenByNameAndProtocol(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"-cases ^fin/h1/", "fin/h1/post fin/h1/stream fin/h1/get"},
		{"-cases ^(fin|rst)/.*/post$ -protocols h2,h1", "fin/h1/post fin/h2/post rst/h1/post rst/h2/post"},
		{"-cases burst -burst 7,8", "burst/7 burst/8"},
		{"-cases burst/10$", "burst/10"},
		{"-cases hole/h1 -burst none", "hole/h1/post hole/h1/stream hole/h1tls/post hole/h1tls/stream"},
	} {
		var out, problems bytes.Buffer
		if status := run(t.Context(), append(strings.Fields(tt.args), "-list"), &out, &problems); status != exitOK {
			t.Errorf("%s: status %d: %s", tt.args, status, &problems)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestWrongFlagsAreNamedAllAtOnce(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"-n", "0"}, []string{"-n is 0: want 1 or more"}},
		{[]string{"-n", "many"}, []string{`"many"`, "-n"}},
		{[]string{"-nope"}, []string{"-nope"}},
		{[]string{"-html", "no-such-folder/report.html"}, []string{"-html", "no-such-folder"}},
		{[]string{"now"}, []string{`unexpected argument "now"`}},
		{[]string{"-cases", "("}, []string{"-cases", "missing closing )"}},
		{[]string{"-cases", "nothing"}, []string{"no case is left", `"nothing"`}},
		{[]string{"-protocols", "h3"}, []string{`-protocols: "h3" is unknown: want a list of h1, h1tls, h2`}},
		{[]string{"-clients", "thaw,"}, []string{`-clients: "" is unknown`}},
		{[]string{"-burst", "10,x"}, []string{`-burst: "x"`}},
		{[]string{"-burst", "0"}, []string{`-burst: "0"`}},
		{[]string{"-timeout", "0s"}, []string{"-timeout is 0s: want a positive duration"}},
		{[]string{"-slow-freeze", "20ms"}, []string{"-slow-freeze is 20ms", "-trust-idle"}},
		{[]string{"-slow-n", "-1", "-freeze", "-1s", "-burst", "no", "x"}, []string{"-slow-n is -1", "-freeze is -1s", "-burst", `"x"`}},
		{[]string{"-events", "e.json", "-fake-clock", "-env", "A=b"}, []string{"-events needs -bootstrap", "-fake-clock needs", "-env needs"}},
		{[]string{"-bootstrap", "none", "-n", "0"}, []string{"-bootstrap", "none", "-n is 0"}},
		{[]string{"-bootstrap", "."}, []string{"want an executable file"}},
		{[]string{"-bootstrap", "main.go"}, []string{"want an executable file"}},
		{[]string{"-bootstrap", self, "-cases", "x", "-timeout", "1s"}, []string{"-cases is of the lab's own function", "-timeout is of"}},
		{[]string{"-bootstrap", self, "-events", "main.go"}, []string{"-events main.go: event 1"}},
		{[]string{"-bootstrap", self, "-fault", "restart"}, []string{`-fault "restart": want one of fin, rst, nat, hole, none`}},
		{[]string{"-bootstrap", self, "-hop", "cable"}, []string{`-hop "cable": want one of nat, nlb`}},
		{[]string{"-bootstrap", self, "-hop", "nat", "-fault", "fin"}, []string{"want one of them"}},
		{[]string{"-bootstrap", self, "-fake-clock", "-freeze", "1500ms"}, []string{"whole seconds"}},
		{[]string{"-bootstrap", self, "-resolve", "here", "-resolve", "a=b"}, []string{`-resolve "here": want host=address:port`, `-resolve "a=b"`}},
		{[]string{"-bootstrap", self, "-env", "secret", "-env", "AWS_LAMBDA_RUNTIME_API=x"}, []string{"-env: want KEY=value", "-env AWS_LAMBDA_RUNTIME_API: "}},
		{[]string{"-bootstrap", self, "-env", "NO_PROXY=*", "-env", "https_proxy="}, []string{"-env NO_PROXY: the lab sets that", "-env https_proxy"}},
		{[]string{"-bootstrap", self, "-function-timeout", "-1s"}, []string{"-function-timeout is -1s"}},
	} {
		var out, problems bytes.Buffer
		if status := run(t.Context(), tt.args, &out, &problems); status != exitUsage {
			t.Errorf("%q: status %d, want %d", tt.args, status, exitUsage)
		}
		for _, want := range tt.want {
			if !strings.Contains(problems.String(), want) {
				t.Errorf("%q: the message lacks %q:\n%s", tt.args, want, &problems)
			}
		}
		if out.Len() > 0 {
			t.Errorf("%q: wrote to standard output: %s", tt.args, &out)
		}
	}
}

func TestHelpNamesEveryFlagAndFault(t *testing.T) {
	var out bytes.Buffer
	if _, err := parseOptions([]string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("error %v, want flag.ErrHelp", err)
	}
	for _, want := range []string{
		"-n freezes", "-slow-n", "-hang-n", "-cases", "-protocols", "-clients", "-burst ", "-timeout", "-burst-timeout", "-freeze",
		"-slow-freeze", "-trust-idle", "-verify-after", "-verify-timeout", "-json", "-list", "-q", "-html", "Exit status",
		"-bootstrap", "-events", "-fault", "-hop", "-fake-clock", "-function-timeout", "-resolve", "-env", "-v", "firewall (hole after 5m50s)", join(faults), join(protocols), "post, stream",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %q", want)
		}
	}
}
