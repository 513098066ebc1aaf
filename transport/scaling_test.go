//go:build unix && !race

// The race detector allows 8,128 goroutines, and has costs of its own.

package transport_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// What a request costs the pool must not depend on how many others wait, or on how many origins and connections there are.

// A crowd is a case of many requests at once. run returns the CPU time that each of them cost.
type crowd struct {
	name         string
	small, large int
	run          func(t testing.TB, n int) time.Duration
}

var crowds = []crowd{
	{"a burst during a proof", 500, 8000, func(t testing.TB, n int) time.Duration { return burstDuringProof(t, n, 1) }},
	{"a burst during proofs of a 250th as many connections", 500, 4000, func(t testing.TB, n int) time.Duration { return burstDuringProof(t, n, n/250) }},
	{"arrivals under a full MaxConns at so many origins", 10, 1000, func(t testing.TB, n int) time.Duration { return arrivals(t, 4000, n) }},
	{"dials without caps", 500, 8000, uncappedDials},
}

func TestARequestCostsNoMoreInALargeCrowd(t *testing.T) {
	for _, c := range crowds {
		t.Run(c.name, func(t *testing.T) {
			small, large := time.Hour, time.Hour
			for range 3 { // at most, because this machine has other work
				small, large = min(small, c.run(t, c.small)), min(large, c.run(t, c.large))
				if large <= 4*small {
					break
				}
			}
			t.Logf("%v each of %d, %v each of %d", small, c.small, large, c.large)
			if large > 4*small {
				t.Errorf("%v each of %d, and %v each of %d: want no more than four times as much", small, c.small, large, c.large)
			}
		})
	}
}

// BenchmarkCrowd prints what one request costs in a small crowd and in a large one, in microseconds of CPU.
func BenchmarkCrowd(b *testing.B) {
	for _, c := range crowds {
		for _, n := range []int{c.small, c.large} {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(c.name, " ", "_"), n), func(b *testing.B) {
				var sum time.Duration
				for range b.N {
					sum += c.run(b, n)
				}
				b.ReportMetric(float64(sum.Nanoseconds())/1e3/float64(b.N), "cpu-us/request")
			})
		}
	}
}

// cpuTime returns the user and system CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // Getrusage fails only on a bad argument.
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// requests returns n requests to the URLs in turn.
func requests(t testing.TB, ctx context.Context, n int, urls ...string) []*http.Request {
	reqs := make([]*http.Request, n)
	for i := range reqs {
		var err error
		if reqs[i], err = http.NewRequestWithContext(ctx, "GET", urls[i%len(urls)], nil); err != nil {
			t.Fatal(err)
		}
	}
	return reqs
}

// sendAll sends requests at once, and returns a function that waits for their ends.
func sendAll(t testing.TB, rt http.RoundTripper, reqs []*http.Request) (wait func(answered bool)) {
	var wg sync.WaitGroup
	errs := make([]error, len(reqs))
	for i, req := range reqs {
		wg.Go(func() {
			resp, err := rt.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			errs[i] = err
		})
	}
	return func(answered bool) {
		t.Helper()
		wg.Wait()
		for _, err := range errs {
			if (err == nil) != answered {
				t.Fatalf("error %v, want an answer: %v", err, answered)
			}
		}
	}
}

// until waits for what a request more makes true. It looks rarely, because looking costs CPU time.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); pause(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// burstDuringProof has n requests wait while connections with enough streams for them are being proven, and then be answered.
func burstDuringProof(t testing.TB, n, conns int) time.Duration {
	streams := n / conns
	asked, gate := make(chan struct{}, n), make(chan struct{})
	server, v := modeH2C.serveValved(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fill" {
			asked <- struct{}{}
			<-gate
		}
	}), func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams} })
	d := &dialer{end: t.Context().Done()}
	cfg := modeH2C.config()
	cfg.DialContext, cfg.MaxConnsPerHost = d.dial, conns
	cfg.VerifyAfter, cfg.VerifyTimeout = 100*time.Millisecond, time.Minute
	rt, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	filled := sendAll(t, rt, requests(t, t.Context(), n, server.URL+"/fill"))
	for range n {
		<-asked
	}
	close(gate)
	filled(true)
	until(t, "all connections are idle", func() bool { s := rt.Stats(); return s.Idle == conns && s.Open == conns })
	pause(150 * time.Millisecond) // until they are in doubt
	d.to("127.0.0.1", dark)
	open := v.shut()
	reqs := requests(t, t.Context(), n, server.URL)
	before := cpuTime()
	answered := sendAll(t, rt, reqs)
	until(t, "all wait", func() bool { return rt.Stats().Waiting == n })
	open()
	answered(true)
	return (cpuTime() - before) / time.Duration(n)
}

// arrivals fills MaxConns with dials to so many origins, and has n more requests for those come.
func arrivals(t testing.TB, n, origins int) time.Duration {
	cfg := modeH1.config()
	cfg.DialContext, cfg.DialTimeout = dark, transport.Disabled
	cfg.MaxConns = origins
	rt, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	urls := make([]string, origins)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://origin%d.test", i)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	first := sendAll(t, rt, requests(t, ctx, origins, urls...))
	until(t, "MaxConns is full", func() bool { return rt.Stats().Dialing == origins })
	reqs := requests(t, ctx, n, urls...)
	before := cpuTime()
	others := sendAll(t, rt, reqs)
	until(t, "all wait", func() bool { return rt.Stats().Waiting == origins+n })
	cost := (cpuTime() - before) / time.Duration(n)
	giveUp()
	first(false)
	others(false)
	return cost
}

// uncappedDials has n requests to one host begin n dials, which all fail.
func uncappedDials(t testing.TB, n int) time.Duration {
	fail := make(chan struct{})
	cfg := modeH1.config()
	cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
		<-fail
		return nil, errors.New("the host is down")
	}
	cfg.DialTimeout = transport.Disabled
	cfg.MaxConns, cfg.MaxConnsPerHost = transport.Disabled, transport.Disabled
	rt, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	reqs := requests(t, t.Context(), n, "http://origin.test")
	before := cpuTime()
	failed := sendAll(t, rt, reqs)
	until(t, "all dials are begun", func() bool { return rt.Stats().Dialing == n })
	close(fail)
	failed(false)
	until(t, "all dials have ended", func() bool { return rt.Stats().Dialing == 0 })
	return (cpuTime() - before) / time.Duration(n)
}
