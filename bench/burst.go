package main

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// burstSizes are how many requests a burst has.
var burstSizes = []int{10, 100, 1000}

// burstLimit is how many connections thaw may dial for so many requests: one serves as many as it has streams,
// and one more may be under way when the first answers free some.
func burstLimit(requests int) int64 {
	if requests <= streams {
		return 1
	}
	return int64((requests+streams-1)/streams) + 1
}

// burst is what a cold burst took: so many requests at once to an HTTP/2 server that no connection leads to yet.
type burst struct {
	Contestant string        `json:"contestant"`
	Requests   int           `json:"requests"`
	Failed     int64         `json:"failed"`
	Dials      int64         `json:"dials"`
	CPU        time.Duration `json:"cpu"`  // nanoseconds, all requests together
	Wall       time.Duration `json:"wall"` // nanoseconds, until the last answer
}

// runBurst makes one burst.
func runBurst(s *server, who contestant, requests int) (burst, error) {
	l, err := s.enter(who, transport.Config{})
	if err != nil {
		return burst{}, err
	}
	defer l.settle(runtime.NumGoroutine())
	req, err := newRequest(http.MethodGet, s.url(h2, "/slow"))
	if err != nil {
		return burst{}, err
	}
	var (
		wg     sync.WaitGroup
		gate   = make(chan struct{})
		failed atomic.Int64
	)
	for range requests {
		wg.Go(func() {
			<-gate
			if l.exchange(req) != nil {
				failed.Add(1)
			}
		})
	}
	runtime.GC()
	cpu, start := cpuTime(), time.Now()
	close(gate)
	wg.Wait()
	return burst{who.name, requests, failed.Load(), l.dials.Load(), cpuTime() - cpu, time.Since(start)}, nil
}

// settle closes the lane's connections, also those that are still being dialled when the last request has been
// answered, so that they cost the next burst nothing. It returns when there are only so many goroutines as before,
// or after a while.
func (l *lane) settle(goroutines int) {
	for range 500 {
		l.close()
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// burstResult is the median of bursts of one size by one contestant, and the most connections that any dialled.
type burstResult struct {
	burst
	Rounds   int   `json:"rounds"`
	MaxDials int64 `json:"max_dials"`
}

// runBursts makes bursts of one size, the contestants taking turns.
func runBursts(s *server, requests, rounds int) ([]burstResult, error) {
	contestants := []contestant{thaw, tuned, stock}
	bursts := make([][]burst, len(contestants))
	for range rounds {
		for i, who := range contestants {
			b, err := runBurst(s, who, requests)
			if err != nil {
				return nil, fmt.Errorf("burst of %d, %s: %w", requests, who.name, err)
			}
			bursts[i] = append(bursts[i], b)
		}
	}
	results := make([]burstResult, len(contestants))
	for i, who := range contestants {
		r := burstResult{burst: burst{Contestant: who.name, Requests: requests}, Rounds: rounds}
		for _, b := range bursts[i] {
			r.Failed += b.Failed
			r.MaxDials = max(r.MaxDials, b.Dials)
		}
		r.Dials = int64(quantile(each(bursts[i], func(b burst) float64 { return float64(b.Dials) }), 0.5))
		r.CPU = time.Duration(quantile(each(bursts[i], func(b burst) float64 { return float64(b.CPU) }), 0.5))
		r.Wall = time.Duration(quantile(each(bursts[i], func(b burst) float64 { return float64(b.Wall) }), 0.5))
		results[i] = r
	}
	return results, nil
}
