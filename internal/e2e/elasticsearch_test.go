//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/elastic/go-elasticsearch/v8"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

// The version of go-elasticsearch is an old one, because the newer ones take minutes to compile. What sends the requests is
// in a module of its own, elastic-transport-go, whose version is new.
func newElasticsearch(url string) (*elasticsearch.Client, error) {
	es, err := elasticsearch.NewClient(elasticsearch.Config{
		Addresses:    []string{url},
		Transport:    client.Default().Client.Transport,
		DisableRetry: true, // thaw retries
	})
	return es, err
}

func elasticsearchFunction(url string) (invocation, error) {
	es, err := newElasticsearch(url)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, n int) error {
		doc := strings.NewReader(fmt.Sprintf(`{"pie": %d}`, n))
		resp, err := es.Index("pies", doc, es.Index.WithContext(ctx))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.IsError() || string(body) != fmt.Sprintf(`{"pie": %d}`, n)) {
			err = fmt.Errorf("answered %s %q", resp.Status(), body)
		}
		return err
	}, nil
}

func TestElasticsearch(t *testing.T) {
	survives(t, "Elasticsearch", clienttest.Downstream(t, clienttest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch") // without it the client refuses to talk
		w.WriteHeader(http.StatusCreated)
		copyJSON(w, r)
	}))), 1)
}

func TestElasticsearchIsRetriedByThawAlone(t *testing.T) {
	d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1))
	d.Every(clienttest.RetryLater(503, 0))
	es, err := newElasticsearch(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := es.Get("pies", "1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	d.AssertRequests(t, 3)
}
