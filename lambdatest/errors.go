package lambdatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

var (
	// ErrStopped says that [Function.Stop] ended the environment.
	ErrStopped = errors.New("lambdatest: function stopped")

	// ErrPayloadTooLarge says that an event is above [MaxPayload].
	ErrPayloadTooLarge = errors.New("lambdatest: payload too large")

	// ErrInvalidPayload says that an event is not JSON.
	ErrInvalidPayload = errors.New("lambdatest: payload is not JSON")
)

// FunctionError is what the function reported: an error that the handler returned, a panic, or a failed
// initialization. The environment that reports an error returned by the handler goes on.
type FunctionError struct {
	Type       string          `json:"errorType"`    // the error's Go type, without the package
	Message    string          `json:"errorMessage"` // the error's text
	StackTrace json.RawMessage `json:"stackTrace"`   // of a panic: an array of {path, line, label}
}

func (e *FunctionError) Error() string {
	if e.Type == "" {
		return "lambdatest: function error: " + e.reason()
	}
	return "lambdatest: function error " + e.reason()
}

// reason is type and message, as far as the function gave them.
func (e *FunctionError) reason() string {
	switch {
	case e.Type == "" && e.Message == "":
		return "no reason given"
	case e.Type == "":
		return e.Message
	case e.Message == "":
		return e.Type
	}
	return e.Type + ": " + e.Message
}

// InitError is an initialization that failed and said so, by POST to /runtime/init/error.
type InitError struct {
	Err    *FunctionError // what it reported; Unwrap returns it
	Output string         // the end of what the process wrote
}

func (e *InitError) Error() string {
	return "lambdatest: init failed: " + e.Err.reason() + ending(e.Output)
}

// Unwrap returns what the function reported.
func (e *InitError) Unwrap() error { return e.Err }

// InitTimeoutError is an initialization that did not end within [Config.InitTimeout]. The process was killed.
type InitTimeoutError struct {
	After  time.Duration
	Polls  int    // that waited for an event by then
	Want   int    // Config.Concurrency
	Output string // the end of what the process wrote
}

func (e *InitTimeoutError) Error() string {
	return fmt.Sprintf("lambdatest: init timed out after %.2f seconds: %d of %d pollers asked for an event%s",
		e.After.Seconds(), e.Polls, e.Want, ending(e.Output))
}

// TimeoutError is an invocation that did not end within [Config.Timeout]. The process was killed, unless it
// handles several events at once ([Config.Concurrency]): then it goes on, and so does the handler.
type TimeoutError struct {
	RequestID string
	After     time.Duration
	Answered  bool   // the answer came in time, but no poll for the next event
	Output    string // the end of what the process wrote
}

func (e *TimeoutError) Error() string {
	what := "no answer"
	if e.Answered {
		what = "answered, but did not poll for the next event"
	}
	return fmt.Sprintf("lambdatest: %s: Task timed out after %.2f seconds: %s%s",
		e.RequestID, e.After.Seconds(), what, ending(e.Output))
}

// Phase is a part of the life of an environment: see the page "Understanding the Lambda execution environment
// lifecycle" of the AWS Lambda Developer Guide.
type Phase string

const (
	PhaseInit   Phase = "init"   // up to the first poll
	PhaseInvoke Phase = "invoke" // an event was delivered, and no poll followed
	PhaseIdle   Phase = "idle"   // every poller waited, frozen or not
)

// ExitError is a process that ended by itself, or was killed by somebody else, in any phase.
type ExitError struct {
	Phase     Phase
	RequestID string    // in PhaseInvoke: the invocation
	Code      int       // the exit code; -1 if a signal ended the process
	Signal    os.Signal // the signal that ended the process; nil if it exited
	Output    string    // the end of what the process wrote
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != nil {
		how = "signal: " + e.Signal.String()
	}
	when := "in init"
	switch e.Phase {
	case PhaseInvoke:
		when = "in invocation " + e.RequestID
	case PhaseIdle:
		when = "between invocations"
	}
	return fmt.Sprintf("lambdatest: process ended %s: %s%s", when, how, ending(e.Output))
}

// withOutput is an error that shows the end of the output of the process. It gets it when there is no more to come, before
// anybody else sees the error.
type withOutput interface {
	error
	setOutput(string)
}

func (e *InitError) setOutput(output string)        { e.Output = output }
func (e *InitTimeoutError) setOutput(output string) { e.Output = output }
func (e *TimeoutError) setOutput(output string)     { e.Output = output }
func (e *ExitError) setOutput(output string)        { e.Output = output }

// ending sets the end of a process's output apart from the message before it.
func ending(output string) string {
	output = strings.TrimSpace(output)
	if output == "" {
		return ""
	}
	return "; its output ended:\n" + output
}
