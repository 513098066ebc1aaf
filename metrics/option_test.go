package metrics

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/thawhttp/thaw/transport"
)

func TestFaultsAreNamedTogether(t *testing.T) {
	t.Parallel()
	many := make([]Dimension, 31)
	for i := range many {
		many[i] = Dimension{strings.Repeat("d", i+1), "v"}
	}
	for _, tt := range []struct {
		name string
		opts []Option
		want []string // each a fault; there are no others
	}{
		{"NilOption", []Option{nil}, []string{"option 0 of EMF is nil"}},
		{"Twice", []Option{WithNamespace("a"), WithNamespace("b")}, []string{"WithNamespace was given twice"}},
		{"NoNamespace", []Option{WithNamespace("")}, []string{`WithNamespace("")`}},
		{"BlankNamespace", []Option{WithNamespace("  ")}, []string{"1 to 255 letters"}},
		{"LongNamespace", []Option{WithNamespace(strings.Repeat("n", 256))}, []string{"1 to 255 letters"}},
		{"NamespaceOfAWS", []Option{WithNamespace("AWS/Lambda")}, []string{"AWS/"}},
		{"ColonFirst", []Option{WithNamespace(":a"), WithDimensions(Dimension{":b", "c"})}, []string{"begin with a colon or", "dimension 0 has the name \":b\""}},
		{"NamespaceWithBraces", []Option{WithNamespace("a{b}")}, []string{`WithNamespace("a{b}")`}},
		{"TooManyDimensions", []Option{WithDimensions(many...)}, []string{"31 dimensions: want at most 30"}},
		{"TooManyBesideOrigins", []Option{WithDimensions(many[:30]...), WithOrigins(0)}, []string{"30 dimensions: want at most 29"}},
		{"NegativeOrigins", []Option{WithOrigins(-2)}, []string{"WithOrigins(-2)"}},
		{"NoName", []Option{WithDimensions(Dimension{"", "v"})}, []string{`dimension 0 has the name ""`}},
		{"LongName", []Option{WithDimensions(Dimension{strings.Repeat("n", 251), "v"})}, []string{"want 1 to 250"}},
		{"NameTwice", []Option{WithDimensions(Dimension{"a", "v"}, Dimension{"a", "w"})}, []string{`dimension 1 has the name "a", which is taken`}},
		{"NameOfAMetric", []Option{WithDimensions(Dimension{"Requests", "v"})}, []string{`"Requests", which is taken`}},
		{"NameOfTheMetadata", []Option{WithDimensions(Dimension{"_aws", "v"})}, []string{`"_aws", which is taken`}},
		{"NameOfTheOrigin", []Option{WithOrigins(0), WithDimensions(Dimension{"Origin", "v"})}, []string{`"Origin", which is taken`}},
		{"NoValue", []Option{WithDimensions(Dimension{"a", ""})}, []string{`the value of dimension 0, "a", is invalid`}},
		{"LongValue", []Option{WithDimensions(Dimension{"a", strings.Repeat("v", 1025)})}, []string{"want 1 to 1024"}},
		{"LineInValue", []Option{WithDimensions(Dimension{"a", "b\nc"})}, []string{"printable"}},
		{"ValueBeyondASCII", []Option{WithDimensions(Dimension{"a", "ü"})}, []string{"ASCII"}},
		{"SeveralAtOnce", []Option{WithNamespace(""), WithOrigins(-7), WithDimensions(Dimension{"", ""})}, []string{"WithNamespace", "WithOrigins(-7)", "has the name", "the value of"}},
	} {
		e, err := EMF(io.Discard, tt.opts...)
		if err == nil || e != nil {
			t.Errorf("%s: got %v, %v; want an error alone", tt.name, e, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q:\n%v", tt.name, want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(tt.want) {
			t.Errorf("%s: %d faults, want %d:\n%v", tt.name, n, len(tt.want), err)
		}
		for line := range strings.Lines(err.Error()) {
			if !strings.HasPrefix(line, "metrics: ") {
				t.Errorf("%s: %q does not say whose error it is", tt.name, line)
			}
		}
	}
	if _, err := EMF(nil, WithNamespace("")); err == nil || !strings.Contains(err.Error(), "EMF(nil)") || !strings.Contains(err.Error(), "WithNamespace") {
		t.Errorf("without a writer and a namespace the error is %v", err)
	}
}

func TestValidOptions(t *testing.T) {
	t.Setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
	for _, opts := range [][]Option{
		{},
		{WithDimensions()},
		{WithNamespace("My App/orders_v1.2-a#b:c")},
		{WithDimensions(Dimension{"Origin", "it is free"})},
		{WithOrigins(transport.Disabled), WithNamespace("a")},
	} {
		if _, err := EMF(io.Discard, opts...); err != nil {
			t.Error(err)
		}
	}
}

func TestWithoutDimensions(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]Option{nil, {WithDimensions()}} { // AWS_LAMBDA_FUNCTION_NAME is not set
		e, out := newEmitter(t, opts...)
		p := &pool{}
		p.request("https://a.test:443", 1)
		emit(t, e, p)
		docs := out.take()
		if len(docs) != 1 || len(docs[0]) != 1+13 {
			t.Errorf("got %v, want the metrics and no dimension", docs)
		}
	}
}

func TestCommentsNameTheDefaultsAndTheLimits(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("option.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(src), "\n// ", " ")), " ")
	for _, want := range []string{
		`[DefaultNamespace] ("` + DefaultNamespace + `")`, `[DefaultMaxOrigins] (10)`,
		"up to 255 letters", "at most 30", "up to 250", "up to 1,024",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no comment of option.go says %q", want)
		}
	}
	if DefaultMaxOrigins != 10 || maxNamespace != 255 || maxDimensions != 30 || maxDimensionName != 250 || maxDimensionValue != 1024 {
		t.Error("a constant differs from the comments")
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range measures {
		if !strings.Contains(string(page), "`"+m.name+"`") {
			t.Errorf("docs/observability.md does not name the metric %s", m.name)
		}
		if !regexp.MustCompile(`//\t` + m.name + ` +` + m.unit + ` `).Match(doc) {
			t.Errorf("doc.go has no line for the metric %s in %s", m.name, m.unit)
		}
	}
	for _, want := range []string{"| `metrics.WithNamespace` | " + DefaultNamespace + " |", "up to 30 dimensions", "up to 10 origins by default", "with 14 metrics"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/observability.md does not say %q", want)
		}
	}
	if len(measures) != 14 {
		t.Errorf("there are %d metrics, the documentation says 14", len(measures))
	}
}
