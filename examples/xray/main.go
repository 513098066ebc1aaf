// The example xray shows what AWS X-Ray gets to see of a Lambda function's HTTP requests, with no AWS account: it runs a
// function on this machine, listens as the X-Ray daemon would, and prints the subsegments of a cold and a warm invocation.
//
//	go run ./examples/xray
//
// The first invocation resolves, connects and shakes hands; the second finds the connection that the first one left.
package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/thawhttp/thaw/internal/xraydaemon"
	"github.com/thawhttp/thaw/lambdatest"
)

func main() {
	if url, ok := os.LookupEnv(urlEnv); ok {
		if err := serveFunction(url); err != nil { // returns only if it cannot start
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run starts what the function needs around it, invokes it twice, and prints the traces.
func run(ctx context.Context, w io.Writer) (err error) {
	daemon, err := xraydaemon.Listen()
	if err != nil {
		return err
	}
	defer daemon.Close()

	orders := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"id": 7, "items": ["two pies"]}`)
	}))
	orders.EnableHTTP2 = true
	orders.StartTLS()
	defer orders.Close()
	_, port, err := net.SplitHostPort(orders.Listener.Addr().String())
	if err != nil {
		return err
	}

	bootstrap, err := os.Executable()
	if err != nil {
		return err
	}
	fn, err := lambdatest.Start(ctx, lambdatest.Config{
		Path:         bootstrap,
		FunctionName: "checkout",
		Timeout:      10 * time.Second,
		Env: []string{
			urlEnv + "=https://localhost:" + port + "/orders/7?token=not-in-the-trace",
			rootEnv + "=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: orders.Certificate().Raw})),
			"AWS_XRAY_DAEMON_ADDRESS=" + daemon.Addr(),
			"LAMBDA_TASK_ROOT=", // or the SDK leaves a file in /tmp, by which Lambda knows that it is there
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fn.Stop(ctx)) }()

	for _, name := range []string{"cold", "warm"} {
		res, err := fn.Invoke(ctx, []byte(`{}`))
		if err != nil {
			return err
		}
		if res.Err != nil {
			return res.Err
		}
		// The function answers when its requests are done, so all that it has to send was sent.
		docs, err := daemon.Documents()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s invocation\n", name)
		if err := printTrace(w, fn.Config().FunctionName, res.TraceHeader, docs); err != nil {
			return err
		}
	}
	return nil
}
