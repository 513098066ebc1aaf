//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

func oauth2Function(url string) (invocation, error) {
	config := &clientcredentials.Config{ClientID: "bakery", ClientSecret: "secret", TokenURL: url + "/token"}

	// The context outlives the invocations: tokens are fetched with it.
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client.Default().Client)
	api := config.Client(ctx)

	return func(ctx context.Context, n int) error {
		req, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("%s/orders/%d", url, n), nil)
		if err != nil {
			return err
		}
		resp, err := api.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && string(body) != "ordered" {
			err = fmt.Errorf("answered %s %q", resp.Status, body)
		}
		return err
	}, nil
}

func TestOAuth2(t *testing.T) {
	var tokens atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "token-%d", "token_type": "Bearer", "expires_in": 3600}`, tokens.Add(1))
	})
	mux.HandleFunc("POST /orders/{n}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, "ordered")
	})
	d := clienttest.Downstream(t, clienttest.WithHandler(mux))
	survives(t, "OAuth2", d, 1)
	if n := tokens.Load(); n != 1 {
		t.Errorf("%d tokens were fetched, want 1", n)
	}
}
