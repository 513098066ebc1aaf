//go:build linux || darwin

package lambdatest_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/thawhttp/thaw/lambdatest"
)

func ExampleFunction_Freeze() {
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

	if err := fn.Freeze(ctx); err != nil {
		log.Fatal(err)
	}
	// Whatever happens to the connections of the function now, it does not notice before the thaw.
	next, err := fn.Send([]byte(`{"Name":"Grace"}`))
	if err != nil {
		log.Fatal(err)
	}
	if err := fn.Thaw(); err != nil {
		log.Fatal(err)
	}
	res, err := next.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", res.Payload)
	// Output: "Hello, Grace"
}
