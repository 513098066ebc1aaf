// Package lambdahandler wraps the handler of an AWS Lambda function, so that its client is looked after in each
// invocation:
//
//	var api = client.Default()
//
//	func main() {
//		lambdahandler.Init(api, 5*time.Second, "https://api.example.com")
//		lambda.Start(lambdahandler.New(api, handle))
//	}
//
// At the start of an invocation it has the pool look after its connections, beside the handler: [client.Client.Thaw]. The
// handler does not wait for that; a request waits at most for its own connection to be verified. The context of the
// handler ends a little before Lambda's deadline, so that requests fail while there is time to answer. At the end it
// writes the line of metrics, if there is an emitter, and warns of response bodies that were left open, which keep
// their connections from others.
//
// A warm-up event, which a schedule sends to keep environments and their connections alive, is answered without the handler:
// [WithWarmup]. [Init] makes connections in the init phase, when the CPU is not throttled. [WithShutdown] gives requests
// a chance when the environment is shut down.
//
// # Snapshots
//
// Where Lambda initialises environments from a snapshot (SnapStart), connections that were made before the snapshot are
// retired ahead of the first invocation, because a restored environment shares them with all others, and Init makes none.
//
// # Several invocations at once
//
// An environment of Lambda Managed Instances handles several events at once in one process and is never frozen. Nothing
// here is kept for "the" invocation; deadlines, warnings and lines of metrics are of each one.
package lambdahandler
