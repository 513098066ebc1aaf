package transport

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Servers that take connections and are then slow, deaf or unwilling, with http.Transport beside the pool.

func beside(t *testing.T, cfg Config, f func(t *testing.T, rt http.RoundTripper)) {
	t.Run("http.Transport", func(t *testing.T) {
		t.Parallel()
		reference := &http.Transport{Protocols: new(http.Protocols)}
		reference.Protocols.SetUnencryptedHTTP2(true)
		t.Cleanup(reference.CloseIdleConnections)
		f(t, reference)
	})
	t.Run("pool", func(t *testing.T) {
		t.Parallel()
		f(t, newPool(t, h2c, cfg).Transport)
	})
}

// pause lets time pass that the fault itself takes: a server is slow, or a connection is quiet.
func pause(d time.Duration) { <-time.After(d) }

func post(ctx context.Context, rt http.RoundTripper, url, id string) error {
	req := newRequest(ctx, "POST", url, id, getBody)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	return readOwn(req, resp)
}

// As an event loop does that computes an answer, the server reads no PING meanwhile.
func TestServerThatIsBusyWithARequestLosesNone(t *testing.T) {
	t.Parallel()
	beside(t, Config{VerifyAfter: 300 * time.Millisecond}, func(t *testing.T, rt http.RoundTripper) {
		s := serveH2(t, &h2Peer{request: func(c *h2Conn, r *h2Request) {
			if r.id == "slow" {
				pause(2500 * time.Millisecond)
			}
			c.answer(r)
		}})
		if err := post(t.Context(), rt, s.url, "first"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := post(t.Context(), rt, s.url, "slow"); err != nil {
				t.Errorf("slow: %v", err)
			}
		})
		pause(500 * time.Millisecond)
		if err := post(t.Context(), rt, s.url, "second"); err != nil {
			t.Errorf("second: %v", err)
		}
		wg.Wait()
	})
}

// A server that answers no PING, or a hop that drops them, may still bring an answer.
func TestAnswerThatComesWhileAPINGIsUnansweredIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	beside(t, Config{VerifyAfter: 300 * time.Millisecond}, func(t *testing.T, rt http.RoundTripper) {
		s := serveH2(t, &h2Peer{request: func(c *h2Conn, r *h2Request) {
			if r.id != "slow" {
				c.answer(r)
				return
			}
			c.writeHeaders(r, "200", false)
			c.fr.WriteData(r.stream, false, []byte("slow"))
			go func() { // nothing else is written meanwhile: the second request has another connection
				pause(700 * time.Millisecond)
				for range 15 {
					pause(100 * time.Millisecond)
					c.fr.WriteData(r.stream, false, []byte("more"))
				}
				c.fr.WriteData(r.stream, true, nil)
			}()
		}})
		s.mute.Store(true)
		slow := make(chan error, 1)
		go func() { slow <- post(t.Context(), rt, s.url, "slow") }()
		pause(600 * time.Millisecond)
		if _, reference := rt.(*http.Transport); !reference {
			if err := post(t.Context(), rt, s.url, "second"); err != nil {
				t.Errorf("second: %v", err)
			}
		}
		if err := <-slow; err != nil {
			t.Errorf("slow: %v", err)
		}
	})
}

// One backend of several allows no stream, from the beginning or from some time on, as one that drains.
func TestOneBackendThatAllowsNoStreamCostsNobodyAnything(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprintf("later %t", later), func(t *testing.T) {
			t.Parallel()
			beside(t, Config{}, func(t *testing.T, rt http.RoundTripper) {
				allows := func(n uint32) http2.Setting {
					return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n}
				}
				s := serveH2(t, &h2Peer{curt: true, greet: func(c *h2Conn) {
					if c.number == 1 && !later {
						c.fr.WriteSettings(allows(0))
					} else {
						c.fr.WriteSettings(allows(100))
					}
				}, request: func(c *h2Conn, r *h2Request) {
					if c.number > 1 {
						c.answer(r)
						return
					}
					if !later {
						c.fr.WriteRSTStream(r.stream, http2.ErrCodeRefusedStream)
						return
					}
					c.answer(r)
					c.fr.WriteSettings(allows(0))
				}})
				if later {
					if err := post(t.Context(), rt, s.url, "first"); err != nil {
						t.Fatal(err)
					}
					pause(100 * time.Millisecond)
				}
				for i := range 6 {
					ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
					if err := post(ctx, rt, s.url, fmt.Sprint(i)); err != nil {
						t.Error(err)
					}
					cancel()
				}
			})
		})
	}
}

// One backend of several refuses all streams.
func TestOneBackendThatRefusesCostsNobodyAnything(t *testing.T) {
	t.Parallel()
	beside(t, Config{}, func(t *testing.T, rt http.RoundTripper) {
		s := serveH2(t, &h2Peer{request: func(c *h2Conn, r *h2Request) {
			if c.number == 1 {
				c.fr.WriteRSTStream(r.stream, http2.ErrCodeRefusedStream)
				return
			}
			c.answer(r)
		}})
		var failed atomic.Int64
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := post(ctx, rt, s.url, fmt.Sprint(i)); err != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		t.Logf("%d of 20 failed, %d connections", failed.Load(), s.accepted())
		if _, reference := rt.(*http.Transport); reference {
			return // all of them may share the bad one, and none gets another
		}
		if failed.Load() > 0 || s.accepted() > 10 {
			t.Error("want none to fail, and few connections")
		}
	})
}
