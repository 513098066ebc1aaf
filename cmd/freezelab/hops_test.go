package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"
)

func TestHopsAreThoseOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/lambda.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hops {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %s \| %d( to \d+)? s`, regexp.QuoteMeta(h.Title), h.Limit/time.Second))
		if !row.Match(page) {
			t.Errorf("docs/lambda.md has no row for %s with a limit of %v", h.Title, h.Limit)
		}
		if got := h.after(h.Limit); got != faultNone {
			t.Errorf("%s: %s at the limit, want none", h.Name, got)
		}
		if got := h.after(h.Limit + time.Second); got != h.Fault || got == faultNone {
			t.Errorf("%s: %s beyond the limit, want %s", h.Name, got, h.Fault)
		}
	}
}
