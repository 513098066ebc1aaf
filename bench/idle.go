package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// idle measures the memory of idle connections to one kind of server. Each measurement has a process of its own,
// because a process that had connections before keeps some of the stacks of their goroutines.
type idle struct {
	server   *server
	protocol string
	conns    int
	rounds   [][lanes]cost // per connection, for each lane
}

// round measures every lane once.
func (id *idle) round() error {
	var costs [lanes]cost
	for _, i := range orders[len(id.rounds)%len(orders)] {
		who := [lanes]contestant{thaw, tuned, tuned}[i]
		bytes, err := idleOrder{id.server.hello, who.name, id.protocol, id.conns}.send()
		if err != nil {
			return fmt.Errorf("idle %s, %s: %w", id.protocol, who.name, err)
		}
		costs[i].bytes = bytes
	}
	id.rounds = append(id.rounds, costs)
	return nil
}

// idleOrder is what a process is told to measure.
type idleOrder struct {
	Server     hello
	Contestant string
	Protocol   string
	Conns      int
}

// send has a new process carry out the order.
func (o idleOrder) send() (bytes float64, err error) {
	cmd, err := again(roleIdle)
	if err != nil {
		return 0, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	go func() {
		json.NewEncoder(stdin).Encode(o)
		stdin.Close()
	}()
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return bytes, json.Unmarshal(out, &bytes)
}

// carryOutIdleOrder is the main function of such a process: it reads the order and prints the bytes.
func carryOutIdleOrder() error {
	var o idleOrder
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	s, err := newServer(o.Server)
	if err != nil {
		return err
	}
	for _, who := range []contestant{thaw, tuned} {
		if who.name == o.Contestant {
			bytes, err := measureIdle(s, who, o.Protocol, o.Conns)
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(bytes)
		}
	}
	return fmt.Errorf("there is no contestant %q", o.Contestant)
}

// measureIdle returns the bytes of heap and stack that one of so many connections takes while it is idle. Over
// HTTP/2 each leads to an origin of its own, as the connections of a function do; over HTTP/1.1 they lead to one.
func measureIdle(s *server, who contestant, proto string, conns int) (float64, error) {
	// The first connection leads elsewhere. It makes what is made once: the pool's own parts, the tables of the
	// runtime and of crypto/tls.
	reqs := make([]*http.Request, 1+conns)
	for i := range reqs {
		u := s.urlOf(proto, min(i, 1))
		if proto == h2 {
			u = s.urlOf(proto, i)
		}
		var err error
		if reqs[i], err = newRequest(http.MethodGet, u); err != nil {
			return 0, err
		}
	}
	l, err := s.enter(who, transport.Config{
		MaxConnsPerHost: len(reqs),
		MaxConns:        len(reqs),
		// The names of the origins mean nothing to a proxy.
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	})
	if err != nil {
		return 0, err
	}
	defer l.close()
	if err := l.hold(reqs[:1]); err != nil {
		return 0, err
	}
	before := liveMemory()
	if err := l.hold(reqs[1:]); err != nil {
		return 0, err
	}
	after := liveMemory()
	runtime.KeepAlive(reqs)
	if n := l.dials.Load(); n != int64(len(reqs)) {
		return 0, fmt.Errorf("%d connections were dialled, not %d", n, len(reqs))
	}
	return float64(after-before) / float64(conns), nil
}

// liveMemory returns the bytes of reachable heap objects and of goroutine stacks, once they no longer change: a
// goroutine needs a moment to wait for the next thing, and a collection to give back the stack it does not use.
func liveMemory() uint64 {
	var last, m runtime.MemStats
	for range 20 {
		runtime.GC()
		runtime.ReadMemStats(&m)
		if m.HeapAlloc == last.HeapAlloc && m.StackInuse == last.StackInuse {
			break
		}
		last = m
		time.Sleep(5 * time.Millisecond)
	}
	return m.HeapAlloc + m.StackInuse
}

// idleResult is what idle connections take.
type idleResult struct {
	Protocol string  `json:"protocol"`
	Conns    int     `json:"conns"`
	Rounds   int     `json:"rounds"`
	Bytes    rivalry `json:"bytes"` // a connection
}

// idleTolerance is a ratio that is still no more memory: two http.Transports differ by up to so much, and few rounds
// do not always show it.
const idleTolerance = 1.02

func (id *idle) result() idleResult {
	bytes := rivalryOf(id.rounds, func(c cost) float64 { return c.bytes })
	bytes.Above = bytes.Ratio.Total > idleTolerance
	return idleResult{id.protocol, id.conns, len(id.rounds), bytes}
}
