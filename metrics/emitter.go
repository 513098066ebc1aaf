package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

// Source is what the metrics are of: a client, or a [transport.Transport].
type Source interface {
	// Stats returns a snapshot of the pool.
	Stats() transport.Stats
}

// Emitter writes metrics. It is safe for concurrent use: the lines of several invocations do not mix, and nothing is in
// two of them. One Emitter is for one pool.
type Emitter struct {
	cfg config
	now func() time.Time

	// mu orders the snapshots, and the lines in the same way. It is held while the source is asked and while the lines
	// are written, as the lock of a log.Logger is.
	mu    sync.Mutex
	w     io.Writer
	last  transport.Stats
	named map[string]bool // origins with metrics of their own

	// counting guards what the tracer counts; requests must not wait for a line to be written.
	counting sync.Mutex
	traced   bool               // Tracer was called
	retries  map[string]retried // by origin, since the last line
}

// retried is what the tracer saw of an origin.
type retried struct {
	times    uint64
	answered bool // a retry was
}

// EMF returns an Emitter that writes to w in CloudWatch's Embedded Metric Format: on Lambda, [os.Stdout]. All faults of the
// arguments are returned at once, joined with [errors.Join].
func EMF(w io.Writer, opts ...Option) (*Emitter, error) {
	cfg, err := configure(opts)
	if w == nil {
		err = errors.Join(errors.New("metrics: EMF(nil): want a writer, os.Stdout on Lambda"), err)
	}
	if err != nil {
		return nil, err
	}
	return &Emitter{cfg: cfg, now: time.Now, w: w, named: make(map[string]bool), retries: make(map[string]retried)}, nil
}

// Tracer returns what counts retries, for the client's WithTracer. Without it the metric Retries is left out: the pool,
// which all the others are of, knows nothing of retries.
func (e *Emitter) Tracer() tracing.Tracer {
	e.counting.Lock()
	defer e.counting.Unlock()
	e.traced = true
	return retryCounter{e}
}

type retryCounter struct{ e *Emitter }

func (c retryCounter) Start(ctx context.Context, s tracing.Start) context.Context {
	if s.Attempt > 1 {
		c.e.addRetries(s.Origin, retried{times: 1})
	}
	return ctx
}

func (c retryCounter) End(_ context.Context, x tracing.Exchange) {
	if x.Attempt > 1 && x.Status != 0 {
		c.e.addRetries(x.Origin, retried{answered: true})
	}
}

// maxRetried is how many origins the retries are counted of from one line to the next. Those of further ones are summed up.
const maxRetried = 1000

func (e *Emitter) addRetries(origin string, r retried) {
	e.counting.Lock()
	defer e.counting.Unlock()
	was, ok := e.retries[origin]
	if !ok && len(e.retries) >= maxRetried {
		origin = ""
		was, r.answered = e.retries[origin], false
	}
	e.retries[origin] = retried{was.times + r.times, was.answered || r.answered}
}

// Emit writes what happened to source since the last call, in one call of Write, or nothing if nothing happened. What
// could not be written is in the lines of the next call. Its error is the writer's.
func (e *Emitter) Emit(source Source) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := source.Stats()
	retries, traced := e.takeRetries()
	lines, err := e.lines(now, retries, traced)
	if err == nil && len(lines) > 0 {
		_, err = e.w.Write(lines)
	}
	if err != nil {
		e.giveRetriesBack(retries)
		return fmt.Errorf("metrics: writing to CloudWatch's log: %w", err)
	}
	e.last = now
	return nil
}

func (e *Emitter) takeRetries() (byOrigin map[string]retried, traced bool) {
	e.counting.Lock()
	defer e.counting.Unlock()
	byOrigin, e.retries = e.retries, make(map[string]retried)
	return byOrigin, e.traced
}

func (e *Emitter) giveRetriesBack(byOrigin map[string]retried) {
	for origin, r := range byOrigin {
		e.addRetries(origin, r)
	}
}

// lines returns the lines for what happened until now. mu is held.
func (e *Emitter) lines(now transport.Stats, byOrigin map[string]retried, traced bool) ([]byte, error) {
	total := sample{Origin: now.Origin}
	for _, r := range byOrigin {
		total.retries += r.times
	}
	v, happened := since(total, sample{Origin: e.last.Origin})
	if !happened {
		return nil, nil
	}
	docs := []document{{e.cfg.dimensions, v}}
	if e.cfg.perOrigin {
		docs = append(docs, e.origins(now, byOrigin, v)...)
	}
	var lines []byte
	for _, d := range docs {
		line, err := json.Marshal(e.root(d, traced))
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// origins returns a document for each origin that has metrics of its own and that something happened to, and one for what is
// left of the total. An origin gets metrics of its own once it was reached. mu is held.
func (e *Emitter) origins(now transport.Stats, byOrigin map[string]retried, total values) []document {
	changed := make(map[string]values)
	look := func(name string) {
		r := byOrigin[name]
		if !e.named[name] && !now.Origins[name].Reached() && !r.answered {
			return
		}
		v, happened := since(sample{now.Origins[name], r.times}, sample{Origin: e.last.Origins[name]})
		switch {
		case happened:
			changed[name] = v
		case e.named[name]: // which has connections all the same
			total.sub(v)
		}
	}
	for name := range now.Origins {
		look(name)
	}
	for name := range byOrigin { // a base in the pool's place has retries, but no statistics
		if _, ok := now.Origins[name]; !ok {
			look(name)
		}
	}
	busiest := slices.SortedFunc(maps.Keys(changed), func(a, b string) int {
		return cmp.Or(cmp.Compare(changed[b][ofRequests], changed[a][ofRequests]), cmp.Compare(a, b))
	})
	var docs []document
	for _, name := range busiest {
		if room := e.cfg.maxOrigins < 0 || len(e.named) < e.cfg.maxOrigins; room && validText(name, maxDimensionValue) {
			e.named[name] = true
		}
		if e.named[name] {
			docs = append(docs, e.ofOrigin(name, changed[name]))
			total.sub(changed[name])
		}
	}
	if total.happened() {
		docs = append(docs, e.ofOrigin(otherOrigins, total))
	}
	return docs
}

func (e *Emitter) ofOrigin(name string, v values) document {
	return document{append(slices.Clone(e.cfg.dimensions), Dimension{originDimension, name}), v}
}
