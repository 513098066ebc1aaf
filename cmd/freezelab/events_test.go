package main

import (
	"strings"
	"testing"

	"github.com/thawhttp/thaw/lambdatest"
)

func TestEventsAreAnArrayOrOneValueALine(t *testing.T) {
	for text, want := range map[string]string{
		`[{"a":1}, 2, "x"]`:    `{"a":1}|2|"x"`,
		"{\"a\":1}\n{\"a\":2}": `{"a":1}|{"a":2}`,
		"\n{}\n":               `{}`,
		`[1] [2]`:              `[1]|[2]`,
		`[[1]]`:                `[1]`,
	} {
		events, err := parseEvents([]byte(text))
		var got []string
		for _, e := range events {
			got = append(got, string(e))
		}
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q: %q, %v; want %s", text, got, err, want)
		}
	}
	large := `["` + strings.Repeat("x", lambdatest.MaxPayload) + `"]`
	for text, want := range map[string]string{
		"":          "no event",
		"[]":        "no event",
		"{} {":      "event 2",
		"what":      "event 1",
		large:       "Lambda takes",
		"[1, }":     "event 1",
		"{}\n[1,2]": "",
	} {
		if _, err := parseEvents([]byte(text)); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.20q: error %v, want one with %q", text, err, want)
		}
	}
}
