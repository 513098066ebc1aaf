package xray

import (
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-xray-sdk-go/v2/header"
	sdk "github.com/aws/aws-xray-sdk-go/v2/xray"
	"golang.org/x/net/http/httpguts"

	"github.com/thawhttp/thaw/tracing"
)

// New returns a Tracer that makes a subsegment of each exchange, as the package comment says. It has no state of its
// own: one serves any number of clients, and is safe for concurrent use.
func New() tracing.Tracer { return tracer{} }

type tracer struct{}

// subsegment is that of an exchange that is under way.
type subsegment struct {
	*sdk.Segment
	parent *sdk.Segment // nil if Lambda made it
}

// key is that of a *subsegment in a context, which is nil where an exchange has none.
type key struct{}

// Start begins a subsegment and puts the trace header on the request.
func (tracer) Start(ctx context.Context, s tracing.Start) context.Context {
	value := ctx.Value(sdk.LambdaTraceHeaderKey)
	incoming, ok := value.(string)
	if value != nil && (!ok || !httpguts.ValidHeaderFieldValue(incoming)) {
		return without(ctx) // not from Lambda: the SDK would panic, or the request fail
	}
	parent := sdk.GetSegment(ctx)
	lambda := &header.Header{}
	if incoming != "" {
		lambda = header.FromString(incoming)
	}

	switch {
	case sdk.SdkDisabled():
		if incoming == "" && parent != nil && parent.IncomingHeader != nil {
			incoming = parent.IncomingHeader.String()
		}
		if s.Header.Get(sdk.TraceIDHeaderKey) == "" {
			propagate(s.Header, incoming)
		}
		return without(ctx)
	case parent == nil && !recordable(lambda):
		propagate(s.Header, incoming)
		return without(ctx)
	case parent == nil:
	case parent.ParentSegment == nil: // the SDK was disabled when this began
		return without(ctx)
	case unsampled(parent):
		h := parent.DownstreamHeader()
		h.SamplingDecision = header.NotSampled
		propagate(s.Header, h.String())
		return without(ctx)
	}

	ctx, seg := sdk.BeginSubsegment(ctx, nameOf(s.Origin))
	seg.Lock()
	seg.Namespace = "remote"
	seg.HTTP = &sdk.HTTPData{Request: &sdk.RequestData{Method: limit(s.Method, maxValue), URL: limit(s.URL, maxValue)}}
	if parent != nil {
		seg.ParentID = parent.ID // the SDK writes the ID of the root, however deep it is below
	}
	h := seg.DownstreamHeader()
	if seg.ParentSegment.Facade {
		h.AdditionalData = lambda.AdditionalData
	}
	seg.Unlock()
	propagate(s.Header, h.String())
	return context.WithValue(ctx, key{}, &subsegment{seg, parent})
}

// without returns ctx without a subsegment: not even that of an exchange around this one, which a RoundTripper below
// may make to get a token, for example.
func without(ctx context.Context) context.Context {
	if ctx.Value(key{}) == nil {
		return ctx
	}
	return context.WithValue(ctx, key{}, (*subsegment)(nil))
}

// recordable reports whether a trace header of Lambda is that of a sampled trace, and has all that a document needs:
// a trace ID, "1-58406520-a006649127e371903a2de979", and the ID of a segment, "53995c3f42cd8ad8".
func recordable(h *header.Header) bool {
	t := h.TraceID
	return h.SamplingDecision == header.Sampled && hex(h.ParentID, 16) &&
		len(t) == 35 && t[:2] == "1-" && hex(t[2:10], 8) && t[10] == '-' && hex(t[11:], 24)
}

// hex reports whether s is n hexadecimal digits.
func hex(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// unsampled reports whether nothing must be recorded below seg. What the SDK would begin below a segment of
// BeginSubsegmentWithoutSampling goes by the root, and would be sent.
func unsampled(seg *sdk.Segment) bool {
	seg.RLock()
	defer seg.RUnlock()
	return seg.Dummy
}

// propagate sets the trace header, unless there is none.
func propagate(h http.Header, value string) {
	if value != "" {
		h.Set(sdk.TraceIDHeaderKey, value)
	}
}

// End completes the subsegment and has it sent.
func (tracer) End(ctx context.Context, e tracing.Exchange) {
	s, _ := ctx.Value(key{}).(*subsegment)
	if s == nil {
		return
	}
	for _, p := range e.Dial {
		s.addPhase(ctx, p)
	}
	s.Lock()
	s.describe(e)
	s.Unlock()
	s.close()
}

// close closes the subsegment, which makes the SDK send it, or all that it is part of.
//
// What is above may have been sent already, with this subsegment in progress. Then this is sent alone: closing would
// have all of it sent again, with this subsegment in it twice.
func (s *subsegment) close() {
	if s.parent != nil && (sent(s.parent) || over(s.parent) && sent(s.parent.ParentSegment)) {
		s.CloseAndStream(nil)
	} else {
		s.Close(nil)
	}
}

// over reports whether seg has been closed. A subsegment that has not waits for this one, whatever became of the root. What is
// between it and the root the SDK does not tell.
func over(seg *sdk.Segment) bool {
	seg.RLock()
	defer seg.RUnlock()
	return !seg.InProgress
}

// sent reports whether the SDK has sent seg, or will whatever is open below it. With a segment of BeginSegment it does so when
// that is closed, or the context ends that it was begun with. A subsegment waits for what is below it.
func sent(seg *sdk.Segment) bool {
	seg.RLock()
	defer seg.RUnlock()
	closed := seg.ParentSegment == seg && !seg.InProgress
	return seg.Emitted || seg.ContextDone || closed
}
