package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

// The environment variables that make this program the function: where the orders are, and whom to trust.
const (
	urlEnv  = "ORDERS_URL"
	rootEnv = "ORDERS_ROOT"
)

type order struct {
	ID    int      `json:"id"`
	Items []string `json:"items"`
}

// serveFunction is the function. Its client is made outside the handler, and outlives invocations.
func serveFunction(url string) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(os.Getenv(rootEnv))) {
		return errors.New(rootEnv + " has no certificate")
	}
	api, err := client.New(
		client.WithTracer(xray.New()),
		// The certificate of httptest is for example.com.
		client.WithTransport(transport.Config{TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}}),
	)
	if err != nil {
		return err
	}
	lambda.Start(func(ctx context.Context) (order, error) {
		// With the handler's context the request is part of the invocation's trace.
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return order{}, err
		}
		resp, err := api.Do(req)
		if err != nil {
			return order{}, err
		}
		defer resp.Body.Close()
		var o order
		err = json.NewDecoder(resp.Body).Decode(&o)
		return o, err
	})
	return nil
}
