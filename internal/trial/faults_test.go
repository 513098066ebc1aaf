//go:build linux

package trial

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

const (
	// trust is TrustIdle and VerifyAfter in these trials, so that nobody has to wait for two minutes.
	trust = 100 * time.Millisecond
	// giveUp is the timeout of a request that nothing else ends.
	giveUp = 3 * time.Second
	// slack is what a busy machine may add to a time that is not bounded generously anyway.
	slack = 500 * time.Millisecond
	// fallback is after how long net.Dialer tries IPv4 beside IPv6 (RFC 6555, section 5; net.Dialer.FallbackDelay).
	fallback = 300 * time.Millisecond
)

// contestant is a client in the network, and the kind of request that it sends.
type contestant struct {
	clientOrder
	method string
}

func (c contestant) String() string {
	who := "thaw"
	if c.Plain {
		who = "http.Transport"
	}
	return who + ", " + c.what()
}

// what is the kind of request.
func (c contestant) what() string {
	name := c.Protocol.title()
	if c.TLS && c.Protocol == h1 {
		name += " with TLS"
	}
	return c.method + ", " + name
}

// contestants are all clients, thaw with the default VerifyTimeout first.
func contestants() []contestant {
	var all []contestant
	for _, plain := range []bool{false, true} {
		for _, o := range []clientOrder{{Protocol: h1}, {Protocol: h1, TLS: true}, {Protocol: h2, TLS: true}} {
			for _, method := range []string{"GET", "POST"} {
				o.Plain, o.TrustIdle = plain, trust
				all = append(all, contestant{o, method})
			}
		}
	}
	return all
}

// player is a contestant in action.
type player struct {
	contestant
	*actor
	n     *network
	first requestAnswer
	id    string // of the request under way
}

var ids atomic.Int64

// enter starts a client and has it send its first request.
func (n *network) enter(c contestant, host string, names map[string][]string) *player {
	n.t.Helper()
	p := &player{contestant: c, actor: n.act(n.client, "client", c.clientOrder), n: n}
	p.ask(host, names, giveUp)
	p.first, _ = p.outcome()
	if p.first.Err != "" {
		n.t.Fatalf("%v: the first request: %s", c, p.first.Err)
	}
	return p
}

// enterAll starts all clients.
func (n *network) enterAll(host string, names map[string][]string) []*player {
	n.t.Helper()
	var players []*player
	for _, c := range contestants() {
		players = append(players, n.enter(c, host, names))
	}
	return players
}

// ask has the client send a request.
func (p *player) ask(host string, names map[string][]string, timeout time.Duration) {
	p.t.Helper()
	p.id = fmt.Sprint(ids.Add(1))
	p.tell(requestOrder{Method: p.method, Host: host, ID: p.id, Timeout: timeout, Names: names})
}

// outcome waits for the end of the request and returns how often it arrived, too.
func (p *player) outcome() (a requestAnswer, arrived int) {
	p.t.Helper()
	p.hear(&a)
	p.n.peer.tell(p.id)
	p.n.peer.hear(&arrived)
	return a, arrived
}

// recovery is how clients came through the faults: the rows of the table.
type recovery struct {
	order []string                   // of the rows, by what they begin with
	rows  map[string]map[bool]string // outcomes, by that and by whether it is the http.Transport's
}

func (r *recovery) add(fault string, c contestant, outcome string) {
	key := fmt.Sprintf("| %s | %s |", fault, c.what())
	if r.rows == nil {
		r.rows = make(map[string]map[bool]string)
	}
	if r.rows[key] == nil {
		r.rows[key] = make(map[bool]string)
		r.order = append(r.order, key)
	}
	r.rows[key][c.Plain] = outcome
}

// table returns the rows as Markdown.
func (r *recovery) table() string {
	var b strings.Builder
	b.WriteString("| fault | request | thaw | http.Transport |\n|---|---|---|---|\n")
	for _, key := range r.order {
		fmt.Fprintf(&b, "%s %s | %s |\n", key, r.rows[key][false], r.rows[key][true])
	}
	return b.String()
}

// outcome is how a request ended, for the table.
func (a requestAnswer) outcome() string {
	took := a.Took.Round(time.Millisecond).String()
	switch {
	case a.Err == "":
		return took
	case strings.Contains(a.Err, "deadline exceeded"):
		return "hangs"
	default:
		return "fails after " + took
	}
}

// recover has everyone send a request after a fault, and holds the pool to what it promises: it is answered within most
// plus the time of a dial with its handshake, and arrives once.
func (r *recovery) recover(what string, players []*player, host string, names map[string][]string, most time.Duration) {
	for _, p := range players {
		if p.Plain {
			p.ask(host, names, giveUp) // most of these hang, so they do it at once
		}
	}
	for _, p := range players {
		if !p.Plain {
			p.ask(host, names, giveUp)
		}
		a, arrived := p.outcome()
		r.add(what, p.contestant, a.outcome())
		if p.Plain {
			continue
		}
		switch most := most + p.first.Took; {
		case a.Err != "":
			p.t.Errorf("%s: %v: %s", what, p.contestant, a.Err)
		case a.Took > most:
			p.t.Errorf("%s: %v: answered after %v, want at most %v", what, p.contestant, a.Took, most)
		case arrived != 1:
			p.t.Errorf("%s: %v: arrived %d times", what, p.contestant, arrived)
		case a.Port == p.first.Port:
			p.t.Errorf("%s: %v: answered on the connection that was to be broken", what, p.contestant)
		}
	}
}

