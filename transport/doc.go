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
//     from one that is alive. An HTTP/2 connection of which nothing was heard for longer than VerifyAfter must answer a PING. One
//     that speaks HTTP/1.1, and of which nothing was heard for longer than TrustIdle, carries only requests that may be sent again.
//   - A request that met a dead connection is sent again on another one if, and only if, that is safe: see
//     [Transport.RoundTrip].
//   - A burst to an HTTP/2 origin makes the connections that its streams need, not one for each request.
//   - A dial that fails costs the request that it was begun for and no other, and one that takes longer than DialDelay has
//     another one begun beside it.
//   - Numbers of connections are limited for each origin and altogether, and those who wait are served in the order in which they
//     came, across origins.
//   - [Transport.Stats] tells what the pool holds, and why connections were closed.
//
// A program makes one Transport, with [New] or [Shared], outside of its handler. [Transport.Warm] makes connections
// ahead, [Transport.Thaw] looks after them once a freeze is over, and [Transport.Reset] replaces all of them.
//
// # How it is built
//
// The pool dials, goes through proxies and does the TLS handshake itself. The ready connection then goes to net/http's
// ClientConn for HTTP/1.1, or to that of golang.org/x/net/http2, by what ALPN chose; they speak the protocol, and know
// of no other connection.
//
// What the pool decides, it decides in internal/pool, whose Machine knows of no socket, goroutine or clock: which connection
// a request gets, what is dialled, proven and closed, and when. This package tells it what happens, with Transport.mu held, and carries out
// what it decides, most of it once mu is released. It decides by itself only what a request says: what makes one that may be sent
// again, in roundtrip.go. The rules are those of docs/pool.md.
//
// The way of a request, and back:
//
//	roundtrip.go    from the first attempt to the response or the last error; what is sent again
//	request.go      which requests are refused before that
//	wait.go         the queue, as the request sees it; what is said of a wait that ends in vain
//	requestbody.go  what became of its body on an attempt
//	expect.go       "Expect: 100-continue" over HTTP/2
//	response.go     what the caller gets, and how the end of its body gives the connection back
//	lease.go        bodies that are forgotten, and the timeout of a response over HTTP/2
//	held.go         requests that have a connection for longer than LeakAfter
//	errors.go       what errors say, to callers and to package retry
//
// How the machine is driven:
//
//	transport.go    the Transport, its lock and its ends: Reset, CloseIdleConnections, Close
//	drive.go        carries decisions out, tells what becomes of connections, and the log
//	dial.go         makes a connection of a dial
//	proxy.go, socks.go, session.go
//	                the way through a proxy, and TLS
//	prove.go        PINGs, and the watch over a request on a connection in doubt
//	thaw.go, warm.go
//	                look after connections ahead of requests
//	origin.go       which requests share connections, and which origins are remembered
//	ledger.go, stats.go
//	                what is counted, for longer than that
//	clock.go        reads both clocks
//
// A connection, from the outside in:
//
//	conn.go         what the protocol layer reads and writes, and what the machine knows of it
//	frames.go       what an HTTP/2 server says in passing: SETTINGS, GOAWAY
//	keepalive.go    what one of HTTP/1.1 says of its idle limit
//	rawconn.go      the connection beneath TLS: whether its reader waits, and how long a write may take
//	socket.go, peek_*.go, readsocket_*.go, tcpinfo_*.go
//	                what the kernel knows of it
//
// config.go has the settings, and httptransport.go makes a plain [http.Transport] of them.
package transport
