package thaw_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/legible"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/metrics"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file have strangers choose what a program calls: a server by its redirects, a customer by the URL of a
// webhook. What they choose must not fill memory, logs, traces or metrics.

// strange is longer than any host.
var strange = strings.Repeat("stranger.", 100_000)

// redirectingTo starts a server whose every answer is a redirect to another host.
func redirectingTo(t *testing.T, host string) *downstream {
	return newDownstream(t, h1, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "http://"+r.URL.Query().Get("n")+host+"/")
		w.WriteHeader(http.StatusFound)
	})
}

func TestRedirectsToHostsOf900KBLeaveNothing(t *testing.T) {
	const times = 100
	srv := redirectingTo(t, strange)
	control := &http.Transport{MaxResponseHeaderBytes: transport.DefaultMaxResponseHeaderBytes}
	defer control.CloseIdleConnections()
	follow := func(c *http.Client) (stays int64) {
		before := heap()
		for n := range times {
			resp, err := c.Get(fmt.Sprintf("%s/?n=%d", srv.URL, n))
			if err == nil {
				resp.Body.Close()
				t.Fatal("a host of 900 KB answered")
			}
			if own := ownError(err); c.Transport != control && (len(own) > 4*legible.Max || !errors.Is(err, transport.ErrInvalidRequest)) {
				t.Fatalf("the error has %d bytes of thaw's own: %.300s", len(own), own)
			}
		}
		return heap() - before
	}
	want := follow(&http.Client{Transport: control, Timeout: 10 * time.Second})

	watching := make(map[string]observer)
	var pool lockedBuffer
	opts := []client.Option{client.WithLogger(slog.New(slog.NewTextHandler(&pool, &slog.HandlerOptions{Level: slog.LevelDebug})))}
	for name, start := range observers {
		o := start(t)
		watching[name] = o
		opts = append(opts, client.WithTracer(o.tracer))
	}
	c := srv.thaw(t, transport.Config{}, opts...)
	got := follow(c.Client)
	t.Logf("after %d requests, %d KiB stay with http.Transport, %d KiB here, all that was told included", times, want>>10, got>>10)
	// A KiB for each line or span, of which there are two a request.
	if most := max(want, 8<<20); got > most {
		t.Errorf("%d KiB stay, want at most %d", got>>10, most>>10)
	}
	watching["the pool's log"] = observer{said: func(*client.Client) string { return pool.String() }}
	for name, o := range watching {
		said := o.said(c)
		for line := range strings.Lines(said) {
			if n := strings.Count(line, "stranger."); n > times*legible.Max/len("stranger.") || len(said) > 4<<20 {
				t.Errorf("%s: a line with %d times the name, %d bytes in all", name, n, len(said))
			}
		}
	}
	if s := c.Stats(); len(s.Origins) != 1 {
		t.Errorf("%d origins, want the one that answered", len(s.Origins))
	}
}

// heap returns how much of it is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools and cleanups held
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// junk is a dialler for which only the hosts that are addresses exist.
func junk(ctx context.Context, network, addr string) (net.Conn, error) {
	if host, _, _ := net.SplitHostPort(addr); net.ParseIP(host) == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// What failed is nothing that later invocations pay for, and takes no place in CloudWatch from what is there.
func TestHostsThatDoNotExistLeaveNothingToInvocations(t *testing.T) {
	t.Parallel()
	var servers []*downstream
	for range metrics.DefaultMaxOrigins {
		servers = append(servers, newDownstream(t, h1, func(w http.ResponseWriter, r *http.Request) {}))
	}
	var lines lockedBuffer
	emitter, err := metrics.EMF(&lines, metrics.WithOrigins(0))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.WithTracer(emitter.Tracer()), client.WithRetry(retry.Policy{MinBackoff: retry.Disabled}), client.WithTransport(transport.Config{
		DialContext: junk, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := lambdahandler.New(c, func(ctx context.Context, urls []string) error {
		for _, u := range urls {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, nil)
			if err != nil {
				return err
			}
			if resp, err := c.Do(req); err == nil {
				resp.Body.Close()
			}
		}
		return nil
	}, lambdahandler.WithMetrics(emitter))
	invoke := func(urls []string) (docs []map[string]any) {
		t.Helper()
		payload, err := json.Marshal(urls)
		if err != nil {
			t.Fatal(err)
		}
		before := len(lines.String())
		if _, err := h.Invoke(t.Context(), payload); err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader([]byte(lines.String()[before:])))
		for dec.More() {
			var doc map[string]any
			if err := dec.Decode(&doc); err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
		}
		return docs
	}

	var strangers []string
	for i := range 1023 {
		strangers = append(strangers, fmt.Sprintf("http://stranger%d.test/", i))
	}
	docs := invoke(strangers)
	if len(docs) != 2 || docs[1]["Origin"] != "other" || docs[1]["Dials"] != docs[0]["Dials"] || docs[1]["Waits"] != 3*1023.0 {
		t.Errorf("%d lines, want the total and that of all others: %v", len(docs), docs)
	}
	if n := len(c.Stats().Origins); n != 0 {
		t.Errorf("the statistics have %d origins", n)
	}
	if docs := invoke(nil); len(docs) != 0 {
		t.Errorf("an invocation that did nothing wrote %v", docs)
	}
	var real []string
	for _, srv := range servers {
		real = append(real, srv.URL)
	}
	named := 0
	for _, doc := range invoke(real) {
		if origin, ok := doc["Origin"].(string); ok && origin != "other" {
			named++
		}
	}
	if named != len(servers) {
		t.Errorf("%d of %d origins have metrics of their own", named, len(servers))
	}
}

// BenchmarkAnInvocationAfterHostsThatDoNotExist has the cost of an invocation that does nothing, after none and after 1,023
// hosts that failed, and after as many that answered.
func BenchmarkAnInvocationThatDoesNothing(b *testing.B) {
	everywhere := newDownstream(b, h1, func(w http.ResponseWriter, r *http.Request) {})
	for _, hosts := range []struct {
		name string
		n    int
		dial func(context.Context, string, string) (net.Conn, error)
	}{
		{"after no host", 0, junk},
		{"after 1023 that failed", 1023, junk},
		{"after 1023 that answered", 1023, func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(everywhere.URL, "http://"))
		}},
	} {
		b.Run(hosts.name, func(b *testing.B) {
			emitter, err := metrics.EMF(io.Discard, metrics.WithOrigins(0))
			if err != nil {
				b.Fatal(err)
			}
			c, err := client.New(client.WithTracer(emitter.Tracer()), client.WithRetry(retry.Policy{MinBackoff: retry.Disabled}), client.WithTransport(transport.Config{
				DialContext: hosts.dial, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
			}))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			for i := range hosts.n {
				if resp, err := c.Post(fmt.Sprintf("http://stranger%d.test/", i), "", nil); err == nil {
					resp.Body.Close()
				}
			}
			h := lambdahandler.New(c, func() {}, lambdahandler.WithMetrics(emitter))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Invoke(b.Context(), []byte("{}")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
