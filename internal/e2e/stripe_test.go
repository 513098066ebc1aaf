//go:build linux

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/stripe/stripe-go/v84"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

func stripeFunction(url string) (invocation, error) {
	const key = "sk_test_123"

	config := &stripe.BackendConfig{
		HTTPClient:        client.Default().Client,
		MaxNetworkRetries: stripe.Int64(0), // thaw retries: stripe-go sends an Idempotency-Key with every POST
	}
	config.URL = &url
	config.LeveledLogger = &stripe.LeveledLogger{Level: stripe.LevelNull}
	sc := stripe.NewClient(key, stripe.WithBackends(stripe.NewBackendsWithConfig(config)))

	return func(ctx context.Context, n int) error {
		c, err := sc.V1Customers.Create(ctx, &stripe.CustomerCreateParams{Email: stripe.String(fmt.Sprintf("%d@example.com", n))})
		if err != nil {
			return err
		}
		_, err = sc.V1Customers.Retrieve(ctx, fmt.Sprintf("%s_%d", c.ID, n), nil)
		return err
	}, nil
}

func TestStripe(t *testing.T) {
	survives(t, "stripe-go", clienttest.Downstream(t, clienttest.WithHandler(stripeMock(t))), 1)
}
