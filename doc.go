// Package thaw is the landing page of a pooled HTTP client for AWS Lambda functions that call other services. Its
// connections keep working across the freeze and thaw that happen between invocations.
//
// # How this differs from http.DefaultClient
//
// The client is a [net/http.Client] with another transport underneath, so everything that is made for an *http.Client
// works with it. What differs:
//
//	                              http.DefaultClient            client.Default
//
//	connection closed while       a POST that cannot be         found by a look at the socket
//	frozen (FIN, RST)             replayed fails: EOF           before it is used; none fails
//	flow forgotten by a NAT,      a POST fails: reset; or       idle for 10s (HTTP/2): proven alive
//	or dropped in silence         hangs until a timeout         first; for 2m: a fresh connection
//	clock of the idle limit       wall                          wall and monotonic, the larger
//	idle limit                    90s                           5m, and what Keep-Alive says
//	lifetime of a connection      no limit                      15m, less up to 10 %
//	connections to one host       no limit, 2 kept idle         64, all kept
//	burst to an HTTP/2 host       a dial for each request       one dial for all its streams
//	TLS sessions                  not resumed                   resumed
//	body closed early             connection lost (HTTP/1.1)    drained within 64 KiB and 50ms
//	body never closed             connection lost for good      found, counted and logged
//	503 to a GET, connection      the caller's                  up to two more attempts, within
//	broken under a PUT                                          the deadline and a budget
//	timeout of a request          none                          30s
//	wait for response headers     no limit                      30s
//	dial, TLS handshake           30s, 10s                      5s, 5s
//	statistics                    none                          Stats, by origin
//
// Everything else is meant to be as in net/http: redirects, cookies, proxies from the environment, HTTP/1.1 and
// HTTP/2, compression, trailers, upgrades, httptrace hooks. A POST that the server may have acted on is never sent again.
//
// # Where to look
//
//   - [github.com/thawhttp/thaw/client] is what a program imports: client.Default in the place of http.DefaultClient,
//     client.New with options.
//   - [github.com/thawhttp/thaw/transport] is the pool, a [net/http.RoundTripper], with its configuration and its
//     statistics.
//   - [github.com/thawhttp/thaw/retry] decides what is sent again, and when.
//   - [github.com/thawhttp/thaw/tracing] tells what each exchange did: to the log, or to a tracer of one's own.
//   - [github.com/thawhttp/thaw/metrics] writes the pool's statistics to CloudWatch.
//   - [github.com/thawhttp/thaw/lambdahandler] wraps the handler of a Lambda function: thaw, deadline, warm-up events, metrics.
//   - [github.com/thawhttp/thaw/lambdatest] runs a Lambda function on this machine and freezes it, for tests.
//   - The command cmd/freezelab shows the difference: it freezes a function, breaks its connections and counts what
//     fails, with Go's client and with this one.
//
// The folder docs explains how the pool works, every setting, the facts about Lambda behind them, and how to migrate.
package thaw
