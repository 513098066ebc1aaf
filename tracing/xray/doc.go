// Package xray makes a subsegment of AWS X-Ray of each exchange of a client: which connection it had and whether that was
// reused, what resolving, connecting and the TLS handshake took where they took place, how it ended.
//
//	api, err := client.New(client.WithTracer(xray.New()))
//
// It stands on the AWS X-Ray SDK for Go, and a program that uses both has to rename one of them:
//
//	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"
//
// Of the SDK it uses the segments, not xray.Client, which loses calls that time out, and whole traces when several
// requests wait for one HTTP/2 connection. With this tracer, xray.Client must not be put around the client as well.
//
// # Where the subsegment goes
//
// Into the segment or subsegment that the request's context carries: the SDK's BeginSegment, BeginSubsegment, Capture and
// Handler put it there. In a Lambda function no segment is needed, because Lambda makes it: the context of the handler
// carries the trace header, and the subsegment goes below the segment that it names. The request must have that context, or
// one derived from it: [net/http.NewRequestWithContext].
//
// Where the context carries neither, and where the trace is not sampled, nothing is recorded, logged or sent, whatever
// AWS_XRAY_CONTEXT_MISSING says.
//
// # What is in it
//
// The name is the host of the origin, with the port unless that is the default one; the namespace is "remote". The http
// block has the method, the URL without its query, the status, and the bytes read of the body as content_length. A nested
// subsegment each stands for "dns", "connect" and "tls", only where they took place, with the times at which they did.
//
// Annotations are indexed, so that a filter finds them: "annotation.conn_reused = false" every exchange that had to wait for
// a connection to be made.
//
//   - attempt: the number of the attempt at the request
//   - conn_reused, conn_idle_ms: if there was a connection
//   - pool_wait_ms: if there was one, or a wait for one
//   - conn_id, conn_age_ms, conn_protocol ("http/1.1" or "h2"): over the pool of this module
//
// X-Ray indexes 50 annotations of a trace. Metadata, which it does not index, has what is rare, in the namespace "thaw":
// failed (the phase), replays, closed_early.
//
// A status of 500 or more is marked as a fault, one from 400 on as an error, 429 as throttled too. A failure is a fault
// with the error as its cause, timeouts included; it is an error if the caller cancelled the request or leaked the body.
// The subsegment of a leaked body ends when that is garbage collected, which can be in a later invocation.
// Strings are cut off where X-Ray's limits are: 200 bytes of the name, 250 of the URL; 512 of an error's message, so
// that a document stays below 64 kB.
//
// # The trace header
//
// X-Amzn-Trace-Id is set on the request that is sent, which is a copy, to make what is called part of the trace. It
// replaces one that the caller has set. What is not sampled gets the header as well, so that nobody below decides
// otherwise. With AWS_XRAY_SDK_DISABLED=true, the header that came in goes out as it is, unless the caller has set one.
// Lineage and whatever else the header of a Lambda function has is passed on.
//
// # Sending
//
// The SDK sends a subsegment to the daemon, in one UDP datagram, when it and all above it that is not Lambda's
// have been closed. A subsegment that ends later than the segment above it was sent, because a body was read
// late, is sent alone. The SDK is set up by its own means: its Configure and ContextWithConfig, AWS_XRAY_DAEMON_ADDRESS (which
// makes the program panic at its start if it is malformed), AWS_XRAY_CONTEXT_MISSING, AWS_XRAY_SDK_DISABLED.
package xray
