package clienttest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jarcoal/httpmock"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file are the code of docs/testing.md: a test in policy_test.go compares them.

// shop stands for the package under test.
var shop struct{ api *client.Client }

func init() { shop.api = client.Default() }

// placeOrder stands for a function of that package.
func placeOrder(api *client.Client, url string) error {
	resp, err := api.Post(url, "application/json", strings.NewReader(`{"pies": 2}`))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("the order was answered with %s", resp.Status)
	}
	return nil
}

func TestOrderIsFetchedAgain(t *testing.T) {
	t.Parallel()
	api, mock := clienttest.New(t)
	mock.RegisterResponder("GET", "https://api.example.com/orders/7",
		httpmock.NewStringResponder(503, "").Then(httpmock.NewStringResponder(200, `{"id": 7}`)))

	resp, err := api.Get("https://api.example.com/orders/7")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n := mock.GetTotalCallCount(); resp.StatusCode != http.StatusOK || n != 2 {
		t.Errorf("got %s after %d calls", resp.Status, n)
	}
}

func TestOrderIsPlaced(t *testing.T) {
	mock := clienttest.Swap(t, shop.api) // the client of the package under test, until this test ends
	mock.RegisterResponder("POST", "https://api.example.com/orders", httpmock.NewStringResponder(201, `{"id": 8}`))

	if err := placeOrder(shop.api, "https://api.example.com/orders"); err != nil {
		t.Error(err)
	}
}

func TestNoOrderIsPlacedTwice(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	api, err := client.New(client.WithTransport(transport.Config{TLS: d.TLS()}))
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()

	for i := range 10 {
		if i == 5 {
			d.CloseIdle()
		}
		if err := placeOrder(api, fmt.Sprintf("%s/orders/%d", d.URL, i)); err != nil {
			t.Error(err)
		}
	}
	d.AssertConnections(t, 2)
	d.AssertNoRequestTwice(t)
}

func TestOrderWaitsForNobody(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	api, err := client.New(
		client.WithTransport(transport.Config{TLS: d.TLS()}),
		client.WithTimeout(100*time.Millisecond),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()

	undo := d.Every(clienttest.StallInBody()) // all requests, on open connections too
	d.Next(clienttest.StallBeforeHeader())    // but before that, one
	if err := placeOrder(api, d.URL); err == nil {
		t.Error("an order was placed that nobody answered")
	}
	undo()
	if err := placeOrder(api, d.URL); err != nil {
		t.Error(err)
	}
}
