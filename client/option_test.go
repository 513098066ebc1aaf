package client

import (
	"bytes"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrNotSupported }

func TestTimeoutOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts []Option
		want time.Duration // of the http.Client
	}{
		{"NotGiven", nil, DefaultTimeout},
		{"Zero", []Option{WithTimeout(0)}, DefaultTimeout},
		{"Given", []Option{WithTimeout(time.Minute)}, time.Minute},
		{"Shortest", []Option{WithTimeout(1)}, 1},
		{"Disabled", []Option{WithTimeout(transport.Disabled)}, 0},
	} {
		c, err := New(tt.opts...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		defer c.Close()
		if c.Timeout != tt.want {
			t.Errorf("%s: the http.Client's timeout is %v, want %v", tt.name, c.Timeout, tt.want)
		}
	}
}

func TestWithTransportConfiguresThePool(t *testing.T) {
	t.Parallel()
	c, err := New(WithTransport(transport.Config{MaxConnsPerHost: 7, IdleTimeout: transport.Disabled}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := c.pool.Config()
	if got.MaxConnsPerHost != 7 || got.IdleTimeout != transport.Disabled || got.DialTimeout != transport.DefaultDialTimeout {
		t.Errorf("the pool has MaxConnsPerHost %d, IdleTimeout %v, DialTimeout %v", got.MaxConnsPerHost, got.IdleTimeout, got.DialTimeout)
	}
}

func TestWithLogger(t *testing.T) {
	t.Parallel()
	given := slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))
	own := slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))
	for _, tt := range []struct {
		name string
		opts []Option
		want *slog.Logger
	}{
		{"NotGiven", nil, nil},
		{"Given", []Option{WithLogger(given)}, given},
		{"BesideAConfigWithout", []Option{WithLogger(given), WithTransport(transport.Config{MaxConns: 9})}, given},
		{"BesideAConfigWithOne", []Option{WithLogger(given), WithTransport(transport.Config{Logger: own})}, own},
		{"OnlyInTheConfig", []Option{WithTransport(transport.Config{Logger: own})}, own},
	} {
		c, err := apply(tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if c.transport.Logger != tt.want {
			t.Errorf("%s: the pool logs to %p, want %p", tt.name, c.transport.Logger, tt.want)
		}
	}
}

// valid are options that may all be given together, but for the last, which excludes the first.
var valid = map[string]Option{
	"WithTransport": WithTransport(transport.Config{MaxConns: 12}),
	"WithTimeout":   WithTimeout(time.Second),
	"WithRetry":     WithRetry(retry.Policy{MaxAttempts: 5}),
	"WithLogger":    WithLogger(slog.New(slog.DiscardHandler)),
	"WithTracer":    WithTracer(tracing.Log(nil)),
	"WithBase":      WithBase(nowhere{}),
}

func TestOptionsCommute(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{
		{"WithTransport", "WithTimeout", "WithLogger", "WithRetry", "WithTracer"},
		{"WithBase", "WithTimeout", "WithLogger", "WithRetry", "WithTracer"},
	} {
		var first config
		for i, p := range permutations(names) {
			var opts []Option
			for _, name := range p {
				opts = append(opts, valid[name])
			}
			got, err := apply(opts)
			if err != nil {
				t.Errorf("%v: %v", p, err)
			}
			if i == 0 {
				first = got
			} else if !reflect.DeepEqual(got, first) {
				t.Errorf("%v gives %+v\nbut %v gives %+v", p, got, names, first)
			}
		}
	}
}

func TestFaultsCommute(t *testing.T) {
	t.Parallel()
	faulty := map[string]Option{
		"transport": WithTransport(transport.Config{MaxConns: -7}),
		"timeout":   WithTimeout(-time.Hour),
		"base":      WithBase(nil),
		"retry":     WithRetry(retry.Policy{Budget: -9}),
		"again":     WithTimeout(time.Second),
	}
	names := []string{"transport", "timeout", "base", "retry", "again"}
	for _, p := range permutations(names) {
		var opts []Option
		for _, name := range p {
			opts = append(opts, faulty[name])
		}
		_, err := New(opts...)
		if err == nil {
			t.Fatalf("%v: no error", p)
		}
		for _, want := range []string{"Config.MaxConns is -7", "WithTimeout(-1h0m0s)", "WithBase(nil)", "Policy.Budget is -9", "WithTimeout was given twice", "contradict"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: the error does not say %q:\n%v", p, want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != 6 {
			t.Errorf("%v: %d faults, want 6:\n%v", p, n, err)
		}
	}
}

