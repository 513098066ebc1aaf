package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// browser is a headless Chromium, which is told what to do over a pipe: the DevTools protocol, a JSON object ended by a
// zero byte each way.
type browser struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Reader
	id      int
	session string
	events  []browserEvent // that have come and were not asked for
}

type browserEvent struct {
	Method string
	Params json.RawMessage
}

// newBrowser starts one with an empty page. Where there is none the test is skipped, but not in CI.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no chromium, which .ci/run installs")
		}
		t.Skip("there is no chromium")
	}
	fromTest, toTest, err := pipes()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "freezelab") //nolint:usetesting // the browser's children may still write there when it has ended
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile, "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{fromTest.r, toTest.w} // 3 and 4
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	fromTest.r.Close()
	toTest.w.Close()
	b := &browser{t: t, in: fromTest.w, out: bufio.NewReader(toTest.r)}
	t.Cleanup(func() {
		_, _ = io.WriteString(b.in, `{"id":0,"method":"Browser.close"}`+"\x00") // it may be gone before it answers
		_ = cmd.Wait()
		cancel()
		fromTest.w.Close()
		toTest.r.Close()
		for range 10 {
			if os.RemoveAll(profile) == nil {
				break
			}
		}
	})
	var target struct{ TargetID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.do(domain+".enable", nil, nil)
	}
	return b
}

type pipe struct{ r, w *os.File }

func pipes() (a, b pipe, err error) {
	if a.r, a.w, err = os.Pipe(); err == nil {
		b.r, b.w, err = os.Pipe()
	}
	return a, b, err
}

// do has the browser do something and decodes its answer into out, if that is not nil.
func (b *browser) do(method string, params map[string]any, out any) {
	b.t.Helper()
	b.id++
	msg := map[string]any{"id": b.id, "method": method}
	if params != nil {
		msg["params"] = params
	}
	if b.session != "" {
		msg["sessionId"] = b.session
	}
	text, err := json.Marshal(msg)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		answer := b.next()
		if answer.ID != b.id {
			continue
		}
		if len(answer.Error) > 0 {
			b.t.Fatalf("%s: %s", method, answer.Error)
		}
		if out != nil {
			if err := json.Unmarshal(answer.Result, out); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

type browserAnswer struct {
	ID            int
	Result, Error json.RawMessage
	browserEvent
}

// next reads the next message, and keeps it if it is an event.
func (b *browser) next() browserAnswer {
	b.t.Helper()
	text, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("the browser has gone: %v", err)
	}
	var a browserAnswer
	if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &a); err != nil {
		b.t.Fatal(err)
	}
	if a.Method != "" {
		b.events = append(b.events, a.browserEvent)
	}
	return a
}

// show loads a file in a window of a size, as a phone or not, and returns when it is there.
func (b *browser) show(file string, width, height int, scheme string) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.events = nil
	b.do("Page.navigate", map[string]any{"url": (&url.URL{Scheme: "file", Path: file}).String()}, nil)
	for !b.saw("Page.loadEventFired") {
		b.next()
	}
}

func (b *browser) saw(method string) bool {
	for _, e := range b.events {
		if e.Method == method {
			return true
		}
	}
	return false
}

