package main

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(urlEnv); ok {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestTheColdInvocationDialsAndTheWarmOneDoesNot(t *testing.T) {
	var out strings.Builder
	if err := run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	cold, warm, ok := strings.Cut(out.String(), "warm invocation\n")
	if !ok {
		t.Fatalf("the output is\n%s", &out)
	}
	for text, want := range map[string]struct{ reused, phases string }{
		cold: {"false", `    ├── dns  \d+\.\d\d ms\n    ├── connect  \d+\.\d\d ms\n    └── tls  \d+\.\d\d ms\n`},
		warm: {"true", ""},
	} {
		shape := regexp.MustCompile(`checkout \(the segment of Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=1\)\n` +
			`└── localhost:\d+  \d+\.\d\d ms  GET https://localhost:\d+/orders/7 200\n` +
			`( .*annotation\.\w+ = .*\n)+` + want.phases + `\n$`)
		if !shape.MatchString(text) || !strings.Contains(text, "annotation.conn_reused = "+want.reused+"\n") {
			t.Errorf("conn_reused is not %s, or the tree is not as expected:\n%s", want.reused, text)
		}
	}
}
