package lambdatest

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The defaults of [Config].
const (
	DefaultFunctionName = "function"
	DefaultMemoryMB     = 128
	DefaultTimeout      = 3 * time.Second
	DefaultInitTimeout  = 10 * time.Second
	DefaultConcurrency  = 1
)

// Config says what [Start] runs and as which function. Only Path is required. For every number zero means the
// default that the field's comment names, and a negative value is an error.
type Config struct {
	// Path is the bootstrap binary, relative to the working directory of the caller or absolute. It is not
	// looked up in PATH.
	Path string

	// Args are the arguments of the binary, without its name. Lambda gives none.
	Args []string

	// Dir is the working directory of the process, and its LAMBDA_TASK_ROOT. By default the process runs in
	// that of the caller, and LAMBDA_TASK_ROOT is the folder of Path.
	Dir string

	// Env holds "KEY=value" pairs that are added to the environment of the process and override it. That
	// environment is Lambda's, with the caller's PATH, HOME, TMPDIR, GOCOVERDIR and GORACE; nothing else of the
	// caller's gets in. The AWS credentials in it are placeholders that no service accepts.
	// AWS_LAMBDA_RUNTIME_API and AWS_LAMBDA_MAX_CONCURRENCY are not for the taking.
	Env []string

	// FunctionName is the name of the function. The default is DefaultFunctionName ("function").
	FunctionName string

	// MemoryMB is what AWS_LAMBDA_FUNCTION_MEMORY_SIZE says, in MB; it limits nothing.
	// Zero means DefaultMemoryMB (128).
	MemoryMB int

	// Timeout is the time one invocation has, from its delivery to the poll for the next event, or with a
	// Concurrency above 1 to its answer. It sets the deadline that the handler's context has.
	// Zero means DefaultTimeout (3s), which is Lambda's.
	Timeout time.Duration

	// InitTimeout is the time the process has to poll for its first event.
	// Zero means DefaultInitTimeout (10s), which is Lambda's.
	InitTimeout time.Duration

	// Concurrency is the number of events that the process handles at once. Above 1 it is given to the process in
	// AWS_LAMBDA_MAX_CONCURRENCY, and Start waits for that many polls. Zero means DefaultConcurrency (1).
	Concurrency int

	// TraceHeader gives the X-Ray trace header of each invocation. It is called once for each event sent, by the
	// goroutine that sends it; an empty string leaves the header out.
	// By default every invocation has a trace of its own, sampled.
	TraceHeader func() string

	// Stdout and Stderr get what the process writes, in one goroutine each; if they are equal, in one for both.
	// A Write that blocks holds up the process, and Stop. By default the output is dropped. The end of it
	// is kept in any case, and is part of the errors of an environment that failed.
	Stdout, Stderr io.Writer
}

// The variables that the emulation itself depends on.
const (
	apiVariable         = "AWS_LAMBDA_RUNTIME_API"
	concurrencyVariable = "AWS_LAMBDA_MAX_CONCURRENCY"
)

// reserved are not for Config.Env to set.
var reserved = []string{apiVariable, concurrencyVariable}

// withDefaults returns the configuration that is in force, or every fault of c at once.
func (c Config) withDefaults() (Config, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("lambdatest: "+format, args...))
	}

	if c.Path == "" {
		fault("Config.Path is empty: it names the bootstrap binary")
	} else if abs, err := filepath.Abs(c.Path); err != nil {
		fault("Config.Path: %w", err)
	} else {
		c.Path = abs
	}
	for _, pair := range c.Env {
		key, _, ok := strings.Cut(pair, "=")
		switch {
		case !ok || key == "":
			// The pair may be a secret with the key forgotten, so it is not repeated here.
			fault("Config.Env has an entry that is not of the form KEY=value")
		case slices.Contains(reserved, key):
			fault("Config.Env sets %s, which the emulation sets itself", key)
		}
	}
	negative := func(name string, value, byDefault any) {
		fault("Config.%s is %v: want a positive value, or 0 for %v", name, value, byDefault)
	}
	if c.MemoryMB < 0 {
		negative("MemoryMB", c.MemoryMB, DefaultMemoryMB)
	}
	if c.Timeout < 0 {
		negative("Timeout", c.Timeout, DefaultTimeout)
	}
	if c.InitTimeout < 0 {
		negative("InitTimeout", c.InitTimeout, DefaultInitTimeout)
	}
	if c.Concurrency < 0 {
		negative("Concurrency", c.Concurrency, DefaultConcurrency)
	}
	if err := errors.Join(faults...); err != nil {
		return Config{}, err
	}

	c.Args = slices.Clone(c.Args)
	c.Env = slices.Clone(c.Env)
	if c.FunctionName == "" {
		c.FunctionName = DefaultFunctionName
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = DefaultMemoryMB
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.InitTimeout == 0 {
		c.InitTimeout = DefaultInitTimeout
	}
	if c.Concurrency == 0 {
		c.Concurrency = DefaultConcurrency
	}
	if c.TraceHeader == nil {
		c.TraceHeader = freshTrace
	}
	return c, nil
}
