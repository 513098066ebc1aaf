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
	traced   bool              // Tracer was called
	retries  map[string]uint64 // by origin, since the last line
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
	return &Emitter{cfg: cfg, now: time.Now, w: w, named: make(map[string]bool), retries: make(map[string]uint64)}, nil
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
		c.e.counting.Lock()
		defer c.e.counting.Unlock()
		c.e.retries[s.Origin]++
	}
	return ctx
}

func (retryCounter) End(context.Context, tracing.Exchange) {}

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

func (e *Emitter) takeRetries() (byOrigin map[string]uint64, traced bool) {
	e.counting.Lock()
	defer e.counting.Unlock()
	byOrigin, e.retries = e.retries, make(map[string]uint64)
	return byOrigin, e.traced
}

func (e *Emitter) giveRetriesBack(byOrigin map[string]uint64) {
	e.counting.Lock()
	defer e.counting.Unlock()
	for origin, n := range byOrigin {
		e.retries[origin] += n
	}
}

// lines returns the lines for what happened until now. mu is held.
func (e *Emitter) lines(now transport.Stats, byOrigin map[string]uint64, traced bool) ([]byte, error) {
	total := sample{Origin: now.Origin}
	for _, n := range byOrigin {
		total.retries += n
	}
	v, happened := since(total, sample{Origin: e.last.Origin})
	if !happened {
		return nil, nil
	}
	docs := []document{{e.cfg.dimensions, v}}
	if e.cfg.perOrigin {
		docs = append(docs, e.origins(now, byOrigin)...)
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

// origins returns a document for each origin that something happened to, and one for the rest. mu is held.
func (e *Emitter) origins(now transport.Stats, byOrigin map[string]uint64) []document {
	changed, still := make(map[string]values), make(map[string]values)
	look := func(name string) {
		s := sample{Origin: now.Origins[name], retries: byOrigin[name]}
		if v, happened := since(s, sample{Origin: e.last.Origins[name]}); happened {
			changed[name] = v
		} else if !e.named[name] {
			still[name] = v
		}
	}
	for name := range now.Origins {
		look(name)
	}
	for name := range byOrigin { // a base in the pool's place has retries, but no statistics
		look(name)
	}
	busiest := slices.SortedFunc(maps.Keys(changed), func(a, b string) int {
		return cmp.Or(cmp.Compare(changed[b][ofRequests], changed[a][ofRequests]), cmp.Compare(a, b))
	})
	var docs []document
	var rest values
	for _, name := range busiest {
		if room := e.cfg.maxOrigins < 0 || len(e.named) < e.cfg.maxOrigins; room && validText(name, maxDimensionValue) {
			e.named[name] = true
		}
		if e.named[name] {
			docs = append(docs, e.ofOrigin(name, changed[name]))
		} else {
			rest.add(changed[name])
		}
	}
	if rest != (values{}) {
		for _, v := range still { // which have connections all the same
			rest.add(v)
		}
		docs = append(docs, e.ofOrigin(otherOrigins, rest))
	}
	return docs
}

func (e *Emitter) ofOrigin(name string, v values) document {
	return document{append(slices.Clone(e.cfg.dimensions), Dimension{originDimension, name}), v}
}
