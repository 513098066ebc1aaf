//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

// message is what goes both ways. A real service has generated code for its own; the calls are these.
type message = wrapperspb.StringValue

// The procedures, one for each kind.
const (
	unary        = "/pies.v1.Bakery/Unary"
	clientStream = "/pies.v1.Bakery/ClientStream"
	serverStream = "/pies.v1.Bakery/ServerStream"
	bidiStream   = "/pies.v1.Bakery/BidiStream"
)

// bakery is the service: it answers in upper case.
func bakery() http.Handler {
	upper := func(m *message) *message { return wrapperspb.String(strings.ToUpper(m.Value)) }
	mux := http.NewServeMux()
	mux.Handle(unary, connect.NewUnaryHandler(unary, func(_ context.Context, req *connect.Request[message]) (*connect.Response[message], error) {
		return connect.NewResponse(upper(req.Msg)), nil
	}))
	mux.Handle(clientStream, connect.NewClientStreamHandler(clientStream, func(_ context.Context, s *connect.ClientStream[message]) (*connect.Response[message], error) {
		var all []string
		for s.Receive() {
			all = append(all, s.Msg().Value)
		}
		return connect.NewResponse(upper(wrapperspb.String(strings.Join(all, " ")))), s.Err()
	}))
	mux.Handle(serverStream, connect.NewServerStreamHandler(serverStream, func(_ context.Context, req *connect.Request[message], s *connect.ServerStream[message]) error {
		for word := range strings.FieldsSeq(req.Msg.Value) {
			if err := s.Send(upper(wrapperspb.String(word))); err != nil {
				return err
			}
		}
		return nil
	}))
	mux.Handle(bidiStream, connect.NewBidiStreamHandler(bidiStream, func(_ context.Context, s *connect.BidiStream[message, message]) error {
		for {
			m, err := s.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := s.Send(upper(m)); err != nil {
				return err
			}
		}
	}))
	return mux
}

// protocolsOfConnect are those that its clients can speak.
var protocolsOfConnect = map[string][]connect.ClientOption{
	"Connect":  nil,
	"gRPC":     {connect.WithGRPC()},
	"gRPC-Web": {connect.WithGRPCWeb()},
}

func newBakery(url, procedure string, opts ...connect.ClientOption) *connect.Client[message, message] {
	api := connect.NewClient[message, message](client.Default(), url+procedure, opts...)
	return api
}

func connectFunction(url string) (invocation, error) {
	return func(ctx context.Context, n int) error {
		for protocol, opts := range protocolsOfConnect {
			words := []string{"a", "pie", fmt.Sprint(n), protocol}
			all := strings.Join(words, " ")
			for procedure, call := range map[string]func(*connect.Client[message, message]) (string, error){
				unary: func(api *connect.Client[message, message]) (string, error) {
					resp, err := api.CallUnary(ctx, connect.NewRequest(wrapperspb.String(all)))
					if err != nil {
						return "", err
					}
					return resp.Msg.Value, nil
				},
				clientStream: func(api *connect.Client[message, message]) (string, error) {
					s := api.CallClientStream(ctx)
					for _, w := range words {
						if err := s.Send(wrapperspb.String(w)); err != nil {
							return "", err
						}
					}
					resp, err := s.CloseAndReceive()
					if err != nil {
						return "", err
					}
					return resp.Msg.Value, nil
				},
				serverStream: func(api *connect.Client[message, message]) (string, error) {
					s, err := api.CallServerStream(ctx, connect.NewRequest(wrapperspb.String(all)))
					if err != nil {
						return "", err
					}
					var got []string
					for s.Receive() {
						got = append(got, s.Msg().Value)
					}
					return strings.Join(got, " "), errors.Join(s.Err(), s.Close())
				},
				// Each word is answered before the next one is said.
				bidiStream: func(api *connect.Client[message, message]) (string, error) {
					s := api.CallBidiStream(ctx)
					var got []string
					for _, w := range words {
						if err := s.Send(wrapperspb.String(w)); err != nil {
							return "", err
						}
						m, err := s.Receive()
						if err != nil {
							return "", err
						}
						got = append(got, m.Value)
					}
					if err := s.CloseRequest(); err != nil {
						return "", err
					}
					if _, err := s.Receive(); !errors.Is(err, io.EOF) {
						return "", fmt.Errorf("after the end: %w", err)
					}
					return strings.Join(got, " "), s.CloseResponse()
				},
			} {
				got, err := call(newBakery(url, procedure, opts...))
				if err != nil {
					return fmt.Errorf("%s over %s: %w", procedure, protocol, err)
				}
				if got != strings.ToUpper(all) {
					return fmt.Errorf("%s over %s: got %q", procedure, protocol, got)
				}
			}
		}
		return nil
	}, nil
}

func TestConnect(t *testing.T) {
	survives(t, "connect-go", clienttest.Downstream(t, clienttest.WithHandler(bakery())), 1)
}
