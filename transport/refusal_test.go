package transport_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/transport"
)

// A server that says that it did not process a request, by REFUSED_STREAM or GOAWAY, gets it again after a while. Its refusals cost
// time, and no request as long as that has some.

func TestRefusedStreamsAreSentAgainUntilTheServerTakesThem(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, warm := range []bool{false, true} {
		for _, mode := range h2Modes {
			name := "cold/" + mode.name
			if warm {
				name = "warm/" + mode.name
			}
			list = append(list, contest{name: name, mode: mode, try: func(m *match) score {
				if warm {
					m.mustAsk("GET", m.URL+"/warm")
				}
				time.AfterFunc(500*time.Millisecond, m.RefuseStreams())
				return m.send(fleet{n: 20, patience: 8 * time.Second, late: 4 * time.Second}, m.URL)
			}})
		}
	}
	hold(t, list...)
}

// A server that refuses for good, as HAProxy does for a backend that is gone, must not be asked without a pause, nor for ever: see
// curl/curl#5794.
func TestAServerThatRefusesForGoodIsAskedWithPauses(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{
			name: mode.name, mode: mode,
			try: func(m *match) score {
				m.RefuseStreams()
				return m.send(fleet{n: 1, patience: time.Second}, m.URL)
			},
			check: func(t *testing.T, scores []score) {
				for _, s := range scores {
					if s.failed != 1 || s.sent > 50 {
						t.Errorf("%v\nwant it to fail after at most 50 attempts", s)
					}
				}
			},
		})
	}
	hold(t, list...)
}

func TestAServerThatAllowsFewerStreamsThanItSays(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, conns := range []int{0, 1} {
		for _, mode := range h2Modes {
			list = append(list, contest{
				name: fmt.Sprintf("MaxConnsPerHost %d/%s", conns, mode.name), mode: mode, config: transport.Config{MaxConnsPerHost: conns},
				try: func(m *match) score {
					m.LimitStreams(100)
					m.mustAsk("GET", m.URL+"/warm")
					m.AllowStreams(5)
					m.Every(clienttest.Delay(100 * time.Millisecond))
					return m.send(fleet{n: 40, patience: 2500 * time.Millisecond, late: 2500 * time.Millisecond}, m.URL)
				},
				check: func(t *testing.T, scores []score) {
					for _, s := range scores[1:] {
						if s.failed > 15 {
							t.Errorf("%v\nwant at most 15 that fail", s)
						}
					}
				},
			})
		}
	}
	hold(t, list...)
}

func TestGOAWAYOnEachNewConnectionIsWaitedOut(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{
			name: mode.name, mode: mode, atMost: 4,
			try: func(m *match) score {
				time.AfterFunc(time.Second, m.TurnAway())
				return m.send(fleet{n: 20, patience: 8 * time.Second, late: 4 * time.Second}, m.URL)
			},
			check: func(t *testing.T, scores []score) {
				for _, s := range scores[1:] {
					if s.dials > 60 {
						t.Errorf("%v\nwant pauses between dials, and at most 60 of them", s)
					}
				}
			},
		})
	}
	hold(t, list...)
}

// A server may lift a limit later, as that of Apple's push notifications does once the first request is answered: see golang/go#17265.
func TestALimitOfStreamsThatIsLiftedLetsTheOthersIn(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{name: mode.name, mode: mode, config: transport.Config{MaxConnsPerHost: 1}, try: func(m *match) score {
			lift := m.LimitStreams(1)
			m.mustAsk("GET", m.URL+"/warm")
			goOn := m.Every(clienttest.StallBeforeHeader())
			time.AfterFunc(300*time.Millisecond, lift)
			time.AfterFunc(600*time.Millisecond, goOn)
			return m.send(fleet{n: 20, patience: 5 * time.Second, late: 3 * time.Second}, m.URL)
		}})
	}
	hold(t, list...)
}

// Load balancers close a connection with GOAWAY after so many requests, under load too: see awslabs/aws-sdk-rust#1402.
func TestGOAWAYAfterSoManyRequestsUnderLoad(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{name: mode.name, mode: mode, try: func(m *match) score {
			m.LimitRequests(10)
			return m.send(fleet{n: 100, over: 300 * time.Millisecond, patience: 5 * time.Second, late: 3 * time.Second}, m.URL)
		}})
	}
	hold(t, list...)
}
