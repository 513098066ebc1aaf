package tracing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/tracing"
)

// logged returns what Log writes about e, less time and message.
func logged(t *testing.T, level slog.Level, e tracing.Exchange) map[string]any {
	t.Helper()
	var b bytes.Buffer
	tracer := tracing.Log(slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: level})))
	ctx := tracer.Start(t.Context(), tracing.Start{})
	if b.Len() > 0 {
		t.Errorf("Start wrote %q", &b)
	}
	tracer.End(ctx, e)
	if b.Len() == 0 {
		return nil
	}
	if n := bytes.Count(b.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("%d lines, want one: %q", n, &b)
	}
	line := make(map[string]any)
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line["msg"] != "http exchange" {
		t.Errorf("the message is %q", line["msg"])
	}
	delete(line, "msg")
	delete(line, "time")
	return line
}

var (
	cold = tracing.Exchange{
		Method: "POST", URL: "https://api.test/orders", Origin: "https://api.test:443", Attempt: 2, Status: 201, Proto: "HTTP/2.0",
		BytesOut: 7, BytesIn: 5, Replays: 1,
		Conn: tracing.Conn{ID: 3, Age: 1500 * time.Microsecond, Uses: 1, Protocol: "h2", RemoteAddr: "127.0.0.1:443"},
		TLS:  tracing.TLS{Version: 772, Resumed: true},
		Timing: tracing.Timing{Wait: 30 * time.Millisecond, DNS: 4 * time.Millisecond, Connect: 5 * time.Millisecond, TLS: 6 * time.Millisecond,
			Write: 7 * time.Microsecond, FirstByte: 8 * time.Millisecond, Total: 49*time.Millisecond + 1234*time.Nanosecond},
	}
	failed = tracing.Exchange{
		Method: "GET", URL: "https://api.test/", Origin: "https://api.test:443", Attempt: 1,
		Err: errors.New("transport: dialling https://api.test:443: refused"), Failed: tracing.PhaseConnect,
		Timing: tracing.Timing{Wait: 2 * time.Millisecond, Connect: time.Millisecond, Total: 3 * time.Millisecond},
	}
)

func TestALogLineSaysWhatXRaySays(t *testing.T) {
	t.Parallel()
	want := map[string]any{
		"level": "INFO", "method": "POST", "url": "https://api.test/orders", "attempt": 2.0, "status": 201.0, "replays": 1.0,
		"conn_reused": false, "conn_id": 3.0, "conn_age_ms": 1.5, "conn_idle_ms": 0.0, "conn_protocol": "h2",
		"write_ms": 0.007, "first_byte_ms": 8.0, "pool_wait_ms": 30.0, "dns_ms": 4.0, "connect_ms": 5.0, "tls_ms": 6.0, "tls_resumed": true,
		"bytes_out": 7.0, "bytes_in": 5.0, "total_ms": 49.001,
	}
	if got := logged(t, slog.LevelInfo, cold); !maps.Equal(got, want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}

	warm := cold
	warm.Conn.Reused, warm.ClosedEarly, warm.Replays, warm.Timing = true, true, 0, tracing.Timing{Total: time.Millisecond}
	for _, name := range []string{"replays", "pool_wait_ms", "dns_ms", "connect_ms", "tls_ms", "tls_resumed"} {
		delete(want, name) // none of this took place
	}
	maps.Copy(want, map[string]any{"conn_reused": true, "closed_early": true, "write_ms": 0.0, "first_byte_ms": 0.0, "total_ms": 1.0})
	if got := logged(t, slog.LevelInfo, warm); !maps.Equal(got, want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}

	want = map[string]any{
		"level": "ERROR", "method": "GET", "url": "https://api.test/", "attempt": 1.0, "status": 0.0, "bytes_out": 0.0, "bytes_in": 0.0,
		"error": "transport: dialling https://api.test:443: refused", "failed": "connect", "pool_wait_ms": 2.0, "connect_ms": 1.0, "total_ms": 3.0,
	}
	if got := logged(t, slog.LevelInfo, failed); !maps.Equal(got, want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}
}

func TestTheLevelIsThatOfTheOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		err    error
		want   slog.Level
	}{
		{101, nil, slog.LevelInfo},
		{200, nil, slog.LevelInfo},
		{302, nil, slog.LevelInfo},
		{404, nil, slog.LevelWarn},
		{429, nil, slog.LevelWarn},
		{503, nil, slog.LevelWarn},
		{0, errors.New("refused"), slog.LevelError},
		{200, errors.New("broken off"), slog.LevelError},
		{0, context.DeadlineExceeded, slog.LevelError},
		{0, fmt.Errorf("wrapped: %w", context.Canceled), slog.LevelWarn},
		{200, tracing.ErrLeaked, slog.LevelWarn},
	} {
		e := tracing.Exchange{Status: tt.status, Err: tt.err}
		if got := logged(t, slog.LevelDebug, e)["level"]; got != tt.want.String() {
			t.Errorf("status %d, error %v: level %v, want %v", tt.status, tt.err, got, tt.want)
		}
		if line := logged(t, tt.want+1, e); line != nil {
			t.Errorf("status %d, error %v: logged though the level is not wanted: %v", tt.status, tt.err, line)
		}
	}
}

// Not in parallel: it replaces the default logger.
func TestLogOfNilIsTheDefaultLoggerOfThatMoment(t *testing.T) {
	tracer := tracing.Log(nil)
	before := slog.Default()
	defer slog.SetDefault(before)
	var b bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	tracer.End(t.Context(), cold)
	if !strings.Contains(b.String(), "conn_id=3") {
		t.Errorf("the default logger got %q", &b)
	}
}

func TestALevelThatIsNotWantedCostsNothing(t *testing.T) {
	tracer := tracing.Log(slog.New(slog.DiscardHandler))
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { tracer.End(ctx, cold) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestTheDocumentationNamesEveryAttributeAndField(t *testing.T) {
	t.Parallel()
	early := cold
	early.ClosedEarly, early.Err, early.Failed = true, errors.New("broken"), tracing.PhaseBody
	line := logged(t, slog.LevelInfo, early)
	delete(line, "level")
	comment := logComment(t)
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string) bool { return strings.Contains(string(page), "`"+name+"`") }
	for _, name := range slices.Sorted(maps.Keys(line)) {
		if !strings.Contains(comment, name) {
			t.Errorf("the comment of Log does not name %s", name)
		}
		if !named(name) {
			t.Errorf("docs/observability.md does not name %s", name)
		}
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[tracing.Exchange](), reflect.TypeFor[tracing.Conn](), reflect.TypeFor[tracing.Timing]()} {
		for field := range typ.Fields() {
			if !named(field.Name) {
				t.Errorf("docs/observability.md does not name %s.%s", typ.Name(), field.Name)
			}
		}
	}
}

// logComment returns the comment of Log.
func logComment(t *testing.T) string {
	t.Helper()
	src, err := os.ReadFile("log.go")
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(src), "\nfunc Log(")
	if !ok {
		t.Fatal("log.go has no Log")
	}
	return before[strings.LastIndex(before, "\n\n"):]
}
