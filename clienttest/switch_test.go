package clienttest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/thawhttp/thaw/clienttest"
)

func TestIdleConnectionsAreBrokenAndNewOnesWork(t *testing.T) {
	t.Parallel()
	for name, breakIdle := range map[string]func(*clienttest.Server) int{
		"CloseIdle": (*clienttest.Server).CloseIdle, "ResetIdle": (*clienttest.Server).ResetIdle,
		"ForgetIdleWithReset": (*clienttest.Server).ForgetIdleWithReset,
	} {
		t.Run(name, func(t *testing.T) {
			each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
				mustGet(t, c, d.URL+"/before")
				if n := breakIdle(d); n != 1 {
					t.Fatalf("broke %d connections, want 1:\n%v", n, d)
				}
				if d.Connections()[0].Open {
					t.Error("the connection is still open")
				}
				if n := breakIdle(d); n != 0 {
					t.Errorf("broke %d connections that were broken", n)
				}
				// A GET may be sent again, and is, though not always at the first try.
				eventually(t, "a request is answered", func() bool {
					_, _, err := get(t.Context(), c, d.URL+"/after")
					return err == nil
				})
				if conns := d.Connections(); len(conns[0].Requests) != 1 {
					t.Errorf("a broken connection carried a request:\n%v", d)
				}
				assertUsed(t, d, c, 2)
			})
		})
	}
}

func TestAForgottenConnectionIsSilent(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		mustGet(t, c, d.URL+"/before")
		if n := d.ForgetIdle(); n != 1 {
			t.Fatalf("forgot %d connections, want 1:\n%v", n, d)
		}
		req, err := http.NewRequestWithContext(soon(t), "POST", d.URL+"/lost", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err == nil {
			resp.Body.Close()
			t.Fatal("a request on a forgotten connection was answered")
		}
		if !isTimeout(err) {
			t.Errorf("error %v, want a timeout: nothing is to be heard", err)
		}
		d.AssertRequests(t, 1)
	})
}

func TestConnectionsInUseAreNotIdle(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		undo := d.Every(clienttest.StallBeforeHeader())
		var wg sync.WaitGroup
		wg.Go(func() { mustGetElsewhere(t, c, d.URL) })
		eventually(t, "the request has come", func() bool { return len(d.Requests()) == 1 })
		if n := d.CloseIdle() + d.ResetIdle() + d.ForgetIdle() + d.ForgetIdleWithReset(); n != 0 {
			t.Errorf("%d connections were idle, want none:\n%v", n, d)
		}
		undo()
		wg.Wait()
		d.AssertConnections(t, 1)
	})
}

// mustGetElsewhere is mustGet for goroutines that are not the test's own.
func mustGetElsewhere(t *testing.T, c *http.Client, url string) {
	if status, body, err := get(t.Context(), c, url); status != 200 || err != nil {
		t.Errorf("GET %s: %d %q %v", url, status, body, err)
	}
}

func TestAWarmConnectionIsIdle(t *testing.T) {
	t.Parallel()
	for _, p := range allProtocols {
		d := clienttest.Downstream(t, clienttest.WithProtocol(p))
		c := thaw(t, d)
		if err := c.Warm(t.Context(), d.URL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection is idle on this side too", func() bool { return d.CloseIdle() == 1 })
		mustGet(t, c.Client, d.URL)
		d.AssertConnections(t, 2)
	}
}

func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		mustGet(t, c, d.URL+"/open")
		undo := d.Refuse()
		d.Refuse()()
		mustGet(t, c, d.URL+"/still-open")
		c.CloseIdleConnections()
		if _, _, err := get(t.Context(), c, d.URL+"/refused"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("error %v, want a refused connection", err)
		}
		undo()
		undo()
		mustGet(t, c, d.URL+"/again")
		assertUsed(t, d, c, 2)
	})
}

// assertUsed checks that n connections carried requests, and unless c dials more than it needs, that there were no others.
func assertUsed(t *testing.T, d *clienttest.Server, c *http.Client, n int) {
	t.Helper()
	used := 0
	for _, conn := range d.Connections() {
		if len(conn.Requests) > 0 {
			used++
		}
	}
	if used != n {
		t.Errorf("%d connections were used, want %d:\n%v", used, n, d)
	}
	if !dialsMore(c) {
		d.AssertConnections(t, n)
	}
}

