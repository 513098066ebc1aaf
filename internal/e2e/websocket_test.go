//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

// echo is a WebSocket server that sends back what it gets.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // which has been answered
	}
	defer c.CloseNow()
	for {
		typ, msg, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), typ, msg); err != nil {
			return
		}
	}
}

// webSocketFunction keeps a WebSocket open across the freezes, and opens another one in each invocation.
func webSocketFunction(url string) (invocation, error) {
	dial := func(ctx context.Context, n int) (*websocket.Conn, error) {
		c, _, err := websocket.Dial(ctx, fmt.Sprintf("%s/ws?%d", url, n), &websocket.DialOptions{HTTPClient: client.Default().Client})
		return c, err
	}
	ask := func(ctx context.Context, c *websocket.Conn, n int) error {
		want := fmt.Sprint("pie ", n)
		if err := c.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err == nil && string(got) != want {
			err = fmt.Errorf("got %q", got)
		}
		return err
	}
	var kept *websocket.Conn
	return func(ctx context.Context, n int) error {
		if kept == nil {
			var err error
			// What is to outlive the invocation must not end with its context.
			if kept, err = dial(context.WithoutCancel(ctx), -1); err != nil {
				return err
			}
		}
		if err := ask(ctx, kept, n); err != nil {
			return fmt.Errorf("on the WebSocket that was frozen: %w", err)
		}
		c, err := dial(ctx, n)
		if err != nil {
			return err
		}
		defer c.CloseNow()
		if err := ask(ctx, c, n); err != nil {
			return err
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			return err
		}
		resp, err := client.Default().Get(fmt.Sprintf("%s/plain?%d", url, n))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}, nil
}

func TestWebSocket(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", echo)
	mux.HandleFunc("/plain", func(http.ResponseWriter, *http.Request) {})
	// One WebSocket and one connection for plain requests, and a WebSocket for each invocation.
	survivesDialling(t, "WebSocket", clienttest.Downstream(t, clienttest.WithHandler(mux)), 2, 1)
}
