package transport_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A connection on which nothing was heard for a while must be proven before the next request, and a dial is begun beside the proof if
// that takes its time. Whichever comes first serves.

// A valve holds up what servers write, as a network does that loses it for a while.
type valve struct {
	net.Listener
	flow atomic.Pointer[flow] // of the connections to come
}

type flow struct{ stopped atomic.Pointer[chan struct{}] } // nil while it flows

// shut stops what the connections of now write, until the function returned is called.
func (v *valve) shut() (open func()) {
	f := v.flow.Swap(new(flow))
	ch := make(chan struct{})
	f.stopped.Store(&ch)
	return func() {
		f.stopped.Store(nil)
		close(ch)
	}
}

func (v *valve) Accept() (net.Conn, error) {
	nc, err := v.Listener.Accept()
	return valved{nc, v.flow.Load()}, err
}

type valved struct {
	net.Conn
	flow *flow
}

func (c valved) Write(p []byte) (int, error) {
	if ch := c.flow.stopped.Load(); ch != nil {
		<-*ch
	}
	return c.Conn.Write(p)
}

// serveValved starts an origin behind a valve.
func (m mode) serveValved(t testing.TB, h http.Handler, change ...func(*httptest.Server)) (*origin, *valve) {
	v := new(valve)
	v.flow.Store(new(flow))
	return m.serve(t, h, append(change, func(s *httptest.Server) {
		v.Listener = s.Listener
		s.Listener = v
	})...), v
}

// The dial that is begun beside a proof is there to help. If it fails, the proof is still out.
func TestADialThatFailsWhileTheProofIsOutFailsNobody(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{name: mode.name, mode: mode, try: func(m *match) (s score) {
			server, v := mode.serveValved(m.t, http.HandlerFunc(echo))
			cfg := mode.config()
			cfg.DialContext, cfg.VerifyAfter = m.dials.dial, 20*time.Millisecond
			m.rt = m.open(cfg)
			m.mustAsk("GET", server.URL)
			pause(100 * time.Millisecond) // until the connection is in doubt
			m.dials.to("127.0.0.1", refused(m.t))
			time.AfterFunc(400*time.Millisecond, v.shut())
			took, err := m.ask("POST", server.URL, 5*time.Second)
			s.add(err, took, 3*time.Second)
			return s
		}})
	}
	hold(t, list...)
}

// A connection with requests on it can go dark too, and looks busy: see golang/go#36026 and kubernetes/kubernetes#87615. New requests must
// not be lost on it.
func TestABusyConnectionThatGoesDarkTakesNoOtherRequestWithIt(t *testing.T) {
	t.Parallel()
	var list []contest
	for _, mode := range h2Modes {
		list = append(list, contest{
			name: mode.name, mode: mode,
			try: func(m *match) (s score) {
				asked, gate := make(chan struct{}, 1), make(chan struct{})
				server, v := mode.serveValved(m.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == "GET" {
						asked <- struct{}{}
						<-gate
					}
					echo(w, r)
				}))
				cfg := mode.config()
				cfg.DialContext, cfg.VerifyAfter, cfg.VerifyTimeout = m.dials.dial, 50*time.Millisecond, 400*time.Millisecond
				m.rt = m.open(cfg)
				long := make(chan struct{})
				go func() {
					defer close(long)
					m.ask("GET", server.URL+"/long", 10*time.Second) // is lost with its connection
				}()
				<-asked
				pause(20 * time.Millisecond) // SETTINGS and the like are through
				open := v.shut()
				pause(100 * time.Millisecond) // until the connection is in doubt
				s = m.send(fleet{n: 5, patience: 2 * time.Second, late: 1500 * time.Millisecond}, server.URL)
				close(gate)
				open()
				<-long
				return s
			},
			check: func(t *testing.T, scores []score) {
				for _, s := range scores[1:] {
					if s.failed > 0 {
						t.Errorf("%v\nwant none that fails", s)
					}
				}
			},
		})
	}
	hold(t, list...)
}
