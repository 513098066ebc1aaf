package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// api is what the function calls when it runs on this machine: it takes orders.
type api struct {
	listener *faultnet.Listener
	server   *http.Server
	served   chan struct{}

	mu     sync.Mutex // guards orders
	orders map[string]int
}

func startAPI() (*api, error) {
	l, err := faultnet.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &api{listener: l, served: make(chan struct{}), orders: make(map[string]int)}
	a.server = &http.Server{Handler: a, ConnState: faultnet.Observe}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(l) // http.ErrServerClosed
	}()
	return a, nil
}

func (a *api) stop() {
	a.server.Close()
	<-a.served
}

func (a *api) url() string { return "http://" + a.listener.Addr().String() + "/orders" }

func (a *api) accepted() int64 { return a.listener.Accepted() }

// closeConnections closes all connections, as a server does to idle ones, and returns how many these were.
func (a *api) closeConnections() int {
	open := a.listener.Open()
	for _, c := range open {
		c.Break(faultnet.Close)
	}
	return len(open)
}

// ServeHTTP takes an order.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.orders[r.Header.Get("Idempotency-Key")]++
	w.WriteHeader(http.StatusCreated)
}

// counts says how often each order came.
func (a *api) counts() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, key := range slices.Sorted(maps.Keys(a.orders)) {
		all = append(all, fmt.Sprintf("%s %d times", key, a.orders[key]))
	}
	return strings.Join(all, ", ")
}
