package retry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Disabled turns a limit off. Zero always means the documented default.
const Disabled = -1

// The defaults of [Policy].
const (
	DefaultMaxAttempts = 3
	DefaultMinBackoff  = 50 * time.Millisecond
	DefaultMaxBackoff  = 2 * time.Second
	DefaultBudget      = 100
)

// Policy says what is sent again, how often and when. The zero value is ready to use.
//
// One rule holds for every number: zero means the default that the field's comment names, [Disabled] turns the limit
// off, and any other negative value is an error of [New].
type Policy struct {
	// MaxAttempts limits how often a request is sent, the first time included. What the pool replays on its own because
	// a connection was dead is not counted.
	// Zero means DefaultMaxAttempts (3). Disabled means 1: nothing is sent again.
	MaxAttempts int

	// MinBackoff is the shortest wait before another attempt. Before attempt n+1 it is drawn at random between MinBackoff
	// and MinBackoff times 2 to the n, at most MaxBackoff, so that clients that failed together do not return together.
	// Zero means DefaultMinBackoff (50ms). Disabled means not to wait, but for Retry-After.
	MinBackoff time.Duration

	// MaxBackoff is the longest wait before another attempt. A Retry-After header of the answer makes a wait longer, but not
	// longer than this.
	// Zero means DefaultMaxBackoff (2s). Disabled means no limit but the request's deadline.
	MaxBackoff time.Duration

	// AttemptTimeout ends an attempt whose response header has not come in time, not the request: it can be sent again
	// if it is idempotent, and its body is not cut once the header has come.
	// Zero and Disabled mean no limit but the request's own.
	AttemptTimeout time.Duration

	// Budget is the size of the bucket of tokens that each origin has for retries. A retry takes 5 of them, or 10 after
	// a timeout; an answer that is neither 429 nor of the 500s gives 1 back. Without enough of them nothing is sent
	// again, so that a downstream which is down for good sees few requests more than there are.
	// Zero means DefaultBudget (100). Disabled means no limit.
	Budget int

	// Decide says whether another attempt is to be made. It is asked only if one could be: attempts are left, the
	// context has not ended, and the body can be sent again. See Attempt for what it may do.
	// It is called by many goroutines at once. Nil means DefaultDecide.
	Decide func(Attempt) Decision

	// IdempotencyKeyHosts names the hosts whose POST and PATCH requests get an Idempotency-Key header if they have no key: a
	// random UUID, the same for every attempt, so that they may be sent again. Name only hosts that are known to
	// remember such keys; Stripe, for example, is. An entry is a host, for all its ports, or host:port.
	// Nil means none.
	IdempotencyKeyHosts []string
}

// Attempt is what came of one attempt. Exactly one of Response and Err is set.
//
// A Decide function may look at the header and the status, but must leave the body alone: it is the caller's if there
// is no other attempt.
type Attempt struct {
	Request  *http.Request  // as the caller sent it, and with the key that IdempotencyKeyHosts gave it
	Response *http.Response // or nil
	Err      error
	Number   int // of this attempt; the first is 1
}

// Decision is whether there is to be another attempt.
type Decision int

// The decisions.
const (
	Stop  Decision = iota // return what this attempt brought
	Retry                 // make another one, if the deadline and the budget allow
)

// Validate returns every fault of p at once, joined with [errors.Join], or nil: what [New] would refuse.
func (p Policy) Validate() error {
	_, err := p.withDefaults()
	return err
}

// withDefaults returns a copy of p in which every field has the value that is in force, and all faults of p joined.
func (p Policy) withDefaults() (Policy, error) {
	var errs []error
	fault := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("retry: Policy.%s is %v: want %s", field, value, allowed))
	}
	const allowed = "a positive value, 0 for the default, or Disabled (-1)"
	number := func(field string, n *int, def int) {
		if *n < Disabled {
			fault(field, *n, allowed)
		} else if *n == 0 {
			*n = def
		}
	}
	duration := func(field string, d *time.Duration, def time.Duration) {
		if *d < Disabled {
			fault(field, *d, allowed)
		} else if *d == 0 {
			*d = def
		}
	}
	number("MaxAttempts", &p.MaxAttempts, DefaultMaxAttempts)
	number("Budget", &p.Budget, DefaultBudget)
	duration("MinBackoff", &p.MinBackoff, DefaultMinBackoff)
	duration("MaxBackoff", &p.MaxBackoff, DefaultMaxBackoff)
	duration("AttemptTimeout", &p.AttemptTimeout, Disabled)
	if p.MaxBackoff > 0 && p.MinBackoff > p.MaxBackoff {
		fault("MinBackoff", p.MinBackoff, fmt.Sprintf("at most MaxBackoff, which is %v", p.MaxBackoff))
	}
	if p.Decide == nil {
		p.Decide = DefaultDecide
	}
	p.IdempotencyKeyHosts = slices.Clone(p.IdempotencyKeyHosts)
	for i, host := range p.IdempotencyKeyHosts {
		if !validHost(host) {
			fault(fmt.Sprintf("IdempotencyKeyHosts[%d]", i), fmt.Sprintf("%q", host), `a host or host:port, such as "api.example.com" or "[::1]:8080"`)
		}
		p.IdempotencyKeyHosts[i] = strings.ToLower(host)
	}
	return p, errors.Join(errs...)
}

// validHost reports whether s is a host, or host:port, and nothing else of a URL.
func validHost(s string) bool {
	u, err := url.Parse("//" + s)
	if err != nil || u.Host != s || u.Hostname() == "" || strings.HasSuffix(s, ":") || strings.Contains(s, "*") {
		return false
	}
	return strings.HasPrefix(s, "[") || !strings.Contains(u.Hostname(), ":") // an IPv6 address has brackets
}
