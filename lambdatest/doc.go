// Package lambdatest runs the bootstrap of an AWS Lambda function on this machine and freezes it between
// invocations, as Lambda does.
//
// [Start] runs any program that calls lambda.Start of github.com/aws/aws-lambda-go, as a process of its own,
// against an emulation of the Lambda Runtime API on loopback. The process sees the environment variables, the
// headers and the limits that it would see in Lambda; [Function.Invoke] hands it an event and returns its answer.
// [Function.Freeze] stops the process with SIGSTOP once it has asked for its next event, and [Function.Thaw] lets
// it go on with SIGCONT. Sockets, timers and goroutines of the function are thus held up as they are in Lambda,
// while its peers go on: they time out, close and forget connections.
//
// Five minutes need not pass for that: [Function.AdvanceClock] moves the clocks of a frozen process on Linux.
//
// [Function.Send] leaves an event waiting, so that a thawed function finds it as one does that an event woke. The examples
// show both.
//
// A [Function] is one execution environment. What would make Lambda discard the environment ends it for good: a
// timeout, a crash, a panic in the handler. The errors say which: [InitError], [InitTimeoutError], [ExitError],
// [TimeoutError]. Lambda would start another environment for the next event; a test calls Start again.
//
// A Concurrency above 1 emulates an environment of Lambda Managed Instances, which polls for several events
// at once and outlives the timeout of one invocation.
//
// # What is not emulated
//
// The CPU share that comes with the memory size, memory limits, the file system, event sources, retries, the Telemetry
// API, external extensions, extensions that subscribe to INVOKE, and SnapStart. SIGSTOP stops the processes and leaves
// the kernel at work: it goes on acknowledging what peers send, and the monotonic clock goes on. How Lambda freezes
// is not documented.
//
// # Platforms
//
// Freeze needs Linux, with /proc, or macOS, and elsewhere fails with an error that wraps [errors.ErrUnsupported]. On
// Linux the kernel kills the function when the process that started it dies, so that it does not survive a test
// that was killed. On Windows there is no SIGTERM.
//
// Children of the function are frozen and ended with it as long as they stay in its process group. Those that left it,
// as daemons do, are not frozen. On Linux they are ended all the same, found by the AWS_LAMBDA_RUNTIME_API that they
// inherited; on macOS, and on Windows all children, they are not.
//
// The contract is that of the pages "Using the Lambda runtime API for custom runtimes", "Using the Lambda
// Extensions API to create extensions", "Understanding the Lambda execution environment lifecycle" and "Working with
// Lambda environment variables" of the AWS Lambda Developer Guide; error types that these pages leave open are those of
// the AWS Lambda Runtime Interface Emulator.
package lambdatest
