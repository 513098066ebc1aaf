package retry

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestCommentsOfPolicyNameTheDefaultsInForce(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "policy.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Policy" {
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				comments[f.Names[0].Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return true
	})
	p, err := Policy{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(p)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		want := "Nil means"
		switch f := v.Field(i); {
		case f.CanInt() && f.Int() == Disabled:
			want = "Zero and Disabled mean"
		case f.CanInt():
			want = fmt.Sprintf("Zero means Default%s (%v). Disabled means", name, f.Interface())
		}
		if !strings.Contains(comments[name], want) {
			t.Errorf("the comment of Policy.%s does not say %q", name, want)
		}
	}
	for _, want := range []string{
		fmt.Sprintf("A retry takes %d of them, or %d after a timeout", retryCost, timeoutCost),
		fmt.Sprintf("gives %d back", answerGives),
	} {
		if !strings.Contains(comments["Budget"], want) {
			t.Errorf("the comment of Policy.Budget does not say %q", want)
		}
	}
}

type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrNotSupported }

func TestNewRefusesWithEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		next http.RoundTripper
		p    Policy
		want []string // a line each
	}{
		{"Zero", nowhere{}, Policy{}, nil},
		{"Disabled", nowhere{}, Policy{MaxAttempts: Disabled, MinBackoff: Disabled, MaxBackoff: Disabled, AttemptTimeout: Disabled, Budget: Disabled}, nil},
		{"MinBackoffAboveAMaxBackoffThatIsOff", nowhere{}, Policy{MinBackoff: time.Hour, MaxBackoff: Disabled}, nil},
		{"Equal", nowhere{}, Policy{MinBackoff: time.Second, MaxBackoff: time.Second}, nil},
		{"NilNext", nil, Policy{}, []string{"nil http.RoundTripper: want the one that sends the requests"}},
		{"Everything", nil, Policy{MaxAttempts: -2, MinBackoff: -3, MaxBackoff: -4, AttemptTimeout: -time.Second, Budget: -5}, []string{
			"Policy.MaxAttempts is -2: want a positive value, 0 for the default, or Disabled (-1)",
			"Policy.Budget is -5: want", "Policy.MinBackoff is -3ns: want", "Policy.MaxBackoff is -4ns: want",
			"Policy.AttemptTimeout is -1s: want", "nil http.RoundTripper",
		}},
		{"MinAboveMax", nowhere{}, Policy{MinBackoff: 2 * time.Second, MaxBackoff: time.Second}, []string{"MinBackoff is 2s: want at most MaxBackoff, which is 1s"}},
		{"MinAboveDefaultMax", nowhere{}, Policy{MinBackoff: 3 * time.Second}, []string{"MinBackoff is 3s: want at most MaxBackoff, which is 2s"}},
		{"MaxBelowDefaultMin", nowhere{}, Policy{MaxBackoff: time.Millisecond}, []string{"MinBackoff is 50ms: want at most MaxBackoff, which is 1ms"}},
		{"Hosts", nowhere{}, Policy{IdempotencyKeyHosts: []string{"api.example.com", "api.example.com:8443", "[::1]", "[::1]:80", "127.0.0.1"}}, nil},
		{"NoHosts", nowhere{}, Policy{IdempotencyKeyHosts: []string{"", "https://api.example.com", "a/b", "u@a", "a:", "*.example.com", "::1", "a:x", ":80", "a b"}}, []string{
			`IdempotencyKeyHosts[0] is "": want a host or host:port`, `[1] is "https://api.example.com"`, "[2]", "[3]", "[4]", "[5]", "[6]", "[7]", "[8]", "[9]",
		}},
	} {
		rt, err := New(tt.next, tt.p)
		if (err == nil) != (len(tt.want) == 0) || (rt == nil) != (err != nil) {
			t.Errorf("%s: New returned %v and the error %v", tt.name, rt, err)
		}
		if err == nil {
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(tt.want) {
			t.Errorf("%s: %d faults, want %d:\n%v", tt.name, len(lines), len(tt.want), err)
			continue
		}
		for i, line := range lines {
			if !strings.HasPrefix(line, "retry: ") || !strings.Contains(line, tt.want[i]) {
				t.Errorf("%s: %q does not say %q", tt.name, line, tt.want[i])
			}
		}
		if tt.next != nil && tt.p.Validate() == nil {
			t.Errorf("%s: Validate finds nothing wrong", tt.name)
		}
	}
}

func TestACallersPolicyIsNotShared(t *testing.T) {
	t.Parallel()
	hosts := []string{"API.example.com"}
	rt, err := New(nowhere{}, Policy{IdempotencyKeyHosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	if hosts[0] != "API.example.com" {
		t.Errorf("the caller's hosts became %q", hosts)
	}
	hosts[0] = "other.example.com"
	if got := rt.(*roundTripper).policy.IdempotencyKeyHosts[0]; got != "api.example.com" {
		t.Errorf("the policy has the host %q", got)
	}
}
