// Package transport is a pool of HTTP connections that survives the freeze and thaw of an AWS Lambda environment. Its
// [Transport] is an [http.RoundTripper] and takes the place of an [http.Transport].
//
// Between two invocations an environment is frozen, for as long as nobody calls. Servers, load balancers and NAT
// gateways drop its idle connections meanwhile, and the next request meets a dead one. So this pool differs from that
// of net/http:
//
//   - Every limit is enforced when a connection is taken, on the wall clock and on the monotonic clock. Timers, which
//     do not run in a freeze, only tidy up.
//   - Before it is handed out, an idle connection is looked at: its socket tells a connection that was closed or reset
//     from one that is alive. An HTTP/2 connection idle for longer than VerifyAfter must answer a PING. One that speaks
//     HTTP/1.1 and was idle for longer than TrustIdle carries only requests that may be sent again.
//   - A request that met a dead connection is sent again on another one if, and only if, that is safe: see
//     [Transport.RoundTrip].
//   - A burst to an HTTP/2 origin makes the connections that its streams need, not one for each request.
//   - Numbers of connections are limited for each origin and altogether, and those who wait are served in order.
//   - [Transport.Stats] tells what the pool holds, and why connections were closed.
//
// A program makes one Transport, with [New] or [Shared], outside of its handler. [Transport.Warm] makes connections
// ahead, [Transport.Thaw] looks after them once a freeze is over, and [Transport.Reset] replaces all of them.
//
// # How it is built
//
// The pool dials, goes through proxies and does the TLS handshake itself. The ready connection then goes to net/http's
// ClientConn for HTTP/1.1, or to that of golang.org/x/net/http2, by what ALPN chose; they speak the protocol, and know
// of no other connection. conn.go is what both of them read and write. checkout.go decides who gets which connection,
// dial.go makes them, socket.go and verify.go prove them alive, roundtrip.go sends requests and decides which are sent
// again, response.go gives connections back, and sweep.go and warm.go look after those that nobody uses.
package transport
