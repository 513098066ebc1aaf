package clienttest_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/thawhttp/thaw/clienttest"
)

func TestNewConnectionsAreSilentUntilThatIsUndone(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		undo := d.SilenceNew(1)
		answered := make(chan error, 1)
		go func() {
			_, _, err := get(t.Context(), c, d.URL+"/late")
			answered <- err
		}()
		eventually(t, "the connection is made", func() bool { return len(d.Connections()) == 1 })
		select {
		case err := <-answered:
			t.Errorf("answered on a silent connection, %v", err)
		case <-soon(t).Done():
		}
		d.AssertRequests(t, 0)
		if conn := d.Connections()[0]; conn.TLS || !conn.Open {
			t.Errorf("%+v", conn)
		}
		if n := d.CloseIdle() + d.ResetIdle() + d.ForgetIdle() + d.ForgetIdleWithReset() + d.GoAway(); n != 0 {
			t.Errorf("%d silent connections were idle, or told to go", n)
		}
		undo()
		undo()
		if err := <-answered; err != nil {
			t.Error(err)
		}
		mustGet(t, c, d.URL+"/after")
		d.AssertConnections(t, 1)
		d.AssertNoRequestTwice(t)
	})
}

func TestARequestThatGivesUpOnASilentConnectionIsNotHandled(t *testing.T) {
	t.Parallel()
	for _, p := range allProtocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			d := clienttest.Downstream(t, clienttest.WithProtocol(p))
			c := plain(t, d)
			d.SilenceNew(1)
			// A body that is larger than what is read ahead must not keep the others waiting.
			req, err := http.NewRequestWithContext(soon(t), "POST", d.URL+"/given-up", strings.NewReader(strings.Repeat("x", 64<<10)))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the context's", err)
			}
			c = plain(t, d)
			mustGet(t, c, d.URL+"/on-another")
			d.AssertRequests(t, 1)
			if conns := d.Connections(); len(conns[0].Requests) != 0 {
				t.Errorf("the silent connection carried a request:\n%v", d)
			}
		})
	}
}

func TestASilentConnectionThatIsClosedIsSeenToBe(t *testing.T) {
	t.Parallel()
	for _, p := range allProtocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			d := clienttest.Downstream(t, clienttest.WithProtocol(p))
			d.SilenceNew(1)
			ctx, giveUp := context.WithCancel(t.Context())
			ended := make(chan struct{})
			c := thaw(t, d)
			go func() {
				defer close(ended)
				get(ctx, c.Client, d.URL)
			}()
			eventually(t, "the connection is made", func() bool { return len(d.Connections()) == 1 })
			giveUp()
			<-ended
			c.Close()
			eventually(t, "its end is noticed", func() bool { return !d.Connections()[0].Open })
		})
	}
}

func TestNewConnectionsAreReset(t *testing.T) {
	t.Parallel()
	for _, p := range allProtocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			d := clienttest.Downstream(t, clienttest.WithProtocol(p))
			undo := d.ResetNew(2)
			for i := range 2 {
				if _, _, err := get(t.Context(), plain(t, d), d.URL+"/reset"); err == nil || isTimeout(err) {
					t.Errorf("error %v, want one that comes at once", err)
				}
				eventually(t, "the connection is closed here too", func() bool {
					conns := d.Connections()
					return len(conns) == i+1 && !conns[i].Open
				})
			}
			c := plain(t, d)
			mustGet(t, c, d.URL+"/third")
			d.AssertRequests(t, 1)
			undo()

			d.ResetNew(1)
			nc, err := net.Dial("tcp", d.URL[strings.Index(d.URL, "//")+2:])
			if err == nil {
				_, err = nc.Read(make([]byte, 1))
				nc.Close()
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("error %v, want a connection that was reset", err)
			}

			undo = d.ResetNew(1)
			undo()
			undo()
			c = plain(t, d)
			mustGet(t, c, d.URL+"/taken-back")
			d.AssertConnections(t, 5)
		})
	}
}

func TestFatesOfNewConnectionsComeInTheirOrder(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	d.ResetNew(1)
	undoSilence := d.SilenceNew(1)
	undoReset := d.ResetNew(3)
	d.ResetNew(1)
	undoReset()
	for _, silent := range []bool{false, true, false} {
		_, _, err := get(soon(t), plain(t, d), d.URL)
		if err == nil || isTimeout(err) != silent {
			t.Errorf("error %v, want a timeout: %v", err, silent)
		}
	}
	mustGet(t, plain(t, d), d.URL)
	undoSilence()
	d.AssertRequests(t, 1)
}

func TestTheEndOfTheTestEndsSilence(t *testing.T) {
	t.Parallel()
	for _, p := range allProtocols {
		f := &tb{TB: t}
		var wg sync.WaitGroup
		f.run(func() {
			d := clienttest.Downstream(f, clienttest.WithProtocol(p))
			d.SilenceNew(2)
			for i := range 2 {
				c := plain(t, d)
				wg.Go(func() {
					body := strings.Repeat("x", i*64<<10)
					if resp, err := c.Post(d.URL, "", strings.NewReader(body)); err == nil {
						resp.Body.Close()
						t.Error("answered on a silent connection")
					}
				})
			}
			eventually(t, "the connections are made", func() bool { return len(d.Connections()) == 2 })
		})
		wg.Wait()
		if got := f.take(); got != "" {
			t.Errorf("%v: %s", p, got)
		}
	}
}

func TestFatesOfNoConnectionFailTheTest(t *testing.T) {
	t.Parallel()
	f := &tb{TB: t}
	f.run(func() {
		d := clienttest.Downstream(f)
		d.SilenceNew(0)()
		d.ResetNew(-1)()
	})
	want := "clienttest: SilenceNew(0): want at least 1\nclienttest: ResetNew(-1): want at least 1"
	if got := f.take(); got != want {
		t.Errorf("failed with\n%s\nwant\n%s", got, want)
	}
}