// dialsMore reports whether c is net/http's own client. Over HTTP/2 that may dial more than it needs, when a connection
// ends just then or streams are limited, and goes on dialling after the requests are answered.
func dialsMore(c *http.Client) bool {
	tr, ok := c.Transport.(*http.Transport)
	return ok && speaksHTTP2(tr)
}

func TestGOAWAYRetiresAConnectionAndLosesNothing(t *testing.T) {
	t.Parallel()
	each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		used := func(want int) {
			t.Helper()
			assertUsed(t, d, c, want)
		}
		mustGet(t, c, d.URL+"/idle")
		if n := d.GoAway(); n != 1 {
			t.Fatalf("told %d connections, want 1", n)
		}
		if n := d.GoAway(); n != 0 {
			t.Errorf("told %d connections a second time", n)
		}
		mustGet(t, c, d.URL+"/on-another")
		used(2)

		undo := d.Every(clienttest.StallBeforeHeader())
		var wg sync.WaitGroup
		wg.Go(func() { mustGetElsewhere(t, c, d.URL+"/under-way") })
		eventually(t, "the request has come", func() bool { return len(d.Requests()) == 3 })
		if n := d.GoAway(); n < 1 || n > 1 && !dialsMore(c) {
			t.Fatalf("told %d connections, want 1", n)
		}
		undo()
		wg.Wait()
		mustGet(t, c, d.URL+"/on-a-third")
		used(3)
		d.AssertNoRequestTwice(t)
	})
}

func TestGOAWAYBetweenRequestsHandlesNoneTwice(t *testing.T) {
	t.Parallel()
	each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 25 {
					mustGetElsewhere(t, c, d.URL+"/?"+strconv.Itoa(i*100+j))
					if i == 0 && j%8 == 7 {
						d.GoAway()
					}
				}
			})
		}
		wg.Wait()
		d.AssertRequests(t, 100)
		d.AssertNoRequestTwice(t)
	})
}

func TestLimitedStreamsNeedMoreConnections(t *testing.T) {
	t.Parallel()
	each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		tenAtOnce := func(seen int) {
			t.Helper()
			undo := d.Every(clienttest.StallBeforeHeader())
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() { mustGetElsewhere(t, c, d.URL+"/"+strconv.Itoa(seen+i)) })
			}
			eventually(t, "all have come", func() bool { return len(d.Requests()) == seen+10 })
			undo()
			wg.Wait()
		}
		mustGet(t, c, d.URL+"/open")
		undo := d.LimitStreams(5)
		mustGet(t, c, d.URL+"/told") // by now the client has read the limit
		tenAtOnce(2)
		n := len(d.Connections())
		if n < 2 || n > 2 && !dialsMore(c) {
			t.Errorf("%d connections, want the open one, and one that began with the limit:\n%v", n, d)
		}
		undo()
		mustGet(t, c, d.URL+"/told-again")
		tenAtOnce(13)
		for _, r := range d.Requests()[13:] {
			if first := d.Requests()[13].Conn; r.Conn != first {
				t.Errorf("%s was on connection %d, want all on connection %d, whose limit was lifted:\n%v", r.URI, r.Conn, first, d)
				break
			}
		}
		if !dialsMore(c) {
			d.AssertConnections(t, n)
		}
	})
}

// postOnce sends a body that cannot be sent again, so that no client tries a second time.
func postOnce(t *testing.T, c *http.Client, url string, size int, header http.Header) error {
	body := struct{ io.Reader }{strings.NewReader(strings.Repeat("x", size))}
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := c.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

func TestRefusedStreamsAreNotHandledAndTheConnectionServesOn(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 512 << 10} { // four of the last one are more than the window of a connection
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
				refused := 0
				for i := range 12 {
					// Fields that differ fill the table of fields, about which both sides must agree, in refused streams too.
					// From the ninth on, they are more than a frame.
					header := http.Header{"X-Number": {strconv.Itoa(i)}, "X-Long": {strings.Repeat("ab", 1000*i)}}
					undo := func() {}
					if i%3 == 1 {
						undo = d.RefuseStreams()
						d.RefuseStreams()()
						refused++
					}
					err := postOnce(t, c, d.URL+"/"+strconv.Itoa(i), size, header)
					if i%3 == 1 {
						if err == nil || !strings.Contains(err.Error(), "REFUSED_STREAM") {
							t.Errorf("request %d: error %v, want REFUSED_STREAM", i, err)
						}
					} else if err != nil {
						t.Errorf("request %d: %v", i, err)
					}
					undo()
					undo()
				}
				d.AssertRequests(t, 12-refused)
				d.AssertConnections(t, 1)
				d.AssertNoRequestTwice(t)
				for _, r := range d.Requests() {
					i, _ := strconv.Atoi(r.Header.Get("X-Number"))
					if r.URI != "/"+strconv.Itoa(i) || len(r.Header.Get("X-Long")) != 2000*i || r.Length != int64(size) {
						t.Errorf("%s came with X-Number %d, %d bytes of X-Long and a body of %d", r.URI, i, len(r.Header.Get("X-Long")), r.Length)
					}
				}
			})
		})
	}
}

