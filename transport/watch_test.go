package transport

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/internal/connlife"
)

func TestWatchersAreToldOnceOfTheEndOfEachConnection(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnLifetime: Disabled, IdleTimeout: Disabled})
		var mu sync.Mutex
		var ends, again []connlife.End
		for _, to := range []*[]connlife.End{&ends, &again} {
			p.WatchConns(func(e connlife.End) {
				p.Stats() // takes the pool's lock
				mu.Lock()
				defer mu.Unlock()
				*to = append(*to, e)
			})
		}
		told := func(n int) connlife.End {
			t.Helper()
			eventually(t, "the watchers are told", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(ends) == n && len(again) == n
			})
			mu.Lock()
			defer mu.Unlock()
			return ends[n-1]
		}
		request := func() { p.mustSend(t, s.request(context.Background(), "GET", "id", noBody)) }

		request()
		c := p.onlyConn(t)
		name, protocol := c.origin.name, c.Protocol()
		p.clock.freeze(time.Hour, 0)
		p.CloseIdleConnections()
		if e := told(1); e.Origin != name || e.Protocol != protocol || e.Lived < time.Hour || e.Lived > time.Hour+time.Minute {
			t.Errorf("after an hour on the wall clock: %+v", e)
		}
		request()
		p.clock.freeze(-2*time.Hour, 0)
		s.fin()
		if e := told(2); e.Lived < 0 || e.Lived > time.Minute {
			t.Errorf("the wall clock was set back: %+v", e)
		}
		request()
		p.Close()
		mu.Lock()
		defer mu.Unlock()
		if closed := p.Stats().Closed; len(ends) != 3 || closed.Reset != 2 || closed.Server != 1 {
			t.Errorf("told of %d ends by the time Close returned, of the connections closed by reason %+v", len(ends), closed)
		}
	})
}

// sleepyHandler takes its time over each line.
type sleepyHandler struct {
	slog.Handler
	lines *atomic.Int64
}

func (h sleepyHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h sleepyHandler) Handle(context.Context, slog.Record) error {
	h.lines.Add(1)
	pause(300 * time.Millisecond)
	return nil
}

func TestCloseWaitsForASlowLogForASecond(t *testing.T) {
	var lines atomic.Int64
	logger := slog.New(sleepyHandler{slog.DiscardHandler, &lines})
	bubble(t, Config{Logger: logger}, bubbleH1, func(t *testing.T, p *Transport, _ *pipes) {
		lines.Store(0)
		if err := p.Warm(t.Context(), slices.Repeat([]string{"http://a.test"}, 20)...); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.Close()
		if took := time.Since(began); took > maxCloseTells+300*time.Millisecond || lines.Load() == 0 {
			t.Errorf("Close took %v, and %d lines were logged", took, lines.Load())
		}
	})
}
