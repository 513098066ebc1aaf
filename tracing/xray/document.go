package xray

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-xray-sdk-go/v2/strategy/exception"
	sdk "github.com/aws/aws-xray-sdk-go/v2/xray"

	"github.com/thawhttp/thaw/internal/legible"
	"github.com/thawhttp/thaw/tracing"
)

// The limits of X-Ray, see "X-Ray segment documents" in the X-Ray Developer Guide. They are characters there; as bytes
// they are on the safe side.
const (
	maxName  = 200
	maxValue = 250
)

// nameOf returns the name of the subsegment of an exchange with an origin, "https://host:port": the host, with the port
// if that is not the default one, in the characters that a name may have.
func nameOf(origin string) string {
	scheme, host, _ := strings.Cut(origin, "://")
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	host = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsNumber(r) || strings.ContainsRune("_.:/%&#=+\\-@", r) {
			return r
		}
		return -1 // the brackets of an IPv6 address
	}, host)
	if host == "" {
		return "unknown"
	}
	return limit(host, maxName)
}

// limit returns at most the first n bytes of s, in whole characters.
func limit(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// addPhase adds a phase of the dial, with the times at which it was. ctx carries the subsegment.
func (s *subsegment) addPhase(ctx context.Context, p tracing.Phase) {
	_, seg := sdk.BeginSubsegment(ctx, p.Name)
	seg.Close(nil)
	seg.Lock()
	defer seg.Unlock()
	seg.ParentID = s.ID
	seg.StartTime, seg.EndTime = seconds(p.Began), seconds(p.Began.Add(p.Took))
	addCause(seg, p.Err)
}

// describe notes what became of the exchange. The segment is locked.
func (s *subsegment) describe(e tracing.Exchange) {
	s.StartTime = seconds(e.Began)
	if e.Status != 0 {
		s.HTTP.Response = &sdk.ResponseData{Status: e.Status, ContentLength: int(e.BytesIn)}
	}
	s.Throttle = e.Status == http.StatusTooManyRequests
	s.Error = e.Status >= 400 && e.Status < 500
	s.Fault = e.Status >= 500
	addCause(s.Segment, e.Err)
	s.Annotations = annotations(e)
	if rare := metadata(e); len(rare) > 0 {
		s.Metadata = map[string]map[string]any{"thaw": rare}
	}
}

func annotations(e tracing.Exchange) map[string]any {
	a := make(map[string]any, 7)
	a["attempt"] = e.Attempt
	if e.Conn != (tracing.Conn{}) {
		a["conn_reused"] = e.Conn.Reused
		a["conn_idle_ms"] = milliseconds(e.Conn.Idle)
	}
	if e.Conn.ID != 0 {
		a["conn_id"] = e.Conn.ID
		a["conn_age_ms"] = milliseconds(e.Conn.Age)
		a["conn_protocol"] = e.Conn.Protocol
	}
	if e.Conn != (tracing.Conn{}) || e.Timing.Wait > 0 {
		a["pool_wait_ms"] = milliseconds(e.Timing.Wait)
	}
	return a
}

// metadata returns what is worth knowing where it happened, and is not searched for.
func metadata(e tracing.Exchange) map[string]any {
	m := make(map[string]any)
	if e.Failed != "" {
		m["failed"] = e.Failed
	}
	if e.Replays > 0 {
		m["replays"] = e.Replays
	}
	if e.ClosedEarly {
		m["closed_early"] = true
	}
	return m
}

// addCause marks the segment, which is locked, as failed because of err. The SDK's own AddError would add the working
// directory and the stack of whoever read the body.
func addCause(seg *sdk.Segment, err error) {
	switch {
	case err == nil:
		return
	case errors.Is(err, context.Canceled), errors.Is(err, tracing.ErrLeaked):
		seg.Error = true // the caller's doing
	default:
		seg.Fault = true
	}
	seg.Cause = &sdk.CauseData{Exceptions: []exception.Exception{{
		ID:      sdk.NewSegmentID(),
		Type:    strings.TrimPrefix(fmt.Sprintf("%T", err), "*"),
		Message: legible.Text(err.Error()), // which keeps a document with the 20 subsegments that the SDK puts into one below 64 kB
	}}}
}

// seconds returns t as documents have it.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }

// milliseconds returns d in milliseconds, to the microsecond.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
