package transport

import (
	"cmp"
	"container/list"
	"crypto/tls"
	"net"
	"net/url"
	"time"

	"github.com/thawhttp/thaw/internal/connlife"
	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/legible"
)

// originKey tells origins apart. Connections are shared within a key and never across: not across proxies, nor
// between requests that need HTTP/1.1 and those that do not.
type originKey struct {
	scheme string
	host   string // of a request's URL; in Transport.origins in its canonical form, "host:port"
	proxy  string // the proxy's URL with its credentials, or empty
	http1  bool
}

// origin is the part of the pool that belongs to one origin. Its fields below key are guarded by Transport.mu.
type origin struct {
	t     *Transport
	key   originKey // its host is the "host:port" to be dialled
	name  string    // "https://host:port", for people
	proxy *url.URL

	// For https origins and https proxies, with the server's name; shared by the connections.
	tls, proxyTLS *tls.Config

	limit int // streams a connection, as its SETTINGS said last

	conns     []*conn // all established connections
	idle      []*conn // HTTP/1.1, the one idle longest first
	idleCount int     // idle ones of conns, HTTP/2 included
	streams   int

	waiters waiterQueue
	dials   []*dial // under way
	closing int     // connections that are out of the pool and not closed yet
	pins    int     // those who use it beside a connection or a dial, such as requests that wait

	aliases []originKey   // the ways its host was written
	vacant  *list.Element // in Transport.vacant, if it has nothing but what it counted

	protocol protocol // what it spoke last, remembered when its connections are gone
	holding  bool     // a timer will stop the wait for an HTTP/2 connection's SETTINGS
	nudging  bool     // a timer will look after the waiters of a connection that refused a stream
	starved  bool     // in Transport.starved: waits for room under MaxConns

	ledger *ledger
	counts *Origin // those of the ledger
}

// originFor returns the origin that req is for, making it if need be. Transport.mu is held, and released and taken
// again where the origin has to be made.
func (t *Transport) originFor(key originKey, u, proxy *url.URL) *origin {
	o := t.aliases[key]
	if o == nil {
		t.unlock()
		// Resolving the name to its canonical form is slow, so it is done once for each way a host is written.
		canonical := key
		canonical.host = hostport.Of(u)
		name := legible.Text(key.scheme + "://" + canonical.host)
		t.mu.Lock()

		if o = t.origins[canonical]; o == nil {
			o = &origin{t: t, key: canonical, name: name, proxy: proxy, ledger: t.ledgerFor(name)}
			o.counts = &o.ledger.counts
			o.secure()
			o.protocol = t.priorProtocol(key)
			t.origins[canonical] = o
		}
		o.addAlias(key)
	}
	if o.vacant != nil {
		t.vacant.Remove(o.vacant)
		o.vacant = nil
	}
	return o
}

// addAlias notes another way to write the origin's host. There are as many as a stranger likes. Transport.mu is held.
func (o *origin) addAlias(key originKey) {
	if len(o.aliases) >= maxAliases {
		o.dropAliases()
	}
	o.aliases = append(o.aliases, key)
	o.t.aliases[key] = o
}

func (o *origin) dropAliases() {
	for _, key := range o.aliases {
		delete(o.t.aliases, key)
	}
	o.aliases = o.aliases[:0]
}

// hostname returns the host of the origin without its port.
func (o *origin) hostname() string {
	host, _, _ := net.SplitHostPort(o.key.host)
	return host
}

const (
	// maxAliases is how many ways to write the host of an origin are remembered.
	maxAliases = 8
	// maxVacant is how many origins are remembered that have no connection any more.
	maxVacant = 64
)

// vacated is called when something of an origin has ended. An origin that nothing is left of is forgotten at once if there
// never was a connection to it: whoever chooses the hosts that are tried could fill memory, statistics and metrics with them.
// Those that were reached are remembered, with what protocol they speak, since the next invocation will want them again; but
// of very many only those that were used last. What was counted of them is remembered for longer: see ledger.
// Transport.mu is held.
func (t *Transport) vacated(o *origin) {
	if len(o.conns) > 0 || len(o.dials) > 0 || o.closing > 0 || o.pins > 0 || o.vacant != nil {
		return
	}
	if !o.ledger.reached {
		t.forget(o)
		return
	}
	o.vacant = t.vacant.PushBack(o)
	if t.vacant.Len() > maxVacant {
		t.forget(t.vacant.Front().Value.(*origin))
	}
}

// forget forgets an origin. Transport.mu is held.
func (t *Transport) forget(o *origin) {
	if t.origins[o.key] != o {
		return // it has been
	}
	if o.vacant != nil {
		t.vacant.Remove(o.vacant)
		o.vacant = nil
	}
	o.dropAliases()
	delete(t.origins, o.key)
	t.leaveLedger(o.ledger)
}

// priorProtocol returns the protocol that is known without asking.
func (t *Transport) priorProtocol(key originKey) protocol {
	p := t.cfg.Protocols
	switch {
	case key.http1:
		return http1
	case key.scheme == "http" && p.UnencryptedHTTP2() && !p.HTTP1():
		return h2
	case key.scheme == "http" || !p.HTTP2():
		return http1
	default:
		return unknown
	}
}

