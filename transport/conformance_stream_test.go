package transport_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thawhttp/thaw/transport"
)

// conversation is what a caller sees of a stream in both directions.
type conversation struct {
	Code     int
	Proto    string
	Header   http.Header
	Lines    []string
	End      fault
	Trailer  http.Header
	CanClose bool // the writing side alone
}

// talk reads the answer to each line that it writes.
func (c *conversation) talk(t *testing.T, w io.Writer, r *bufio.Reader, lines ...string) {
	for _, line := range lines {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			t.Errorf("writing %q: %v", line, err)
			return
		}
		answer, err := r.ReadString('\n')
		if err != nil {
			t.Errorf("reading the answer to %q: %v", line, err)
			return
		}
		c.Lines = append(c.Lines, answer)
	}
}

// converse answers each line in upper case, in HTTP/1.1 too before the request's body has ended.
func converse(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex() // fails on HTTP/2, which needs no enabling
	w.Header().Set("Trailer", "X-Lines")
	w.WriteHeader(200)
	rc.Flush()
	n := 0
	for lines := bufio.NewScanner(r.Body); lines.Scan(); n++ {
		fmt.Fprintln(w, strings.ToUpper(lines.Text()))
		rc.Flush()
	}
	w.Header().Set("X-Lines", fmt.Sprint(n))
}

func TestBothDirectionsStreamAtOnce(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(converse))
			compare(t, m.config(), func(t *testing.T, rt http.RoundTripper) (got conversation) {
				r, w := io.Pipe()
				req := request(t, "POST", o.URL, r)
				within(t, 10*time.Second, "the conversation", func() {
					resp, err := rt.RoundTrip(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					got.Code, got.Proto = resp.StatusCode, resp.Proto
					got.talk(t, w, bufio.NewReader(resp.Body), "one", "two", "three")
					w.Close()
					_, err = io.Copy(io.Discard, resp.Body)
					got.End, got.Trailer = faultOf(err), resp.Trailer.Clone()
				})
				return got
			})
		})
	}
}

// upgrade answers 101 and then each line in upper case.
func upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" && r.Method != "CONNECT" {
		http.Error(w, "upgrade required", http.StatusUpgradeRequired)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), 500)
		return
	}
	defer c.Close()
	if r.Method == "CONNECT" {
		io.WriteString(c, "HTTP/1.1 200 Connected\r\n\r\n")
	} else {
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Host: %s\r\n\r\n", r.Header.Get("Upgrade"), r.Host)
	}
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		io.WriteString(c, strings.ToUpper(line))
	}
}

func TestProtocolUpgrade(t *testing.T) {
	for _, x := range []struct {
		protocol string
		modes    []mode // HTTP/2 refuses what is not a websocket, and has no other connection without TLS
	}{
		{"websocket", []mode{modeH1, modeH1TLS, modeH2}},
		{"WebSocket", []mode{modeH1, modeH1TLS, modeH2}},
		{"frob", h1Modes},
	} {
		for _, m := range x.modes {
			t.Run(x.protocol+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(upgrade))
				compare(t, m.config(), func(t *testing.T, rt http.RoundTripper) (got conversation) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					req := get(t, o.URL).WithContext(ctx)
					req.Header.Set("Connection", "Upgrade")
					req.Header.Set("Upgrade", x.protocol)
					within(t, 10*time.Second, "the conversation", func() { got.upgraded(t, rt, req, cancel) })
					o.take(t)
					return got
				})
			})
		}
	}
}

// upgraded converses on a connection that has switched protocols, and for a while after the request's
// context has ended.
func (c *conversation) upgraded(t *testing.T, rt http.RoundTripper, req *http.Request, cancel func()) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	c.Code, c.Proto, c.Header = resp.StatusCode, resp.Proto, resp.Header.Clone()
	body, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Errorf("the body is a %T, not an io.ReadWriteCloser", resp.Body)
		return
	}
	_, c.CanClose = resp.Body.(interface{ CloseWrite() error })
	r := bufio.NewReader(body)
	c.talk(t, body, r, "one", "two", "three")
	cancel()
	c.talk(t, body, r, "four")
	if err := body.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	_, err = body.Read(make([]byte, 1))
	c.End = fault{} // what a read after Close says is net.Conn's business
	if err == nil {
		t.Error("reading after Close succeeds")
	}
}

