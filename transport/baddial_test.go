package transport_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// A dial that hangs, is reset or is refused costs the request that it was begun for, and nobody else.

// A badDial makes the next dial of a match a bad one.
type badDial struct {
	name string
	arm  func(*match)
}

var (
	silentDial  = badDial{"silent", func(m *match) { m.SilenceNew(1) }}
	darkDial    = badDial{"dark", func(m *match) { m.dials.next(dark) }}
	lateDial    = badDial{"two SYNs lost", func(m *match) { m.dials.next(twoLost) }}
	resetDial   = badDial{"reset", func(m *match) { m.ResetNew(1) }}
	refusedDial = badDial{"refused", func(m *match) { m.dials.next(refused(m.t)) }}
)

// over returns the contest for each of the bad dials in each mode.
func (c contest) over(modes []mode, bad ...badDial) (list []contest) {
	try := c.try
	for _, b := range bad {
		for _, m := range modes {
			c.name, c.mode = b.name+"/"+m.name, m
			c.try = func(m *match) score {
				b.arm(m)
				return try(m)
			}
			list = append(list, c)
		}
	}
	return list
}

// overHung returns the contest for each dial that hangs. Without TLS a silent connection is a request without an answer, which
// no pool can help.
func (c contest) overHung() []contest {
	return append(c.over(tlsModes, silentDial), c.over(allModes, darkDial, lateDial)...)
}

// The hung dials hang for longer than this fleet has patience, so what is answered in time was not served by one of them.
var beside = fleet{n: 12, patience: 2500 * time.Millisecond, late: 1500 * time.Millisecond}

func TestADialThatHangsHoldsUpNoRequestThatComesLater(t *testing.T) {
	t.Parallel()
	hold(t, contest{try: func(m *match) score {
		f := beside
		f.over = 500 * time.Millisecond
		return m.send(f, m.URL)
	}}.overHung()...)
}

func TestADialThatHangsHoldsUpNoneOfABurst(t *testing.T) {
	t.Parallel()
	hold(t, contest{try: func(m *match) score { return m.send(beside, m.URL) }}.overHung()...)
}

// A request that gave up leaves its dial behind. Those that come after it must not wait for that.
func TestRequestsAfterOneThatGaveUpOnAHungDialDoNotWaitForIt(t *testing.T) {
	t.Parallel()
	hold(t, contest{atMost: 1, try: func(m *match) (s score) {
		took, err := m.ask("", m.URL+"/gives-up", 300*time.Millisecond)
		s.add(err, took, time.Hour)
		for range 4 {
			took, err := m.ask("", m.URL+"/next", time.Second)
			s.add(err, took, 800*time.Millisecond)
		}
		return s
	}}.overHung()...)
}

// The attempts of one request are requests like others: the second must not join the dial on which the first one's time ran out.
func TestASecondAttemptDoesNotJoinTheDialThatTheFirstGaveUpOn(t *testing.T) {
	t.Parallel()
	retrying := func(s side) side {
		return side{s.name, func(t testing.TB, cfg transport.Config) http.RoundTripper {
			c, err := client.New(client.WithBase(s.open(t, cfg)), client.WithTimeout(transport.Disabled),
				client.WithRetry(retry.Policy{MaxAttempts: 3, AttemptTimeout: 500 * time.Millisecond}))
			if err != nil {
				t.Fatal(err)
			}
			return c.Client.Transport
		}}
	}
	hold(t, contest{sides: []side{retrying(sides[0]), retrying(sides[1])}, try: func(m *match) (s score) {
		took, err := m.ask("GET", m.URL, 10*time.Second)
		s.add(err, took, 1500*time.Millisecond)
		return s
	}}.overHung()...)
}

func TestWhenAllConnectionsDieAHungDialHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(*clienttest.Server) int{"FIN": (*clienttest.Server).CloseIdle, "RST": (*clienttest.Server).ResetIdle} {
		t.Run(name, func(t *testing.T) {
			var list []contest
			for _, b := range []badDial{silentDial, darkDial} {
				list = append(list, contest{name: b.name, mode: modeH2, try: func(m *match) score {
					m.mustAsk("GET", m.URL)
					_, reference := m.rt.(*http.Transport) // which may close it itself, as the request's context ends
					m.await("the connection is idle on the server's side", func() bool { return die(m.Server) > 0 || reference })
					pause(50 * time.Millisecond) // for http.Transport to notice
					b.arm(m)
					return m.send(beside, m.URL)
				}})
			}
			hold(t, list...)
		})
	}
}

func TestAFirstConnectionThatFailsCostsOneRequestAtMost(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			hold(t, contest{atMost: 1, try: func(m *match) score {
				return m.send(fleet{n: 40, method: method, patience: 8 * time.Second, late: 5 * time.Second}, m.URL)
			}}.over(allModes, resetDial, refusedDial)...)
		})
	}
}

// When a host is down, its requests must fail when a dial has timed out, all of them, and not one after the other: see
// golang/go#67665 and dotnet/runtime#114957.
func TestAHostThatIsDownFailsAllItsRequestsSoon(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range allModes {
		list = append(list, contest{
			name: mode.name, mode: mode, config: transport.Config{DialTimeout: 400 * time.Millisecond},
			try: func(m *match) score {
				m.dials.to("down.test", dark)
				scheme, _, _ := strings.Cut(m.URL, ":")
				began := time.Now()
				s := m.send(fleet{n: 20, patience: 10 * time.Second}, scheme+"://down.test")
				s.slowest = time.Since(began)
				return s
			},
			check: func(t *testing.T, scores []score) {
				for _, s := range scores {
					if s.failed != 20 || s.slowest > 3*time.Second {
						t.Errorf("%v\nwant all to fail, and within 3s", s)
					}
				}
			},
		})
	}
	hold(t, list...)
}
