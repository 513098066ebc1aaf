package lambdahandler

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/thawhttp/thaw/internal/legible"
	"github.com/thawhttp/thaw/transport"
)

// warmup is a kind of warm-up event and what it is to warm.
type warmup struct {
	is   func(payload []byte) bool
	urls []string
}

// IsWarmup recognises the payload {"thaw": "warmup"}, which an EventBridge schedule sends if it is given as the constant
// input of its target. An object that has anything beside that is an event of the handler's.
func IsWarmup(payload []byte) bool {
	return consistsOf(payload, "{", `"thaw"`, ":", `"warmup"`, "}")
}

// IsServerlessPluginWarmup recognises the default payload of serverless-plugin-warmup, {"source":
// "serverless-plugin-warmup"}, with nothing beside it either: an event of EventBridge has its source in the same place.
func IsServerlessPluginWarmup(payload []byte) bool {
	return consistsOf(payload, "{", `"source"`, ":", `"serverless-plugin-warmup"`, "}")
}

// consistsOf reports whether payload is made of these tokens of JSON and white space between them. To decode it would take
// for a warm-up what has the member twice, or written with escapes or in other case, and an event that is no warm-up must
// not miss its handler.
func consistsOf(payload []byte, tokens ...string) bool {
	const space = " \t\r\n" // RFC 8259, section 2
	for _, token := range tokens {
		rest, ok := bytes.CutPrefix(bytes.TrimLeft(payload, space), []byte(token))
		if !ok {
			return false
		}
		payload = rest
	}
	return len(bytes.TrimLeft(payload, space)) == 0
}

// remember notes which origins there are connections to. By the next invocation the pool may have seen the end of them.
func (h *handler) remember(now map[string]transport.Origin) {
	had := slices.Collect(maps.Keys(now))
	h.had.Store(&had)
}

// warmed is the answer to a warm-up event. What could not be reached is in the log and not here: names and addresses are none
// of the caller's business, who may be anybody that can invoke the function.
type warmed struct {
	Thaw string `json:"thaw"` // "warm"
	Open int    `json:"open"` // connections that the pool has now
}

// warm handles a warm-up event.
func (h *handler) warm(ctx context.Context, urls []string) warmed {
	var hold <-chan time.Time
	if h.hold > 0 {
		timer := time.NewTimer(h.hold)
		defer timer.Stop()
		hold = timer.C
	}
	h.client.Thaw(ctx)
	if had := h.had.Load(); len(urls) == 0 && had != nil {
		urls = *had
	}
	answer := warmed{Thaw: "warm"}
	if err := h.client.Warm(ctx, urls...); err != nil {
		h.log().WarnContext(ctx, "warm-up: some origins are not reachable", "error", legible.Error(err))
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	answer.Open = h.client.Stats().Open
	return answer
}