// An upgraded connection may be read by several goroutines, as a net.Conn may.
func TestUpgradedConnectionIsReadByMany(t *testing.T) {
	for _, m := range h1Modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			const readers, each = 4, 100
			o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
				for i := range readers * each {
					if _, err := c.Write([]byte{byte(i)}); err != nil {
						t.Error(err)
						return
					}
				}
			}))
			rt, err := transport.New(m.config())
			if err != nil {
				t.Fatal(err)
			}
			defer rt.Close()
			req := get(t, o.URL)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "bytes")
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var count [256]atomic.Int64
			var wg sync.WaitGroup
			for range readers {
				wg.Go(func() {
					p := make([]byte, 1)
					for range each {
						if _, err := io.ReadFull(resp.Body, p); err != nil {
							t.Error(err)
							return
						}
						count[p[0]].Add(1)
					}
				})
			}
			wg.Wait()
			for i := range count {
				want := int64(readers * each / 256)
				if i < readers*each%256 {
					want++
				}
				if got := count[i].Load(); got != want {
					t.Errorf("byte %d was read %d times, want %d", i, got, want)
				}
			}
		})
	}
}

func TestUpgradeOnUnencryptedHTTP2IsRefused(t *testing.T) {
	run(t, []exchange{{
		name: "websocket", modes: []mode{modeH2C}, fault: "any", blind: true,
		request: changed("GET", nil, func(req *http.Request) {
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "websocket")
		}),
	}})
}

func TestUpgradeDeclined(t *testing.T) {
	run(t, []exchange{{
		name: "websocket", modes: []mode{modeH1, modeH1TLS, modeH2}, handler: answer(200, "no"),
		request: changed("GET", nil, func(req *http.Request) {
			req.Header.Set("Connection", "keep-alive, Upgrade")
			req.Header.Set("Upgrade", "websocket")
		}),
	}})
}

func TestConnectMethodOfTheCaller(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			upgrade(w, r)
			return
		}
		converse(w, r)
	}
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(h))
			compare(t, m.config(), func(t *testing.T, rt http.RoundTripper) (got conversation) {
				r, w := io.Pipe()
				req := request(t, "CONNECT", o.URL, r)
				req.URL.Path, req.URL.RawQuery, req.Host = "", "", "target.example:443"
				if !m.h2 {
					// net/http sends a CONNECT's body in chunks, which makes no tunnel.
					w.Close()
				}
				within(t, 10*time.Second, "the conversation", func() {
					resp, err := rt.RoundTrip(req)
					if err != nil {
						got.End = faultOf(err)
						return
					}
					defer resp.Body.Close()
					got.Code, got.Proto, got.Header = resp.StatusCode, resp.Proto, resp.Header.Clone()
					got.Header.Del("Date")
					_, got.CanClose = resp.Body.(io.Writer)
					if m.h2 {
						got.talk(t, w, bufio.NewReader(resp.Body), "one", "two")
					}
					w.Close()
				})
				if asked := o.take(t); len(asked) == 1 {
					got.Lines = append(got.Lines, asked[0].Method, asked[0].URI, asked[0].Host)
				}
				return got
			})
		})
	}
}

func TestEndlessBodyIsClosedQuickly(t *testing.T) {
	// Server-sent events, one at once and then a long silence, or as many as the connection takes.
	for name, pause := range map[string]time.Duration{"sparse": time.Hour, "steady": time.Millisecond, "flood": 0} {
		for _, m := range allModes {
			t.Run(name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					for {
						if _, err := io.WriteString(w, "data: "+strings.Repeat("x", 1000)+"\n\n"); err != nil {
							return
						}
						if http.NewResponseController(w).Flush() != nil {
							return
						}
						if pause == 0 && r.Context().Err() == nil {
							continue
						}
						select {
						case <-r.Context().Done():
							return
						case <-time.After(pause):
						}
					}
				}))
				type seen struct{ Code int }
				compare(t, m.config(), func(t *testing.T, rt http.RoundTripper) seen {
					resp, err := rt.RoundTrip(get(t, o.URL))
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(resp.Body, make([]byte, 100)); err != nil {
						t.Error(err)
					}
					within(t, 2*time.Second, "Body.Close", func() { resp.Body.Close() })
					o.take(t) // the handler learns of it
					return seen{resp.StatusCode}
				})
			})
		}
	}
}

func TestEndlessBodyIsClosedQuicklyWhateverTheDrainLimits(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			o := m.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			cfg := m.config()
			cfg.DrainBytes, cfg.DrainTime = transport.Disabled, transport.Disabled
			resp, err := newPool(t, cfg).RoundTrip(get(t, o.URL))
			if err != nil {
				t.Fatal(err)
			}
			within(t, time.Second, "Body.Close", func() { resp.Body.Close() })
			o.take(t)
		})
	}
}