// TestNetwork puts the pool on networks that fail in ways which no server's end can bring about.
func TestNetwork(t *testing.T) {
	length(t)
	const name = "api.test"
	n := newNetwork(t)
	var r recovery

	for _, f := range []struct{ what, rule string }{
		{"packets are dropped without a word", "tcp sport %s drop"},
		{"the next packet is answered with RST", "tcp sport %s reject with tcp reset"},
	} {
		n.during(f.what, func(n *network) {
			defer n.heal()
			players := n.enterAll(serverAddr, nil)
			for _, p := range players {
				n.fault(fmt.Sprintf(f.rule, p.first.Port))
				n.fault(fmt.Sprintf("tcp dport %s drop", p.first.Port))
			}
			pause(n.t.Context(), 2*trust)
			r.recover(f.what, players, serverAddr, nil, transport.DefaultVerifyTimeout)
		})
	}

	// The bound above is that of the default, of which little is needed here. This one is much shorter.
	n.during("VerifyTimeout bounds the wait", func(n *network) {
		defer n.heal()
		var players []*player
		for _, c := range contestants() {
			if !c.Plain {
				c.VerifyTimeout = 50 * time.Millisecond
				players = append(players, n.enter(c, serverAddr, nil))
			}
		}
		for _, p := range players {
			n.fault(fmt.Sprintf("tcp sport %s drop", p.first.Port))
		}
		pause(n.t.Context(), 2*trust)
		r.recover("the same, VerifyTimeout 50ms", players, serverAddr, nil, 50*time.Millisecond+slack)
	})

	n.during("a NAT forgets while the process is stopped", func(n *network) {
		n.in(n.router, "sh", "-c", "cd /proc/sys/net/netfilter && echo 1 >nf_conntrack_tcp_timeout_established && echo 0 >nf_conntrack_tcp_loose")
		defer n.in(n.router, "sh", "-c", "cd /proc/sys/net/netfilter && echo 432000 >nf_conntrack_tcp_timeout_established && echo 1 >nf_conntrack_tcp_loose")
		for _, f := range []struct{ what, rule string }{
			{"a NAT forgets the flow in a freeze and drops its packets", "ct state invalid drop"},
			{"a NAT forgets the flow in a freeze and answers with RST", "ct state invalid reject with tcp reset"},
		} {
			n.fault(f.rule)
			players := n.enterAll(serverAddr, nil)
			for _, p := range players {
				p.signal(syscall.SIGSTOP)
			}
			pause(n.t.Context(), 2500*time.Millisecond) // a NAT that forgets after one second has forgotten
			for _, p := range players {
				p.signal(syscall.SIGCONT)
			}
			r.recover(f.what, players, serverAddr, nil, transport.DefaultVerifyTimeout)
			n.heal()
		}
	})

	n.during("DNS changes", func(n *network) {
		defer n.heal()
		players := n.enterAll(name, map[string][]string{name: {serverAddr}})
		n.fault("ip daddr " + serverAddr + " drop")
		n.fault("ip saddr " + serverAddr + " drop")
		pause(n.t.Context(), 2*trust)
		r.recover("the address moves, the old one goes dark", players, name, map[string][]string{name: {serverMoved}}, transport.DefaultVerifyTimeout)
		for _, p := range players {
			if p.Plain {
				continue
			}
			p.ask(name, nil, giveUp)
			if a, _ := p.outcome(); a.Err != "" || a.Remote != serverMoved || a.Took > slack {
				n.t.Errorf("%v: after that, %s answered after %v: %s", p.contestant, a.Remote, a.Took, a.Err)
			}
		}
	})

	n.during("IPv6 is black-holed", func(n *network) {
		defer n.heal()
		both := map[string][]string{name: {serverAddr, serverIPv6}}
		players := n.enterAll(name, both)
		for _, p := range players {
			if p.first.Remote != serverIPv6 {
				n.t.Fatalf("%v: with a working IPv6, %s answered", p.contestant, p.first.Remote)
			}
		}
		n.fault("meta nfproto ipv6 drop")
		pause(n.t.Context(), 2*trust)
		r.recover("IPv6 dies under kept connections, IPv4 works", players, name, both, transport.DefaultVerifyTimeout+fallback)
		for _, c := range contestants() {
			p := n.enter(c, name, both)
			r.add("IPv6 is dead from the start, IPv4 works", c, p.first.outcome())
			if !c.Plain && (p.first.Remote != serverAddr || p.first.Took > fallback+slack) {
				n.t.Errorf("%v: cold, %s answered after %v, want %s after at most %v", c, p.first.Remote, p.first.Took, serverAddr, fallback+slack)
			}
		}
	})

	for _, f := range []struct{ what, device string }{
		{"every second packet is lost on the way there", "c0"},
		{"every second packet is lost on the way back", "s0"},
	} {
		n.during(f.what, func(n *network) {
			defer n.heal()
			const patience = 20 * time.Second // each loss doubles TCP's next wait
			for _, c := range contestants() {
				c.TrustIdle = 0 // the default
				p := n.enter(c, serverAddr, nil)
				n.fault(fmt.Sprintf("iifname %s numgen inc mod 2 == 0 drop", f.device))
				p.ask(serverAddr, nil, patience)
				a, arrived := p.outcome()
				n.heal()
				if !p.Plain && (a.Err != "" || arrived != 1) {
					n.t.Errorf("%v: arrived %d times, after %v: %s", c, arrived, a.Took, a.Err)
				}
				r.add(f.what, c, a.outcome())
			}
		})
	}
	t.Logf("\n%s", r.table())
}
