//go:build linux

package trial

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// protocol is what a server is asked to speak.
type protocol string

const (
	h1 protocol = "h1"
	h2 protocol = "h2"
)

// title is the protocol in the words of the table.
func (p protocol) title() string { return map[protocol]string{h1: "HTTP/1.1", h2: "HTTP/2"}[p] }

// limits are what a server is told to do with its connections. Zero means what the server does on its own, if that is
// not in the way of the trial.
type limits struct {
	idle     time.Duration // closes connections that are idle for longer
	announce bool          // says so in a Keep-Alive header
	requests int           // closes a connection after so many
	streams  int           // allows so many at a time
	close    bool          // answers "Connection: close"
	http10   bool          // answers with HTTP/1.0
}

// event is what happens to a server, or what a server does, while 64 callers use it.
type event struct {
	name   string
	only   protocol // if not of both
	limits limits
	rest   func(r *rand.Rand) time.Duration
	// act is called so many times, evenly spread over the trial.
	act   func(s *site) error
	times int
	loses string // why requests are lost whatever the server does
}

// Callers rest for a moment between requests, so that connections are in every state when something happens.
func shortly(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20)) * time.Millisecond }

// about returns a rest that ends within a tenth of d, before or after d has passed.
func about(d time.Duration) func(r *rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return d - d/10 + rand.N(d/5) }
}

// The idle timeouts of the trials. Some servers count in whole seconds.
const (
	shortIdle     = 300 * time.Millisecond
	announcedIdle = time.Second
)

var events = map[string]event{
	"idle timeout":      {limits: limits{idle: shortIdle}, rest: about(shortIdle), loses: crossing},
	"Keep-Alive header": {only: h1, limits: limits{idle: announcedIdle, announce: true}, rest: about(announcedIdle)},
	"request limit":     {limits: limits{requests: 7}},
	"stream limit":      {only: h2, limits: limits{streams: 4}},
	"Connection: close": {only: h1, limits: limits{close: true}},
	"HTTP/1.0":          {only: h1, limits: limits{http10: true}},
	"graceful reload":   {act: func(s *site) error { return s.family.reload(s) }, times: 3},
	"full restart":      {act: (*site).restart, times: 1, loses: stopped},
}

// The order of the table.
var eventOrder = []string{"idle timeout", "Keep-Alive header", "request limit", "stream limit", "Connection: close", "HTTP/1.0", "graceful reload", "full restart"}

// family makes servers of one kind.
type family struct {
	name      string
	program   string
	protocols []protocol
	events    []string
	// configure writes what the server needs into s.dir and returns its command line.
	configure func(t testing.TB, s *site) (args, env []string)
	// reload has the server take its configuration anew without failing a request, if it can.
	reload func(s *site) error
	// stop ends the server. The zero value is SIGTERM.
	stop syscall.Signal
	// own is set if the server counts what arrives itself, in the file arrivals of its folder, on lines with this prefix.
	own string
	// silent is set if its answers do not say which request they are for.
	silent bool
	// sized is set if it takes HTTP/2 requests only if they tell the length of their bodies.
	sized bool
	// granularity is in what steps the server counts its idle timeout.
	granularity time.Duration
	// loses says in which events the server loses requests which nobody but itself could have saved, and why; by the
	// event's name, or the protocol and that.
	loses map[string]string
}

// site is a server under trial.
type site struct {
	family   *family
	protocol protocol
	limits   limits
	dir      string
	addr     string
	origin   *origin // that it passes requests to, unless it answers itself
	cert     string  // files
	key      string
	process  *process
}

func (s *site) tls() bool { return s.protocol == h2 }

// restart stops the server and starts it again.
func (s *site) restart() error {
	stop := s.family.stop
	if stop == 0 {
		stop = syscall.SIGTERM
	}
	s.process.stop(stop)
	return s.process.start()
}

// ledger is who counts.
func (s *site) ledger() ledger {
	if s.family.own == "" {
		return s.origin
	}
	return logbook{path: s.arrivalsFile(), prefix: s.family.own}
}

func (s *site) arrivalsFile() string { return filepath.Join(s.dir, "arrivals.log") }

// credentials are those of httptest: a certificate for 127.0.0.1 and example.com.
var credentials = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
})

// newSite starts a server for a trial.
func newSite(t testing.TB, f *family, p protocol, l limits, addr string) *site {
	t.Helper()
	s := &site{family: f, protocol: p, limits: l, dir: publicDir(t), addr: addr}
	cert, _ := credentials()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s.cert = writeFile(t, s.dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	s.key = writeFile(t, s.dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	if f.own == "" {
		s.origin = newOrigin(t, s.dir)
	}
	args, env := f.configure(t, s)
	s.process = launch(t, s.dir, s.addr, args, env...)
	return s
}

// url is where requests go.
func (s *site) url() string {
	if s.tls() {
		return "https://" + s.addr + "/"
	}
	return "http://" + s.addr + "/"
}

// settings are those of both clients: the defaults, but for what it takes to reach the server.
func settings(p protocol, ws *wires) transport.Config {
	_, roots := credentials()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(p == h1)
	protocols.SetHTTP2(p == h2)
	return transport.Config{
		TLS:         &tls.Config{RootCAs: roots},
		Proxy:       func(*http.Request) (*url.URL, error) { return nil, nil },
		DialContext: ws.dial,
		Protocols:   protocols,
	}
}

// TestServers puts every server through every event, with the pool and a tuned http.Transport as its clients at once.
func TestServers(t *testing.T) {
	length(t)
	var results results
	t.Run("group", func(t *testing.T) {
		for _, f := range families {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				program(t, f.program)
				for _, p := range f.protocols {
					for _, name := range eventOrder {
						e := events[name]
						if !slices.Contains(f.events, name) || e.only != "" && e.only != p {
							continue
						}
						e.name = name
						t.Run(string(p)+"/"+name, func(t *testing.T) {
							results.add(try(t, f, p, e))
						})
					}
				}
			})
		}
	})
	t.Logf("\n%s", results.table())
}

// try runs one trial.
func try(t *testing.T, f *family, p protocol, e event) result {
	d := length(t)
	if e.limits.idle > 0 {
		// Let there be a few rests, and those as long as the server's timeout is.
		e.limits.idle = max(e.limits.idle, f.granularity)
		e.rest = about(e.limits.idle)
		d = max(d, 3*e.limits.idle)
	}
	if e.rest == nil {
		e.rest = shortly
	}
	s := newSite(t, f, p, e.limits, reserveAddr(t))

	c := newClients(t, p, nil)
	for _, l := range c.loads {
		l.url, l.silent, l.sized, l.rest = s.url(), f.silent, f.sized, e.rest
	}
	c.start(t)
	part := d / time.Duration(e.times+1)
	pause(t.Context(), part)
	for range e.times {
		if err := e.act(s); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
		pause(t.Context(), part)
	}
	c.finish(func() map[string]int { return s.ledger().arrivals(t) })
	return c.result(t, f.name, p, e.name, cmp.Or(e.loses, f.loses[e.name], f.loses[string(p)+" "+e.name]))
}

// Why requests are lost that nobody but the server could have saved.
const (
	crossing = "the server closes an idle connection while a request is on its way to it"
	stopped  = "what was under way when it was stopped, and what came before it was back"
	hasty    = "its graceful reload closes idle connections at once, while requests are on their way to them"
	streamed = "its GOAWAY names the last stream without a warning before, and the bodies of streams opened meanwhile have been read"
)

var families = []*family{nginx, haproxy, apache, caddy, lighttpd, nghttpd, node, gunicorn}
