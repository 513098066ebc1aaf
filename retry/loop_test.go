package retry

import (
	"net/http"
	"testing"
)

// What else go-retryablehttp must not do, the tests of the RoundTripper see from outside.
func TestTheLoopLogsNothingAndHasNoPool(t *testing.T) {
	t.Parallel()
	p, err := Policy{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	loop := newLoop(p)
	if loop.Logger != nil {
		t.Errorf("it logs to %T", loop.Logger)
	}
	if _, ok := loop.HTTPClient.Transport.(reissue); !ok {
		t.Errorf("its transport is a %T", loop.HTTPClient.Transport)
	}
	var rt http.RoundTripper = reissue{}
	if _, ok := rt.(interface{ CloseIdleConnections() }); ok {
		t.Error("it can close idle connections")
	}
	if loop.RetryMax != p.MaxAttempts-1 {
		t.Errorf("it makes up to %d more attempts, want %d", loop.RetryMax, p.MaxAttempts-1)
	}
}
