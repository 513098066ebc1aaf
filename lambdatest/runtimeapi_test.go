package lambdatest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// apiClient speaks the Runtime API as a runtime of the test's making does.
type apiClient struct {
	t    *testing.T
	http *http.Client
	base string
}

func newAPI(t *testing.T, cfg Config) (*queue, apiClient) {
	t.Helper()
	cfg.Path = "bootstrap"
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(cfg, func(err error) { t.Error(err) })
	a, err := serveRuntimeAPI(cfg, q)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		a.close()
		q.close(ErrStopped)
	})
	return q, apiClient{t, &http.Client{Transport: transport}, "http://" + a.addr}
}

// do returns the status of an answer, and its error type if it has one.
func (c apiClient) do(method, path, body string, header ...string) (status int, errorType string, h http.Header) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode >= 400 {
		var doc struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(b, &doc); err != nil || doc.ErrorMessage == "" {
			c.t.Errorf("%s %s: error %d is not a JSON document: %q", method, path, res.StatusCode, b)
		}
		errorType = doc.ErrorType
	}
	return res.StatusCode, errorType, res.Header
}

func (c apiClient) expect(wantStatus int, wantType, method, path, body string, header ...string) http.Header {
	c.t.Helper()
	status, errorType, h := c.do(method, path, body, header...)
	if status != wantStatus || errorType != wantType {
		c.t.Errorf("%s %s: %d %q, want %d %q", method, path, status, errorType, wantStatus, wantType)
	}
	return h
}

func send(t *testing.T, q *queue, payload string) *invocation {
	t.Helper()
	inv := &invocation{id: newUUID(), trace: "Root=1-0-0", payload: []byte(payload), done: make(chan struct{})}
	if err := q.add(inv); err != nil {
		t.Fatal(err)
	}
	return inv
}

const (
	nextPath = "/2018-06-01/runtime/invocation/next"
	initPath = "/2018-06-01/runtime/init/error"
	regPath  = "/2020-01-01/extension/register"
	waitPath = "/2020-01-01/extension/event/next"
)

func answerPath(id, kind string) string { return "/2018-06-01/runtime/invocation/" + id + "/" + kind }

func TestRuntimeAPIRefusesWhatTheRealOneDoes(t *testing.T) {
	q, api := newAPI(t, Config{})
	q.start()

	api.expect(404, "NotFound", "GET", "/", "")
	api.expect(404, "NotFound", "GET", "/2018-06-01/runtime/invocation/", "")
	api.expect(405, "MethodNotAllowed", "POST", nextPath, "")
	api.expect(405, "MethodNotAllowed", "GET", answerPath("x", "response"), "")
	api.expect(405, "MethodNotAllowed", "PUT", answerPath("x", "error"), "")
	api.expect(405, "MethodNotAllowed", "GET", initPath, "")
	api.expect(400, "InvalidRequestID", "POST", answerPath("unknown", "response"), "{}")
	api.expect(400, "InvalidRequestID", "POST", answerPath("unknown", "error"), "{}")
	api.expect(403, "InvalidStateTransition", "POST", initPath, "{}") // init is over

	first := send(t, q, `{"n":1}`)
	second := send(t, q, `{"n":2}`)
	h := api.expect(200, "", "GET", nextPath, "")
	for key, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       first.id,
		"Lambda-Runtime-Trace-Id":             "Root=1-0-0",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:function",
		"Content-Length":                      "7",
	} {
		if got := h.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	api.expect(403, "InvalidStateTransition", "GET", nextPath, "") // the first has no answer yet
	api.expect(400, "InvalidRequestID", "POST", answerPath(second.id, "response"), "2")
	api.expect(400, "InvalidFunctionResponseMode", "POST", answerPath(first.id, "response"), "1",
		"Lambda-Runtime-Function-Response-Mode", "sometimes")
	api.expect(202, "", "POST", answerPath(first.id, "response"), "1")
	api.expect(403, "InvalidStateTransition", "POST", answerPath(first.id, "response"), "1 again")
	api.expect(403, "InvalidStateTransition", "POST", answerPath(first.id, "error"), "{}")
	if <-first.done; string(first.result.Payload) != "1" {
		t.Errorf("first answer is %q", first.result.Payload)
	}

	api.expect(200, "", "GET", nextPath, "")
	api.expect(202, "", "POST", answerPath(second.id, "error"), "no JSON", "Lambda-Runtime-Function-Error-Type", "Runtime.Odd")
	if <-second.done; second.result.Err.Type != "Runtime.Odd" || second.result.Err.Message != "no JSON" {
		t.Errorf("second answer is %+v", second.result.Err)
	}
	api.expect(400, "InvalidRequestID", "POST", answerPath(first.id, "response"), "1 again, much later")
}

func TestStreamingModeMayAnswerMore(t *testing.T) {
	q, api := newAPI(t, Config{})
	body := strings.Repeat("x", maxResponse+1)
	inv := send(t, q, "{}")
	api.expect(200, "", "GET", nextPath, "")
	api.expect(202, "", "POST", answerPath(inv.id, "response"), body, "Lambda-Runtime-Function-Response-Mode", "streaming")
	if <-inv.done; inv.result.Err != nil || len(inv.result.Payload) != len(body) {
		t.Errorf("streamed answer has %d bytes, error %v", len(inv.result.Payload), inv.result.Err)
	}
}

