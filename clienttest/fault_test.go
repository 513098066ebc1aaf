package clienttest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thawhttp/thaw/clienttest"
)

// stalls are the faults that hold a request up, and whether its header comes first.
var stalls = []struct {
	fault  clienttest.Fault
	header bool
}{
	{clienttest.StallBeforeHeader(), false},
	{clienttest.StallInHeader(), false},
	{clienttest.StallInBody(), true},
	{clienttest.Delay(time.Hour), false},
}

func TestAStalledAnswerComesWhenTheFaultIsUndone(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		for _, open := range []bool{false, true} { // whether the connection is there already
			for _, tt := range stalls {
				undo := d.Every(tt.fault)
				answered, headers := make(chan error, 1), make(chan struct{})
				go func() {
					resp, err := c.Get(d.URL + "/late")
					close(headers)
					if err == nil {
						var body []byte
						body, err = io.ReadAll(resp.Body)
						resp.Body.Close()
						if err == nil && string(body) != "GET /late\n" {
							err = errors.New("the body is " + string(body))
						}
					}
					answered <- err
				}()
				if tt.header {
					<-headers
				} else {
					select {
					case <-headers:
						t.Errorf("%v, open=%v: the header came", tt.fault, open)
					case <-soon(t).Done():
					}
				}
				select {
				case err := <-answered:
					t.Errorf("%v, open=%v: answered, %v", tt.fault, open, err)
				default:
				}
				undo()
				undo()
				if err := <-answered; err != nil {
					t.Errorf("%v, open=%v: %v", tt.fault, open, err)
				}
				mustGet(t, c, d.URL+"/after")
			}
		}
		d.AssertConnections(t, 1)
	})
}

func TestAStalledRequestEndsWhenTheClientGivesUp(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		for i, tt := range stalls {
			d.Next(tt.fault)
			ctx, giveUp := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				_, _, err := get(ctx, c, d.URL+"/given-up")
				ended <- err
			}()
			eventually(t, "the request has come", func() bool { return len(d.Requests()) == 2*i+1 })
			giveUp()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%v: %v, want the context's error", tt.fault, err)
			}
			mustGet(t, c, d.URL+"/after")
		}
	})
}

func TestTruncatedAnswers(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		mustGet(t, c, d.URL)
		d.Next(clienttest.Truncate())
		resp, err := c.Post(d.URL+"/cut", "", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if string(body) != "POST " || err == nil || resp.ContentLength != 10 {
			t.Errorf("read %q of %d bytes, %v; want half and an error", body, resp.ContentLength, err)
		}
		if resp.ProtoMajor == 1 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the error is %v", err)
		}
		mustGet(t, c, d.URL+"/after")
	})
}

func TestAnswersThatSayLater(t *testing.T) {
	t.Parallel()
	each(t, []clienttest.Protocol{clienttest.HTTPS}, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		for _, tt := range []struct {
			status int
			after  time.Duration
			want   string
		}{{429, 2 * time.Second, "2"}, {503, 1500 * time.Millisecond, "2"}, {503, 0, ""}} {
			d.Next(clienttest.RetryLater(tt.status, tt.after))
			resp, err := c.Post(d.URL, "", struct{ io.Reader }{strings.NewReader("once")}) // cannot be sent again
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Retry-After"); resp.StatusCode != tt.status || got != tt.want {
				t.Errorf("answered %d, Retry-After %q; want %d, %q", resp.StatusCode, got, tt.status, tt.want)
			}
		}
	})
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	each(t, []clienttest.Protocol{clienttest.HTTPS, clienttest.HTTP1}, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		d.Next(clienttest.Redirect(http.StatusTemporaryRedirect, "/there"))
		if status, body, err := get(t.Context(), c, d.URL+"/here"); status != 200 || body != "GET /there\n" || err != nil {
			t.Errorf("%d %q %v", status, body, err)
		}
		d.AssertRequests(t, 2)
		d.AssertConnections(t, 1)
	})
}

func TestADelayedAnswerComesLater(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	c := plain(t, d)
	const delay = 20 * time.Millisecond
	d.Next(clienttest.Delay(delay))
	start := time.Now()
	mustGet(t, c, d.URL)
	if took := time.Since(start); took < delay {
		t.Errorf("answered after %v, want %v at least", took, delay)
	}
}

func TestNextBefallsOneRequestEachAndEveryTheOthers(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	c := plain(t, d)
	expect := func(want int) {
		t.Helper()
		if got, _, err := get(t.Context(), c, d.URL); got != want || err != nil {
			t.Errorf("answered %d %v, want %d", got, err, want)
		}
	}
	undoEvery := d.Every(clienttest.RetryLater(503, 0))
	undoLast := d.Every(clienttest.RetryLater(500, 0))
	d.Next(clienttest.RetryLater(429, 0), clienttest.RetryLater(502, 0))
	undoNext := d.Next(clienttest.RetryLater(504, 0), clienttest.RetryLater(505, 0))
	d.Next(clienttest.RetryLater(418, 0))
	expect(429)
	expect(502)
	expect(504)
	undoNext()
	expect(418)
	expect(500)
	expect(500)
	undoLast()
	expect(503)
	undoEvery()
	expect(200)
}

func TestFaultsAreInstalledAndUndoneWhileRequestsRun(t *testing.T) {
	t.Parallel()
	each(t, []clienttest.Protocol{clienttest.HTTPS, clienttest.HTTP1TLS}, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		var callers, switcher sync.WaitGroup
		done := make(chan struct{})
		switcher.Go(func() {
			for {
				for _, undo := range []func(){
					d.Every(clienttest.StallBeforeHeader()), d.Every(clienttest.StallInHeader()), d.Every(clienttest.StallInBody()),
					d.Next(clienttest.Truncate(), clienttest.RetryLater(429, 0)), d.LimitStreams(7), d.KeepAlive(5 * time.Second), d.Refuse(),
					d.SilenceNew(2), d.ResetNew(1), d.RefuseStreams(), d.AllowStreams(3), d.TurnAway(),
				} {
					undo()
				}
				d.GoAway()
				d.CloseIdle()
				select {
				case <-done:
					return
				default:
				}
			}
		})
		for range 8 {
			callers.Go(func() {
				for range 20 {
					get(t.Context(), c, d.URL) // what comes of it is chance; that it ends is the test
				}
			})
		}
		callers.Wait()
		close(done)
		switcher.Wait()
		mustGet(t, c, d.URL)
	})
}
