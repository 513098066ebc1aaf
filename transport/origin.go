package transport

import (
	"container/list"
	"crypto/tls"
	"math"
	"net"
	"net/url"
	"sync/atomic"

	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/legible"
	"github.com/thawhttp/thaw/internal/pool"
)

// originKey tells origins apart. Connections are shared within a key and never across: not across proxies, nor
// between requests that need HTTP/1.1 and those that do not.
type originKey struct {
	scheme string
	host   string // of a request's URL; in Transport.origins in its canonical form, "host:port"
	proxy  string // the proxy's URL with its credentials, or empty
	http1  bool
}

// keyOf returns the key of a request's origin. A proxy that is sent requests for http URLs is their origin, whatever their
// hosts are: it is the one that the connections lead to.
func keyOf(u, proxy *url.URL, http1 bool) originKey {
	key := originKey{scheme: u.Scheme, host: u.Host, http1: http1 && u.Scheme == "https"}
	if proxy != nil {
		key.proxy = proxy.String()
		if forwards(u, proxy) {
			key.host = ""
		}
	}
	return key
}

// forwards reports whether a proxy is sent requests for u as they are, and makes connections of its own for them.
func forwards(u, proxy *url.URL) bool {
	return u.Scheme == "http" && proxy != nil && isHTTPProxy(proxy)
}

// origin is the part of the pool that belongs to one origin. Its fields below key are guarded by Transport.mu.
type origin struct {
	t     *Transport
	key   originKey // its host is the "host:port" to be dialled
	name  string    // "https://host:port", for people
	proxy *url.URL
	book  *pool.Origin // what is decided by

	// For https origins and https proxies, with the server's name; shared by the connections.
	tls, proxyTLS *tls.Config

	dials map[*dial]struct{} // under way
	pins  int                // those who use it beside a connection or a dial, such as requests that wait

	aliases []originKey   // the ways its host was written
	vacant  *list.Element // in Transport.vacant, if it has nothing but what it counted

	ledger *ledger

	waiting atomic.Int32 // requests that wait, for those who do not take the lock
}

// originFor returns the origin that a request for u is for, making it if need be. Transport.mu is held, and released and taken
// again where the origin has to be made.
func (t *Transport) originFor(key originKey, u, proxy *url.URL) *origin {
	o := t.aliases[key]
	if o == nil {
		t.unlock()
		// Resolving the name to its canonical form is slow, so it is done once for each way a host is written.
		canonical := key
		var name string
		if forwards(u, proxy) {
			name = "http://" + hostport.Of(proxy)
		} else {
			canonical.host = hostport.Of(u)
			name = key.scheme + "://" + canonical.host
		}
		name = legible.Text(name)
		t.mu.Lock()

		if o = t.origins[canonical]; o == nil {
			o = &origin{t: t, key: canonical, name: name, proxy: proxy, ledger: t.ledgerFor(name), dials: make(map[*dial]struct{})}
			o.secure()
			o.book = t.machine.NewOrigin(t.limits(), t.priorProtocol(key), &o.ledger.decided)
			o.book.Driver = o
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

// limits returns those of an origin.
func (t *Transport) limits() pool.Limits {
	cfg := &t.cfg
	return pool.Limits{
		MaxConns:     limit(cfg.MaxConnsPerHost, math.MaxInt),
		MaxIdleConns: limit(cfg.MaxIdleConnsPerHost, math.MaxInt),
		MaxStreams:   limit(cfg.MaxStreamsPerConn, math.MaxInt),
		IdleTimeout:  limit(cfg.IdleTimeout, pool.Forever),
		VerifyAfter:  limit(cfg.VerifyAfter, pool.Forever),
		TrustIdle:    limit(cfg.TrustIdle, pool.Forever),
	}
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

// addr returns the "host:port" that its requests are sent to: its own, or that of the proxy which is sent them.
func (o *origin) addr() string {
	if o.key.host == "" {
		return hostport.Of(o.proxy)
	}
	return o.key.host
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
	if !o.book.Empty() || o.pins > 0 || o.vacant != nil || t.origins[o.key] != o {
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

// unpin ends the use of o by one of its pins. mu is held.
func (t *Transport) unpin(o *origin) {
	o.pins--
	t.vacated(o)
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

// gauges returns what is there now. Transport.mu is held.
func (o *origin) gauges() (s Origin) {
	g := o.book.Gauges()
	s.Open, s.Idle, s.InUse, s.Streams, s.Dialing, s.Waiting = g.Open, g.Idle, g.InUse, g.Streams, g.Dialing, g.Waiting
	return s
}
