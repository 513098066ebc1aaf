//go:build linux

package trial

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/transport"
)

// clients are the pool and a tuned http.Transport, which go through the same at the same time.
type clients struct {
	loads  []*load // thaw first
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newClients makes them. change, if there is one, changes the settings of both.
func newClients(t *testing.T, p protocol, change func(*transport.Config)) *clients {
	t.Helper()
	c := new(clients)
	seed := rand.Uint64()
	for _, name := range []string{"thaw", "http.Transport"} {
		ws := &wires{shared: p == h2}
		cfg := settings(p, ws)
		if change != nil {
			change(&cfg)
		}
		l := &load{name: name, wires: ws, seed: seed}
		if name == "thaw" {
			pool, err := transport.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pool.Close() })
			l.rt = pool
		} else {
			plain, err := transport.NewHTTPTransport(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(plain.CloseIdleConnections)
			l.rt = plain
		}
		c.loads = append(c.loads, l)
	}
	return c
}

// start has all callers begin, and returns when everyone has had an answer: so many handshakes take a while.
func (c *clients) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	for _, l := range c.loads {
		c.wg.Go(func() { l.run(ctx) })
	}
	if !poll(patience, func() bool {
		return !slices.ContainsFunc(c.loads, func(l *load) bool { return l.tally.requests() < callers })
	}) {
		t.Errorf("%v after they began, the clients have not had %d answers each", patience, callers)
	}
}

// finish waits until everything that was begun has ended, and compares it with what arrived. It must be called where
// arrived is counted after that.
func (c *clients) finish(arrived func() map[string]int) {
	c.cancel()
	c.wg.Wait()
	counts := arrived()
	for _, l := range c.loads {
		l.tally.settle(counts)
	}
}

// result holds the pool to what it promises and returns the row of the table. why is why requests may be lost, or
// empty if none may.
func (c *clients) result(t *testing.T, family string, p protocol, event, why string) result {
	t.Helper()
	y := &c.loads[0].tally
	for what, n := range map[string]int{
		"failed that could have been saved":        y.verdicts[savable],
		"that are not idempotent arrived twice":    y.twice,
		"were given the answer to another request": y.wrong,
		"were answered without having arrived":     y.unseen,
	} {
		if n > 0 {
			t.Errorf("%d of %d requests %s", n, y.requests(), what)
		}
	}
	if y.verdicts[answered] == 0 {
		t.Error("no request was answered")
	}
	for v := down; v < verdicts; v++ {
		if n := y.verdicts[v]; n > 0 && why == "" {
			t.Errorf("%d of %d requests were %v, which nothing explains", n, y.requests(), v)
		}
	}
	for _, l := range c.loads {
		t.Logf("%s: %v, %d dials, seed %d\n%s", l.name, l.tally.verdicts, l.wires.dials.Load(), l.seed, l.tally.reasons())
	}
	return result{family: family, protocol: p, event: event, clients: c}
}
