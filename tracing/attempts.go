package tracing

import (
	"context"
	"net/http"
	"sync/atomic"
)

type attemptsKey struct{}

// CountAttempts returns a RoundTripper that numbers the attempts that next makes at a request: the exchanges of [New]
// below it, with a retrying RoundTripper between, are numbered 1, 2, 3. Without it each is 1.
func CountAttempts(next http.RoundTripper) http.RoundTripper { return &counter{layer{next}} }

type counter struct{ layer }

func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	if req == nil {
		return c.next.RoundTrip(req)
	}
	resp, err := c.next.RoundTrip(req.WithContext(context.WithValue(req.Context(), attemptsKey{}, new(atomic.Int64))))
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// attempt returns the number of an attempt that is made with ctx.
func attempt(ctx context.Context) int {
	if n, ok := ctx.Value(attemptsKey{}).(*atomic.Int64); ok {
		return int(n.Add(1))
	}
	return 1
}

// layer is a RoundTripper on top of another. [http.Client.CloseIdleConnections] reaches through it.
type layer struct{ next http.RoundTripper }

// CloseIdleConnections closes the idle connections of the RoundTripper below, if it has such a method.
func (l layer) CloseIdleConnections() {
	if c, ok := l.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
