//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	neturl "net/url"
	"testing"

	"github.com/google/go-github/v84/github"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

func githubFunction(url string) (invocation, error) {
	const token = "a-token"

	gh := github.NewClient(client.Default().Client).WithAuthToken(token)

	base, err := neturl.Parse(url + "/")
	if err != nil {
		return nil, err
	}
	gh.BaseURL = base
	return func(ctx context.Context, n int) error {
		title := fmt.Sprint("no pies, day ", n)
		issue, _, err := gh.Issues.Create(ctx, "bakery", "pies", &github.IssueRequest{Title: &title})
		if err == nil && issue.GetTitle() != title {
			err = fmt.Errorf("the issue is %v", issue)
		}
		return err
	}, nil
}

func TestGitHub(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /repos/bakery/pies/issues", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a-token" {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusCreated)
		copyJSON(w, r) // the title is called the same in the answer
	})
	survives(t, "go-github", clienttest.Downstream(t, clienttest.WithHandler(mux)), 1)
}
