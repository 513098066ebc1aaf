package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/thawhttp/thaw/internal/connlife"
	"github.com/thawhttp/thaw/internal/openbody"
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

	mu            sync.Mutex             // guards what follows, every origin and what conn says of itself
	sessions      tls.ClientSessionCache // nil if no TLS session is to be resumed
	shut          bool                   // Close was called
	origins       map[originKey]*origin
	aliases       map[originKey]*origin // origins by the ways their hosts are written
	vacant        list.List             // of *origin, the one used last at the back: see vacated
	open          int                   // connections of all origins
	dialing       int
	closing       int // connections that are out of the pool and not closed yet
	idleCount     int
	starved       []*origin // that wait for room under MaxConns, first come, first served
	lastID        uint64
	turns         uint64        // requests that asked for a connection
	freed         chan struct{} // closed when a connection is, if Warm waits for that; or nil
	thawed        instant       // of the last call of Thaw
	tidyTimer     *time.Timer
	tidyAt        int64              // when the timer will run, in wall-clock nanoseconds; zero if it is not set
	ledgers       map[string]*ledger // by name
	vacantLedgers list.List          // of *ledger, the one used last at the back
	unreached     Origin             // counters of names that were never reached, and are forgotten
	forgotten     Origin             // counters of other ledgers that were dropped
	watchers      []func(connlife.End)

	// What is to be done once mu is released: see unlock.
	doomed []*conn
	notes  []note
	ends   []func() // calls of watchers
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
		if len(o.conns) == 0 {
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
// connections make a distribution, which counters cannot tell. F is called from many goroutines, none of which holds a lock
// of the pool, before Close returns; it must not block.
func (t *Transport) WatchConns(f func(connlife.End)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, f)
}

// CloseIdleConnections closes the connections that are idle now. Those in use are left alone.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	t.each(func(c *conn) {
		if c.state == connIdle {
			c.origin.doom(c, closedReset)
		}
	})
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
	t.each(func(c *conn) {
		if c.state == connIdle {
			c.origin.doom(c, closedReset)
		} else {
			c.retire(closedReset)
		}
	})
	for _, o := range t.origins {
		for _, d := range o.dials {
			d.reset = true
			d.cancel(errReset)
		}
	}
	t.pumpAll()
	t.unlock()
}

// Close closes all connections. Requests under way fail, and later ones do with [ErrClosed]. It returns when none of
// the pool's goroutines is left; calling it again does nothing.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return nil
	}
	t.shut = true
	for _, o := range t.origins {
		for w := o.waiters.pop(); w != nil; w = o.waiters.pop() {
			w.deliver(grant{}, ErrClosed)
		}
	}
	t.each(func(c *conn) { c.origin.doom(c, closedReset) })
	if t.tidyTimer != nil {
		t.tidyTimer.Stop()
	}
	t.cancel()
	t.unlock()
	t.wg.Wait()
	return nil
}

// each calls f for every connection. f may doom it. mu is held.
func (t *Transport) each(f func(*conn)) {
	for _, o := range t.origins {
		for i := len(o.conns) - 1; i >= 0; i-- {
			f(o.conns[i])
		}
	}
}

// unlock releases mu and has done what must not be done while it is held: closing connections, which can block and
// makes the protocol layer call back, and logging and watching, which is others' code.
func (t *Transport) unlock() {
	doomed, notes, ends := t.doomed, t.notes, t.ends
	t.doomed, t.notes, t.ends = nil, nil, nil
	if len(doomed) == 0 && len(notes) == 0 && len(ends) == 0 {
		t.mu.Unlock()
		return
	}
	if !t.start(func() { t.tidyUp(doomed, notes, ends) }) {
		t.mu.Unlock()
		t.tidyUp(doomed, notes, ends)
		return
	}
	t.mu.Unlock()
}

func (t *Transport) tidyUp(doomed []*conn, notes []note, ends []func()) {
	for _, tell := range ends {
		tell()
	}
	for _, n := range notes {
		n.log(t.cfg.Logger)
	}
	for _, c := range doomed {
		c.shut()
	}
}

// start runs f in a goroutine that Close waits for, or returns false after Close. mu is held.
func (t *Transport) start(f func()) bool {
	if t.shut {
		return false
	}
	t.wg.Go(f)
	return true
}

// closed is told by a connection that it is being closed. If the pool did not do it, the peer did, or an error.
func (t *Transport) closed(c *conn) {
	t.mu.Lock()
	if c.state != connNew && c.state != connClosed {
		reason := c.retired
		switch {
		case reason != closedUnknown:
		case c.state == connIdle:
			reason = closedServer
		case c.vetting.Load():
			reason = closedStale
		default:
			reason = closedError
		}
		c.origin.remove(c, reason)
	} else {
		c.state = connClosed
	}
	t.unlock()
}

// gone is told by a connection that it has been closed. Only then there is room for another one.
func (t *Transport) gone(c *conn) {
	t.mu.Lock()
	if c.leaving {
		c.leaving = false
		c.origin.closing--
		t.closing--
		if t.freed != nil {
			close(t.freed)
			t.freed = nil
		}
		t.pump(c.origin)
		t.pumpStarved()
		t.vacated(c.origin)
	}
	t.unlock()
}

// retire has a connection take no more requests after those that it has.
func (t *Transport) retire(c *conn) {
	t.mu.Lock()
	c.retire(closedServer)
	t.unlock()
}

// suspect notes that nothing came on an HTTP/2 connection during a request that failed or was given up. It must answer a
// PING before it gets another one, however short it was idle: else requests that time out, one after the other, would
// keep a connection in use whose packets are dropped.
func (t *Transport) suspect(c *conn) {
	t.mu.Lock()
	c.suspected = true
	t.unlock()
}

// frames is told by an HTTP/2 connection what its server said.
func (t *Transport) frames(c *conn, ev frameEvents) {
	t.mu.Lock()
	if ev.goAway {
		c.retire(closedServer)
	}
	if ev.settings {
		if ev.hasStreams {
			c.limit = int32(min(ev.streams, 1<<20))
		} else if !c.heard {
			c.limit = defaultStreams
		}
		c.settled, c.heard = true, true
		c.origin.limit = int(c.limit)
	}
	if c.state != connNew {
		if c.state == connIdle && c.retired != closedUnknown {
			c.origin.doom(c, c.retired)
		}
		t.pump(c.origin)
	}
	t.unlock()
}

const (
	// initialStreams is how many streams x/net/http2 opens before it has seen the server's SETTINGS.
	initialStreams = 100
	// defaultStreams is how many it opens if they name no limit.
	defaultStreams = 1000
)

// note is a log line about a connection, for later.
type note struct {
	level  slog.Level
	msg    string
	c      *conn
	reason closeReason
	stack  []uintptr
}

func (n note) log(l *slog.Logger) {
	if l == nil {
		l = slog.Default()
	}
	args := []any{"origin", n.c.origin.name, "conn", n.c.id, "protocol", n.c.Protocol(), "uses", n.c.Uses()}
	if n.reason != closedUnknown {
		args = append(args, "reason", n.reason.String())
	}
	if len(n.stack) > 0 {
		args = append(args, "stack", openbody.Stack(n.stack))
	}
	l.Log(context.Background(), n.level, n.msg, args...)
}

// debug notes what happened to a connection, if somebody wants to read it. mu is held.
func (t *Transport) debug(msg string, c *conn, reason closeReason) {
	if t.verbose {
		t.notes = append(t.notes, note{level: slog.LevelDebug, msg: msg, c: c, reason: reason})
	}
}
