package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/thawhttp/thaw/internal/hostport"
	"github.com/thawhttp/thaw/internal/pool"
)

// Warm makes connections ahead of the requests that will need them: name resolution, dial, proxy and TLS handshake,
// for the origins of all urls at once. An origin named k times gets k connections if it speaks HTTP/1.1, and one if it
// speaks HTTP/2; those that it has already are looked at and count. Only scheme and host of a URL matter.
//
// It returns when all is done or ctx ends, with the errors of all that failed, joined; each names its URL's origin. To ask
// for more of an origin than MaxConnsPerHost, MaxIdleConnsPerHost or MaxIdleConns allow is an error, [ErrPoolExhausted], and
// makes none; a malformed URL is [ErrInvalidRequest].
// Dials under way when ctx ends go on, and their connections become idle.
func (t *Transport) Warm(ctx context.Context, urls ...string) error {
	type target struct {
		req   *http.Request
		proxy *url.URL
		count int
	}
	targets := make(map[originKey]*target)
	var order []*target
	var mu sync.Mutex // guards errs
	var errs []error
	for i, s := range urls {
		req, proxy, err := t.warmRequest(ctx, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("transport: Warm: URL %d of %d: %w", i+1, len(urls), err))
			continue
		}
		key := originKey{scheme: req.URL.Scheme, host: hostport.Of(req.URL)}
		if targets[key] == nil {
			targets[key] = &target{req: req, proxy: proxy}
			order = append(order, targets[key])
		}
		targets[key].count++
	}
	var wg sync.WaitGroup
	for _, target := range order {
		wg.Go(func() {
			if err := t.warm(ctx, target.req, target.proxy, target.count); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// warmRequest returns a request for the URL s, for the proxy's function to look at, and the proxy.
func (t *Transport) warmRequest(ctx context.Context, s string) (*http.Request, *url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		why := ""
		// The URL itself may hold secrets, and what is wrong with it may quote a part of a password.
		if e, ok := errors.AsType[*url.Error](err); ok && !strings.Contains(s, "@") {
			why = ": " + e.Err.Error()
		}
		return nil, nil, invalid("malformed URL%s: want one like https://api.example.com", why)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		named, _, _ := strings.Cut(s, "?")
		if u.Opaque != "" || strings.Contains(named, "@") {
			named = u.Scheme + ":..." // credentials are not for logs
		}
		return nil, nil, invalid("%q: want http or https, and a host, as in https://api.example.com", named)
	}
	if err := validateHost(u); err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.Scheme+"://"+u.Host+"/", nil)
	if err != nil {
		return nil, nil, invalid("%s://%s: %v", u.Scheme, u.Host, err)
	}
	proxy, err := t.proxyOf(req)
	if err != nil {
		return nil, nil, err
	}
	return req, proxy, nil
}

// warm sees to it that the origin of req has count connections, or one on HTTP/2.
func (t *Transport) warm(ctx context.Context, req *http.Request, proxy *url.URL, count int) error {
	t.mu.Lock()
	if t.shut {
		t.unlock()
		return warmError(req.URL.Scheme+"://"+req.URL.Host, ErrClosed)
	}
	o := t.originFor(keyOf(req.URL, proxy, false), req.URL, proxy)
	o.pins++
	t.machine.LookAfter(t.clock.now(), o.book)
	pending := t.lookAround(o)
	defer func() {
		t.mu.Lock()
		t.unpin(o)
		t.unlock()
	}()
	if !waitFor(ctx, pending) {
		return warmError(o.name, context.Cause(ctx))
	}

	// Of an origin whose protocol is not known the first dial tells how many are needed. Another request's dial may
	// tell as well, or change what was known, so this is decided anew after each round. The failure of another's dial, which may
	// be from before a freeze, is none of this.
	own := make(map[*dial]bool)
	beside := true // dials that are late do not count, once
	patience := limit(t.cfg.DialDelay, pool.Forever)
	for rounds := warmRounds + count; rounds > 0; {
		t.mu.Lock()
		if t.shut {
			t.mu.Unlock()
			return warmError(o.name, ErrClosed)
		}
		want := count
		if o.book.Protocol() != http1 {
			want = 1
		}
		if name, most := t.mostToWarm(); want > most {
			t.mu.Unlock()
			return warmError(o.name, fmt.Errorf("%w: %d connections asked for, but %s is %d", ErrPoolExhausted, want, name, most))
		}
		t.dialFor = ctx
		now := t.clock.now()
		t.machine.Tick(now) // which dials are late may have been noticed here first
		begun, usable, missing := t.machine.Warm(now, o.book, want, beside)
		w, any := t.carry()
		t.dialFor = nil
		beside = false
		for _, d := range begun {
			own[d.Driver.(*dial)] = true
		}
		dials := slices.Collect(maps.Keys(o.dials))
		freeing := o.book.Freeing() > 0 || t.machine.Freeing() > 0
		if missing > 0 && freeing && t.freedNow == nil {
			t.freedNow = make(chan struct{})
		}
		freed := t.freedNow
		t.mu.Unlock()
		if any {
			w.finish()
		}
		switch {
		case usable >= want: // others' dials are no concern of this
			return nil
		case missing > 0 && !freeing && len(dials) == 0:
			return warmError(o.name, fmt.Errorf("%w: no room for %d more connections: MaxConnsPerHost is %d, MaxConns is %d", ErrPoolExhausted, missing, t.cfg.MaxConnsPerHost, t.cfg.MaxConns))
		case missing > 0 && freeing:
			if !waitFor(ctx, []<-chan struct{}{freed}) {
				return warmError(o.name, context.Cause(ctx))
			}
			continue
		}
		switch late, err := t.warmed(ctx, o, dials, own, patience); {
		case err != nil:
			return err
		case late:
			beside, patience = true, pool.Forever
		default:
			rounds--
		}
	}
	return warmError(o.name, fmt.Errorf("connections are closed as fast as they are made: %d wanted", count))
}

// warmed waits until one of the dials has made a connection, or all have ended, or patience has passed: there may be another one beside
// them then. It returns the error of one of its own if none has made a connection.
func (t *Transport) warmed(ctx context.Context, o *origin, dials []*dial, own map[*dial]bool, patience time.Duration) (late bool, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, d := range dials {
		select {
		case <-d.done:
			if d.err == nil {
				return false, nil
			}
			if own[d] && !d.reset && !errors.Is(d.err, errUnwanted) { // else there will be another one
				err = d.err
			}
		case <-timer.C:
			return true, nil
		case <-ctx.Done():
			return false, warmError(o.name, context.Cause(ctx))
		}
	}
	return false, err
}

// warmRounds bounds how often warm looks at what there is, beside once for each connection.
const warmRounds = 16

// mostToWarm returns how many connections to one origin can be idle at the same time, beside MaxConns, and the setting that
// says so. More would be closed as they are made.
func (t *Transport) mostToWarm() (setting string, n int) {
	setting, n = "MaxConnsPerHost", limit(t.cfg.MaxConnsPerHost, math.MaxInt)
	if most := limit(t.cfg.MaxIdleConnsPerHost, math.MaxInt); most < n {
		setting, n = "MaxIdleConnsPerHost", most
	}
	if most := limit(t.cfg.MaxIdleConns, math.MaxInt); most < n && most < limit(t.cfg.MaxConns, math.MaxInt) {
		setting, n = "MaxIdleConns", most
	}
	return setting, n
}

func warmError(origin string, err error) error { return opErrorf(err, "Warm: %s", origin) }
