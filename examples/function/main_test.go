package main

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/lambdahandler"
)

// TestMain makes the test binary the function, as the program itself is.
func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv("ORDERS_URL"); ok {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestTheFunctionKeepsWorkingThroughFreezes(t *testing.T) {
	var out strings.Builder
	err := local(t.Context(), &out)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err) // no process can be frozen here
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`started, with a connection made in the init phase\n`,
		`frozen: nothing happens\n\{"id": "1".*\n -> \{"id":"1","status":"accepted"\} in .* ms\n`,
		`frozen: the API closes 1 connection\n\{"id": "2".*\n -> \{"id":"2","status":"accepted"\} in .* ms\n`,
		`frozen: the API closes 1 connection\n.*warmup"\}\n -> \{"thaw":"warm","open":1\} in .* ms\n`,
		`frozen: nothing happens\n\{"id": "3".*\n -> \{"id":"3","status":"accepted"\} in .* ms\n`,
		`    \| \{"time":.*"msg":"http exchange","method":"POST","url":"http.* \.\.\.\n`,
		`    \| \{"Dials":1,"FunctionName":"orders".* \.\.\.\n`,
		// One made in the init phase, and one for each that was lost: one for order 2, and one by the warm-up.
		`stopped: the API accepted 3 connections and got order-1 1 times, order-2 1 times, order-3 1 times\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output lacks %s:\n%s", want, &out)
		}
	}
}

func TestTheFunctionSaysWhatItLacks(t *testing.T) {
	if err := serve(""); err == nil || !strings.Contains(err.Error(), "ORDERS_URL") {
		t.Errorf("error %v, want one that names ORDERS_URL", err)
	}
}

func TestTheTemplateFitsTheFunction(t *testing.T) {
	b, err := os.ReadFile("template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	input := regexp.MustCompile(`Input: '(.*)'`).FindStringSubmatch(text)
	if input == nil || !json.Valid([]byte(input[1])) || !lambdahandler.IsWarmup([]byte(input[1])) {
		t.Errorf("the schedule's input is %q, which the function does not take for a warm-up", input)
	}
	for _, want := range []string{"ORDERS_URL:", "Runtime: provided.al2023", "Handler: bootstrap", "BuildMethod: makefile"} {
		if !strings.Contains(text, want) {
			t.Errorf("the template lacks %q", want)
		}
	}
	resource := regexp.MustCompile(`(?m)^  (\w+):\n    Type: AWS::Serverless::Function`).FindStringSubmatch(text)
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if resource == nil || !strings.Contains(string(makefile), "\nbuild-"+resource[1]+":") {
		t.Errorf("the Makefile does not build the function that the template names: %q", resource)
	}
}
