// Package tracing tells what one HTTP exchange did: which connection it had and whether that was reused, how long it
// waited for one, what resolving, connecting and the TLS handshake took where they took place, how it ended.
//
// A [Tracer] is told. [Log] is one, which writes a line an exchange; the packages tracing/xray and tracing/otel have
// others, for AWS X-Ray and for OpenTelemetry. The client takes them:
//
//	api, err := client.New(client.WithTracer(tracing.Log(nil)))
//
// Without the client, [New] puts tracers in front of any [http.RoundTripper]. Over the pool of this module, an [Exchange]
// says everything of its connection; over an [http.Transport], what [net/http/httptrace] knows of it; over a mock, nothing.
//
// # One exchange an attempt
//
// An exchange is one attempt at a request. A request that is retried has several, numbered by [CountAttempts]; a
// redirect is a request of its own. What the pool sends again on another connection, because the first one was dead, is
// the same attempt: [Exchange.Replays] counts that, and Conn and Timing are those of the last connection.
//
// An exchange ends exactly once: when the response's body has been read to its end, was closed, or failed; with the
// response if that has no body; with the error if there is no response; with "101 Switching Protocols" at the switch,
// for what follows is no HTTP. A body that is garbage collected without having been closed ends it too, with [ErrLeaked].
//
// # No secrets
//
// An [Exchange] has no header, no query string, no user information and no part of a body; nor have the errors of the
// pool. The path of the URL is in it: keep secrets out of paths. What another RoundTripper than the pool writes
// into its errors is its own doing.
package tracing
