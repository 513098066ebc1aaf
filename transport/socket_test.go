package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

// A look at a connection whose reader is not waiting is over as soon as the reader does, or the connection is closed, or
// settleTime has passed.
func TestLookWaitsForTheReader(t *testing.T) {
	const soon = 10 * time.Millisecond
	reads := func(c *conn) { c.Read(make([]byte, 1)) }
	for _, tt := range []struct {
		name  string
		when  time.Duration
		what  func(c *conn) // happens then
		want  liveness
		after time.Duration
	}{
		{"the reader comes to wait", soon, reads, alive, soon},
		{"the reader comes too late", 2 * settleTime, reads, inDoubt, settleTime},
		{"it is closed", soon, func(c *conn) { c.Close() }, dead, soon},
		{"others begin to look", soon, func(c *conn) { c.look() }, inDoubt, settleTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := pipedConn(t)
				time.AfterFunc(tt.when, func() { tt.what(c) })
				began := time.Now()
				if got := c.look(); got != tt.want {
					t.Errorf("look says %d, want %d", got, tt.want)
				}
				if took := time.Since(began); took != tt.after {
					t.Errorf("it took %v, want %v", took, tt.after)
				}
			})
		})
	}
}

// Those who look at many connections wait for all their readers together.
func TestLooksShareTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s settling
		defer s.stop()
		began := time.Now()
		for i := range 10 {
			if got := pipedConn(t).lookWithin(&s); got != inDoubt {
				t.Errorf("the look at connection %d says %d, want %d", i, got, inDoubt)
			}
		}
		if took := time.Since(began); took != settleTime {
			t.Errorf("it took %v, want %v", took, settleTime)
		}
	})
}

// While a process is stopped, as by a freeze, its timers run out. The reader gets its time nevertheless.
func TestAStopTakesOneSliceOfALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipedConn(t)
		s := settling{slice: time.NewTimer(settleTime / settleSlices)}
		defer s.stop()
		time.Sleep(10 * settleTime)
		time.AfterFunc(settleTime/2, func() { c.Read(make([]byte, 1)) })
		if !s.wait(c, c.raw.turns.Load()) {
			t.Error("the time is up before the reader had any")
		}
	})
}

// A connection that is closed while it is looked at was dead, whoever comes first to say so.
func TestAConnectionThatClosesDuringALookIsStale(t *testing.T) {
	m := modes[0]
	s := serve(t, m)
	p := newPool(t, m, Config{})
	p.mustSend(t, s.request(t.Context(), "GET", "id", noBody))
	c := p.onlyConn(t)
	peek := c.raw.socket.look
	yield := func() {
		for range 1000 {
			runtime.Gosched()
		}
	}
	var once sync.Once
	var wg sync.WaitGroup
	c.raw.socket.look = func(fd uintptr) {
		peek(fd)
		once.Do(func() {
			p.mu.Lock()
			wg.Go(func() { c.Close() })
			for !c.closing.Load() {
				runtime.Gosched()
			}
			yield() // Close waits for the lock now
			wg.Go(func() {
				yield() // and so does the request
				p.mu.Unlock()
			})
		})
	}
	p.mustSend(t, s.request(t.Context(), "GET", "id-2", noBody))
	wg.Wait()
	if closed := p.Stats().Closed; closed != (Closed{Stale: 1}) {
		t.Errorf("closed: %+v, want one that was stale", closed)
	}
}

// What a reader has taken out of the socket and not dealt with yet cannot be seen there: a look must not take the
// connection for alive then.
func TestLookWaitsForWhatTheReaderHasTaken(t *testing.T) {
	nc, server := tcpPair(t)
	c := loneConn(nc)
	c.asked.Store(true)
	taken, dealt, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		p := make([]byte, 1)
		c.Read(p)
		close(taken)
		<-dealt
		c.Read(p)
	}()
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-taken
	if got := c.look(); got != inDoubt {
		t.Errorf("while the reader is dealing with a byte, look says %d, want %d", got, inDoubt)
	}
	close(dealt)
	eventually(t, "the reader waits again", func() bool { return waiting(c.raw.turns.Load()) })
	peek := c.raw.socket.look
	c.raw.socket.look = func(fd uintptr) {
		c.raw.works() // the reader comes first, and takes what there was
		peek(fd)
	}
	if got := c.look(); got != inDoubt {
		t.Errorf("if the reader takes something during the look, it says %d, want %d", got, inDoubt)
	}
	c.raw.socket.look = peek
	c.raw.waits()
	if got := c.look(); got != alive {
		t.Errorf("once the reader waits again, look says %d, want %d", got, alive)
	}
	c.Close()
	<-over
}

// loneConn returns a connection that is in no pool.
func loneConn(nc net.Conn) *conn {
	raw := newRawConn(nc)
	return &conn{nc: raw, raw: raw, origin: &origin{t: &Transport{machine: pool.New(pool.Config{}), clock: systemClock{}}}}
}

// pipedConn returns one that leads to a pipe, whose other end says nothing.
func pipedConn(t *testing.T) *conn {
	here, there := net.Pipe()
	c := loneConn(here)
	t.Cleanup(func() {
		c.Close()
		there.Close()
	})
	return c
}

// deadlineConn counts the deadlines for writes that are set.
type deadlineConn struct {
	net.Conn
	set  int
	last time.Time
}

