package main

import (
	"fmt"
	"math"
	"net/http"
	"runtime"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// steadyCase is a load on connections that are already established.
type steadyCase struct {
	Protocol string `json:"protocol"`
	Callers  int    `json:"callers"` // that send requests at the same time, each one after another
	Method   string `json:"method"`
}

func (c steadyCase) String() string {
	callers := "callers"
	if c.Callers == 1 {
		callers = "caller"
	}
	return fmt.Sprintf("%-3s %2d %-7s %-4s", c.Protocol, c.Callers, callers, c.Method)
}

// name is the case in the name of a benchmark or a test.
func (c steadyCase) name() string {
	return fmt.Sprintf("protocol=%s/callers=%d/method=%s", c.Protocol, c.Callers, c.Method)
}

// defaultSlice is how long a contestant's turn takes: short beside what disturbs a shared machine, long beside what
// starting it takes.
const defaultSlice = 40 * time.Millisecond

// steadyCases returns every case, in the order of the table.
func steadyCases() []steadyCase {
	var cases []steadyCase
	for _, proto := range protocols {
		for _, callers := range []int{1, 64} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				cases = append(cases, steadyCase{proto, callers, method})
			}
		}
	}
	return cases
}

// cost is what a request took, on average over a slice of them.
type cost struct {
	cpu    time.Duration // of this process, user and system
	wall   time.Duration // of the slice, divided by its requests
	allocs float64       // objects
	bytes  float64       // allocated
}

// The lanes of a steady race, in the order of its fields. The third is the second's equal, and what their ratio
// shows is noise. In the race of the retries the first is thaw with them, and the others are thaw without.
const (
	laneThaw = iota
	laneHTTP
	laneAgain
	lanes
)

// orders are the orders in which the lanes take turns, so that none always follows the same other.
var orders = [][lanes]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {2, 0, 1}, {1, 2, 0}, {0, 2, 1}}

// The races: who is in which lane.
var (
	poolRace  = [lanes]contestant{thaw, tuned, tuned}
	retryRace = [lanes]contestant{retrying, thaw, thaw}
)

// steady is a race in one case: of thaw's pool, an http.Transport and a second http.Transport, for example. They take turns in
// short slices: what disturbs the machine for longer than a slice disturbs all three.
type steady struct {
	steadyCase
	req    *http.Request
	lane   [lanes]*lane
	slice  int           // requests in one, on average
	rounds [][lanes]cost // what each lane took in each round
}

// newSteady establishes the connections and finds how many requests take about as long as a slice should.
func newSteady(s *server, race [lanes]contestant, c steadyCase, slice time.Duration) (*steady, error) {
	st := &steady{steadyCase: c}
	var err error
	if st.req, err = newRequest(c.Method, s.url(c.Protocol, "/")); err != nil {
		return nil, err
	}
	for i, who := range race {
		if st.lane[i], err = s.enter(who, transport.Config{}); err != nil {
			st.close()
			return nil, err
		}
		if err := st.lane[i].warm(st.req, c.Callers); err != nil {
			st.close()
			return nil, fmt.Errorf("%s: %w", who.name, err)
		}
	}
	for st.slice = c.Callers; ; st.slice *= 2 {
		start := time.Now()
		if err := st.lane[laneHTTP].exchanges(st.req, c.Callers, st.slice); err != nil {
			st.close()
			return nil, err
		}
		if took := time.Since(start); took >= slice/4 {
			st.slice = max(1, int(float64(st.slice)*float64(slice)/float64(took)))
			return st, nil
		}
	}
}

// warm makes as many connections as so many callers can use, and uses each a few times.
func (l *lane) warm(req *http.Request, callers int) error {
	reqs := make([]*http.Request, callers)
	for i := range reqs {
		reqs[i] = req
	}
	if err := l.hold(reqs); err != nil {
		return err
	}
	return l.exchanges(req, callers, 10*callers)
}

func (st *steady) close() {
	for _, l := range st.lane {
		if l != nil && l.close != nil {
			l.close()
		}
	}
}

// round gives every lane one slice. Its length differs from round to round: a garbage collection comes every so
// many requests, and must not fall into each slice of one lane and into none of another.
func (st *steady) round() error {
	var costs [lanes]cost
	_, golden := math.Modf(float64(len(st.rounds)) * math.Phi)
	n := max(1, int(float64(st.slice)*(0.75+golden/2)))
	for _, i := range orders[len(st.rounds)%len(orders)] {
		var err error
		if costs[i], err = st.lane[i].measure(st.req, st.Callers, n); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
	}
	st.rounds = append(st.rounds, costs)
	return nil
}

// measure returns what each of n exchanges took. It starts after a garbage collection, so that no lane collects
// what another left.
func (l *lane) measure(req *http.Request, callers, n int) (cost, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	err := l.exchanges(req, callers, n)
	wall, cpu := time.Since(start), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	return cost{
		cpu:    cpu / time.Duration(n),
		wall:   wall / time.Duration(n),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}, err
}

// steadyResult is the outcome of a steady race.
type steadyResult struct {
	steadyCase
	Rounds   int     `json:"rounds"`
	Requests int     `json:"requests"` // in each slice, on average
	CPU      rivalry `json:"cpu"`      // nanoseconds a request
	Wall     rivalry `json:"wall"`     // nanoseconds a request
	Allocs   rivalry `json:"allocs"`   // objects a request
	Bytes    rivalry `json:"bytes"`    // allocated a request
}

func (st *steady) result() steadyResult {
	return steadyResult{
		steadyCase: st.steadyCase,
		Rounds:     len(st.rounds),
		Requests:   st.slice,
		CPU:        rivalryOf(st.rounds, func(c cost) float64 { return float64(c.cpu) }),
		Wall:       rivalryOf(st.rounds, func(c cost) float64 { return float64(c.wall) }),
		Allocs:     rivalryOf(st.rounds, func(c cost) float64 { return c.allocs }),
		Bytes:      rivalryOf(st.rounds, func(c cost) float64 { return c.bytes }),
	}
}
