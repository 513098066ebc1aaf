package transport

import (
	"net/http/httptrace"
	"testing"
)

func TestWait100ContinueIsCalledOnceThoughTheServerWasFaster(t *testing.T) {
	p := newPool(t, h2c, Config{})
	calls := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Wait100Continue: func() { calls++ }})
	req := newRequest(ctx, "POST", "http://a.test/", "1", streamed)
	req.Header.Set("Expect", "100-continue")
	e, hooked := p.expectContinue(ctx, req)
	httptrace.ContextClientTrace(hooked).Got100Continue()
	for range 2 { // the body is read in pieces
		if !e.wait() {
			t.Error("the body is not sent")
		}
	}
	if calls != 1 {
		t.Errorf("Wait100Continue was called %d times", calls)
	}
}
