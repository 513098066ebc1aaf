package lambdahandler

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/thawhttp/thaw/internal/openbody"
	"github.com/thawhttp/thaw/transport"
)

// closeOpen closes the response bodies of requests that the handler made with its context, and warns of them. The
// context ends now, so nobody could have read them any more.
func (h *handler) closeOpen(ctx context.Context, open []openbody.Body) {
	silent := make(map[string]int) // by origin: those whose stack is not known
	var closing sync.WaitGroup     // each can take DrainTime
	defer closing.Wait()
	for _, b := range open {
		closing.Go(b.Close)
		if b.Stack == "" {
			silent[b.Origin]++
		} else {
			h.warn(ctx, b.Origin, 1, "stack", b.Stack)
		}
	}
	for origin, n := range silent {
		h.warn(ctx, origin, n)
	}
}

// unwinding is how long the requests of an invocation may take to end after its context has.
const unwinding = 10 * time.Millisecond

// collectOpen is for an invocation that was alone in the process. What it has added to what is in use are requests and
// bodies of requests that were made without its context, and for a moment those that ended with its context just now. It warns of
// the former, and has the garbage collected, so that the connections of bodies that nobody can close any more come back at once.
func (h *handler) collectOpen(ctx context.Context, before map[string]int, now map[string]transport.Origin) {
	added := addedTo(before, now)
	for began := time.Now(); len(added) > 0 && time.Since(began) < unwinding; added = addedTo(before, h.connected()) {
		<-time.After(unwinding / 10)
	}
	for origin, n := range added {
		h.warn(ctx, origin, n)
	}
	if len(added) > 0 {
		runtime.GC()
	}
}

// addedTo returns by how much more is in use than before, by origin.
func addedTo(before map[string]int, now map[string]transport.Origin) map[string]int {
	added := inUse(now)
	for origin, n := range added {
		if added[origin] = n - before[origin]; added[origin] <= 0 {
			delete(added, origin)
		}
	}
	return added
}

// connected returns the statistics of the origins that there are connections to.
func (h *handler) connected() map[string]transport.Origin {
	if pool := h.client.Pool(); pool != nil {
		return pool.Connected()
	}
	return nil
}

// inUse returns how many requests are under way, or their bodies open, by origin.
func inUse(now map[string]transport.Origin) map[string]int {
	n := make(map[string]int)
	for origin, s := range now {
		if s.InUse > 0 || s.Streams > 0 {
			n[origin] = max(s.InUse, s.Streams)
		}
	}
	return n
}

func (h *handler) warn(ctx context.Context, origin string, bodies int, args ...any) {
	args = append(args, "origin", origin, "bodies", bodies)
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		args = append(args, "request_id", lc.AwsRequestID)
	}
	h.log().WarnContext(ctx, "the handler left response bodies open: close them, so that their connections can be used again", args...)
}
