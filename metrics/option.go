package metrics

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/thawhttp/thaw/transport"
)

// Option is a setting of [EMF]. The order of options does not matter; giving the same one twice is an error.
type Option interface{ apply(*config) error }

type option struct {
	name string
	set  func(*config)
}

func (o option) apply(c *config) error {
	if slices.Contains(c.given, o.name) {
		return fmt.Errorf("metrics: %s was given twice: give it once", o.name)
	}
	c.given = append(c.given, o.name)
	o.set(c)
	return nil
}

// Dimension is a name and a value that every metric has, such as "Stage" and "production".
type Dimension struct{ Name, Value string }

type config struct {
	given      []string // names of options
	namespace  string
	dimensions []Dimension
	perOrigin  bool
	maxOrigins int // negative for no limit
}

// The defaults of the options.
const (
	DefaultNamespace  = "thaw"
	DefaultMaxOrigins = 10
)

// The limits of CloudWatch, the narrower one where the specification of the format and the API's reference
// (API_Dimension, API_PutMetricData) differ.
const (
	maxNamespace      = 255  // bytes
	maxDimensionName  = 250  // bytes
	maxDimensionValue = 1024 // bytes
	maxDimensions     = 30
)

// originDimension is the dimension that [WithOrigins] adds, and otherOrigins its value for the rest.
const (
	originDimension = "Origin"
	otherOrigins    = "other"
)

// WithNamespace sets the namespace of the metrics: up to 255 letters, digits, spaces and any of .-_/#: in ASCII. By default
// it is [DefaultNamespace] ("thaw").
func WithNamespace(name string) Option {
	return option{"WithNamespace", func(c *config) { c.namespace = name }}
}

// WithDimensions sets the dimensions of the metrics, at most 30. Their names have up to 250, their values up to 1,024
// printable characters of ASCII. By default there is one, FunctionName, with the value of the environment variable
// AWS_LAMBDA_FUNCTION_NAME, or none where that is not set. Without arguments there is none.
func WithDimensions(dimensions ...Dimension) Option {
	return option{"WithDimensions", func(c *config) { c.dimensions = slices.Clone(dimensions) }}
}

// WithOrigins adds the same metrics for each origin, in further lines that have the dimension Origin beside the others:
// "https://api.example.com:443". At most so many origins get metrics of their own for the life of the [Emitter]: those
// that are reached first, the busier first if they come in the same line. The rest is summed up as "other": so is an origin
// that no connection could be made to. Each origin is a set of metrics that CloudWatch bills. Zero means [DefaultMaxOrigins] (10), [transport.Disabled] no limit;
// any other negative value is an error. By default there are no metrics of origins.
func WithOrigins(most int) Option {
	return option{"WithOrigins", func(c *config) { c.perOrigin, c.maxOrigins = true, most }}
}

// configure runs all options and returns what they amount to, or everything that is wrong with them.
func configure(opts []Option) (config, error) {
	c := config{namespace: DefaultNamespace}
	if name := os.Getenv("AWS_LAMBDA_FUNCTION_NAME"); name != "" {
		c.dimensions = []Dimension{{"FunctionName", name}}
	}
	var errs []error
	for i, o := range opts {
		if o == nil {
			errs = append(errs, fmt.Errorf("metrics: option %d of EMF is nil: want a value made by one of the With functions", i))
			continue
		}
		errs = append(errs, o.apply(&c))
	}
	if !validNamespace(c.namespace) {
		errs = append(errs, fmt.Errorf("metrics: WithNamespace(%.40q): want 1 to %d letters, digits, spaces and .-_/#: that do not begin with a colon or AWS/",
			c.namespace, maxNamespace))
	}
	most := maxDimensions
	if c.perOrigin {
		most--
		if c.maxOrigins < transport.Disabled {
			errs = append(errs, fmt.Errorf("metrics: WithOrigins(%d): want a positive number, 0 for the default of %d, or transport.Disabled", c.maxOrigins, DefaultMaxOrigins))
		}
		c.maxOrigins = cmp.Or(c.maxOrigins, DefaultMaxOrigins)
	}
	if n := len(c.dimensions); n > most {
		errs = append(errs, fmt.Errorf("metrics: WithDimensions with %d dimensions: want at most %d", n, most))
	}
	for i, d := range c.dimensions {
		switch {
		case !validText(d.Name, maxDimensionName) || d.Name[0] == ':':
			errs = append(errs, fmt.Errorf("metrics: WithDimensions: dimension %d has the name %.40q: want 1 to %d printable ASCII characters that do not begin with a colon",
				i, d.Name, maxDimensionName))
		case c.taken(d.Name) || slices.ContainsFunc(c.dimensions[:i], func(b Dimension) bool { return b.Name == d.Name }):
			errs = append(errs, fmt.Errorf("metrics: WithDimensions: dimension %d has the name %q, which is taken: choose another", i, d.Name))
		}
		if !validText(d.Value, maxDimensionValue) {
			errs = append(errs, fmt.Errorf("metrics: WithDimensions: the value of dimension %d, %.40q, is invalid: want 1 to %d printable ASCII characters, not only spaces",
				i, d.Name, maxDimensionValue))
		}
	}
	return c, errors.Join(errs...)
}

// taken reports whether a member of the document's root has that name already.
func (c *config) taken(name string) bool {
	return name == metadata || name == originDimension && c.perOrigin ||
		slices.ContainsFunc(measures[:], func(m measure) bool { return m.name == name })
}

func validNamespace(s string) bool {
	if !validText(s, maxNamespace) || s[0] == ':' || strings.HasPrefix(s, "AWS/") {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune(" .-_/#:", r)
	}) < 0
}

// validText reports whether s is printable ASCII, of at most so many bytes, and not blank.
func validText(s string, most int) bool {
	return len(s) <= most && strings.TrimSpace(s) != "" &&
		strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
