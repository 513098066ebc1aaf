//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/transport"
)

// order stands for code that uses http.DefaultClient and offers no way in.
func order(url string, n int) error {
	resp, err := http.Post(fmt.Sprintf("%s/orders/%d", url, n), "text/plain", strings.NewReader("a pie"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("POST /orders/%d\n", n); err == nil && string(body) != want {
		err = fmt.Errorf("answered %s %q", resp.Status, body)
	}
	return err
}

func defaultClientFunction(url string) (invocation, error) {
	api := client.Default()
	http.DefaultClient.Transport = api.Client.Transport
	http.DefaultClient.Timeout = api.Timeout

	return func(_ context.Context, n int) error {
		if n == 0 {
			// The Lambda runtime has cloned this by now, and others do.
			http.DefaultTransport.(*http.Transport).Clone()
		}
		return order(url, n)
	}, nil
}

func TestDefaultClient(t *testing.T) {
	survives(t, "DefaultClient", clienttest.Downstream(t), 1)
}

// defaultTransport replaces http.DefaultTransport by one of its own type.
func defaultTransport() error {
	tuned, err := transport.NewHTTPTransport(transport.Config{})
	if err != nil {
		return err
	}
	http.DefaultTransport = tuned
	return nil
}

func TestDefaultTransportMayBeReplacedByItsOwnType(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	if err := defaultTransport(); err != nil {
		t.Fatal(err)
	}
	tuned := http.DefaultTransport.(*http.Transport)
	defer tuned.CloseIdleConnections()
	if want := transport.DefaultMaxConnsPerHost; tuned == before || tuned.MaxConnsPerHost != want {
		t.Errorf("MaxConnsPerHost is %d, want %d", tuned.MaxConnsPerHost, want)
	}
	d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1))
	for n := range 3 {
		if err := order(d.URL, n); err != nil {
			t.Error(err)
		}
	}
	d.AssertConnections(t, 1)
}
