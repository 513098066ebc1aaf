package retry_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

const second = time.Second

// within is a policy with an AttemptTimeout of a second, and waits of one too.
func within() retry.Policy {
	p := steady(second)
	p.AttemptTimeout = second
	return p
}

func TestAttemptTimeoutEndsTheAttemptAndNotTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{after(time.Hour, status(200)), text(200, "second")}}
		req := request(t, "GET", nil)
		began := time.Now()
		resp, err := over(t, n, within()).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*second || n.count() != 2 || resp.Request != req {
			t.Errorf("answered after %v and %d attempts, want a second of attempt and one of wait", took, n.count())
		}
		if got := content(t, resp); got != "second" {
			t.Errorf("got %q", got)
		}
	})
}

func TestAttemptTimeoutIsATimeoutAndNoCancellation(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]reply{
		"ctx.Err": after(time.Hour, status(200)),
		"cause": func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, fmt.Errorf("pool: %w", context.Cause(req.Context()))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &next{replies: []reply{r}}
			_, err := over(t, n, within()).RoundTrip(request(t, "POST", nil))
			var ne net.Error
			var re *retry.Error
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &re) || !re.Timeout() || errors.As(err, &ne) && !ne.Timeout() {
				t.Errorf("%s: error %v, want a timeout that is not the context's", name, err)
			}
			if want := "no response header within the 1s of an attempt"; !strings.Contains(err.Error(), want) || n.count() != 1 {
				t.Errorf("%s: %d attempts, error %v; want a POST to be sent once, and %q", name, n.count(), err, want)
			}
		})
	}
}

func TestTheCallersOwnEndComesBeforeThatOfTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &next{replies: []reply{after(time.Hour, status(200))}}
		ctx, cancel := context.WithTimeout(t.Context(), second/2)
		defer cancel()
		if _, err := over(t, n, within()).RoundTrip(request(t, "GET", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) || n.count() != 1 {
			t.Errorf("%d attempts, error %v; want the context's", n.count(), err)
		}
	})
}

func TestAnAnswerThatComesTooLateIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late := func(req *http.Request) (*http.Response, error) {
			time.Sleep(2 * second) // by a RoundTripper that does not look at the context
			return text(200, "late")(req)
		}
		n := &next{replies: []reply{late, text(200, "in time")}}
		resp, err := over(t, n, within()).RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, resp); got != "in time" || !n.bodies[0].closed() {
			t.Errorf("got %q; the late body was closed: %t", got, n.bodies[0].closed())
		}
	})
}

// trickle is a body of ten bytes, each of which takes as long as an attempt may.
type trickle struct {
	ctx  context.Context
	left int
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(second):
		b.left--
		return copy(p, "x"), nil
	}
}

func (b *trickle) Close() error { return nil }

func TestAttemptTimeoutDoesNotCutTheBody(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"EOF", "Close"} {
		synctest.Test(t, func(t *testing.T) {
			var ctx context.Context
			n := &next{replies: []reply{status(503), func(req *http.Request) (*http.Response, error) {
				ctx = req.Context()
				return &http.Response{StatusCode: 200, Body: &trickle{ctx, 10}}, nil
			}}}
			resp, err := over(t, n, within()).RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if ctx.Err() != nil {
				t.Fatal("the context of the attempt ended before its body")
			}
			if end == "EOF" {
				if b, err := io.ReadAll(resp.Body); string(b) != "xxxxxxxxxx" || err != nil {
					t.Errorf("read %q %v", b, err)
				}
			} else {
				resp.Body.Close()
			}
			if ctx.Err() == nil {
				t.Errorf("the context of the attempt lives on after %s", end)
			}
		})
	}
}

func TestAnAttemptWithoutABodyLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]io.ReadCloser{"nil": nil, "NoBody": http.NoBody} {
		var ctx context.Context
		n := &next{replies: []reply{func(req *http.Request) (*http.Response, error) {
			ctx = req.Context()
			return &http.Response{StatusCode: 204, Body: body}, nil
		}}}
		resp, err := over(t, n, within()).RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body != body || ctx.Err() == nil {
			t.Errorf("%s: the body became %v, the context ended: %t", name, resp.Body, ctx.Err() != nil)
		}
	}
}

// TestAnUpgradedConnectionIsTheCallers goes through the whole client, with and without the timeout that wraps bodies.
func TestAnUpgradedConnectionIsTheCallers(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]retry.Policy{"default": {}, "AttemptTimeout": within()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					r := bufio.NewReader(far)
					if _, err := http.ReadRequest(r); err != nil {
						t.Error(err)
						return
					}
					io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
					line, _ := r.ReadString('\n')
					time.Sleep(time.Minute)
					io.WriteString(far, line)
				}()
				c, err := client.New(client.WithRetry(p), client.WithTimeout(transport.Disabled), client.WithTransport(transport.Config{
					Proxy:       direct,
					DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				req, err := http.NewRequestWithContext(t.Context(), "GET", "http://example.com", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Connection", "Upgrade")
				req.Header.Set("Upgrade", "echo")
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				conn, ok := resp.Body.(io.ReadWriteCloser)
				if !ok || resp.StatusCode != 101 {
					t.Fatalf("status %d, body %T; want a connection", resp.StatusCode, resp.Body)
				}
				io.WriteString(conn, "hello\n")
				if got := content(t, resp); got != "hello\n" {
					t.Errorf("the connection echoed %q", got)
				}
				cw, ok := conn.(interface{ CloseWrite() error })
				if !ok || !errors.Is(cw.CloseWrite(), errors.ErrUnsupported) { // which a pipe has not
					t.Error("CloseWrite does not reach the connection")
				}
			})
		})
	}
}

func TestDiscardingAnAnswerTakesNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe() // nobody writes
		defer w.Close()
		n := &next{replies: []reply{func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 503, ContentLength: -1, Body: r}, nil
		}, text(200, "done")}}
		began := time.Now()
		resp, err := over(t, n, steady(10*time.Millisecond)).RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != retry.Patience || content(t, resp) != "done" {
			t.Errorf("answered after %v, want the %v that discarding the first answer may take, and no wait beyond it", took, retry.Patience)
		}
	})
	if retry.DrainTime != 50*time.Millisecond {
		t.Errorf("outside of tests it may take %v", retry.DrainTime)
	}
}

func TestDiscardingAnAnswerReadsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size, length int64
		read         int64
	}{
		"64 KiB":                {64 << 10, -1, 64 << 10},
		"more":                  {1 << 20, -1, 64<<10 + 1},
		"as much as it says":    {64 << 10, 64 << 10, 64 << 10},
		"more, and it says so":  {1 << 20, 1 << 20, 0},
		"nothing, and it tells": {0, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			rest := bytes.NewReader(make([]byte, tt.size))
			first := &trackedBody{Reader: rest}
			n := &next{replies: []reply{func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 503, ContentLength: tt.length, Body: first}, nil
			}, text(200, "done")}}
			resp, err := over(t, n, retry.Policy{}).RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if read := tt.size - int64(rest.Len()); read != tt.read || !first.closed() {
				t.Errorf("%s: %d bytes were read, want %d; closed: %t", name, read, tt.read, first.closed())
			}
		})
	}
}
