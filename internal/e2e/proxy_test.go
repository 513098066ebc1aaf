//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"strings"
	"testing"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

// reverseProxyFunction hands on what it is asked, as a function behind a function URL may do.
func reverseProxyFunction(url string) (invocation, error) {
	target, err := neturl.Parse(url)
	if err != nil {
		return nil, err
	}

	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: client.Default().Client.Transport,
	}

	return func(ctx context.Context, n int) error {
		// A body that can be read once, as those of servers are.
		body := struct{ io.Reader }{strings.NewReader(fmt.Sprint("pie ", n))}
		rec := httptest.NewRecorder()
		proxy.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "POST", fmt.Sprintf("/orders/%d", n), body))
		if want := fmt.Sprintf("POST /orders/%d\n", n); rec.Code != http.StatusOK || rec.Body.String() != want {
			return fmt.Errorf("answered %d %q", rec.Code, rec.Body)
		}
		return nil
	}, nil
}

func TestReverseProxy(t *testing.T) {
	for _, p := range []clienttest.Protocol{clienttest.HTTP1TLS, clienttest.HTTPS} {
		t.Run(p.String(), func(t *testing.T) {
			survives(t, "ReverseProxy", clienttest.Downstream(t, clienttest.WithProtocol(p)), 1)
		})
	}
}
