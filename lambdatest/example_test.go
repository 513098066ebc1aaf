package lambdatest_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/thawhttp/thaw/lambdatest"
)

// Here the test binary is the bootstrap itself: TestMain calls lambda.Start when this variable is set. A program of
// its own, built with "go build -o bootstrap", needs nothing but Path.
var bootstrapEnv = []string{bootstrapKey + "=greeter"}

func Example() {
	ctx := context.Background()
	path, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	fn, err := lambdatest.Start(ctx, lambdatest.Config{Path: path, Env: bootstrapEnv})
	if err != nil {
		log.Fatal(err)
	}
	defer fn.Stop(ctx)

	res, err := fn.Invoke(ctx, []byte(`{"Name":"Ada"}`))
	if err != nil {
		log.Fatal(err) // the environment failed
	}
	if res.Err != nil {
		log.Fatal(res.Err) // the handler failed
	}
	fmt.Printf("%s", res.Payload)
	// Output: "Hello, Ada"
}
