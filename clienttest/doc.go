// Package clienttest is for tests of code that calls others through thaw: mocks in the place of the downstream, and a real
// downstream that misbehaves on demand.
//
// [New] makes a client with the whole stack over a mock of its own. [Swap] puts a mock under a client that exists. With
// either, retries take no time, and a request that the test forgot to register fails it. The mock is the MockTransport of
// [github.com/jarcoal/httpmock].
//
// A mock has no connections. What happens to those is tested with [Downstream]: a server on loopback, with TLS and
// HTTP/2, that closes, resets and forgets idle connections, refuses, resets and ignores new ones, sends GOAWAY, refuses
// streams, sets limits, stalls, truncates, delays and redirects, and that knows which connection carried which request.
//
// # Traps of httpmock
//
//   - httpmock.Activate swaps [http.DefaultTransport], which clients of thaw do not use: requests would reach the
//     network. It is global, so parallel tests meet. [New] and [Swap] are neither.
//   - httpmock.ActivateNonDefault replaces the whole Transport of a client, the retries and the tracing included: a test
//     then sees one request where there are three. Swap replaces only the downstream. A client that ActivateNonDefault
//     was called for is one that Swap refuses.
//   - An unregistered request looks like a network error, which is retried. Here it fails the test, and its error says
//     that another attempt would be of no use.
//   - So does a responder that panics, and it is dealt with in the same way.
//   - No hooks of net/http/httptrace are called: the Conn and the Timing of a tracer's exchange are zero. What depends on
//     them needs a [Downstream].
//   - A responder runs in a goroutine of its own. Calling t.Fatal there ends only that: use t.Error, and return an error.
//     One that waits for something else than its request's context is left behind when that ends.
//   - A response made by hand is the same one at each call, so its body is empty the second time, a retry for example.
//     The responders of httpmock make a new body each time; make one with httpmock.NewRespBodyFromString otherwise.
//   - The order of the query matters when a URL is registered with one: use RegisterResponderWithQuery.
package clienttest
