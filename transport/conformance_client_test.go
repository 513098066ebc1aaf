package transport_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hops redirects /hop/N to /hop/N-1 with the status of the query, and echoes at the end.
func hops(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/hop/"))
	if n == 0 {
		echo(w, r)
		return
	}
	status, _ := strconv.Atoi(r.URL.Query().Get("status"))
	http.SetCookie(w, &http.Cookie{Name: fmt.Sprint("hop", n), Value: "1", Path: "/"})
	w.Header().Set("Location", fmt.Sprintf("/hop/%d?status=%d", n-1, status))
	w.WriteHeader(status)
	fmt.Fprint(w, "moved ", n)
}

func TestClientWorksAsOnHTTPTransport(t *testing.T) {
	hop := func(method string, n, status int, body func() io.Reader, f ...func(*http.Request)) func(*testing.T, string) *http.Request {
		return func(t *testing.T, url string) *http.Request {
			t.Helper()
			var b io.Reader
			if body != nil {
				b = body()
			}
			req, err := http.NewRequest(method, fmt.Sprintf("%s/hop/%d?status=%d", url, n, status), b)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range f {
				f(req)
			}
			return req
		}
	}
	any := func(*http.Client) {}
	var exchanges []exchange
	for _, status := range []int{301, 302, 303, 307, 308} {
		exchanges = append(exchanges,
			exchange{name: fmt.Sprint("GET ", status), client: any, handler: hops, request: hop("GET", 3, status, nil)},
			exchange{name: fmt.Sprint("HEAD ", status), client: any, handler: hops, request: hop("HEAD", 2, status, nil)},
			exchange{name: fmt.Sprint("POST ", status), client: any, handler: hops, request: hop("POST", 2, status, payload)},
		)
	}
	exchanges = append(exchanges,
		exchange{name: "POST 307 without GetBody", client: any, handler: hops, status: 307, request: hop("POST", 2, 307, unsized("payload"))},
		exchange{name: "too many redirects", client: any, handler: hops, request: hop("GET", 20, 302, nil), fault: "any"},
		exchange{name: "last response wanted", handler: hops, status: 302, request: hop("GET", 2, 302, nil), client: func(c *http.Client) {
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		}},
		exchange{name: "redirect refused", handler: hops, fault: "cause", request: hop("GET", 2, 302, nil), client: func(c *http.Client) {
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return errOfCause }
		}},
		exchange{name: "cookies", handler: hops, request: hop("GET", 3, 302, nil), client: func(c *http.Client) {
			c.Jar = must(cookiejar.New(nil))
		}},
		exchange{name: "credentials and headers", client: any, handler: hops, request: hop("GET", 2, 302, nil, func(req *http.Request) {
			req.SetBasicAuth("user", "secret")
			req.Header.Set("X-A", "1")
		})},
		exchange{name: "timeout that does not pass", handler: hops, request: hop("POST", 1, 307, payload), client: func(c *http.Client) { c.Timeout = time.Minute }},
	)
	run(t, exchanges)
}

// TestClientTimeoutWithinRedirects lets the timeout pass in the second request.
func TestClientTimeoutWithinRedirects(t *testing.T) {
	run(t, []exchange{{
		name: "GET", fault: "timeout", blind: true, request: get,
		client: func(c *http.Client) { c.Timeout = 60 * time.Millisecond },
		handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/slow" {
				http.Redirect(w, r, "/slow", 302)
				return
			}
			abort(r)
		},
	}})
}

// TestManyCallersGetTheirOwnAnswers mixes methods, sizes, early closes and cancels.
func TestManyCallersGetTheirOwnAnswers(t *testing.T) {
	const callers, requests = 64, 5
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Tag", r.Header.Get("X-Tag"))
				io.WriteString(w, r.Header.Get("X-Tag")+"\n")
				io.Copy(w, r.Body)
				if n, _ := strconv.Atoi(r.Header.Get("X-Size")); n > 0 {
					io.WriteString(w, strings.Repeat("z", n))
				}
			}))
			rt := newPool(t, m.config())
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for j := range requests {
						tagged(t, rt, o.URL, i, j)
					}
				})
			}
			within(t, 30*time.Second, "all requests", wg.Wait)
		})
	}
}

// tagged makes the j-th request of the i-th caller and checks that the answer is its own.
func tagged(t *testing.T, rt http.RoundTripper, url string, i, j int) {
	tag := fmt.Sprintf("tag-%d-%d", i, j)
	method := []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"}[(i+j)%6]
	body, size := "", 0
	if method == "POST" || method == "PUT" || method == "PATCH" {
		body = strings.Repeat(tag, 1+(i*j)%50)
	}
	if i%7 == 0 {
		size = 100_000
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url+"/"+tag, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("X-Tag", tag)
	req.Header.Set("X-Size", strconv.Itoa(size))
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, tag, err)
		return
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("X-Tag"); got != tag || resp.StatusCode != 200 {
		t.Errorf("%s %s: got status %d and the answer to %q", method, tag, resp.StatusCode, got)
	}
	switch {
	case j%5 == 3: // closed early
	case j%5 == 4: // cancelled
		cancel()
	default:
		got, err := io.ReadAll(resp.Body)
		want := tag + "\n" + body + strings.Repeat("z", size)
		if method == "HEAD" {
			want = ""
		}
		if err != nil || string(got) != want {
			t.Errorf("%s %s: got %d bytes, %v, want %d", method, tag, len(got), err, len(want))
		}
	}
}

// TestCloseBesideRead closes a body, several times, while another goroutine reads it.
func TestCloseBesideRead(t *testing.T) {
	for _, m := range allModes {
		for _, s := range sides {
			t.Run(m.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					for r.Context().Err() == nil {
						if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
							return
						}
						http.NewResponseController(w).Flush()
					}
				}))
				rt := s.open(t, m.config())
				for range 10 {
					resp, err := rt.RoundTrip(get(t, o.URL))
					if err != nil {
						t.Fatal(err)
					}
					var wg sync.WaitGroup
					started := make(chan struct{})
					wg.Go(func() {
						resp.Body.Read(make([]byte, 1))
						close(started)
						if _, err := io.Copy(io.Discard, resp.Body); err == nil {
							t.Error("reading a body that was closed ends without an error")
						}
					})
					for range 2 {
						wg.Go(func() {
							<-started
							if err := resp.Body.Close(); err != nil {
								t.Errorf("Close: %v", err)
							}
						})
					}
					within(t, 5*time.Second, "closing and reading", wg.Wait)
				}
			})
		}
	}
}