// eval evaluates an expression and decodes its value into out.
func (b *browser) eval(expression string, out any) {
	b.t.Helper()
	var r struct {
		Result struct{ Value json.RawMessage }
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if err := json.Unmarshal(r.Result.Value, out); err != nil {
		b.t.Fatalf("%s: %v: %s", expression, err, r.Result.Value)
	}
}

// inspect checks what holds for every page of freezelab, in light and dark, on a desk and on a phone.
func inspect(t *testing.T, file string) {
	t.Helper()
	b := newBrowser(t)
	grounds := make(map[string]bool)
	for _, view := range []struct {
		width, height int
		scheme        string
	}{{1280, 900, "light"}, {390, 844, "light"}, {390, 844, "dark"}} {
		name := fmt.Sprintf("%d wide, %s", view.width, view.scheme)
		b.show(file, view.width, view.height, view.scheme)
		var got struct {
			Width, Inner, Drawings, Unnamed, Lanes, Marks, Rows int
			Ground, Ink, Title                                  string
		}
		b.eval(`(() => {
			document.querySelectorAll('details').forEach(d => d.open = true);
			const svgs = [...document.querySelectorAll('svg')], style = getComputedStyle(document.body);
			const named = s => s.getAttribute('aria-hidden') === 'true' || s.getAttribute('role') === 'img' &&
				s.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id)?.textContent.trim());
			return {
				Width: document.scrollingElement.scrollWidth, Inner: innerWidth, Drawings: svgs.length, Unnamed: svgs.filter(s => !named(s)).length,
				Lanes: document.querySelectorAll('svg line.alive').length, Marks: document.querySelectorAll('.plots svg g').length,
				Rows: document.querySelectorAll('tbody tr').length, Ground: style.backgroundColor, Ink: style.color, Title: document.title,
			};
		})()`, &got)
		if got.Inner != view.width || got.Width > view.width {
			t.Errorf("%s: the page is %d wide in a window of %d", name, got.Width, got.Inner)
		}
		if got.Unnamed > 0 {
			t.Errorf("%s: %d of %d drawings have no name", name, got.Unnamed, got.Drawings)
		}
		if got.Lanes < 3 || got.Marks < 3 || got.Rows < 2 || got.Title == "" {
			t.Errorf("%s: %+v; want lanes, marks, rows and a title", name, got)
		}
		if got.Ground == got.Ink {
			t.Errorf("%s: %s on %s", name, got.Ink, got.Ground)
		}
		grounds[view.scheme+" "+got.Ground] = true
		for _, e := range b.events {
			switch e.Method {
			case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
				t.Errorf("%s: the console says: %s", name, e.Params)
			case "Network.requestWillBeSent":
				var r struct{ Request struct{ URL string } }
				if err := json.Unmarshal(e.Params, &r); err != nil || !strings.HasPrefix(r.Request.URL, "file:") && !strings.HasPrefix(r.Request.URL, "data:") {
					t.Errorf("%s: it asks for %s (%v)", name, r.Request.URL, err)
				}
			}
		}
		if !b.saw("Network.requestWillBeSent") {
			t.Errorf("%s: no request was seen, not even that for the page: this test looks in the wrong place", name)
		}
	}
	if len(grounds) != 2 {
		t.Errorf("the grounds are %v, want one for light and one for dark", grounds)
	}
}

// selfContained checks that the text of a page refers to nothing outside of it.
func selfContained(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?i)(?:src|href)="?[^"# >]+|url\([^)]*|@import|<script|https?://[^"<]*\.(?:js|css)`).FindAllString(string(b), -1) {
		if m != `href="data:,` {
			t.Errorf("the page refers to %s", m)
		}
	}
	return string(b)
}

func TestAPageIsTriedBeforeTheLabRunsAndLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	kept, missing := filepath.Join(dir, "kept.html"), filepath.Join(dir, "missing.html")
	if err := os.WriteFile(kept, []byte("of last time"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", kept, missing} {
		if err := creatable(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "of last time" {
		t.Errorf("the page of last time is %q, %v", b, err)
	}
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("a page is there before the lab has run: %v", err)
	}
	if err := creatable(dir); err == nil {
		t.Error("a folder can be written")
	}
}

func TestPageOfTheLabRenders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.html")
	runJSON(t, "-cases ^(nat/h1/post|fin/h2/get|burst/10)$ -slow-n 3 -n 3 -html "+file)
	text := selfContained(t, file)
	for _, want := range []string{
		"nat/h1/post", "fin/h2/get", "http.Client", "thaw", "forgotten while frozen (NAT)", "closed while frozen (FIN)", "connection reset by peer",
		"handshake, ", "dial, ", "freeze 3, ", "request, answered in", "written into the broken connection", "Bursts to a cold HTTP/2 host",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	inspect(t, file)
}

func TestPageOfAnOwnFunctionRenders(t *testing.T) {
	_, args := ownDownstream(t, protoH1TLS, clientDefault)
	file := filepath.Join(t.TempDir(), "report.html")
	runOwnJSON(t, append(args, "-events", writeEvents(t, kindPost, 5), "-fault", "nat", "-html", file)...)
	text := selfContained(t, file)
	for _, want := range []string{"https://" + ownHost, "handshake, ", "burst of bytes, answered in", "forgotten while frozen (NAT)", "failed: ", "frozen for 10ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	inspect(t, file)
}

func TestPageQuotesWhatItIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.html")
	const evil = `<script>alert("x")</script>`
	rep := &ownReport{Bootstrap: evil, Invocations: []ownInvocation{{Error: evil}}, Targets: []target{{Name: evil}}}
	rep.count(&record{lanes: []*lane{{target: evil, opened: at(0), ended: at(1), cause: causeDial, detail: evil}}, invocations: []window{{span{at(0), at(1)}, true, evil}}})
	if err := writePage(file, rep.page()); err != nil {
		t.Fatal(err)
	}
	selfContained(t, file)
}
