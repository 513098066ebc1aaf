package transport_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/internal/faultnet"
	"github.com/thawhttp/thaw/transport"
)

// A contest gives the same trouble to an http.Transport, to the pool and to a client with its retries, with equal settings and
// each with a server of its own, and counts the requests that fail or wait. Whoever changes from http.Transport to this
// package must lose nothing: in no contest may ours fail or wait more often.

// contestants are the two sides of the conformance tests, and the client over the pool.
var contestants = append(sides[:len(sides):len(sides)], side{"client", func(t testing.TB, cfg transport.Config) http.RoundTripper {
	t.Helper()
	c, err := client.New(client.WithTransport(cfg), client.WithTimeout(transport.Disabled))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { within(t, 10*time.Second, "Client.Close", func() { c.Close() }) })
	return c.Client.Transport
}})

// A contest is what all contestants try.
type contest struct {
	name   string
	sides  []side // contestants if nil
	mode   mode
	config transport.Config
	try    func(*match) score
	atMost int                       // so many failures are chance, if http.Transport has them or not
	check  func(*testing.T, []score) // what else must be true of the scores, in the order of sides
}

// A match is one contestant of a contest, with a server and a dialer of its own. It is played in a goroutine that is not the
// test's.
type match struct {
	*clienttest.Server
	t     testing.TB
	open  func(transport.Config) http.RoundTripper // another one of the contestant's kind
	rt    http.RoundTripper
	dials *dialer
	sent  atomic.Int64 // headers written by ask
}

// hold holds the contests, all at the same time because they have much to wait for, and judges them.
func hold(t *testing.T, list ...contest) {
	t.Helper()
	scores := make([][]score, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		if c.sides == nil {
			c.sides = contestants
		}
		scores[i] = make([]score, len(c.sides))
		for j, s := range c.sides {
			m := c.match(t, s)
			wg.Go(func() {
				got := c.try(m)
				got.side, got.dials, got.sent = s.name, m.dials.count(), int(m.sent.Load())
				scores[i][j] = got
			})
		}
	}
	wg.Wait()
	for i, c := range list {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range scores[i] {
				t.Log(s)
			}
			c.judge(t, scores[i])
			if c.check != nil {
				c.check(t, scores[i])
			}
		})
	}
}

func (c contest) match(t testing.TB, s side) *match {
	d := clienttest.Downstream(t, clienttest.WithProtocol(map[mode]clienttest.Protocol{
		modeH1: clienttest.HTTP1, modeH1TLS: clienttest.HTTP1TLS, modeH2: clienttest.HTTP2TLS, modeH2C: clienttest.HTTP2Plain,
	}[c.mode]))
	m := &match{Server: d, t: t, dials: &dialer{end: t.Context().Done()}}
	m.open = func(cfg transport.Config) http.RoundTripper { return s.open(t, cfg) }
	cfg := c.config
	cfg.TLS, cfg.Protocols, cfg.DialContext = d.TLS(), c.mode.protocols(), m.dials.dial
	if cfg.TLS == nil {
		cfg.TLS = c.mode.config().TLS
	}
	if cfg.Proxy == nil {
		cfg.Proxy = direct
	}
	m.rt = m.open(cfg)
	return m
}

// judge compares the scores with the first one, of http.Transport. Ours may have as many failures as that, or as the contest
// says, since what http.Transport loses is sometimes chance; and as many that are late. With the race detector all are: dozens of contests
// shake hands on a machine that has no time for it. The same tests run without it.
func (c contest) judge(t *testing.T, got []score) {
	t.Helper()
	control := got[0]
	for _, s := range got[1:] {
		if allowed := max(control.failed, c.atMost); s.failed > allowed {
			t.Errorf("%v\nwant at most %d that fail", s, allowed)
		}
		if s.late > control.late && !raceDetector {
			t.Errorf("%v\nwant at most %d that are late", s, control.late)
		}
	}
}

// A score is what came of a contestant's requests.
type score struct {
	side         string
	failed, late int
	slowest      time.Duration // of those that were answered
	err          error         // of one that failed
	dials, sent  int           // sent counts the headers that were written, each attempt's
}

func (o score) String() string {
	s := fmt.Sprintf("%s: %d failed, %d late, the slowest answer after %v, %d dials, %d sent",
		o.side, o.failed, o.late, o.slowest.Round(time.Millisecond), o.dials, o.sent)
	if o.err != nil {
		s += ": " + o.err.Error()
	}
	return s
}

