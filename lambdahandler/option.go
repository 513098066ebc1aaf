package lambdahandler

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/thawhttp/thaw/metrics"
)

// Disabled turns a duration off. Zero always means the documented default.
const Disabled = -1

// The defaults of the options.
const (
	DefaultDeadlineMargin = 100 * time.Millisecond
	DefaultShutdownGrace  = 400 * time.Millisecond
)

// Option is a setting of [New]. The order of options does not matter; giving the same one twice is an error, but for
// [WithWarmup].
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// config collects what the options say. The set fields tell an option that was given from a zero value.
type config struct {
	margin      time.Duration
	setMargin   bool
	warmups     []warmup
	hold        time.Duration
	setHold     bool
	metrics     *metrics.Emitter
	setMetrics  bool
	logger      *slog.Logger
	setLogger   bool
	grace       time.Duration
	setShutdown bool
}

// once records that an option was given, and is the error of giving it again.
func once(set *bool, name string) error {
	if *set {
		return fmt.Errorf("lambdahandler: %s was given twice: give it once", name)
	}
	*set = true
	return nil
}

// duration returns the value in force of d, or an error.
func duration(name string, d, def time.Duration) (time.Duration, error) {
	switch {
	case d < Disabled:
		return 0, fmt.Errorf("lambdahandler: %s(%v): want a positive duration, 0 for the default of %v, or Disabled", name, d, def)
	case d == Disabled:
		return 0, nil
	case d == 0:
		return def, nil
	default:
		return d, nil
	}
}

// WithDeadlineMargin sets how long before Lambda's deadline the context of the handler ends, so that a request fails
// while there is time to say so. It takes at most half of the time that an invocation has left.
// By default, and with zero, it is [DefaultDeadlineMargin] (100ms). [Disabled] leaves the deadline as it is; any other
// negative value is an error.
func WithDeadlineMargin(d time.Duration) Option {
	return option(func(c *config) (err error) {
		c.margin, err = duration("WithDeadlineMargin", d, DefaultDeadlineMargin)
		return errors.Join(once(&c.setMargin, "WithDeadlineMargin"), err)
	})
}

// WithWarmup answers the events that is says are warm-ups, without running the handler: what died is dropped, and the
// connections to urls are made that are not there; a URL named k times gets k on HTTP/1.1. Without urls every origin that
// there was a connection to at the end of the last invocation gets one. [IsWarmup] and [IsServerlessPluginWarmup] are ready-made. The option may be given several
// times, and the first that matches an event counts. By default every event is the handler's.
//
// is is called with the payload of each event. It must not change it, or panic. A warm-up succeeds even if a
// downstream cannot be reached; that is logged.
func WithWarmup(is func(payload []byte) bool, urls ...string) Option {
	return option(func(c *config) error {
		if is == nil {
			return errors.New("lambdahandler: WithWarmup(nil): want a function that recognises the event, such as IsWarmup")
		}
		c.warmups = append(c.warmups, warmup{is, urls})
		return nil
	})
}

// WithWarmupHold has a warm-up keep its environment busy for d, so that events sent at the same time reach other
// environments: with as many as there are to be kept, and a hold that is longer than they take to be dispatched, 75ms
// for example, each gets one. By default, and with zero or [Disabled], it is not held; any other negative value is an error.
func WithWarmupHold(d time.Duration) Option {
	return option(func(c *config) (err error) {
		c.hold, err = duration("WithWarmupHold", d, 0)
		return errors.Join(once(&c.setHold, "WithWarmupHold"), err)
	})
}

// WithMetrics has m write its line at the end of each invocation. By default none is written.
func WithMetrics(m *metrics.Emitter) Option {
	return option(func(c *config) error {
		c.metrics = m
		err := once(&c.setMetrics, "WithMetrics")
		if m == nil {
			err = errors.Join(err, errors.New("lambdahandler: WithMetrics(nil): want what metrics.EMF returns; leave the option out for none"))
		}
		return err
	})
}

// WithLogger sets where warnings go. By default it is [slog.Default], as it is when there is something to warn of.
func WithLogger(l *slog.Logger) Option {
	return option(func(c *config) error {
		c.logger = l
		err := once(&c.setLogger, "WithLogger")
		if l == nil {
			err = errors.Join(err, errors.New("lambdahandler: WithLogger(nil): want a *slog.Logger; leave the option out for the default"))
		}
		return err
	})
}

// WithShutdown has the client closed when Lambda shuts the environment down: invocations under way, and with them
// their requests, have grace to end, then the client is closed: all connections, but of transport.Shared, which is not the
// client's own, only the idle ones. By default, and with zero, grace is
// [DefaultShutdownGrace] (400ms), because Lambda kills the process 500 ms after its SIGTERM. [Disabled] closes at once;
// any other negative value is an error.
//
// Lambda sends SIGTERM only to a process that has registered as an extension, which this option has the runtime do (see
// lambda.WithEnableSIGTERM). By default nothing is registered, and the process is killed without notice.
func WithShutdown(grace time.Duration) Option {
	return option(func(c *config) (err error) {
		c.grace, err = duration("WithShutdown", grace, DefaultShutdownGrace)
		return errors.Join(once(&c.setShutdown, "WithShutdown"), err)
	})
}

// apply runs all options and returns what they amount to, or everything that is wrong with them.
func apply(opts []Option) (config, error) {
	var c config
	var errs []error
	for i, o := range opts {
		if o == nil {
			errs = append(errs, fmt.Errorf("lambdahandler: option %d of New is nil: want a value made by one of the With functions", i))
			continue
		}
		errs = append(errs, o.apply(&c))
	}
	if !c.setMargin {
		c.margin = DefaultDeadlineMargin
	}
	return c, errors.Join(errs...)
}

// log returns where warnings go.
func (c *config) log() *slog.Logger {
	if c.logger != nil {
		return c.logger
	}
	return slog.Default()
}