// add puts a new connection among the origin's. Transport.mu is held.
func (o *origin) add(c *conn) {
	c.index = len(o.conns)
	o.conns = append(o.conns, c)
	o.t.open++
	c.state = connInUse
	o.protocol = c.protocol
	o.ledger.reached = true
}

// remove takes a connection out of everything and counts it as closed for reason. Transport.mu is held.
func (o *origin) remove(c *conn, reason closeReason) {
	switch c.state {
	case connNew, connClosed:
		c.state = connClosed
		return
	case connIdle:
		o.unidle(c)
	}
	c.state = connClosed
	last := o.conns[len(o.conns)-1]
	o.conns[c.index] = last
	last.index = c.index
	o.conns[len(o.conns)-1] = nil
	o.conns = o.conns[:len(o.conns)-1]
	o.streams -= int(c.streams)
	o.t.open--
	c.leaving = true
	o.closing++
	o.t.closing++
	o.counts.Closed.count(reason)
	c.retired = reason
	for _, l := range c.spare {
		l.record.stop()
	}
	c.spare = nil
	o.t.debug("connection closed", c, reason)
	for _, watch := range o.t.watchers {
		end := connlife.End{Origin: o.name, Protocol: c.Protocol(), Lived: o.t.clock.now().elapsed(c.created)}
		o.t.ends = append(o.t.ends, func() { watch(end) })
	}
}

// expected returns how many requests the dials under way will serve, as far as is known. Transport.mu is held.
func (o *origin) expected() int {
	each := 1
	if o.protocol != http1 {
		each = cmp.Or(o.limit, initialStreams)
	}
	return len(o.dials) * each
}

// unidle takes an idle connection out of the lists of idle ones. Transport.mu is held.
func (o *origin) unidle(c *conn) {
	c.state = connInUse
	o.idleCount--
	o.t.idleCount--
	if c.protocol != http1 {
		return
	}
	// The connection asked for is mostly the one used last.
	for i := len(o.idle) - 1; i >= 0; i-- {
		if o.idle[i] == c {
			o.idle = append(o.idle[:i], o.idle[i+1:]...)
			o.idle[:len(o.idle)+1][len(o.idle)] = nil
			return
		}
	}
}

// reidle makes a connection idle, since a time that is mostly now. Transport.mu is held.
func (o *origin) reidle(c *conn, since, now instant) {
	c.state = connIdle
	c.idleAt = since
	o.idleCount++
	o.t.idleCount++
	if c.protocol == http1 {
		o.idle = append(o.idle, c)
		for i := len(o.idle) - 1; i > 0 && since != now && now.since(o.idle[i-1].idleAt) < now.since(since); i-- {
			o.idle[i], o.idle[i-1] = o.idle[i-1], o.idle[i]
		}
	}
	o.t.tidyBy(c, now)
}

// doom takes a connection out of the pool for reason and has it closed once Transport.mu is released, which is held.
func (o *origin) doom(c *conn, reason closeReason) {
	if c.state == connClosed {
		return
	}
	o.remove(c, reason)
	o.t.doomed = append(o.t.doomed, c)
}

// longestIdle returns the connection that has been idle longest, or nil. One that is being verified is passed over,
// unless verifying says otherwise: somebody waits for it. Transport.mu is held.
func (o *origin) longestIdle(verifying bool, now instant) *conn {
	var oldest *conn
	if len(o.idle) > 0 {
		oldest = o.idle[0]
	}
	if o.idleCount > len(o.idle) {
		for _, c := range o.conns {
			if c.state == connIdle && (c.verify == nil || verifying) && c.idlesLonger(oldest, now) {
				oldest = c
			}
		}
	}
	return oldest
}

// idlesLonger reports whether c has been idle longer than other, if there is one. (A wall clock that was set back since one of
// them became idle would give a wrong order.)
func (c *conn) idlesLonger(other *conn, now instant) bool {
	return other == nil || now.since(c.idleAt) > now.since(other.idleAt)
}

// condemn closes the idle connections that have been idle for as long as one that was found dead, or longer: what
// closed that one, a freeze mostly, has closed them too. Connections that have carried a request since then are
// another generation, and stay. Transport.mu is held.
func (o *origin) condemn(idleAt, now instant) {
	idle := now.since(idleAt)
	if idle < condemnAfter && idle < now.since(o.t.thawed) {
		return
	}
	for i := len(o.conns) - 1; i >= 0; i-- {
		if c := o.conns[i]; c.state == connIdle && now.since(c.idleAt) >= idle && c.verify == nil {
			o.doom(c, closedStale)
		}
	}
}

// condemnAfter is how long a dead connection must have been idle to say something about others. Below it, a server
// more likely closed just the one, after so many requests for example.
const condemnAfter = time.Second

// gauges returns what is there now. Transport.mu is held.
func (o *origin) gauges() (s Origin) {
	s.Open = len(o.conns)
	s.Idle = o.idleCount
	s.InUse = s.Open - s.Idle
	s.Dialing = len(o.dials)
	s.Waiting = o.waiters.len()
	s.Streams = o.streams
	return s
}