func TestEachOptionMayBeGivenOnce(t *testing.T) {
	t.Parallel()
	for name, o := range valid {
		if name == "WithTracer" {
			continue // two tracers are told of the same exchanges
		}
		c, err := New(o, o)
		if err == nil {
			c.Close()
			t.Errorf("%s twice: no error", name)
			continue
		}
		if want := name + " was given twice"; !strings.Contains(err.Error(), want) {
			t.Errorf("%s twice: error %q does not say %q", name, err, want)
		}
	}
}

func TestEveryFaultIsNamedWithWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts []Option
		want []string
	}{
		{"NilOption", []Option{nil, WithTimeout(1), nil}, []string{"option 0 ", "option 2 ", "With functions"}},
		{"NegativeTimeout", []Option{WithTimeout(-5 * time.Second)}, []string{"WithTimeout(-5s)", "positive", "30s", "Disabled"}},
		{"NearlyDisabled", []Option{WithTimeout(-2)}, []string{"WithTimeout(-2ns)"}},
		{"NilBase", []Option{WithBase(nil)}, []string{"WithBase(nil)", "http.RoundTripper"}},
		{"NilTracer", []Option{WithTracer(nil)}, []string{"WithTracer(nil)", "tracing.Tracer"}},
		{"NilLogger", []Option{WithLogger(nil)}, []string{"WithLogger(nil)", "*slog.Logger"}},
		{"BaseAndTransport", []Option{WithBase(nowhere{}), WithTransport(transport.Config{})}, []string{"WithBase and WithTransport contradict each other"}},
		{"Transport", []Option{WithTransport(transport.Config{MaxConns: -4, DialTimeout: -3, DrainBytes: -2})},
			[]string{"Config.MaxConns is -4", "Config.DialTimeout is -3ns", "Config.DrainBytes is -2"}},
		{"Retry", []Option{WithRetry(retry.Policy{MaxAttempts: -2, MinBackoff: time.Hour})},
			[]string{"Policy.MaxAttempts is -2", "Policy.MinBackoff is 1h0m0s: want at most MaxBackoff, which is 2s"}},
	} {
		c, err := New(tt.opts...)
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", tt.name)
			continue
		}
		if c != nil {
			t.Errorf("%s: a client beside the error", tt.name)
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q:\n%v", tt.name, want, err)
			}
		}
		for line := range strings.Lines(err.Error()) {
			if !strings.HasPrefix(line, "client: ") && !strings.HasPrefix(line, "transport: ") && !strings.HasPrefix(line, "retry: ") {
				t.Errorf("%s: %q does not say whose error it is", tt.name, line)
			}
		}
	}
}

func TestACallersConfigIsNotShared(t *testing.T) {
	t.Parallel()
	cfg := transport.Config{Protocols: new(http.Protocols)}
	cfg.Protocols.SetHTTP1(true)
	c, err := New(WithTransport(cfg))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cfg.Protocols.SetHTTP1(false)
	cfg.Protocols.SetUnencryptedHTTP2(true)
	if p := c.pool.Config().Protocols; !p.HTTP1() || p.UnencryptedHTTP2() {
		t.Errorf("the pool's protocols changed with the caller's: %v", p)
	}
}

func permutations(s []string) [][]string {
	if len(s) == 0 {
		return [][]string{nil}
	}
	var out [][]string
	for i, first := range s {
		for _, rest := range permutations(slices.Concat(s[:i], s[i+1:])) {
			out = append(out, append([]string{first}, rest...))
		}
	}
	return out
}
