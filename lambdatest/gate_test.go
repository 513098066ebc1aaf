package lambdatest_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// gate is a server whose answers the test gives when it likes.
type gate struct {
	url     string
	entered chan struct{} // one value for each request that came
	open    func()        // answers all, those to come too
}

func newGate(t testing.TB) *gate {
	opened := make(chan struct{})
	g := &gate{entered: make(chan struct{}, 64), open: sync.OnceFunc(func() { close(opened) })}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.entered <- struct{}{}
		select {
		case <-opened:
		case <-r.Context().Done():
		}
	}))
	g.url = srv.URL
	t.Cleanup(func() {
		g.open()
		srv.Close()
	})
	return g
}

// await waits for n requests.
func (g *gate) await(t testing.TB, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.entered:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}
