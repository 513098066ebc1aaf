package lambdahandler_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/lambdahandler"
)

// invoice is an event of many types.
type invoice struct {
	ID    int               `json:"id"`
	Name  *string           `json:"name"`
	Tags  map[string]string `json:"tags,omitempty"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
	Lines []struct{ N float64 }
	When  time.Time
	Any   any
}

// FuzzEvent holds that an event is either recognised as a warm-up, and then is one, or handled as the runtime would have it
// handled without us.
func FuzzEvent(f *testing.F) {
	for _, s := range []string{
		`{"thaw":"warmup"}`, `{"source":"serverless-plugin-warmup"}`, `{"THAW":"warmup","x":"thaw"}`, `{"thaw":"w\u0061rmup"}`,
		`{"id":1,"name":"n","tags":{"a":"b"},"raw":{"x":[1,2]},"Lines":[{"N":1.5}],"When":"2026-01-02T03:04:05Z","Any":null}`,
		`{"id":"1"}`, `null`, ` [] `, `"text"`, `1e400`, `{`, ``, `{} {}`, "\xff", `{"raw": null}`, `{"thaw":"warmup"`,
	} {
		f.Add([]byte(s))
	}
	api, err := client.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { api.Close() })
	functions := []any{
		func(_ context.Context, o invoice) (invoice, error) { return o, nil },
		func(o *invoice) (*invoice, error) { return o, nil },
		func(raw json.RawMessage) (json.RawMessage, error) { return raw, nil },
		func(_ context.Context, v any) (any, error) { return v, nil },
		func(s string) (string, error) { return s, nil },
		func() (string, error) { return "done", nil },
	}
	var ours, plain []lambda.Handler
	for _, fn := range functions {
		ours = append(ours, lambdahandler.New(api, fn,
			lambdahandler.WithWarmup(lambdahandler.IsWarmup), lambdahandler.WithWarmup(lambdahandler.IsServerlessPluginWarmup)))
		plain = append(plain, lambda.NewHandler(fn))
	}
	isWarmup := func(payload []byte) bool {
		var e map[string]any
		if json.Unmarshal(payload, &e) != nil {
			return false
		}
		return e["thaw"] == "warmup" && strings.Contains(string(payload), "warmup") ||
			e["source"] == "serverless-plugin-warmup" && strings.Contains(string(payload), "serverless-plugin-warmup")
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		warm := isWarmup(payload)
		if got := lambdahandler.IsWarmup(payload) || lambdahandler.IsServerlessPluginWarmup(payload); got != warm {
			t.Errorf("taken for a warm-up: %v, want %v", got, warm)
		}
		for i := range functions {
			got, err := ours[i].Invoke(t.Context(), payload)
			if warm {
				if err != nil || !strings.HasPrefix(string(got), `{"thaw":"warm"`) {
					t.Errorf("%T: a warm-up is answered with %q, %v", functions[i], got, err)
				}
				continue
			}
			if i == len(functions)-1 && !json.Valid(payload) {
				continue // the runtime does not look at an event that the function does not take; Lambda sends JSON only
			}
			want, wantErr := plain[i].Invoke(t.Context(), payload)
			if string(got) != string(want) || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Errorf("%T:\n got %q, %v\nwant %q, %v", functions[i], got, err, want, wantErr)
			}
		}
	})
}
