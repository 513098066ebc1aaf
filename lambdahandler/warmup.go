package lambdahandler

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
)

// warmup is a kind of warm-up event and what it is to warm.
type warmup struct {
	is   func(payload []byte) bool
	urls []string
}

// IsWarmup recognises the marked payload {"thaw": "warmup"}, which an EventBridge schedule sends if it is given as
// the constant input of its target.
func IsWarmup(payload []byte) bool {
	return marked(payload, "thaw", "warmup")
}

// IsServerlessPluginWarmup recognises the default payload of serverless-plugin-warmup, {"source":
// "serverless-plugin-warmup"}.
func IsServerlessPluginWarmup(payload []byte) bool {
	return marked(payload, "source", "serverless-plugin-warmup")
}

// marked reports whether payload is a JSON object that has value, written without escapes, under key. To decode a struct would
// take keys for it that differ in case, and an event that a warm-up is not may not miss its handler.
func marked(payload []byte, key, value string) bool {
	if !bytes.Contains(payload, []byte(value)) { // most events, which need not be decoded
		return false
	}
	var e map[string]json.RawMessage
	var got string
	return json.Unmarshal(payload, &e) == nil && json.Unmarshal(e[key], &got) == nil && got == value
}

// remember notes which origins there are connections to. By the next invocation the pool may have seen the end of them.
func (h *handler) remember() {
	var had []string
	for origin, s := range h.client.Stats().Origins {
		if s.Open > 0 {
			had = append(had, origin)
		}
	}
	h.had.Store(&had)
}

// warmed is the answer to a warm-up event.
type warmed struct {
	Thaw  string `json:"thaw"`            // "warm"
	Open  int    `json:"open"`            // connections that the pool has now
	Error string `json:"error,omitempty"` // what could not be reached
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
		h.log().WarnContext(ctx, "warm-up: some origins are not reachable", "error", err)
		answer.Error = err.Error()
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
