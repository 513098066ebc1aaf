//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/shurcooL/graphql"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

func graphqlFunction(url string) (invocation, error) {
	url += "/graphql"

	api := graphql.NewClient(url, client.Default().Client)

	return func(ctx context.Context, n int) error {
		var q struct {
			Pie struct{ Name graphql.String } `graphql:"pie(id: $id)"`
		}
		err := api.Query(ctx, &q, map[string]any{"id": graphql.Int(n)})
		if want := fmt.Sprint("pie ", n); err == nil && string(q.Pie.Name) != want {
			err = fmt.Errorf("got %q, want %q", q.Pie.Name, want)
		}
		return err
	}, nil
}

func TestGraphQL(t *testing.T) {
	survives(t, "GraphQL", clienttest.Downstream(t, clienttest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query     string
			Variables struct{ ID int }
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, `{"data": {"pie": {"name": "pie %d"}}}`, q.Variables.ID)
	}))), 1)
}

// copyJSON answers with what was asked.
func copyJSON(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}
