// Package nowait marks requests whose retries are not waited for, so that tests take no time.
package nowait

import "context"

type key struct{}

// Context returns a context whose requests are not waited for.
func Context(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// In reports whether a request with this context is not waited for.
func In(ctx context.Context) bool { return ctx.Value(key{}) != nil }
