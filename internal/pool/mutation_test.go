package pool

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var mutate = flag.Bool("mutate", false, "test the tests: break one rule after the other, and see whether they notice")

const (
	// mutantHistories is how many random histories a mutant has to survive. Those that only histories notice are noticed by the
	// first few.
	mutantHistories = "60"
	// mutantTimeout ends a mutant that hangs. What it runs takes less than a second.
	mutantTimeout = "10s"
)

// mutation is a change of one rule: the text before, which is in its file once, and the text after.
type mutation struct{ file, before, after, breaks string }

// TestAMutationOfEachRuleIsNoticed runs the tests of this package with one rule after the other broken. A mutant that all tests pass
// shows that no test holds its rule. The tree stays as it is: the mutants are put over it with -overlay.
func TestAMutationOfEachRuleIsNoticed(t *testing.T) {
	if !*mutate {
		t.Skip("takes minutes: make mutate")
	}
	t.Run("none", func(t *testing.T) {
		if out, err := runMutant(buildMutant(t, nil)); err != nil {
			t.Fatalf("the tests fail without a mutation: %v\n%s", err, out)
		}
	})
	if t.Failed() {
		return
	}
	names := make(map[string]bool)
	covered := make(map[string]bool)
	for _, c := range mutations {
		if name := c.file + ": " + c.breaks; names[name] {
			t.Errorf("two mutations are called %q", name)
		} else {
			names[name] = true
		}
		covered[c.file] = true
		t.Run(c.file+"/"+c.breaks, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), c.before); n != 1 {
				t.Fatalf("%s has this %d times, want once: it has changed, and so must the mutation:\n%s", c.file, n, c.before)
			}
			mutant := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(mutant, []byte(strings.Replace(string(source), c.before, c.after, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := runMutant(buildMutant(t, map[string]string{c.file: mutant}))
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if err == nil {
				t.Errorf("no test notices that in %s\n%s\nbecomes\n%s\nso that: %s", c.file, c.before, c.after, c.breaks)
				return
			}
			t.Logf("noticed by %s", noticed(out))
		})
	}
	for _, file := range ruleFiles {
		if !covered[file] {
			t.Errorf("%s has no mutation", file)
		}
	}
}

// buildMutant builds the tests of this package with some of its files replaced, and returns the program.
func buildMutant(t *testing.T, replaced map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for file, mutant := range replaced {
		overlay.Replace[filepath.Join(here, file)] = mutant
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test.exe")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// To compile takes longer than to run, so nothing is optimised.
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-gcflags=-N -l", "-ldflags=-s -w", "-overlay", list, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("does not compile: %v\n%s", err, out)
	}
	return program
}

// runMutant runs a test program: what takes no time first, and the random histories if that passes.
func runMutant(program string) ([]byte, error) {
	for _, choice := range []string{"-test.skip=^TestRandomHistories$", "-test.run=^TestRandomHistories$"} {
		out, err := exec.Command(program, choice, "-test.failfast", "-test.timeout="+mutantTimeout, "-histories="+mutantHistories).CombinedOutput()
		if err != nil {
			return out, err
		}
	}
	return nil, nil
}

var (
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	badEvent   = regexp.MustCompile(`event \d+, .*`)
)

// noticed names the tests that failed, those without subtests that did.
func noticed(out []byte) string {
	var names []string
	for _, m := range failedTest.FindAllSubmatch(out, -1) {
		names = append(names, string(m[1]))
	}
	leaves := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(names, func(other string) bool { return strings.HasPrefix(other, name+"/") })
	})
	switch {
	case strings.Contains(string(out), "panic: test timed out"):
		return "its timeout"
	case len(leaves) == 0 || strings.Contains(string(out), "\npanic: "):
		leaves = append(leaves, "a panic")
	case leaves[0] == "TestRandomHistories":
		leaves = append(leaves, string(badEvent.Find(out)))
	}
	return strings.Join(leaves, ", ")
}

// ruleFiles are those that doc.go lists, and what they stand on.
var ruleFiles = []string{
	"origin.go", "conn.go", "fit.go", "trust.go", "streams.go", "request.go", "dial.go", "supply.go", "room.go", "leak.go", "clock.go",
	"machine.go", "decision.go",
}

