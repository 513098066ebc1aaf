package transport

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// expectation holds the body of an HTTP/2 request with "Expect: 100-continue" (RFC 9110, section 10.1.1) back until the
// server wants it, or has had its time to say. On HTTP/1.1 net/http does that.
type expectation struct {
	trace   *httptrace.ClientTrace
	timeout time.Duration

	asked   sync.Once // for the hook, which net/http calls even if the server has said its word already
	once    sync.Once
	decided chan struct{} // closed once goOn is set
	goOn    bool
}

// expectContinue returns what req is to wait for before it sends its body on HTTP/2, and the context to send it with;
// or nil if it is to send it at once.
func (t *Transport) expectContinue(ctx context.Context, req *http.Request) (*expectation, context.Context) {
	d := t.cfg.ExpectContinueTimeout
	if d < 0 || len(req.Header) == 0 || !httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue") {
		return nil, ctx
	}
	e := &expectation{trace: httptrace.ContextClientTrace(ctx), timeout: d, decided: make(chan struct{})}
	hooks := httptrace.ClientTrace{}
	if e.trace != nil {
		hooks = *e.trace
	}
	hooks.Got100Continue = func() {
		if e.trace != nil && e.trace.Got100Continue != nil {
			e.trace.Got100Continue()
		}
		e.decide(true)
	}
	return e, hookedContext{ctx, &hooks}
}

// hookedContext has other hooks than the context in it. httptrace.WithClientTrace does the same, but links 28 KiB of
// reflection to merge the two sets of hooks.
type hookedContext struct {
	context.Context
	hooks *httptrace.ClientTrace
}

func (c hookedContext) Value(key any) any {
	if key == traceKey {
		return c.hooks
	}
	return c.Context.Value(key)
}

// traceKey is the key under which a context has its hooks. Looking for them in a context tells.
var traceKey = func() (key any) {
	httptrace.ContextClientTrace(keyProbe{context.Background(), &key})
	return key
}()

type keyProbe struct {
	context.Context
	key *any
}

func (p keyProbe) Value(key any) any {
	*p.key = key
	return nil
}

func (e *expectation) decide(goOn bool) {
	e.once.Do(func() {
		e.goOn = goOn
		close(e.decided)
	})
}

// refuse gives up on sending the body.
func (e *expectation) refuse() { e.decide(false) }

// wait waits for the server's word and reports whether to send the body.
func (e *expectation) wait() bool {
	e.asked.Do(func() {
		if e.trace != nil && e.trace.Wait100Continue != nil {
			e.trace.Wait100Continue()
		}
	})
	select {
	case <-e.decided:
		return e.goOn
	default:
	}
	timer := time.NewTimer(e.timeout)
	defer timer.Stop()
	select {
	case <-timer.C:
		e.decide(true)
	case <-e.decided:
	}
	<-e.decided
	return e.goOn
}

// expectingBody is the body of a request that waits.
type expectingBody struct {
	*requestBody
	until *expectation
}

func (b *expectingBody) Read(p []byte) (int, error) {
	if !b.until.wait() {
		return 0, errDetached
	}
	return b.requestBody.Read(p)
}

func (b *expectingBody) Close() error {
	b.until.refuse()
	return b.requestBody.Close()
}