func TestRequestsThatAreUnderWayWhenStreamsAreRefusedAreAnswered(t *testing.T) {
	t.Parallel()
	each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		undo := d.Every(clienttest.StallBeforeHeader())
		var wg sync.WaitGroup
		wg.Go(func() { mustGetElsewhere(t, c, d.URL+"/under-way") })
		eventually(t, "the request has come", func() bool { return len(d.Requests()) == 1 })
		d.RefuseStreams()
		undo()
		wg.Wait()
		if err := postOnce(t, c, d.URL+"/refused", 1, nil); err == nil || !strings.Contains(err.Error(), "REFUSED_STREAM") {
			t.Errorf("error %v, want REFUSED_STREAM", err)
		}
		d.AssertRequests(t, 1)
		d.AssertConnections(t, 1)
	})
}

func TestNoMoreStreamsThanAllowedAreHandledAtOnce(t *testing.T) {
	t.Parallel()
	for _, p := range http2Protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			var handled atomic.Int64
			d := clienttest.Downstream(t, clienttest.WithProtocol(p), clienttest.WithHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				handled.Add(1)
			})))
			c := plain(t, d)
			mustGet(t, c, d.URL+"/first")
			undo := d.AllowStreams(5) // which the client is not told, and believes in 250
			goOn := d.Every(clienttest.StallBeforeHeader())
			var wg sync.WaitGroup
			var refused atomic.Int64
			post := func(n int) {
				for range n {
					wg.Go(func() {
						if err := postOnce(t, c, d.URL+"/at-once", 1, nil); err != nil {
							refused.Add(1)
							if !strings.Contains(err.Error(), "REFUSED_STREAM") {
								t.Errorf("error %v, want REFUSED_STREAM", err)
							}
						}
					})
				}
			}
			post(20)
			eventually(t, "all have come or are refused", func() bool { return len(d.Requests()) == 1+5 && refused.Load() == 15 })
			goOn()
			wg.Wait()
			for range 10 { // places come free as answers are sent
				if err := postOnce(t, c, d.URL+"/one-by-one", 1, nil); err != nil {
					t.Error(err)
				}
			}
			d.AssertRequests(t, 16)

			goOn = d.Every(clienttest.StallBeforeHeader())
			ctx, giveUp := context.WithCancel(t.Context())
			for range 5 {
				wg.Go(func() { get(ctx, c, d.URL+"/given-up") })
			}
			eventually(t, "five have come", func() bool { return len(d.Requests()) == 21 })
			giveUp() // places come free as clients give up
			eventually(t, "the server knows", func() bool { return handled.Load() == 21 })
			post(5)
			eventually(t, "five others have come", func() bool { return len(d.Requests()) == 26 })
			undo()
			post(20)
			eventually(t, "all have come", func() bool { return len(d.Requests()) == 46 })
			goOn()
			wg.Wait()
			d.AssertConnections(t, 1)
		})
	}
}

