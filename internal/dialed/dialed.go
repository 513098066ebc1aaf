// Package dialed tells the request that a dial was begun for which connection the dial made. A dial belongs to the pool:
// what it makes goes to whoever waits first, so the hooks of httptrace, which the request's context brings along, do
// not say whether the request was given the connection whose making they saw.
package dialed

import "context"

// Observer is told of the connections that were dialled with its context.
type Observer interface {
	// Dialed is called when the connection with that number is ready, before anybody is given it. It may be called
	// when the request has ended.
	Dialed(id uint64)
}

type key struct{}

// WithObserver returns a context whose dials o is told of, beside the observers that it has.
func WithObserver(ctx context.Context, o Observer) context.Context {
	if outer, ok := ctx.Value(key{}).(Observer); ok {
		o = both{outer, o}
	}
	return context.WithValue(ctx, key{}, o)
}

type both [2]Observer

func (b both) Dialed(id uint64) {
	b[0].Dialed(id)
	b[1].Dialed(id)
}

// Tell tells the observer in ctx, if there is one, that the connection with that number is ready.
func Tell(ctx context.Context, id uint64) {
	if o, ok := ctx.Value(key{}).(Observer); ok {
		o.Dialed(id)
	}
}
