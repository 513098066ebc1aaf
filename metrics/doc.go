// Package metrics writes what the pool of connections did to CloudWatch, as lines in the Embedded Metric Format. On
// Lambda a line on the standard output is all it takes: CloudWatch Logs makes metrics of it.
//
//	m, err := metrics.EMF(os.Stdout)
//	...
//	api, err := client.New(client.WithTracer(m.Tracer())) // which counts retries
//	...
//	err = m.Emit(api) // at the end of an invocation
//
// A line tells what happened since the one before: a retry, a handshake, a wait is in exactly one line, however many
// invocations run at once in a process. If nothing happened there is none.
//
// # The metrics
//
// All are in one namespace and have the same dimensions: by default the namespace "thaw" and the name of the function.
// Those that count are meant for the statistic Sum: the ratio of reuse of a whole fleet is SUM(Reused)/SUM(Requests).
//
//	Requests    Count         round trips that were given a connection
//	Reused      Count         of these, the ones whose connection had been used before
//	Dials       Count         connections begun to be made
//	Handshakes  Count         TLS handshakes completed
//	Resumed     Count         of these, resumed from an earlier session
//	Waits       Count         requests that had to wait for a connection
//	WaitTime    Milliseconds  spent waiting by all of them together
//	Stale       Count         connections found dead when they were to be used
//	Verified    Count         connections proven alive
//	Replayed    Count         requests sent again because their connection was dead
//	Retries     Count         attempts beside the first one; only if [Emitter.Tracer] is in use
//	Leaked      Count         response bodies that were garbage collected without Close
//	Open        Count         connections open when the line is written
//	Idle        Count         of these, the ones that are idle
//
// CloudWatch bills each metric for each combination of dimensions that has ever been used: see [WithOrigins].
//
// # The format
//
// The specification:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
// A line holds one value for each metric, and so one combination of dimensions; with [WithOrigins] an invocation has one
// more line for each origin. They are written with one call of Write.
//
// No line has anything of a request but, if asked for, the origin: scheme, host and port.
package metrics
