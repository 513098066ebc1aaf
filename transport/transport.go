package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/connlife"
	"github.com/thawhttp/thaw/internal/pool"
)

// Transport is an [http.RoundTripper] over a pool of connections. It is safe for concurrent use. Make it once,
// outside the Lambda handler, with [New] or [Shared].
type Transport struct {
	cfg     Config // in force: nothing in it is zero that has a default
	clock   clock
	verbose bool // cfg.Logger wants to know of every connection

	http1   *http.Transport  // what HTTP/1.1 connections are made of; it never dials
	h2      *http2.Transport // what HTTP/2 connections are made of; it never dials
	h2Timed *http2.Transport // the same for those whose writes the pool cannot bound: see rawConn.boundWrites

	ctx    context.Context // ends with Close: dials and verifications belong to the pool, not to a request
	cancel context.CancelFunc
	wg     sync.WaitGroup // of all goroutines of the pool; Add only with mu held and shut unset

	mu        sync.Mutex // guards what follows, every origin and what conn says of itself
	machine   *pool.Machine
	sessions  tls.ClientSessionCache // nil if no TLS session is to be resumed
	shut      bool                   // Close was called
	origins   map[originKey]*origin
	aliases   map[originKey]*origin // origins by the ways their hosts are written
	vacant    list.List             // of *origin, the one used last at the back: see vacated
	lastID    uint64
	wakeTimer *time.Timer     // calls the machine when something is due
	freedNow  chan struct{}   // closed when a connection is freed or a dial has failed, if Warm waits for that; or nil
	looks     []*conn         // that the machine wants to be looked at
	dialFor   context.Context // the values that dials for nobody get to see

	ledgers       map[string]*ledger // by name
	vacantLedgers list.List          // of *ledger, the one used last at the back
	unreached     Origin             // counters of names that were never reached, and are forgotten
	forgotten     Origin             // counters of other ledgers that were dropped

	held     holdings // for LeakAfter
	watchers []func(connlife.End)
	tellings tellings
	hurry    atomic.Bool     // Close has waited for the log for long enough
	late     []func()        // to be told after Close
	spare    []pool.Decision // to be filled by the machine
}

// New returns a Transport with a pool of its own. It returns every fault of cfg at once, joined with [errors.Join].
func New(cfg Config) (*Transport, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Transport{
		cfg:     cfg,
		clock:   systemClock{},
		origins: make(map[originKey]*origin),
		aliases: make(map[originKey]*origin),
		ledgers: make(map[string]*ledger),
	}
	t.machine = pool.New(pool.Config{
		MaxConns: limit(cfg.MaxConns, math.MaxInt), MaxIdleConns: limit(cfg.MaxIdleConns, math.MaxInt), MaxWaiters: limit(cfg.MaxWaitersPerHost, math.MaxInt),
		VerifyTimeout: limit(cfg.VerifyTimeout, pool.Forever), DialDelay: limit(cfg.DialDelay, pool.Forever),
	})
	t.sessions = newSessions(cfg.TLS)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.verbose = cfg.Logger != nil && cfg.Logger.Enabled(t.ctx, slog.LevelDebug)
	t.http1 = http1Template(cfg)
	t.h2, t.h2Timed = http2Template(cfg, 0), http2Template(cfg, writeTimeout)
	return t, nil
}

var shared struct {
	once sync.Once
	t    *Transport
}

// Shared returns the process-wide Transport. It is made on first use, with the defaults of [Config]. It is everyone's:
// do not close it.
func Shared() *Transport {
	shared.once.Do(func() {
		var err error
		if shared.t, err = New(Config{}); err != nil {
			panic(err) // the zero Config has no faults
		}
	})
	return shared.t
}

// Config returns the configuration in force, with every default filled in. It is a copy.
func (t *Transport) Config() Config { return t.cfg.clone() }

// Stats returns a snapshot of the pool.
func (t *Transport) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Origin: t.forgotten, Origins: make(map[string]Origin, len(t.ledgers)), Unreached: t.unreached}
	s.Origin.add(t.unreached)
	for name, l := range t.ledgers {
		counters := l.counters() // once: some change without the lock, and the sum is to be that of the parts
		s.Origins[name] = counters
		s.Origin.add(counters)
	}
	for _, o := range t.origins {
		g := o.gauges()
		byName := s.Origins[o.name]
		byName.add(g)
		s.Origins[o.name] = byName
		s.Origin.add(g)
	}
	return s
}

// Connected returns the part of Stats that is of the origins to which there are connections now. It costs nothing for others,
// however many were called before.
func (t *Transport) Connected() map[string]Origin {
	t.mu.Lock()
	defer t.mu.Unlock()
	connected := make(map[string]Origin)
	for _, o := range t.origins {
		if o.book.Gauges().Open == 0 {
			continue
		}
		s, ok := connected[o.name]
		if !ok {
			s = o.ledger.counters()
		}
		s.add(o.gauges())
		connected[o.name] = s
	}
	return connected
}

// WatchConns has f told of the end of every connection, from now on. It is for package tracing/otel: the lives of
// connections make a distribution, which counters cannot tell. F is called for one end after the other, by a goroutine that holds no
// lock of the pool, before Close returns; it must not block.
func (t *Transport) WatchConns(f func(connlife.End)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, f)
}

// CloseIdleConnections closes the connections that are idle now, and ends the dials that nobody waits for. Connections in use are
// left alone.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	t.machine.CloseIdle(t.clock.now())
	t.unlock()
}

// Reset retires every connection: idle ones are closed at once, those in use when their requests have ended, and dials
// under way are given up. TLS sessions are forgotten, unless they are in a cache of the caller's own. Requests from now on
// use new connections, made with full handshakes. It is meant for the moment after a SnapStart restore, when every
// connection of the snapshot is dead and all copies of it have the same sessions, and for a change of certificates or of what
// they are checked against.
func (t *Transport) Reset() {
	t.mu.Lock()
	t.forgetSessions()
	for _, o := range t.origins {
		for d := range o.dials {
			d.reset = true
		}
	}
	t.machine.Reset(t.clock.now())
	t.unlock()
}

// Close closes all connections. Requests under way fail, and later ones do with [ErrClosed]. It returns when none of
// the pool's goroutines is left; calling it again does nothing. What is left to be logged at debug level then is left out
// after a second.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return nil
	}
	t.machine.Close(t.clock.now())
	if t.wakeTimer != nil {
		t.wakeTimer.Stop()
	}
	t.held.stop()
	w, _ := t.carry()
	t.shut = true
	t.mu.Unlock()
	t.cancel()
	w.finish()
	defer time.AfterFunc(maxCloseTells, func() { t.hurry.Store(true) }).Stop()
	t.wg.Wait()
	return nil
}