func TestExtensionsAreRegisteredDuringInit(t *testing.T) {
	q, api := newAPI(t, Config{})
	api.expect(405, "MethodNotAllowed", "GET", regPath, "")
	api.expect(403, "Extension.InvalidExtensionName", "POST", regPath, "{}")
	api.expect(403, "InvalidRequestFormat", "POST", regPath, "{", headerExtensionName, "a")
	api.expect(403, "Extension.InvalidEventType", "POST", regPath, `{"events":["INVOKE"]}`, headerExtensionName, "a")
	api.expect(403, "Extension.MissingExtensionIdentifier", "GET", waitPath, "")
	api.expect(403, "Extension.UnknownExtensionIdentifier", "GET", waitPath, "", headerExtensionID, newUUID())
	if q.hasExtension() {
		t.Error("an extension that was refused counts")
	}
	h := api.expect(200, "", "POST", regPath, `{"events":null}`, headerExtensionName, "a")
	if h.Get(headerExtensionID) == "" || !q.hasExtension() {
		t.Error("no identifier")
	}
	api.expect(403, "Extension.InvalidExtensionState", "POST", regPath, "{}", headerExtensionName, "a")
	q.start()
	api.expect(403, "Extension.RegistrationClosed", "POST", regPath, "{}", headerExtensionName, "b")
}

func TestIdleIsEveryPollerAndExtensionWaiting(t *testing.T) {
	q, _ := newAPI(t, Config{Concurrency: 2})
	id, _ := q.addExtension("a")
	polls := func() int { _, n := q.initFailure(); return n }
	if idle, _ := q.idle(); idle {
		t.Error("idle without a poll")
	}
	if _, err := q.poll(); err != nil {
		t.Fatal(err)
	}
	if idle, _ := q.idle(); idle || polls() != 1 {
		t.Errorf("idle with %d polls of 2", polls())
	}
	if _, err := q.poll(); err != nil {
		t.Fatal(err)
	}
	if idle, _ := q.idle(); idle {
		t.Error("idle with an extension that does not wait")
	}
	q.pollExtension(id, 1)
	if idle, _ := q.idle(); !idle {
		t.Error("not idle with everything waiting")
	}
}

func TestNoMoreEventsAreDeliveredThanMayRunAtOnce(t *testing.T) {
	q, _ := newAPI(t, Config{Timeout: time.Hour})
	var polls [2]*poll
	for i := range polls {
		var err error
		if polls[i], err = q.poll(); err != nil {
			t.Fatal(err)
		}
	}
	first, second := send(t, q, "1"), send(t, q, "2")
	if got := <-polls[0].event; got != first {
		t.Errorf("first poll got event %s, want %s", got.payload, first.payload)
	}
	select {
	case inv := <-polls[1].event:
		t.Fatalf("event %s was delivered while the first was running", inv.payload)
	default:
	}
	if _, err := q.begin(first.id); err != nil {
		t.Fatal(err)
	}
	q.finish(first, new(Result))
	select {
	case got := <-polls[1].event:
		if got != second {
			t.Errorf("second poll got event %s, want %s", got.payload, second.payload)
		}
	default:
		t.Error("second event was not delivered when the first was over")
	}
}

func TestEventOfAPollerThatWentAwayGoesToTheNext(t *testing.T) {
	q, api := newAPI(t, Config{Concurrency: 2, Timeout: time.Hour})
	gone, err := q.poll()
	if err != nil {
		t.Fatal(err)
	}
	inv := send(t, q, "{}")
	q.unpoll(gone)
	if h := api.expect(200, "", "GET", nextPath, ""); h.Get(headerRequestID) != inv.id {
		t.Errorf("event is %q, want %q", h.Get(headerRequestID), inv.id)
	}
	api.expect(202, "", "POST", answerPath(inv.id, "response"), "1")
	<-inv.done
}

func TestAnswerThatIsCutMayBeGivenAgain(t *testing.T) {
	q, api := newAPI(t, Config{})
	inv := send(t, q, "{}")
	api.expect(200, "", "GET", nextPath, "")

	conn, err := net.Dial("tcp", strings.TrimPrefix(api.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this", answerPath(inv.id, "response"))
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(conn)
	conn.Close()
	if !strings.Contains(string(reply), "400 Bad Request") || !strings.Contains(string(reply), "TruncatedHTTPRequest") {
		t.Errorf("reply is %q, %v", reply, err)
	}
	api.expect(202, "", "POST", answerPath(inv.id, "response"), "1")
	if <-inv.done; string(inv.result.Payload) != "1" {
		t.Errorf("answer is %q", inv.result.Payload)
	}
}

func TestOutputKeepsItsEnd(t *testing.T) {
	o := new(output)
	o.keep([]byte("begin"))
	for range 100 {
		o.keep([]byte(strings.Repeat("x", 1000)))
	}
	o.keep([]byte("end"))
	if got := o.String(); len(got) != keptOutput || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes are kept, want %d; they end with %q", len(got), keptOutput, got[len(got)-4:])
	}
}
