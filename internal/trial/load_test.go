//go:build linux

package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// callers is how many goroutines send requests through one client.
const callers = 64

// kind is a kind of request.
type kind int

const (
	get    kind = iota
	post        // with a body that can be sent again, but without an idempotency key
	stream      // a POST whose body can be read once
	kinds
)

func (k kind) String() string { return [...]string{"GET", "POST", "POST stream"}[k] }

// verdict is what became of a request.
type verdict int

const (
	answered verdict = iota
	// savable requests failed although they could have been sent again: the pool's rules promise that there are none.
	savable
	// down: there was no connection to be had.
	down
	// lost requests are not idempotent, or their bodies were gone, and they were written to a connection that the server
	// then closed without an answer. Nobody but the server knows whether it acted on them.
	lost
	// unfit: a new connection brought no answer: the server closed it, or was silent on it. No pool can do anything.
	unfit
	// cut: the server broke off in its answer.
	cut
	// refused: the server answered, and its answer was an error.
	refused
	verdicts
)

func (v verdict) String() string {
	return [...]string{"answered", "savable", "down", "lost", "unfit", "cut", "refused"}[v]
}

// tally is what a trial counted for one client.
type tally struct {
	mu       sync.Mutex // guards what follows
	verdicts [verdicts]int
	wrong    int            // answers that were not the request's own
	errors   map[string]int // by verdict and message, without what differs from request to request
	posts    []string       // the ids of requests that may arrive once
	answers  []string       // the ids of requests that were answered
	twice    int            // of posts, those that arrived more than once
	unseen   int            // of answers, those that did not arrive at all: the ledger is broken
	slowest  time.Duration
}

func (y *tally) add(v verdict, id string, k kind, took time.Duration, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.verdicts[v]++
	y.slowest = max(y.slowest, took)
	if k != get {
		y.posts = append(y.posts, id)
	}
	if v == answered {
		y.answers = append(y.answers, id)
	}
	if err == nil {
		return
	}
	if errors.Is(err, errNotItsOwn) {
		y.wrong++
	}
	if y.errors == nil {
		y.errors = make(map[string]int)
	}
	y.errors[fmt.Sprintf("%v %v: %s", v, k, varying.ReplaceAllString(err.Error(), "*"))]++
}

// mayArriveOnce notes a request that is not judged otherwise.
func (y *tally) mayArriveOnce(id string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.posts = append(y.posts, id)
}

// varying matches what makes two messages of the same failure differ.
var varying = regexp.MustCompile(`127\.0\.0\.1:\d+|stream ID \d+|LastStreamID=\d+|within \S+: .* waiting`)

func (y *tally) requests() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	n := 0
	for _, v := range y.verdicts {
		n += v
	}
	return n
}

// settle compares what the client sent with what arrived.
func (y *tally) settle(arrived map[string]int) {
	for _, id := range y.posts {
		if arrived[id] > 1 {
			y.twice++
		}
	}
	for _, id := range y.answers {
		if arrived[id] == 0 {
			y.unseen++
		}
	}
}

// reasons lists how requests failed, the most frequent first.
func (y *tally) reasons() string {
	keys := slices.SortedFunc(maps.Keys(y.errors), func(a, b string) int { return y.errors[b] - y.errors[a] })
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%6d  %s\n", y.errors[k], k)
	}
	return b.String()
}

// errNotItsOwn is the error of an answer to another request.
var errNotItsOwn = errors.New("the answer is not that to this request")

// A load sends requests through one client.
type load struct {
	name    string // of the client; it begins the ids of requests
	rt      http.RoundTripper
	wires   *wires
	url     string
	silent  bool // the server's answers do not say which request they are for
	sized   bool // streams tell their length
	rest    func(r *rand.Rand) time.Duration
	seed    uint64
	tally   tally
	counter atomic.Int64
}

// run has all callers send requests until ctx ends. What was begun is finished.
func (l *load) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(l.seed, uint64(i)))
			for ctx.Err() == nil {
				l.request(kind(r.IntN(int(kinds))), 1+r.IntN(8<<10))
				pause(ctx, l.rest(r))
			}
		})
	}
	wg.Wait()
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// requestTimeout is how long a request may take. None comes near it unless it hangs, which is a failure.
const requestTimeout = 10 * time.Second

// request sends one request and counts what becomes of it.
func (l *load) request(k kind, size int) {
	id := fmt.Sprintf("%s-%d", l.name, l.counter.Add(1))
	o := observation{wires: l.wires}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, o.hooks())
	var body io.Reader
	method := http.MethodPost
	switch k {
	case get:
		method, size = http.MethodGet, 0
	case post:
		body = bytes.NewReader(make([]byte, size))
	case stream:
		o.once.left = size
		body = &o.once
	}
	req, err := http.NewRequestWithContext(ctx, method, l.url, body)
	if err != nil {
		panic(err) // the URL is the test's own
	}
	if k == stream && l.sized {
		req.ContentLength = int64(size)
	}
	req.Header.Set(headerID, id)
	req.Header.Set(headerSize, strconv.Itoa(size))
	began := time.Now()
	v, err := l.exchange(req, id, k, &o)
	if v == savable && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %s", err, o.where())
	}
	l.tally.add(v, id, k, time.Since(began), err)
}