// add counts one request, which is late beyond that time.
func (o *score) add(err error, took, late time.Duration) {
	if err != nil {
		o.failed++
		o.err = err
		return
	}
	o.slowest = max(o.slowest, took)
	if took > late {
		o.late++
	}
}

// A fleet is a number of requests with the same patience.
type fleet struct {
	n        int
	method   string        // POST if empty
	over     time.Duration // they begin so far apart that the last one begins then
	patience time.Duration // of each
	late     time.Duration // an answer after that is late: it came by what should cost others, or nobody
}

// send sends the fleet to url, and returns when all are answered or have failed.
func (m *match) send(f fleet, url string) score {
	var o score
	var mu sync.Mutex // guards o
	var wg sync.WaitGroup
	for i := range f.n {
		wg.Go(func() {
			if f.over > 0 {
				<-time.After(f.over * time.Duration(i) / time.Duration(f.n))
			}
			took, err := m.ask(f.method, fmt.Sprintf("%s/%d", url, i), f.patience)
			mu.Lock()
			defer mu.Unlock()
			o.add(err, took, f.late)
		})
	}
	wg.Wait()
	return o
}

// ask sends one request, a POST with a body that can be had again if method is empty or POST, and reads the answer.
func (m *match) ask(method, url string, patience time.Duration) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { m.sent.Add(1) }})
	var body io.Reader
	if method == "" || method == "POST" {
		method, body = "POST", strings.NewReader("a body")
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		panic(err)
	}
	began := time.Now()
	resp, err := m.rt.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("answered %s", resp.Status)
		}
	}
	return time.Since(began), err
}

// mustAsk is ask for a request that is no part of the contest.
func (m *match) mustAsk(method, url string) {
	if _, err := m.ask(method, url, 10*time.Second); err != nil {
		m.t.Errorf("%s %s: %v", method, url, err)
	}
}

// await waits until ok is true.
func (m *match) await(what string, ok func() bool) {
	for end := time.Now().Add(5 * time.Second); !ok(); pause(time.Millisecond) {
		if time.Now().After(end) {
			m.t.Errorf("not within 5s: %s, %T\n%v", what, m.rt, m.Server)
			return
		}
	}
}

// pause lets time pass that nothing signals the end of.
func pause(d time.Duration) { <-time.After(d) }

// A dialer makes the connections of a contestant as a net.Dialer does, but for those that a test has something else for.
type dialer struct {
	end <-chan struct{} // of the test

	mu     sync.Mutex // guards what follows
	script []dialFunc // what the dials to come are, one each
	byHost map[string]dialFunc
	made   []string // the addresses that were dialled
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// next makes the dials to come what is given, in this order, one each.
func (d *dialer) next(script ...dialFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script = append(d.script, script...)
}

// to makes all dials to host what is given.
func (d *dialer) to(host string, f dialFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byHost == nil {
		d.byHost = make(map[string]dialFunc)
	}
	d.byHost[host] = f
}

// count returns how many dials were begun, to the addresses or to all.
func (d *dialer) count(addrs ...string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(addrs) == 0 {
		return len(d.made)
	}
	n := 0
	for _, made := range d.made {
		for _, addr := range addrs {
			if made == addr {
				n++
			}
		}
	}
	return n
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.made = append(d.made, addr)
	f := d.byHost[host]
	if f == nil && len(d.script) > 0 {
		f, d.script = d.script[0], d.script[1:]
	}
	d.mu.Unlock()
	if f == nil {
		f = new(net.Dialer).DialContext
	}
	// A dial of http.Transport can outlive its request, and must not outlive the test.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-d.end:
			cancel()
		case <-ctx.Done():
		}
	}()
	return f(ctx, network, addr)
}

// dark is a dial whose packets all get lost.
func dark(ctx context.Context, network, addr string) (net.Conn, error) {
	return faultnet.DialNever(ctx, network, addr)
}

// twoLost is a dial whose first two SYN packets get lost: the kernel sends them again after one second, and after three.
func twoLost(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case <-time.After(3 * time.Second):
		return new(net.Dialer).DialContext(ctx, network, addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refused returns a dial to an address at which nobody listens.
func refused(t testing.TB) dialFunc {
	unheard := faultnet.Unheard(t)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, unheard)
	}
}