var mutations = []mutation{
	{"origin.go", "(m *Machine, _ time.Duration) { m.pump(o) }", "(m *Machine, _ time.Duration) {}", "nobody is woken after a pause between dials"},
	{"origin.go", "m.taken < m.cfg.MaxConns }", "true }", "MaxConns is not told to be the reason"},
	{"origin.go", "o.taken == 0 && o.open", "o.open", "an origin is forgotten before its last connection is really closed"},
	{"origin.go", "InUse: o.open - o.unused", "InUse: o.open", "idle connections are told to be in use"},

	{"conn.go", "\tif !c.served {", "\tif false {", "no pause when a server goes away again and again"},
	{"conn.go", "\tif !c.served {", "\tif true {", "a pause when a server goes away that has served requests"},
	{"conn.go", "\tm.retire(c, ByServer)\n}", "\tm.close(c, ByServer)\n}", "GOAWAY ends the requests that a connection has"},
	{"conn.go", "\t\t\tm.vacate(c)", "", "a retired connection keeps its place under the limits"},
	{"conn.go", "min(c.idleFor, d)", "d", "Keep-Alive of a server makes the idle limit longer"},
	{"conn.go", "c.idleFor = min(c.idleFor, d)", "", "Keep-Alive of a server is ignored"},
	{"conn.go", "left = min(left, c.lifetime-m.age(c.born))", "", "no timer for the end of a lifetime"},
	{"conn.go", "left = min(left, c.idleFor-m.age(c.idleAt))", "", "no timer for the end of an idle limit"},
	{"conn.go", "\tm.pauseDue(c)\n", "", "what a server refused once it is never given again"},
	{"conn.go", "number: m.turn,", "", "a fresh connection is not taken for fresh"},
	{"conn.go", "allowed: int32(o.allowed)", "allowed: plenty", "what one connection refused is asked of the next"},
	{"conn.go", "\tif c.life == live {\n\t\tc.reason = why\n\t}", "\tc.reason = why", "the reason of a retirement is forgotten"},

	{"fit.go", "case c.life != live:", "case c.life == closed:", "a retired connection is looked after"},
	{"fit.go", "case c.streams == 0 && (over || c.trust == trusted && m.passed(c.idleAt, c.idleFor)):", "case false:", "what has expired is used"},
	{"fit.go", "case c.yields:", "case false:", "a connection that yields takes requests"},
	{"fit.go", "case c.trust != trusted:", "case c.trust == late:", "a connection takes requests while its proof is out"},
	{"fit.go", "case m.now < c.resume:", "case false:", "no pause after a refusal"},
	{"fit.go", "c.streams >= c.most()", "c.streams > c.most()", "one stream too many"},
	{"fit.go", "case m.doubtful(c) && (c.protocol == HTTP2 || k.careful()):", "case false:", "nothing is proven"},
	{"fit.go", "case m.doubtful(c) && (c.protocol == HTTP2 || k.careful()):", "case m.doubtful(c) && k.careful():", "over HTTP/2 only careful requests wait for a proof"},
	{"fit.go", "case m.doubtful(c) && (c.protocol == HTTP2 || k.careful()):", "case m.doubtful(c):", "over HTTP/1.1 all wait for a proof"},
	{"fit.go", "case k.careful() && c.streams > 0 && !c.settled():", "case false:", "careful requests share a connection before its SETTINGS"},
	{"fit.go", "case k.fresh() && c.number < turn:", "case false:", "a fresh connection is any"},
	{"fit.go", "case k.careful() && m.distrusted(c):", "case false:", "TrustIdle does not hold"},
	{"fit.go", "case k.careful() && m.distrusted(c):", "case m.distrusted(c):", "TrustIdle holds for what may be sent again"},
	{"fit.go", "case over:", "case false:", "a connection in use is used beyond its lifetime"},
	{"fit.go", "[...]place{free, spare}", "[...]place{spare, free}", "HTTP/2 connections without requests are used first"},
	{"fit.go", "case (where == idle || where == spare) && l.n > 0 && l.first().idleAt > c.idleAt:", "case false:", "what is given back unused counts as used"},
	{"fit.go", "l.pushFront(&c.at, c)", "l.pushBack(&c.at, c)", "the connection that was idle longest is used first"},
	{"fit.go", "\t\tm.within(&c.timer, m.untilExpiry(c))\n", "", "idle connections are closed only when somebody asks"},
	{"fit.go", "if c.trust == late {", "if false {", "a late proof is waited for"},
	{"fit.go", "return proving, room", "return proving, 0 * room", "a proof is not waited for"},
	{"fit.go", "return where, max(1, said)", "return where, 0", "a refused stream begins a dial"},
	{"fit.go", "case h1, m.unwilling(c):", "case h1:", "who waits for a backend that takes no requests has no other one"},
	{"fit.go", "return where, plenty //", "return where, 0 //", "a server that allows no streams gets dials at once"},
	{"fit.go", "return where, said //", "return where, 0 //", "a server that refuses for now gets dials"},
	{"fit.go", "return unsaid, plenty", "return unsaid, 0", "dials do not wait for SETTINGS"},
	{"fit.go", "if c := o.newest; k.fresh() && c != nil &&", "if c := o.newest; false &&", "the newest connection is not found among many"},
	{"fit.go", " && m.lastResort(o, turn) {", " {", "a connection is used beyond its lifetime, though another may be made"},
	{"fit.go", "m.fit(c, k, turn) == Outlived &&", "false &&", "a connection beyond its lifetime is no last resort"},
	{"fit.go", "return o.failures > 0 ||", "return", "no last resort when the dial of the successor has failed"},
	{"fit.go", "|| o.onTime == 0 && o.dials > 0 ||", "||", "no last resort when the dial of the successor is late"},
	{"fit.go", "|| !m.room(o, turn)\n", "\n", "no last resort when there is no room for a successor"},
	{"fit.go", "\t\t\tm.setAside(c)\n\t\t\tcontinue", "\t\t\treturn nil", "behind a connection in doubt nothing is found"},

	{"trust.go", "if c.life != live || m.doubtful(c) {", "if c.life != live {", "a byte from before the doubt is a proof"},
	{"trust.go", "; at > c.suspected {", "; true {", "a byte from before a suspicion counts"},
	{"trust.go", "\tc.suspected = m.now\n", "", "a suspicion does not outlive what was heard before it"},
	{"trust.go", "\tc.unprovable = true\n", "", "what cannot be proven is asked again and again"},
	{"trust.go", "c.trust == trusted && !c.unprovable {", "c.trust == trusted {", "a proof is asked of who cannot be asked"},
	{"trust.go", "return c.unprovable && after", "return after", "TrustIdle holds for what can be proven"},
	{"trust.go", "c.trust, c.since, c.restarts = asked, m.now, 0", "c.trust, c.since = asked, m.now", "a proof is patient because of the freezes of an earlier one"},
	{"trust.go", "min(4*c.rtt+proofSlack, m", "min(40*c.rtt+proofSlack, m", "an answer is late after forty round trips"},
	{"trust.go", "min(4*c.rtt+proofSlack, m", "min(0*c.rtt+proofSlack, m", "far away is late"},
	{"trust.go", "\tm.match(c.origin) //", "\t//", "a proof comes too late for those whose dials have failed"},
	{"trust.go", "for o.proofs == 0 && o.held.n > 0 {", "for o.held.n > 0 {", "the first proof that fails ends those who were kept for another"},
	{"trust.go", "case overdue > stoodStill && c.restarts < maxRestarts:", "case false:", "a proof fails because of a freeze"},
	{"trust.go", "case overdue > stoodStill && c.restarts < maxRestarts:", "case overdue > stoodStill:", "a proof begins again without end"},
	{"trust.go", "\t\tm.unanswered(c)\n", "\t\tc.trust = late\n", "who does not answer is never given up"},
	{"trust.go", "\t\tc.trust = late\n", "", "a late answer has no dial beside it"},
	{"trust.go", "\tif unused {", "\tif false && unused {", "who does not answer says nothing of the others"},
	{"trust.go", "\tif unused {", "\tif unused || true {", "a stream that hangs says something of the idle connections"},
	{"trust.go", "\tm.retire(c, Unverified)\n", "\tm.close(c, Unverified)\n", "a proof that does not come ends the requests under way"},
	{"trust.go", "\tif g.WasIdle {", "\tif false {", "a dead connection says nothing of those idle for as long"},
	{"trust.go", "\tif g.WasIdle {", "\tif true {", "a new connection that dies takes idle ones along"},
	{"trust.go", "if m.age(idleAt) < condemnAfter && idleAt > m.thawed {", "if false {", "a connection that was closed after a moment takes others along"},
	{"trust.go", "if m.age(idleAt) < condemnAfter && idleAt > m.thawed {", "if m.age(idleAt) < condemnAfter {", "what died in a short freeze takes nothing along"},
	{"trust.go", "c != nil && c.idleAt <= idleAt;", "c != nil;", "a dead connection takes those along that were used since"},

	{"streams.go", "other != nil && streams > 0;", "false;", "SETTINGS of one connection say nothing of the others"},
	{"streams.go", "if streams == 0 && (!c.said || c.limit > 0) {", "if false {", "a server that allows no streams gets dials without a pause"},
	{"streams.go", "(c.refusals >= patientRefusals || c.said && c.limit == 0) &&", "(c.said && c.limit == 0) &&", "who waits for a backend that refuses all has no other one"},
	{"streams.go", "(c.refusals >= patientRefusals || c.said && c.limit == 0) &&", "c.refusals >= patientRefusals &&", "who waits for a backend that allows no stream has no other one"},
	{"streams.go", " && m.now >= c.origin.beside\n", "\n", "there is no pause between the dials beside connections that take no requests"},
	{"streams.go", "firstPause<<min(4*o.besides, 20)", "firstPause<<4", "the pauses between such dials do not grow"},
	{"streams.go", "\t\tm.within(&c.timer, left)\n\t}\n}\n\n// Refusals", "\t}\n}\n\n// Refusals", "no timer for the end of such a pause"},
	{"streams.go", "pause(max(int(c.refusals), c.origin.refusals))", "pause(int(c.refusals))", "the pauses of a server begin anew on each connection"},
	{"streams.go", "\t\tm.place(c)\n\t\tm.offer(c)\n", "\t\tm.place(c)\n", "what SETTINGS make free is not offered to who came first"},
	{"streams.go", "c.said, c.limit = true, unsaidStreams", "c.limit = unsaidStreams", "SETTINGS are never taken for said"},
	{"streams.go", "left := m.settingsTime() - m.age(c.born)", "left := 2*m.settingsTime() - m.age(c.born)", "SETTINGS are waited for twice as long"},
	{"streams.go", "left := m.settingsTime() - m.age(c.born)", "left := time.Duration(0) * m.age(c.born)", "SETTINGS are waited for until any timer of the connection"},
	{"streams.go", "\treturn time.Second\n", "\treturn Forever\n", "SETTINGS are waited for without end if proofs are"},
	{"streams.go", "return min(c.limit, most)", "return c.limit", "MaxStreamsPerConn does not hold"},
	{"streams.go", "return min(c.limit, unsaidStreams, most)", "return min(c.limit, most)", "before SETTINGS more streams than the protocol layer opens"},
	{"streams.go", "firstPause<<min(n-1, 20)", "firstPause", "pauses do not grow"},
	{"streams.go", "min(firstPause<<min(n-1, 20), lastPause)", "firstPause<<min(n-1, 20)", "pauses grow without end"},
	{"streams.go", "if m.now >= c.resume {", "if true {", "many refusals at once count as many"},
	{"streams.go", "c.allowed = min(c.allowed, c.streams)", "", "the limit that a server showed is not learned"},
	{"streams.go", "\t\tc.origin.allowed = int(c.allowed)\n\t}\n\tif c.refusals", "\t}\n\tif c.refusals", "the limit that a server showed is not learned for the next connection"},
	{"streams.go", "if c.refusals > maxRefusals {", "if false {", "a connection that refuses everything is kept for ever"},
	{"streams.go", "\tc.served = true\n", "", "a connection that has served counts as one that has not"},
	{"streams.go", "\tc.refusals = 0\n", "", "refusals are counted over those that were served between"},
	{"streams.go", "o.setbacks, o.refusals, o.besides, o.beside = 0, 0, 0, 0", "o.refusals, o.besides, o.beside = 0, 0, 0", "pauses between dials never shrink"},
	{"streams.go", "o.setbacks, o.refusals, o.besides, o.beside = 0, 0, 0, 0", "o.setbacks, o.besides, o.beside = 0, 0, 0", "pauses after refusals never shrink"},
	{"streams.go", "o.setbacks, o.refusals, o.besides, o.beside = 0, 0, 0, 0", "o.setbacks, o.refusals = 0, 0", "dials beside connections that take no requests come later and later"},
	{"dial.go", "\t\tm.besides(o)\n", "", "a dial beside connections that take no requests has no pause after it"},
	{"streams.go", "\t\tc.allowed++\n", "", "a limit that was learned never rises"},
	{"streams.go", "c.allowed = max(c.allowed, c.streams+1)", "", "after a pause nobody is let in"},
	{"streams.go", "\to.resume = m.now + moment(pause(o.setbacks))\n", "", "no pause before the next dial to a server that goes away"},

	{"request.go", "o.waits > m.cfg.MaxWaiters", "o.waits >= m.cfg.MaxWaiters", "fewer wait than may"},
	{"request.go", "r.waits && o.waits > m.cfg.MaxWaiters && !again && !m.Coming(r)", "false", "more wait than may"},
	{"request.go", "o.waits > m.cfg.MaxWaiters && !again &&", "o.waits > m.cfg.MaxWaiters &&", "who has waited before is turned away"},
	{"request.go", " && !again && !m.Coming(r) {", " && !again {", "who has a dial is turned away"},
	{"request.go", "|| o.freeing > 0 ||", "||", "who waits for what is being closed is turned away"},
	{"request.go", "|| o.waits <= o.soon+o.onTime*o.each()", "", "who shares a dial is turned away"},
	{"request.go", "o.counts.WaitTime += time.Duration(max(0, m.read.Mono-r.mono))", "", "the time of waits is not counted"},
	{"request.go", "\t\tm.dequeue(r)\n\t\tm.pump(r.origin)", "\t\tm.dequeue(r)", "what was meant for one that gave up is lost"},
	{"request.go", "\tm.adopt(o)\n\tm.suspectLeaks()", "\tm.suspectLeaks()", "who comes does not take over the dial of one that gave up"},
	{"request.go", "\tm.adopt(o)\n}\n\n// grant", "}\n\n// grant", "those who wait do not take over the dial of one that gave up"},
	{"request.go", "\tm.suspectLeaks()\n", "", "forgotten bodies are never looked for"},
	{"request.go", "!c.new, c.idled, c.idleAt", "true, c.idled, c.idleAt", "a new connection counts as idle"},
	{"request.go", "m.doubtful(c) || m.distrusted(c)", "m.distrusted(c)", "what is in doubt is not watched"},
	{"request.go", "m.doubtful(c) || m.distrusted(c)", "m.doubtful(c)", "what cannot be proven is not watched"},
	{"request.go", "g.WasIdle, g.Idle, g.idleAt = true, g.Conn.idled,", "g.WasIdle, g.Idle, g.idleAt = g.WasIdle, g.Conn.idled,", "what nobody has used yet counts as proven"},
	{"request.go", "\tm.hear(c, heard)\n", "", "what a request reads is no evidence"},
	{"request.go", "\t\tm.close(c, Broken)", "\t\tm.idles(c, m.now)", "a dead connection is used again"},
	{"request.go", "\t\tm.close(c, ByServer)", "\t\tm.serve(c)", "a connection that its server has closed is used again"},
	{"request.go", "\t\tm.suspect(c)\n", "", "silence is no reason to doubt"},
	{"request.go", "m.leaks.gaveBack = m.now\n\tm.drop(c)\n\tswitch", "m.drop(c)\n\tswitch", "bodies are taken for forgotten though connections are given back"},
	{"request.go", "\t\t\tsince = g.idleAt", "", "a connection that was not used counts as used"},
	{"request.go", "\tcase c.life == retired:\n\t\tm.close(c, c.reason)\n", "", "a retired connection is never closed"},
	{"request.go", "\tcase c.yields:\n\t\tm.close(c, Excess)\n", "", "a connection that yields is not closed when it is unused"},
	{"request.go", "since, false", "since, c.stubborn", "a connection that has yielded in vain never yields again"},
	{"request.go", "\t\tm.place(c)\n\t\tm.offer(c)\n", "\t\tm.place(c)\n", "what is given back stays with its origin"},

	{"dial.go", "\tm.within(&d.timer, m.cfg.DialDelay)\n", "", "no dial is ever late"},
	{"dial.go", "\t\td.liable = true\n", "", "a dial that fails fails nobody"},
	{"dial.go", "d.second = r.dials.n > 0", "d.second = false", "a second dial that fails fails its request, though the first may succeed"},
	{"dial.go", "d.owner, d.liable = r, false", "d.owner, d.liable = r, true", "a dial that was taken over fails who took it over"},
	{"dial.go", "if d == nil || d.late || r == nil {", "if d == nil || r == nil {", "a late dial is taken over as if it were on time"},
	{"dial.go", "\t\td.origin.orphans.pushBack(&d.own, d)", "\t\td.origin.orphans.pushFront(&d.own, d)", "late dials are taken over first"},
	{"dial.go", "\tm.orphans.pushBack(&d.orphan, d)\n", "", "dials that nobody waits for keep their places"},
	{"dial.go", "o.lates++; o.lates >= manyLate || o.failures > 0", "o.lates++; o.failures > 0", "dials that hang, one after the other, do not count as failing"},
	{"dial.go", "o.lates++; o.lates >= manyLate || o.failures > 0", "o.lates++; o.lates >= manyLate", "a dial that hangs after one that failed does not count as failing"},
	{"dial.go", "o.lates++; o.lates >= manyLate || o.failures > 0", "o.lates++; true", "one late dial counts as failed"},
	{"dial.go", "if r.onTime == 0 && !r.second {", "if false {", "no second dial beside a late one"},
	{"dial.go", "if r.onTime == 0 && !r.second {", "if r.onTime == 0 {", "a third dial, and a fourth, for the same request"},
	{"dial.go", "if r == nil || r.onTime > 0 {", "if r == nil {", "a dial that fails fails a request that another one is on its way to"},
	{"dial.go", "r.dials.n > 0 && (!liable || d.second)", "false", "a second dial fails its request while the first may still succeed"},
	{"dial.go", "d.origin, d.liable && !d.cancelled", "d.origin, d.liable", "a dial that is cancelled fails its request"},
	{"dial.go", "\tif !d.cancelled {\n\t\to.failures++\n\t}", "\to.failures++", "a dial that is cancelled counts as failed"},
	{"dial.go", "m.match(o) //", "//", "no last resort before the failure of a dial is told"},
	{"dial.go", "case o.proofs > 0 && !r.Want.Fresh:", "case false:", "a dial fails its request while a proof is out"},
	{"dial.go", "case o.proofs > 0 && !r.Want.Fresh:", "case o.proofs > 0:", "who wants a fresh connection is kept for a proof"},
	{"dial.go", "\t\tm.fail(r, err)\n", "\t\tm.fail(r, err)\n\t\tfor w := o.bare.first(); w != nil; w = o.bare.first() {\n\t\t\tm.fail(w, err)\n\t\t}\n", "a dial that fails fails all who wait"},
	{"dial.go", "o.failures, o.lates, o.newest = 0, 0, c", "o.lates, o.newest = 0, c", "failures are not forgotten after a success"},
	{"dial.go", "o.failures, o.lates, o.newest = 0, 0, c", "o.failures, o.newest = 0, c", "late dials are not forgotten after a success"},
	{"dial.go", "\to.protocol = made.Protocol\n", "", "the protocol of an origin is not learned"},
	{"dial.go", "c.limit = int32(min(o.said, plenty))", "", "what SETTINGS said last is forgotten"},
	{"dial.go", "\t\tm.within(&c.timer, m.settingsTime())\n", "", "no timer for SETTINGS"},
	{"dial.go", "if made.GoneAway {", "if false {", "a connection that goes away at once is used"},
	{"dial.go", "\tc.new = false\n", "", "a connection is new for ever"},

	{"supply.go", "\tm.trim(o)\n", "", "MaxIdleConns does not hold"},
	{"supply.go", "\tm.supply(o)\n\tm.feed()", "\tm.supply(o)", "what is free under MaxConns is given to nobody"},
	{"supply.go", "w.Want.turn < r.Want.turn) {", "w.Want.turn > r.Want.turn) {", "who came last is served first"},
	{"supply.go", "r == nil || o.onTime >= o.width()", "r == nil", "each who waits has a dial after one has failed"},
	{"supply.go", "if m.now < o.resume {", "if false {", "the pause between dials does not hold"},
	{"supply.go", "m.within(&o.timer, time.Duration(o.resume-m.now))", "_ = time.Duration(o.resume - m.now)", "nobody comes back after the pause between dials"},
	{"supply.go", "m.makeRoom(o, min(dials, o.bare.len()))", "", "no room is made for those who wait"},
	{"supply.go", "m.starved.put(&o.hunger, o, next.Want.turn)", "", "an origin keeps the turn of one that was served"},
	{"supply.go", "\tm.wantNothing(o)\n", "", "an origin wants room that it does not need any more"},
	{"supply.go", "- o.held.n - o.soon\n", "- o.held.n\n", "dials for those whom a connection will serve soon"},
	{"supply.go", "max(up(waits-coming), up(o.fresh-coming))", "up(waits-coming)", "no dial for who wants a fresh connection, if others are served soon"},
	{"supply.go", "max(0, waits-o.fresh-max(0, coming-o.fresh))", "max(0, waits)", "a proof for those who have a dial, or want a fresh connection"},
	{"supply.go", "case o.failures > 0, o.protocol == HTTP1:", "case o.protocol == HTTP1:", "those who wait share a dial after one has failed"},
	{"supply.go", "case o.failures > 0, o.protocol == HTTP1:", "case o.failures > 0:", "a dial of HTTP/1.1 is shared"},
	{"supply.go", "return min(o.said, o.limits.MaxStreams)", "return o.said", "a dial is shared by more than MaxStreamsPerConn"},
	{"supply.go", "\tcase o.said > 0:\n\t\treturn min(o.said, o.limits.MaxStreams)\n", "", "a dial is shared by more than SETTINGS said last"},
	{"supply.go", "return 1 << min(o.failures, 20)", "return 1", "dials that fail do so one after the other"},
	{"supply.go", "o.failures == 0 || o.protocol == HTTP1 {", "o.failures == 0 {", "dials of HTTP/1.1 are few after one has failed"},
	{"supply.go", "\tif o.onTime > 0 {", "\tif false {", "second dials for all at once"},
	{"supply.go", "return o.slow.first(), true", "return nil, true", "a late dial is waited for"},
	{"supply.go", "\t\tn = min(n, 1)\n", "", "a warm-up begins many dials to an HTTP/2 server"},
	{"supply.go", "n - usable - o.onTime", "n - usable", "a warm-up does not count dials that are under way"},
	{"supply.go", "\t\tm.evictFor(o, missing)\n", "", "a warm-up has no room made"},
	{"supply.go", "e != nil && !beside; e = e.next {", "false; e = e.next {", "a warm-up does not count dials that are late"},
	{"supply.go", "e != nil && !beside; e = e.next {", "e != nil; e = e.next {", "a warm-up beside those that are late begins none"},

	{"room.go", "o.taken < o.limits.MaxConns", "o.taken <= o.limits.MaxConns", "one more than MaxConnsPerHost"},
	{"room.go", "|| m.taken >= m.cfg.MaxConns {", "{", "MaxConns does not hold"},
	{"room.go", "return first == nil || first == o || first.hunger.key > turn", "return first == first", "under MaxConns who came last is served first"},
	{"room.go", "\t\tm.evict()\n\t} else", "\t} else", "nothing is closed for those who wait for room under MaxConns"},
	{"room.go", "\t\tm.evictOwn(o, n)\n", "", "nothing is closed for those who wait for room at their origin"},
	{"room.go", "for o.freeing < n {", "for o.freeing < n+1 {", "more is closed at an origin than is wanted"},
	{"room.go", "if d := o.orphans.first(); d != nil {", "if d := o.orphans.first(); false {", "dials that nobody waits for keep their places at an origin"},
	{"room.go", "if d := m.orphans.first(); d != nil {", "if d := m.orphans.first(); false {", "dials that nobody waits for keep their places under MaxConns"},
	{"room.go", "\t\tif e.v.origin != o {", "\t\tif true {", "a warm-up closes what it has"},
	{"room.go", "(d.late || !d.ahead) &&", "", "a warm-up ends the dials of another that are on time"},
	{"room.go", "(d.late || !d.ahead) &&", "d.late &&", "a warm-up leaves dials in its way whose requests have ended"},
	{"room.go", "(d.late || !d.ahead) &&", "!d.ahead &&", "a warm-up leaves late dials in its way"},
	{"room.go", "e != nil && m.freeing < n && o.hostRoom();", "e != nil && o.hostRoom();", "a warm-up closes more than it wants"},
	{"room.go", "e != nil && m.freeing < n && o.hostRoom();", "e != nil && m.freeing < n;", "a warm-up closes connections of others though its own limit is full"},
	{"room.go", "\tm.stopYielding()\n}", "}", "a connection yields though nobody wants its place any more"},
	{"room.go", "(c.protocol == HTTP1 || c.stubborn)", "c.protocol == HTTP1", "a connection that has yielded in vain yields again at once"},
	{"room.go", "m.freeing+m.yielded.n < m.wanted && s.hunger.key < mine {", "s.hunger.key < mine {", "more connections are given up than are wanted"},
	{"room.go", "m.wanted && s.hunger.key < mine {", "m.wanted {", "a connection is given to another origin, though somebody of its own came first"},
	{"room.go", "m.wanted && s.hunger.key < mine {", "m.wanted && false {", "a busy origin keeps its connections"},
	{"room.go", "k.fresh() && r.Want.turn < mine && r", "false && r", "a connection stays in the way of who wants a fresh one"},
	{"room.go", "\tm.serveAgain(c)\n\tc.stubborn", "\tc.stubborn", "yielding never ends"},
	{"room.go", "\tc.stubborn = true\n", "", "yielding in vain begins again at once"},
	{"room.go", "m.starved.first(); s != nil && s != c.origin {", "m.starved.first(); s != nil {", "a connection yields for its own origin"},
	{"room.go", "\t\t\tr.Want.Fresh = false\n", "\t\t\treturn\n", "who wants a fresh connection waits for one that there is no room for"},
	{"room.go", "|| m.freeing > 0 && o.hostRoom() {", "{", "who wants a fresh connection takes another, though room for one comes soon"},
	{"room.go", "for o.idle.n > o.limits.MaxIdleConns {", "for false {", "MaxIdleConnsPerHost does not hold"},
	{"room.go", "for m.idle.n > m.cfg.MaxIdleConns {", "for false {", "MaxIdleConns does not hold for all origins together"},

	{"leak.go", "if r.dials.n == 0 && m.age(r.since) >= leakWait", "if m.age(r.since) >= leakWait", "garbage is collected for who waits for a dial"},
	{"leak.go", "m.age(r.since) >= leakWait && m", "m", "garbage is collected for who has just come"},
	{"leak.go", "&& m.age(l.gaveBack) >= leakWait &&", "&&", "garbage is collected though connections are given back"},
	{"leak.go", " && m.age(l.collected) >= collectEvery {", " {", "garbage is collected all the time"},
	{"leak.go", "\t}\n\tm.suspectLeaks()\n", "\t}\n", "forgotten bodies are looked for once"},

	{"clock.go", "step := max(wall, mono, 0)", "step := max(min(wall, mono), 0)", "time passes by the clock that says less"},
	{"clock.go", "step := max(wall, mono, 0)", "step := max(wall, mono)", "time goes back"},
	{"clock.go", "if wall < 0 {", "if false {", "a wall clock that was set back is believed"},
	{"clock.go", "c.born, c.idleAt = longAgo, longAgo", "_ = c", "a wall clock that was set back makes nothing old"},
	{"clock.go", "\t\t\tm.suspect(c)\n", "", "a wall clock that was set back makes nothing doubtful"},
	{"clock.go", "\t\tm.wakeAt = never //", "\t\t//", "a timer that was set before a freeze is relied on"},
	{"clock.go", "if !t.queued() || t.key > int64(at) {", "if true {", "a later deadline takes the place of a sooner one"},

	{"machine.go", "m.eachConn(func(c *Conn) { m.retire(c, ByReset) })", "", "a reset keeps connections"},
	{"machine.go", "{ m.retire(c, ByReset) })", "{ m.close(c, ByReset) })", "a reset ends the requests under way"},
	{"machine.go", "\t\tm.cancel(d)\n", "\t\tbreak\n", "CloseIdle keeps dials that nobody waits for"},
	{"machine.go", "\t\tif c.streams == 0 {\n\t\t\tm.close(c, ByReset)\n\t\t}", "\t\tm.close(c, ByReset)", "CloseIdle ends the requests under way"},
	{"machine.go", "\tm.thawed = m.now\n", "", "a thaw is not remembered"},
	{"machine.go", "m.eachConn(m.lookAfter)", "", "a thaw looks at nothing"},
	{"machine.go", "\t\tm.close(c, m.expiry(c))\n", "", "a thaw keeps what has expired"},
	{"machine.go", "\t\tm.prove(c)\n", "", "a thaw proves nothing"},
	{"machine.go", "m.decide(Decision{Kind: DoLook, Conn: c})", "", "a thaw does not look at the sockets"},

	{"decision.go", "(t.key < int64(m.wakeAt) || m.wakeAt <= m.now)", "t.key < int64(m.wakeAt)", "a wake-up that has not come is waited for"},
}
