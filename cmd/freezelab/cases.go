package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// fault is what happens to the idle connections while the function is frozen.
type fault string

const (
	faultFIN     fault = "fin"
	faultRST     fault = "rst"
	faultNAT     fault = "nat"
	faultHole    fault = "hole"
	faultRestart fault = "restart"
	faultNone    fault = "none"
)

// faults are all faults in the order of the table.
var faults = []fault{faultFIN, faultRST, faultNAT, faultHole, faultRestart, faultNone}

// title is the fault in the words of the table.
func (f fault) title() string {
	return map[fault]string{
		faultFIN:     "FIN: the server closes idle connections",
		faultRST:     "RST: the server resets idle connections",
		faultNAT:     "NAT: the flow is forgotten, the next packet is answered with RST",
		faultHole:    "Black hole: packets are acknowledged and never answered",
		faultRestart: "Restart: the server goes down gracefully and comes back on the same port",
		faultNone:    "Nothing: connections stay as they are",
	}[f]
}

// network is the fault as the network has it, for those that befall single connections.
func (f fault) network() faultnet.Fault {
	return map[fault]faultnet.Fault{
		faultFIN:  faultnet.Close,
		faultRST:  faultnet.Reset,
		faultNAT:  faultnet.Forget,
		faultHole: faultnet.Swallow,
	}[f]
}

// slow reports whether only an idle time beyond what the pool trusts makes the fault detectable, so that the
// freeze must be longer.
func (f fault) slow() bool { return f == faultNAT || f == faultHole }

// protocol is how client and server talk.
type protocol string

const (
	protoH1    protocol = "h1"
	protoH1TLS protocol = "h1tls"
	protoH2    protocol = "h2"
)

var protocols = []protocol{protoH1, protoH1TLS, protoH2}

// title is the protocol in the words of the table.
func (p protocol) title() string {
	return map[protocol]string{protoH1: "HTTP/1.1", protoH1TLS: "HTTP/1.1+TLS", protoH2: "HTTP/2"}[p]
}

// proto is the http.Response.Proto that shows that it was spoken.
func (p protocol) proto() string {
	if p == protoH2 {
		return "HTTP/2.0"
	}
	return "HTTP/1.1"
}

// kind is the request that an invocation makes.
type kind string

const (
	kindPost   kind = "post"   // a POST whose body can be sent again, without an idempotency key
	kindStream kind = "stream" // a POST whose body can be read once
	kindGet    kind = "get"
)

var kinds = []kind{kindPost, kindStream, kindGet}

// title is the kind in the words of the table.
func (k kind) title() string {
	return map[kind]string{kindPost: "POST", kindStream: "POST stream", kindGet: "GET"}[k]
}

// freezeCase is one row of the table.
type freezeCase struct {
	Fault    fault    `json:"fault"`
	Protocol protocol `json:"protocol"`
	Kind     kind     `json:"request"`
}

// name is what -cases matches.
func (c freezeCase) name() string {
	return fmt.Sprintf("%s/%s/%s", c.Fault, c.Protocol, c.Kind)
}

// undecidable reports whether no client can do better than wait. HTTP/1.1 has no PING. A request that may be replayed
// uses the old connection, and once its bytes are acknowledged, a hole looks like a server that takes its time.
func (c freezeCase) undecidable() bool {
	return c.Fault == faultHole && c.Protocol != protoH2 && c.Kind == kindGet
}

// allCases are all rows in the order of the table, without those left out.
func allCases() []freezeCase {
	var all []freezeCase
	for _, f := range faults {
		for _, p := range protocols {
			for _, k := range kinds {
				if c := (freezeCase{f, p, k}); !c.undecidable() {
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// leftOut are the names of the cases that are not run whatever the flags say.
func leftOut() []string {
	var names []string
	for _, p := range protocols {
		for _, k := range kinds {
			if c := (freezeCase{faultHole, p, k}); c.undecidable() {
				names = append(names, c.name())
			}
		}
	}
	return names
}

// burstName is what -cases matches for a burst of n requests.
func burstName(n int) string { return fmt.Sprintf("burst/%d", n) }

// selectCases returns the cases and bursts whose names match re and whose protocol is among ps.
func selectCases(re *regexp.Regexp, ps []protocol, bursts []int) (cases []freezeCase, sizes []int) {
	for _, c := range allCases() {
		if slices.Contains(ps, c.Protocol) && re.MatchString(c.name()) {
			cases = append(cases, c)
		}
	}
	for _, n := range bursts {
		if slices.Contains(ps, protoH2) && re.MatchString(burstName(n)) {
			sizes = append(sizes, n)
		}
	}
	return cases, sizes
}

// join lists names as prose.
func join[S ~string](names []S) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}
