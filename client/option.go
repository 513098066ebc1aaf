package client

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/tracing"
	"github.com/thawhttp/thaw/transport"
)

// Option is a setting of [New]. The order of options does not matter; giving the same one twice is an error, but for
// [WithTracer].
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// config collects what the options say. The set fields tell an option that was given from a zero value.
type config struct {
	transport    transport.Config
	setTransport bool
	retry        retry.Policy
	setRetry     bool
	timeout      time.Duration
	setTimeout   bool
	base         http.RoundTripper
	setBase      bool
	logger       *slog.Logger
	setLogger    bool
	tracers      []tracing.Tracer
	traced       layers // nil without tracers
}

// once records that an option was given, and is the error of giving it again.
func once(set *bool, name string) error {
	if *set {
		return fmt.Errorf("client: %s was given twice: give it once", name)
	}
	*set = true
	return nil
}

// WithTransport sets the pool's configuration. By default every field of it is at its default.
func WithTransport(cfg transport.Config) Option {
	return option(func(c *config) error {
		c.transport = cfg
		return once(&c.setTransport, "WithTransport")
	})
}

// WithRetry sets which requests are sent again, and when. By default every field of the policy is at its default: up to
// three attempts, and only of what may be processed twice or was not processed. A MaxAttempts of 1 turns retries off;
// if nothing else is set that has to do with attempts, errors are then not wrapped in a *[retry.Error].
func WithRetry(p retry.Policy) Option {
	return option(func(c *config) error {
		c.retry = p
		return errors.Join(once(&c.setRetry, "WithRetry"), p.Validate())
	})
}

// WithTimeout limits a whole request: connecting, retries, redirects and reading the body, as the Timeout of
// [http.Client] does. By default, and with zero, it is [DefaultTimeout] (30s). [transport.Disabled] turns it off,
// so that the request's context alone decides; any other negative value is an error.
func WithTimeout(d time.Duration) Option {
	return option(func(c *config) error {
		c.timeout = d
		err := once(&c.setTimeout, "WithTimeout")
		if d < transport.Disabled {
			err = errors.Join(err, fmt.Errorf("client: WithTimeout(%v): want a positive duration, 0 for the default of %v, or transport.Disabled", d, DefaultTimeout))
		}
		return err
	})
}

// WithBase puts rt in place of the pool: httpmock, a recorder, or any other [http.RoundTripper]. It gets the retries too,
// unless [WithRetry] turns them off. It excludes [WithTransport]. By default the base is a pool of the client's own. A
// [transport.Transport] as rt is the pool of this client as well: Warm, Thaw, Reset, Stats and Close are about it.
func WithBase(rt http.RoundTripper) Option {
	return option(func(c *config) error {
		c.base = rt
		err := once(&c.setBase, "WithBase")
		if rt == nil {
			err = errors.Join(err, errors.New("client: WithBase(nil): want an http.RoundTripper; leave the option out for the pool"))
		}
		return err
	})
}

// WithTracer has t told of every exchange: of each attempt at a request, and so of each redirect. It may be given more
// than once; the tracers then start in their order and end in the reverse one. By default nothing is traced, and
// tracing costs nothing.
func WithTracer(t tracing.Tracer) Option {
	return option(func(c *config) error {
		if t == nil {
			return errors.New("client: WithTracer(nil): want a tracing.Tracer; leave the option out for none")
		}
		c.tracers, c.traced = append(c.tracers, t), tracingLayers{}
		return nil
	})
}

// WithLogger sets where the pool logs, unless [WithTransport] names a logger of its own. By default leaked
// response bodies are logged with [slog.Default], and nothing else is. It has no effect together with [WithBase].
func WithLogger(l *slog.Logger) Option {
	return option(func(c *config) error {
		c.logger = l
		err := once(&c.setLogger, "WithLogger")
		if l == nil {
			err = errors.Join(err, errors.New("client: WithLogger(nil): want a *slog.Logger; leave the option out for the default"))
		}
		return err
	})
}

// apply runs all options and returns what they amount to, or everything that is wrong with them.
func apply(opts []Option) (config, error) {
	var c config
	var errs []error
	for i, o := range opts {
		if o == nil {
			errs = append(errs, fmt.Errorf("client: option %d of New is nil: want a value made by one of the With functions", i))
			continue
		}
		errs = append(errs, o.apply(&c))
	}
	if c.setBase && c.setTransport {
		errs = append(errs, errors.New("client: WithBase and WithTransport contradict each other: the base takes the pool's place"))
	}
	if c.setTransport {
		errs = append(errs, c.transport.Validate())
	}
	c.transport.Logger = cmp.Or(c.transport.Logger, c.logger)
	switch c.timeout {
	case 0:
		c.timeout = DefaultTimeout
	case transport.Disabled:
		c.timeout = 0 // what http.Client calls no timeout
	}
	return c, errors.Join(errs...)
}
