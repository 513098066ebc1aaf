package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/thawhttp/thaw/internal/hostport"
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
	key := originKey{scheme: req.URL.Scheme, host: req.URL.Host}
	if proxy != nil {
		key.proxy = proxy.String()
	}
	t.mu.Lock()
	o := t.originFor(key, req.URL, proxy)
	o.pins++
	pending := t.sweep(o, t.clock.now())
	t.unlock()
	defer func() {
		t.mu.Lock()
		t.unpin(o)
		t.unlock()
	}()
	for _, v := range pending {
		select {
		case <-v.done:
		case <-ctx.Done():
			return warmError(o, context.Cause(ctx))
		}
	}

	// Of an origin whose protocol is not known the first dial tells how many are needed. Another request's dial may
	// tell as well, or change what was known, so this is decided anew after each round. The failure of another's dial, which may
	// be from before a freeze, is none of this.
	own := make(map[*dial]bool)
	for range warmRounds + count {
		t.mu.Lock()
		if t.shut {
			t.mu.Unlock()
			return warmError(o, ErrClosed)
		}
		want := count
		if o.protocol != http1 {
			want = 1
		}
		if name, most := t.mostToWarm(); want > most {
			t.mu.Unlock()
			return warmError(o, fmt.Errorf("%w: %d connections asked for, but %s is %d", ErrPoolExhausted, want, name, most))
		}
		usable := o.usable()
		if usable >= want { // others' dials are no concern of this
			t.mu.Unlock()
			return nil
		}
		missing := want - usable - len(o.dials)
		for ; missing > 0 && t.room(o); missing-- {
			own[t.beginDial(o, ctx)] = true
		}
		dials := slices.Clone(o.dials)
		freed, closing := t.freed, t.closing
		if missing > 0 && closing > 0 && freed == nil {
			freed = make(chan struct{})
			t.freed = freed
		}
		t.unlock()
		switch {
		case missing <= 0:
		case closing == 0 && len(dials) == 0:
			return warmError(o, fmt.Errorf("%w: no room for %d more connections: MaxConnsPerHost is %d, MaxConns is %d", ErrPoolExhausted, missing, t.cfg.MaxConnsPerHost, t.cfg.MaxConns))
		case closing > 0:
			select {
			case <-freed:
			case <-ctx.Done():
				return warmError(o, context.Cause(ctx))
			}
		}
		for _, d := range dials {
			select {
			case <-d.done:
				if d.err != nil && own[d] && !d.reset { // else there will be another one
					return d.err
				}
			case <-ctx.Done():
				return warmError(o, context.Cause(ctx))
			}
		}
	}
	return warmError(o, fmt.Errorf("connections are closed as fast as they are made: %d wanted", count))
}

// warmRounds bounds how often warm looks at what there is, beside once for each connection.
const warmRounds = 16

// mostToWarm returns how many connections to one origin can be idle at the same time, beside MaxConns, and the setting that
// says so. More would be closed as they are made.
func (t *Transport) mostToWarm() (setting string, n int) {
	setting, n = "MaxConnsPerHost", limit(t.cfg.MaxConnsPerHost, maxInt)
	if most := limit(t.cfg.MaxIdleConnsPerHost, maxInt); most < n {
		setting, n = "MaxIdleConnsPerHost", most
	}
	if most := limit(t.cfg.MaxIdleConns, maxInt); most < n && most < limit(t.cfg.MaxConns, maxInt) {
		setting, n = "MaxIdleConns", most
	}
	return setting, n
}

func warmError(o *origin, err error) error { return opErrorf(err, "Warm: %s", o.name) }

// usable counts the connections that take requests. Transport.mu is held.
func (o *origin) usable() int {
	n := 0
	for _, c := range o.conns {
		if c.retired == closedUnknown {
			n++
		}
	}
	return n
}
