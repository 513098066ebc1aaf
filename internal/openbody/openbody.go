// Package openbody tells an invocation of a Lambda function which of its response bodies are still open. The watch
// travels in the context of the invocation, so that invocations which run at once in one process are told apart.
package openbody

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Body is a response body that was given to the program and has come to no end.
type Body struct {
	Origin string // "https://host:port"
	Stack  string // of the request, or empty if the pool keeps none
	// Close closes the body on the program's behalf. It does nothing if the body has been garbage collected.
	Close func()
}

// Watch knows the open bodies of the requests that were made with its context. It is safe for concurrent use.
type Watch struct {
	mu   sync.Mutex // guards what follows
	open map[*Entry]struct{}
}

// Entry is a body that a watch is told of.
type Entry struct {
	w      *Watch
	origin string
	stack  []uintptr
	close  func()
}

type key struct{}

// WithWatch returns a context whose requests are watched, and the watch.
func WithWatch(ctx context.Context) (context.Context, *Watch) {
	w := new(Watch)
	return context.WithValue(ctx, key{}, w), w
}

// In returns the watch of ctx, or nil.
func In(ctx context.Context) *Watch {
	w, _ := ctx.Value(key{}).(*Watch)
	return w
}

// Add returns an entry for a body, which is open from Begin to End. The stack is copied. closeBody must not refer to the body,
// which could not be garbage collected then.
func (w *Watch) Add(origin string, stack []uintptr, closeBody func()) *Entry {
	return &Entry{w: w, origin: origin, stack: slices.Clone(stack), close: closeBody}
}

// Begin notes that the body was given to the program. From now on it may be closed at any time.
func (e *Entry) Begin() {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.open == nil {
		e.w.open = make(map[*Entry]struct{})
	}
	e.w.open[e] = struct{}{}
}

// End notes that the body has come to its end.
func (e *Entry) End() {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	delete(e.w.open, e)
}

// Open returns the bodies that are open now, in no order.
func (w *Watch) Open() []Body {
	w.mu.Lock()
	defer w.mu.Unlock()
	bodies := make([]Body, 0, len(w.open))
	for e := range w.open {
		bodies = append(bodies, Body{Origin: e.origin, Stack: Stack(e.stack), Close: e.close})
	}
	return bodies
}

// Stack writes a stack as the runtime does.
func Stack(pcs []uintptr) string {
	if len(pcs) == 0 {
		return ""
	}
	var b strings.Builder
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		if !more {
			return b.String()
		}
	}
}
