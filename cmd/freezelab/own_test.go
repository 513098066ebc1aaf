package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/internal/loopbackca"
)

// ownHost is the name by which a function of a test calls its downstream: Go's client goes to loopback addresses without a
// proxy.
const ownHost = "api.freezelab.test"

// ownEnv is the variable that makes the test binary the function of a user. Its value is a childSettings in JSON.
const ownEnv = "FREEZELAB_OWN"

// runOwnChild is that function, in which a request that failed fails the invocation. It reports false if the environment
// does not ask for it.
func runOwnChild() bool {
	env, ok := os.LookupEnv(ownEnv)
	if !ok {
		return false
	}
	var s childSettings
	if err := json.Unmarshal([]byte(env), &s); err != nil {
		panic(err)
	}
	c, err := s.newClient()
	if err != nil {
		panic(err)
	}
	lambda.Start(func(ctx context.Context, e event) (string, error) {
		if e.ID == "exit" {
			os.Exit(3)
		}
		return call(ctx, c, s.URL, e)
	})
	return true
}

// ownDownstream starts a downstream, and returns what a function needs to call it by name: the settings, and the flags.
func ownDownstream(t *testing.T, p protocol, who clientName) (*downstream, []string) {
	t.Helper()
	if unsupported != "" {
		t.Skip(unsupported)
	}
	a, err := loopbackca.New("freezelab", ownHost)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDownstream(p, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	addr := d.current().Addr().String()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	scheme, _, _ := strings.Cut(d.url(), ":")
	s := childSettings{
		clientSettings: clientSettings{Client: who, Root: a.PEM, Timeout: 2 * time.Second},
		URL:            fmt.Sprintf("%s://%s/", scheme, net.JoinHostPort(ownHost, port)),
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return d, []string{"-bootstrap", self, "-env", ownEnv + "=" + string(b), "-resolve", ownHost + "=" + addr, "-function-timeout", "30s"}
}

// writeEvents writes an events file with n events, each a request of its own.
func writeEvents(t *testing.T, k kind, n int) string {
	t.Helper()
	var events []event
	for i := range n {
		events = append(events, event{ID: fmt.Sprint(i), Kind: k})
	}
	b, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// runOwnJSON runs a user's function with -json and returns the report.
func runOwnJSON(t *testing.T, args ...string) *ownReport {
	t.Helper()
	var out, progress bytes.Buffer
	status := run(t.Context(), append(args, "-json"), &out, &progress)
	rep := new(ownReport)
	if err := json.Unmarshal(out.Bytes(), rep); err != nil {
		t.Fatalf("status %d, %v\n%s", status, err, &progress)
	}
	if want := map[bool]int{true: exitOK, false: exitFailed}[rep.OK]; status != want {
		t.Errorf("status %d with ok=%v, want %d", status, rep.OK, want)
	}
	return rep
}

// whatTheProxySaw checks a report against what the downstream saw.
func whatTheProxySaw(t *testing.T, d *downstream, rep *ownReport) {
	t.Helper()
	dials, lost := 0, 0
	for _, i := range rep.Invocations {
		dials += i.Dials
		lost += i.Lost
	}
	if dials != rep.Dials {
		t.Errorf("%d dials in the invocations, %d in all", dials, rep.Dials)
	}
	if d.protocol == protoH1 {
		// In the clear the proxy has a connection of its own to the downstream for each request.
		if int64(rep.Requests-lost) != d.accepted() || rep.Bursts != 0 {
			t.Errorf("%d requests, %d of them lost, %d bursts; the downstream got %d", rep.Requests, lost, rep.Bursts, d.accepted())
		}
		return
	}
	if int64(rep.Dials) != d.accepted() || rep.Requests != 0 || rep.Bursts < len(rep.Invocations)-rep.Failed {
		t.Errorf("%d dials, %d requests and %d bursts in %d invocations; the downstream accepted %d connections", rep.Dials, rep.Requests, rep.Bursts, len(rep.Invocations), d.accepted())
	}
	for _, tg := range rep.Targets {
		if !strings.HasPrefix(tg.Name, "https://"+ownHost+":") || tg.SetUp <= 0 || tg.Handshake < 500 {
			t.Errorf("target %+v: want the name, the time and the bytes of a handshake", tg)
		}
	}
}

func TestOwnFunctionFailsOnForgottenFlowsWithGosClientAndNotWithThaw(t *testing.T) {
	skipWithoutFakeClock(t)
	for _, p := range protocols {
		for _, who := range clientNames {
			t.Run(string(p)+"/"+string(who), func(t *testing.T) {
				d, args := ownDownstream(t, p, who)
				// Longer than thaw trusts a connection of any kind, and shorter than it keeps one. Go's client closes after 90
				// seconds what it has in the pool, which races the first request.
				freeze := map[clientName]string{clientThaw: "3m", clientDefault: "80s"}[who]
				args = append(args, "-events", writeEvents(t, kindPost, 4), "-fault", "nat", "-freeze", freeze, "-fake-clock")
				rep := runOwnJSON(t, args...)
				whatTheProxySaw(t, d, rep)
				if len(rep.Invocations) != 4 {
					t.Fatalf("%d invocations, want 4", len(rep.Invocations))
				}
				first := rep.Invocations[0]
				if first.Dials != 1 || first.Error != "" || !first.New {
					t.Errorf("the first invocation: %+v; want a dial, and no failure", first)
				}
				second := rep.Invocations[1]
				if second.Kept != 1 || second.Broken != 1 {
					t.Errorf("the second invocation: %+v; want its one connection broken", second)
				}
				switch {
				case who == clientThaw && (rep.Failed > 0 || rep.Saved.Failures > 0 || rep.Dials != 4):
					t.Errorf("thaw: %d failed, %d dials; want none, and one for each invocation: %+v", rep.Failed, rep.Dials, rep.Invocations)
				case who == clientDefault && (second.Error == "" || second.Lost == 0 || rep.Saved.Failures != rep.Failed):
					// A failure leaves no connection, so every other freeze finds one.
					t.Errorf("http.Client: %+v; want a failure, with bytes written into the broken connection", second)
				}
			})
		}
	}
}

func skipWithoutFakeClock(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("clocks can be moved on Linux on amd64 only")
	}
}

func TestOwnFunctionWithThawFailsInNoFault(t *testing.T) {
	skipWithoutFakeClock(t)
	for _, f := range []fault{faultFIN, faultRST, faultHole, faultNone} {
		for _, p := range protocols {
			d, args := ownDownstream(t, p, clientThaw)
			rep := runOwnJSON(t, append(args, "-events", writeEvents(t, kindPost, 3), "-fault", string(f), "-freeze", "150s", "-fake-clock")...)
			whatTheProxySaw(t, d, rep)
			if rep.Failed > 0 || rep.Fault != f || len(rep.Invocations) != 3 {
				t.Errorf("%s, %s: %d of %d failed: %+v", f, p, rep.Failed, len(rep.Invocations), rep.Invocations)
			}
			broken := map[bool]int{true: 0, false: 1}[f == faultNone]
			if got := rep.Invocations[1]; got.Kept != 1 || got.Broken != broken {
				t.Errorf("%s, %s: %d kept and %d broken, want 1 and %d", f, p, got.Kept, got.Broken, broken)
			}
		}
	}
}

func TestInterruptedOwnRunStopsTheFunction(t *testing.T) {
	_, args := ownDownstream(t, protoH1, clientDefault)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var out, problems bytes.Buffer
	if status := run(ctx, append(args, "-events", writeEvents(t, kindGet, 2), "-freeze", "1h"), &out, &problems); status != exitInterrupted {
		t.Errorf("status %d, want %d: %s", status, exitInterrupted, &problems)
	}
	if out.Len() > 0 {
		t.Errorf("printed: %s", &out)
	}
	noChildren(t)
}

func TestOwnFunctionKeepsItsConnectionsBehindAHopThatKeepsThem(t *testing.T) {
	skipWithoutFakeClock(t)
	for _, tt := range []struct {
		freeze string
		fault  fault
	}{{"59s", faultNone}, {"61s", faultFIN}} {
		d, args := ownDownstream(t, protoH2, clientThaw)
		rep := runOwnJSON(t, append(args, "-n", "2", "-events", writeEvents(t, kindGet, 1), "-hop", "alb", "-freeze", tt.freeze, "-fake-clock")...)
		whatTheProxySaw(t, d, rep)
		dials := map[fault]int{faultNone: 1, faultFIN: 3}[tt.fault]
		if rep.Fault != tt.fault || rep.Dials != dials || rep.Failed > 0 || len(rep.Invocations) != 3 {
			t.Errorf("frozen for %s: fault %s, %d dials, %d of %d failed; want %s, %d and none of 3", tt.freeze, rep.Fault, rep.Dials, rep.Failed, len(rep.Invocations), tt.fault, dials)
		}
	}
}

func TestOwnFunctionThatEndsGetsANewEnvironment(t *testing.T) {
	d, args := ownDownstream(t, protoH1TLS, clientDefault)
	events := filepath.Join(t.TempDir(), "events.json")
	lines := `{"id":"a","kind":"get"}
{"id":"exit"}
{"id":"c","kind":"no such kind"}`
	if err := os.WriteFile(events, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	rep := runOwnJSON(t, append(args, "-events", events)...)
	whatTheProxySaw(t, d, rep)
	for i, want := range []struct {
		fresh bool
		err   string
	}{{true, ""}, {false, "exit status 3"}, {true, "no kind of request"}} {
		got := rep.Invocations[i]
		if got.New != want.fresh || !strings.Contains(got.Error, want.err) || (want.err == "") != (got.Error == "") {
			t.Errorf("invocation %d: %+v; want a new environment: %v, error %q", i+1, got, want.fresh, want.err)
		}
	}
	if rep.Failed != 2 || rep.Saved.Failures != 1 {
		t.Errorf("%d failed, %d of them after connections were broken; want 2 and 1", rep.Failed, rep.Saved.Failures)
	}
}

func TestOwnFunctionWhoseDownstreamIsDownIsToldSo(t *testing.T) {
	d, args := ownDownstream(t, protoH1TLS, clientDefault)
	d.close()
	rep := runOwnJSON(t, append(args, "-events", writeEvents(t, kindGet, 1))...)
	if rep.Failed != 2 || rep.Targets[0].Failed != rep.Targets[0].Dials {
		t.Errorf("%d of 2 failed, %+v; want all", rep.Failed, rep.Targets[0])
	}
	if why := rep.Invocations[0].Error; !strings.Contains(why, "Bad Gateway") {
		t.Errorf("error %q, want the proxy's", why)
	}
}

func TestOwnFunctionGoesToLoopbackWithoutTheProxy(t *testing.T) {
	d, args := ownDownstream(t, protoH1, clientThaw)
	// What docs/lambda.md says the lab does not see.
	i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, ownEnv) })
	args[i] = strings.ReplaceAll(args[i], ownHost, "127.0.0.1")
	rep := runOwnJSON(t, append(args, "-events", writeEvents(t, kindGet, 2))...)
	if rep.Failed > 0 || rep.Dials > 0 || d.accepted() == 0 {
		t.Errorf("%d failed, the lab saw %d dials and the downstream %d; want it to see none", rep.Failed, rep.Dials, d.accepted())
	}
}

func TestOwnTablesShowWhatHappened(t *testing.T) {
	_, args := ownDownstream(t, protoH1TLS, clientDefault)
	var out, progress bytes.Buffer
	run(t.Context(), append(args, "-events", writeEvents(t, kindPost, 3), "-fault", "nat"), &out, &progress)
	for _, want := range []string{
		"frozen for 10ms. NAT: the flow is forgotten", "failed: ", "connection reset by peer", "https://" + ownHost, "invocations failed",
		"of the failures came after a freeze that had broken connections", "connections dialled for them",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &out)
		}
	}
	if n := strings.Count(progress.String(), "\n"); n != 3 {
		t.Errorf("%d lines of progress, want 3:\n%s", n, &progress)
	}
}

func TestAnswersWithAStatusOf500OrMoreAreFailures(t *testing.T) {
	for payload, failed := range map[string]bool{
		`{"statusCode": 502, "body": ""}`: true,
		`{"statusCode": 404}`:             false,
		`{"statusCode": "502"}`:           false,
		`"statusCode 502"`:                false,
		`null`:                            false,
	} {
		if got := badStatus([]byte(payload)); (got != "") != failed {
			t.Errorf("%s: %q, want a failure: %v", payload, got, failed)
		}
	}
}