// exchange sends req and reads the answer.
func (l *load) exchange(req *http.Request, id string, k kind, o *observation) (verdict, error) {
	resp, err := l.rt.RoundTrip(req)
	if err != nil {
		return o.judge(k, err), err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return cut, err
	case resp.StatusCode != http.StatusOK:
		return refused, fmt.Errorf("status %s", resp.Status)
	case !l.silent && string(b) != answer(id):
		return refused, fmt.Errorf("%w: %.40q", errNotItsOwn, b)
	}
	return answered, nil
}

// once is a body that can be read once, in pieces.
type once struct {
	left int
	read atomic.Bool
}

func (b *once) Read(p []byte) (int, error) {
	b.read.Store(true)
	n := min(len(p), b.left, 1<<10)
	b.left -= n
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	return n, nil
}

// observation is what was seen of a request's last attempt.
type observation struct {
	wires *wires
	once  once

	mu     sync.Mutex // guards what follows
	got    bool       // it had a connection
	reused bool
	wire   *wire // the connection, if nobody else can be using it
	before int64 // bytes that were written to it before
	began  bool  // a byte of the response came
}

func (o *observation) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.got, o.began = false, false
		},
		GotConn: func(info httptrace.GotConnInfo) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.got, o.reused = true, info.Reused
			o.wire = o.wires.find(info.Conn)
			if o.wire != nil {
				o.before = o.wire.written.Load()
			}
		},
		GotFirstResponseByte: func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.began = true
		},
	}
}

// judge says whether the pool's rules (docs/pool.md, rule 4) allow to save a request of kind k that failed with err.
func (o *observation) judge(k kind, err error) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	// On a connection that others use, too, nobody can tell whose bytes were written.
	wrote := o.wire == nil || o.wire.written.Load() > o.before
	again := k != stream || !o.once.read.Load()
	hangs := errors.Is(err, context.DeadlineExceeded)
	switch {
	case !o.got && !hangs:
		return down
	case again && unprocessed(err):
		return savable
	case o.got && !o.reused:
		return unfit
	case hangs:
		return savable
	case again && !wrote:
		return savable
	case o.began:
		return cut
	case again && k == get:
		return savable
	default:
		return lost
	}
}

// where says where a request hangs.
func (o *observation) where() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.got:
		return "it had no connection"
	case o.wire == nil:
		return "it had a connection with others"
	default:
		return fmt.Sprintf("it had a connection, reused %t, to which %d bytes were written", o.reused, o.wire.written.Load()-o.before)
	}
}

// unprocessed reports whether err says that an HTTP/2 server has not processed the request.
func unprocessed(err error) bool {
	s := err.Error()
	return strings.Contains(s, "REFUSED_STREAM") || strings.Contains(s, "graceful shutdown GOAWAY")
}

// wires are the connections of a client on the wire, where their bytes are counted.
type wires struct {
	shared bool // several requests use a connection at a time
	dials  atomic.Int64

	mu    sync.Mutex // guards conns
	conns map[ends]*wire
}

// ends are the addresses of a connection. The local one may be that of others too, to other servers.
type ends struct{ local, remote string }

func endsOf(nc net.Conn) ends { return ends{nc.LocalAddr().String(), nc.RemoteAddr().String()} }

// wire is a TCP connection that counts what is written to it.
type wire struct {
	*net.TCPConn // as such, so that its socket can be looked at
	home         *wires
	written      atomic.Int64
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.TCPConn.Write(p)
	w.written.Add(int64(n))
	return n, err
}

// ReadFrom hides that of the TCP connection, which would go around Write.
func (w *wire) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

func (w *wire) Close() error {
	w.home.mu.Lock()
	if w.home.conns[endsOf(w)] == w {
		delete(w.home.conns, endsOf(w))
	}
	w.home.mu.Unlock()
	return w.TCPConn.Close()
}

func (ws *wires) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ws.dials.Add(1)
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w := &wire{TCPConn: nc.(*net.TCPConn), home: ws}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.conns == nil {
		ws.conns = make(map[ends]*wire)
	}
	ws.conns[endsOf(w)] = w
	return w, nil
}

// find returns the wire of a connection that serves one request at a time, or nil.
func (ws *wires) find(nc net.Conn) *wire {
	if c, ok := nc.(transport.ConnInfo); ws.shared || ok && c.Protocol() == "h2" {
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.conns[endsOf(nc)]
}