func TestConnectionsThatAreTurnedAwayCarryNothing(t *testing.T) {
	t.Parallel()
	each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		mustGet(t, c, d.URL+"/open")
		undo := d.TurnAway()
		d.TurnAway()()
		mustGet(t, c, d.URL+"/still-open")
		d.AssertConnections(t, 1)
		if n := d.GoAway(); n != 1 {
			t.Errorf("told %d connections, want the open one", n)
		}
		eventually(t, "a request is turned away", func() bool { // one may still go to the old connection
			if err := postOnce(t, c, d.URL+"/turned-away", 1, nil); err == nil {
				t.Error("answered on a connection that was turned away")
			}
			return len(d.Connections()) > 1
		})
		d.AssertRequests(t, 2)
		if n := d.GoAway(); n != 0 {
			t.Errorf("told %d connections that had been turned away", n)
		}
		undo()
		undo()
		eventually(t, "a request is answered", func() bool { // the last connection that was turned away may still be believed in
			return postOnce(t, c, d.URL+"/served", 1, nil) == nil
		})
		d.AssertRequests(t, 3)
		d.AssertNoRequestTwice(t)
	})
}

func TestLimitedRequestsOfAConnection(t *testing.T) {
	t.Parallel()
	each(t, append(http1Protocols, http2Protocols...), func(t *testing.T, d *clienttest.Server, c *http.Client) {
		undo := d.LimitRequests(3)
		for i := range 7 {
			mustGet(t, c, d.URL+"/"+strconv.Itoa(i))
		}
		undo()
		for i := range 7 {
			mustGet(t, c, d.URL+"/free/"+strconv.Itoa(i))
		}
		var carried []int
		for _, conn := range d.Connections() {
			if n := len(conn.Requests); n > 0 || !dialsMore(c) {
				carried = append(carried, n)
			}
		}
		if !slices.Equal(carried, []int{3, 3, 8}) {
			t.Errorf("connections carried %v requests, want 3, 3, 8:\n%v", carried, d)
		}
		d.AssertNoRequestTwice(t)

		// The open connection is beyond the limit that is set now.
		d.LimitRequests(4)
		mustGet(t, c, d.URL+"/last")
		mustGet(t, c, d.URL+"/fresh")
		assertUsed(t, d, c, 4)
	})
}

func TestABurstBeyondTheRequestsOfAConnection(t *testing.T) {
	t.Parallel()
	each(t, http2Protocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		mustGet(t, c, d.URL+"/first")
		d.LimitRequests(5)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { mustGetElsewhere(t, c, d.URL+"/"+strconv.Itoa(i)) })
		}
		wg.Wait()
		d.AssertRequests(t, 21)
		d.AssertNoRequestTwice(t)
		for _, conn := range d.Connections() {
			if n := len(conn.Requests); n > 5 {
				t.Errorf("connection %d carried %d requests, want 5 at most", conn.ID, n)
			}
		}
	})
}

func TestKeepAliveIsAnnouncedOverHTTP1(t *testing.T) {
	t.Parallel()
	for p, want := range map[clienttest.Protocol]string{clienttest.HTTP1: "timeout=7", clienttest.HTTP1TLS: "timeout=7", clienttest.HTTPS: ""} {
		d := clienttest.Downstream(t, clienttest.WithProtocol(p))
		c := plain(t, d)
		header := func() string {
			resp, err := c.Get(d.URL)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.Header.Get("Keep-Alive")
		}
		undo := d.KeepAlive(7*time.Second + 900*time.Millisecond)
		if got := header(); got != want {
			t.Errorf("%v: Keep-Alive %q, want %q", p, got, want)
		}
		undo()
		if got := header(); got != "" {
			t.Errorf("%v: Keep-Alive %q after it was taken back", p, got)
		}
	}
}

func TestLimitsThatMakeNoSenseFailTheTest(t *testing.T) {
	t.Parallel()
	f := &tb{TB: t}
	f.run(func() {
		d := clienttest.Downstream(f)
		d.LimitStreams(0)()
		d.LimitStreams(251)()
		d.AllowStreams(0)()
		d.AllowStreams(251)()
		d.LimitRequests(0)()
		d.KeepAlive(-1)()
	})
	want := "clienttest: LimitStreams(0): want 1 to 250\nclienttest: LimitStreams(251): want 1 to 250\n" +
		"clienttest: AllowStreams(0): want 1 to 250; RefuseStreams refuses all\nclienttest: AllowStreams(251): want 1 to 250; RefuseStreams refuses all\n" +
		"clienttest: LimitRequests(0): want at least 1\nclienttest: KeepAlive(-1ns): want no negative duration"
	if got := f.take(); got != want {
		t.Errorf("failed with\n%s\nwant\n%s", got, want)
	}
}
