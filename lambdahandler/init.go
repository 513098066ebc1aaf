package lambdahandler

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/legible"
)

// Init makes connections to the origins of urls in the init phase of a function, which lasts up to 10 s and has its CPU
// unthrottled: resolving, dialling and the TLS handshake cost the first invocation nothing then. Call it from main, ahead
// of lambda.Start. A URL named k times gets k connections on HTTP/1.1.
//
// It returns after limit at the latest; what it has begun goes on then. A limit that is not positive is an error. An
// origin that cannot be reached fails nothing: Init logs a warning with [slog.Default] and returns the joined errors,
// for those who want to know. The first request to it tries anew.
//
// In a function that is initialised from a snapshot (SnapStart) it does nothing, because connections do not survive one.
func Init(c *client.Client, limit time.Duration, urls ...string) error {
	if c == nil {
		return errors.New("lambdahandler: Init(nil): want a client, client.Default() for example")
	}
	if limit <= 0 {
		return errors.New("lambdahandler: Init with a limit of " + limit.String() + ": want a positive one, below the 10 s of the init phase")
	}
	if snapshotted() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := c.Warm(ctx, urls...)
	if err != nil {
		slog.Warn("init: some origins are not reachable yet", "error", legible.Error(err))
	}
	return err
}

// snapshotted reports whether this environment is, or will be, one of many that are restored from one snapshot
// (AWS Lambda Developer Guide, "Working with Lambda environment variables").
func snapshotted() bool { return os.Getenv("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start" }
