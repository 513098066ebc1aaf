// Package otel makes OpenTelemetry spans and metrics of the exchanges of a client and of its pool.
//
//	pool, err := transport.New(transport.Config{})
//	...
//	tracer, err := otel.New(otel.WithPool(pool))
//	...
//	api, err := client.New(client.WithBase(pool), client.WithTracer(tracer))
//
// It stands on the OpenTelemetry API, and follows the semantic conventions for HTTP clients, version 1.43.0. The SDK, with
// its exporters and samplers, is the program's: [New] takes the global providers, unless it is given others. Without an SDK
// nothing is recorded. With this tracer, otelhttp.NewTransport must not be put around the client as well.
//
// # Spans
//
// Each exchange is a span of the kind client, below the span in the request's context. Its name is the method, or HTTP if that
// is not known: what OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS lists, or by default the methods of RFC 9110, PATCH and
// QUERY. It has these attributes:
//
//   - http.request.method, server.address, server.port, url.full, when it starts, for samplers to see.
//     The URL has no user information, no query and no fragment.
//   - http.request.method_original, if the method is not known; http.request.resend_count, from the second attempt on.
//     A redirect is a request of its own, and not counted.
//   - http.response.status_code and network.protocol.version, if there was a response
//   - error.type, if the status is 400 or more, or if the exchange failed. It is the status; or "timeout"; "canceled" by the
//     caller; "leaked", if the body was garbage collected without Close; or else the phase that failed: "dns", "connect",
//     "tls", "wait", "write", "header" or "body"; or "_OTHER" where the phase is not known.
//   - network.peer.address and network.peer.port, if there was a connection: the proxy's, where there is one
//   - tls.protocol.version and tls.resumed, if the exchange waited for a handshake of its own
//   - thaw.conn.reused, thaw.conn.idle_ms and thaw.pool.wait_ms, if there was a connection; thaw.pool.wait_ms also if one was
//     waited for in vain. Over the pool of this module, thaw.conn.id, thaw.conn.age_ms and thaw.conn.protocol ("http/1.1"
//     or "h2") as well.
//   - thaw.failed, the phase that failed; thaw.replays, how often the pool sent the request again; thaw.closed_early, if not
//     all of the body was read. Each only where there is something to say.
//
// What has an error.type has the status Error, with the error as its description if there was one. What the convention marks
// as opt-in is left out: network.transport, url.scheme, the sizes of bodies, headers.
//
// "dns", "connect" and "tls" are spans below it, with the times at which they took place, and only where they did: what is
// reused costs nothing, and a trace shows how long a cold connection took, which events, being points in time, would not.
//
// A span ends when the body has been read or closed, or has failed. If the body was leaked, it ended when the response was
// there, for the time of a garbage collection says nothing about the request.
//
// # Propagation
//
// The propagator, the global one by default, writes its headers into the request that is sent, which is a copy. What is not
// sampled is propagated as well. For X-Ray's header, go.opentelemetry.io/contrib/propagators/aws/xray is one.
//
// # Metrics
//
// Of the exchanges: http.client.request.duration and http.client.active_requests, by http.request.method, server.address
// and server.port; the former also by status, error.type and network.protocol.version. In metrics, an exchange that got no
// connection to a server that none was ever made to has the server.address "_OTHER", so that whoever chooses the hosts that are
// called, by a redirect for one, does not choose how many series there are; and it is not counted as active.
//
// Of the pool that [WithPool] names, by server.address and server.port: http.client.open_connections, by
// http.connection.state ("active" or "idle"); http.client.connection.duration, when a connection has ended, by
// network.protocol.version; and the pool's own statistics, read when metrics are collected:
//
//   - counters: thaw.pool.requests, thaw.pool.reuses, thaw.pool.dials, thaw.pool.dial_errors, thaw.pool.handshakes,
//     thaw.pool.resumptions, thaw.pool.waits, thaw.pool.wait_time (in seconds), thaw.pool.verifications,
//     thaw.pool.verification_failures, thaw.pool.replays, thaw.pool.leaks, and thaw.pool.closes by
//     thaw.pool.close_reason: "idle_timeout", "lifetime", "stale", "unverified", "server", "error", "excess" or "reset"
//   - as of now: thaw.pool.dialing, thaw.pool.waiting, thaw.pool.streams
//
// What they mean is said at [github.com/thawhttp/thaw/transport.Origin]. What was counted of servers that were never reached is summed
// up under the server.address "_OTHER". Of those that were reached and that it has no connection to any more, a pool remembers
// the 256 that were used last; the counters of another begin anew when it comes back.
package otel
