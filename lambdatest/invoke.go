package lambdatest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxPayload is the most that an event may have, in bytes: see "Invocation payload" on the page "Lambda quotas".
const MaxPayload = 6 << 20

// Result is the answer of the function to one event.
type Result struct {
	RequestID   string
	TraceHeader string // what the function got, from Config.TraceHeader

	// Payload is what the handler returned. If Err is not nil it is the document that says so, except that
	// of an answer that broke off it is what came before.
	Payload     []byte
	ContentType string // of Payload, as the runtime declared it

	// Err is nil if the handler succeeded.
	Err *FunctionError

	// Duration is the time from when the process could get the event, which for one that waited for a thaw is the thaw,
	// to the end of the answer.
	Duration time.Duration
}

// Pending is an event that was sent.
type Pending struct{ inv *invocation }

// RequestID is the identifier that the invocation has, or will have.
func (p *Pending) RequestID() string { return p.inv.id }

// Wait returns the answer, however often it is called and from however many goroutines. When ctx ends first
// its error is returned; the event is still waiting, or the invocation under way. The other errors are those of
// [Function.Invoke].
func (p *Pending) Wait(ctx context.Context) (*Result, error) {
	select {
	case <-p.inv.done: // an answer that is there counts, even if ctx has ended
		return p.inv.result, p.inv.err
	default:
	}
	select {
	case <-p.inv.done:
		return p.inv.result, p.inv.err
	case <-ctx.Done():
		return nil, fmt.Errorf("lambdatest: invocation %s: waiting for the answer: %w", p.inv.id, context.Cause(ctx))
	}
}

// Send leaves an event for the function without waiting for the answer. The payload, JSON of up to [MaxPayload] bytes,
// is copied; an empty one is sent as {}. Events are delivered in the order in which they were sent, one to each poller
// that waits. Once [Function.Freeze] was called they wait for [Function.Thaw].
//
// The error is [ErrPayloadTooLarge] or [ErrInvalidPayload], or why the environment ended.
func (f *Function) Send(payload []byte) (*Pending, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrPayloadTooLarge, len(payload), MaxPayload)
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !utf8.Valid(payload) { // RFC 8259, section 8.1: encoding/json is more lenient than Lambda is
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrInvalidPayload)
	}
	if !json.Valid(payload) {
		// What is wrong with it, and where, is what the decoder says.
		var v any
		return nil, fmt.Errorf("%w: %w", ErrInvalidPayload, json.Unmarshal(payload, &v))
	}
	inv := &invocation{
		id:      newUUID(),
		trace:   f.cfg.TraceHeader(),
		payload: bytes.Clone(payload),
		done:    make(chan struct{}),
	}
	if err := f.queue.add(inv); err != nil {
		return nil, err
	}
	return &Pending{inv}, nil
}

// Invoke sends an event, as [Function.Send] does, and waits for the answer. When ctx ends first, an event that was not
// delivered is taken back; one that was goes on, bounded by [Config.Timeout].
//
// The error says that the environment failed: [TimeoutError], [ExitError], or [ErrStopped]. That the handler
// failed is in [Result.Err]. Invoke is safe for concurrent use.
func (f *Function) Invoke(ctx context.Context, payload []byte) (*Result, error) {
	p, err := f.Send(payload)
	if err != nil {
		return nil, err
	}
	res, err := p.Wait(ctx)
	if err != nil {
		f.queue.withdraw(p.inv)
	}
	return res, err
}
