package legible

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"as it is", `dial tcp: lookup höst: "no" such C:\host`, `dial tcp: lookup höst: "no" such C:\host`},
		{"line breaks", "x509: name a\r\nlevel=INFO\n", `x509: name a\r\nlevel=INFO\n`},
		{"escape sequence", "\x1b[2Jgone\a\x7f", `\x1b[2Jgone\a\x7f`},
		{"NUL", "a\x00b", `a\x00b`},
		{"C1 control", "a\u0085b", `a\u0085b`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"from right to left", "a\u202eb", `a\u202eb`},
		{"no space", "a\u00a0b", `a\u00a0b`},
		{"no UTF-8", "a\xffb\xc3", `a\xffb\xc3`},
		{"replacement character", "a\ufffdb", "a\ufffdb"},
		{"just short enough", strings.Repeat("x", Max), strings.Repeat("x", Max)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text(tt.in); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestLongTextIsCutBetweenCharacters(t *testing.T) {
	for name, long := range map[string]string{
		"letters":       strings.Repeat("x", Max+1),
		"a MiB":         strings.Repeat("x", 1<<20),
		"wide letters":  strings.Repeat("日", Max),
		"escaped bytes": strings.Repeat("\xff", Max-1),
		"escaped runes": "x" + strings.Repeat("\u2028", Max/4),
	} {
		got := Text(long)
		if len(got) > Max || len(got) < Max-maxCut-len(`\u2028`) || !utf8.ValidString(got) || !strings.HasSuffix(got, fmt.Sprintf("... (%d bytes)", len(long))) {
			t.Errorf("%s: %d bytes, %q", name, len(got), got)
		}
		if body, _, _ := strings.Cut(got, "..."); strings.Contains(body, `\`) && !strings.HasSuffix(body, `\xff`) && !strings.HasSuffix(body, `\u2028`) {
			t.Errorf("%s: cut within an escape: %q", name, body)
		}
	}
}

func TestErrorKeepsWhatCallersLookFor(t *testing.T) {
	for _, err := range []error{nil, io.ErrUnexpectedEOF, context.Canceled, errors.New("in plain words")} {
		if got := Error(err); got != err { //nolint:errorlint // the same value, not one that wraps it
			t.Errorf("%v became %v", err, got)
		}
	}
	long := fmt.Errorf("%w: %s", os.ErrDeadlineExceeded, strings.Repeat("x\n", Max))
	got := Error(long)
	if !errors.Is(got, os.ErrDeadlineExceeded) || got.Error() != Text(long.Error()) {
		t.Errorf("%v became %v", long, got)
	}
	isNetError := func(err error) bool { e, ok := err.(net.Error); return ok && e.Timeout() } //nolint:errorlint // as *url.Error asks
	if !isNetError(got) {
		t.Errorf("a timeout became %v", got)
	}
	if isNetError(Error(errors.New("a\nb"))) {
		t.Error("an error that is none became a net.Error")
	}
	wrapped := fmt.Errorf("job\n7: %w", context.DeadlineExceeded)
	if !isNetError(Error(wrapped)) {
		t.Errorf("a timeout became %v", Error(wrapped))
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "a\nb", "\xff", strings.Repeat("\u2028", 300), strings.Repeat("x", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if len(got) > Max || !utf8.ValidString(got) || Text(got) != got {
			t.Fatalf("%q became %q of %d bytes, and that %q", s, got, len(got), Text(got))
		}
		if i := strings.IndexFunc(got, unicode.IsControl); i >= 0 {
			t.Fatalf("%q became %q, which has a control character", s, got)
		}
	})
}

func BenchmarkTextAsItIs(b *testing.B) {
	b.ReportAllocs()
	s := "https://api.example.com:443/orders/1234567890"
	for b.Loop() {
		Text(s)
	}
}
