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

// Unheard returns a loopback address at which connections are refused, until the test t, a testing.TB, ends. A connection has
// its port, so that no listener is given it meanwhile, as the port of one that was closed may be.
func Unheard(t interface {
	Helper()
	Fatal(...any)
	Cleanup(func())
},
) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near.LocalAddr().String()
}
