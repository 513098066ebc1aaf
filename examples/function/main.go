// The example function is a complete AWS Lambda function that calls an API through thaw: it makes its connection in the init
// phase, answers warm-up events, logs each exchange, writes metrics and closes its connections at the end. template.yaml
// deploys it with the AWS SAM CLI.
//
// To see it on this machine, with no AWS account:
//
//	go run ./examples/function -local
//
// That starts an API on loopback and the function under a Lambda runtime, sends it orders and a warm-up, and freezes it
// in between, while the API closes its idle connections.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/metrics"
	"github.com/thawhttp/thaw/tracing"
)

func main() {
	onThisMachine := flag.Bool("local", false, "run the function on this machine, with an API to call")
	flag.Parse()
	run := func() error { return serve(os.Getenv("ORDERS_URL")) } // returns only if it cannot start
	if *onThisMachine {
		run = func() error { return local(context.Background(), os.Stdout) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is the function. All that outlives an invocation is made here, in the init phase.
func serve(url string) error {
	if url == "" {
		return errors.New("ORDERS_URL is empty: want where to send orders, or run with -local")
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	emitter, err := metrics.EMF(os.Stdout)
	if err != nil {
		return err
	}
	api, err := client.New(
		client.WithTimeout(5*time.Second),
		client.WithTracer(tracing.Log(nil)), // xray.New() in its place for traces: see examples/xray
		client.WithTracer(emitter.Tracer()),
	)
	if err != nil {
		return err
	}
	// An API that is down fails nothing: the first request tries again.
	_ = lambdahandler.Init(api, 5*time.Second, url)

	h := &handler{api: api, url: url}
	lambda.Start(lambdahandler.New(api, h.handle,
		lambdahandler.WithWarmup(lambdahandler.IsWarmup, url),
		lambdahandler.WithMetrics(emitter),
		lambdahandler.WithShutdown(0),
	))
	return nil
}

// order is the event.
type order struct {
	ID    string   `json:"id"`
	Items []string `json:"items"`
}

// confirmation is the answer.
type confirmation struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// handler has what an invocation needs.
type handler struct {
	api *client.Client
	url string
}

func (h *handler) handle(ctx context.Context, o order) (confirmation, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return confirmation{}, err
	}
	// The context ends ahead of Lambda's deadline, and the request with it.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return confirmation{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	// The API takes an order once, however often it is sent, so that it may be sent again. Without this header a POST
	// that the API may have acted on is not.
	req.Header.Set("Idempotency-Key", "order-"+o.ID)
	resp, err := h.api.Do(req)
	if err != nil {
		return confirmation{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return confirmation{}, fmt.Errorf("order %s: %s", o.ID, resp.Status)
	}
	return confirmation{ID: o.ID, Status: "accepted"}, nil
}
