package faultnet

import (
	"context"
	"io"
	"net"
)

// DialNever is a DialContext that connects to nothing.
func DialNever(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// DialDeaf is a DialContext that connects to what does not answer.
func DialDeaf(context.Context, string, string) (net.Conn, error) {
	conn, peer := net.Pipe()
	go func() {
		_, _ = io.Copy(io.Discard, peer)
		peer.Close()
	}()
	return conn, nil
}