func (c *deadlineConn) Write(p []byte) (int, error) { return len(p), nil }

func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	c.set++
	c.last = t
	return nil
}

// A write has writeTimeout or a little more, and the deadline is moved only now and then.
func TestDeadlineOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := new(deadlineConn)
		c := loneConn(nc)
		write := func(n, want int, pause time.Duration) {
			t.Helper()
			nc.set = 0
			for range n {
				time.Sleep(pause)
				c.Write([]byte("x"))
				if left := time.Until(nc.last); c.raw.bounded() && (left < writeTimeout || left > writeTimeout+writeSlack) {
					t.Fatalf("a write has %v", left)
				}
			}
			if nc.set != want {
				t.Errorf("%d writes, %v apart: the deadline was set %d times, want %d", n, pause, nc.set, want)
			}
		}
		write(10, 0, time.Minute) // HTTP/1.1
		if c.raw.boundWrites() {
			t.Error("what passed deadlines do to a connection other than of TCP is not known")
		}
		c.raw.attempt = c.raw.read
		c.frames = new(frames)
		c.raw.boundWrites()
		write(1000, 0, time.Millisecond)
		write(10, 2, time.Second)
		write(10, 10, time.Minute)
		c.SetWriteDeadline(time.Time{}) // a user's, who was shown the connection
		write(10, 10, time.Minute)

		// The restore of a snapshot sets the clock back.
		c.raw.writeBy.Store(uptime() + 3600)
		write(1, 1, 0)

		// What TLS writes on its own account, to a connection that has been idle.
		time.Sleep(time.Hour)
		nc.set = 0
		c.raw.Write([]byte("x"))
		if nc.set != 1 {
			t.Error("a write beneath meets a deadline that has passed")
		}
		c.raw.SetWriteDeadline(time.Time{}) // its goodbye
		write(10, 0, time.Minute)
	})
}

// A peer that takes nothing does not hold up those who write for ever.
func TestWritesEnd(t *testing.T) {
	nc, _ := tcpPair(t)
	c := loneConn(nc)
	defer c.Close()
	c.frames = new(frames)
	if !c.raw.boundWrites() {
		t.Skip("writes are bounded by the protocol layer here")
	}
	done := make(chan error)
	go func() {
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				done <- err
				return
			}
		}
	}()
	eventually(t, "the client's writing is stuck", func() bool {
		before := c.written.Load()
		return before > 0 && !within(50*time.Millisecond, func() bool { return c.written.Load() != before })
	})
	if left := c.raw.writeBy.Load() - uptime(); left > latest {
		t.Errorf("it has %d s", left)
	}
	for { // they are over, and over again: what the kernel took first has given it another one
		nc.SetWriteDeadline(time.Now())
		select {
		case err := <-done:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("it ends with %v", err)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// slowConn takes a byte of each write before the deadline, until it takes no more.
type slowConn struct {
	deadlineConn
	takes int
}

func (c *slowConn) Write(p []byte) (int, error) {
	<-time.After(time.Until(c.last))
	if c.takes == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	c.takes--
	if len(p) == 1 {
		return 1, nil
	}
	return 1, os.ErrDeadlineExceeded
}

// A peer that takes little at a time is slow, and not gone.
func TestSlowWriteGoesOn(t *testing.T) {
	for _, c := range []struct {
		takes, want int
		err         error
		took        time.Duration
	}{
		{takes: 10, want: 10, took: 10 * (writeTimeout + writeSlack)},
		{takes: 3, want: 3, err: os.ErrDeadlineExceeded, took: 4 * (writeTimeout + writeSlack)},
		{takes: 0, want: 0, err: os.ErrDeadlineExceeded, took: writeTimeout + writeSlack},
	} {
		synctest.Test(t, func(t *testing.T) {
			nc := &slowConn{takes: c.takes}
			lone := loneConn(nc)
			lone.raw.attempt = lone.raw.read
			lone.frames = new(frames)
			lone.raw.boundWrites()
			began := time.Now()
			n, err := lone.Write(make([]byte, 10))
			if n != c.want || !errors.Is(err, c.err) || time.Since(began) != c.took {
				t.Errorf("of a peer that takes %d bytes, one each time: %d were written, %v, in %v; want %d, %v, %v", c.takes, n, err, time.Since(began), c.want, c.err, c.took)
			}
		})
	}
}

// Through an HTTPS proxy it is the socket's reader that a look goes by: TLS, which reads ahead, is above it.
func TestSocketBeneathTheTLSOfAProxyIsLookedAt(t *testing.T) {
	cert, _ := testCert()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.String()) })}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer proxy.Close()
	wg.Go(func() { proxy.Serve(ln) })
	p := newPool(t, modes[0], Config{
		DialContext: new(net.Dialer).DialContext,
		Proxy:       http.ProxyURL(&url.URL{Scheme: "https", Host: ln.Addr().String()}),
	})
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://origin.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != "http://origin.test/" || err != nil || resp.TLS == nil {
			t.Errorf("got %q, %v, TLS %v", got, err, resp.TLS)
		}
	}
	c := p.onlyConn(t)
	if _, ok := c.raw.Conn.(*net.TCPConn); !ok || canReadSockets && c.raw.attempt == nil {
		t.Errorf("what is read is a %T", c.raw.Conn)
	}
	if got := c.look(); got != alive {
		t.Errorf("look says %d, want %d", got, alive)
	}
}
