package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mixedServer speaks HTTP/2 and HTTP/1.1 by turns, if flips is set, and ends connections and streams now and then.
func mixedServer(t *testing.T, cert tls.Certificate, flips bool) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if rand.IntN(20) == 0 {
			pause(time.Duration(rand.IntN(30)) * time.Millisecond)
		}
		switch rand.IntN(60) {
		case 0:
			w.Header().Set("Connection", "close")
		case 1:
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "ok")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if flips {
		var handshakes atomic.Int64
		s.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
			if handshakes.Add(1)%2 == 0 {
				c.NextProtos = c.NextProtos[1:]
			}
			return c, nil
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Under every limit that makes requests wait, with clocks that jump and dials that fail or are slow, nobody waits for ever.
func TestNobodyHangsWhateverHappens(t *testing.T) {
	cert, roots := newCert()
	servers := []*httptest.Server{mixedServer(t, cert, true), mixedServer(t, cert, true), mixedServer(t, cert, false)}
	for name, cfg := range map[string]Config{
		"few connections": {MaxConns: 3, MaxConnsPerHost: 2, DialDelay: 5 * time.Millisecond, VerifyAfter: time.Millisecond},
		"one in all":      {MaxConns: 1, VerifyAfter: Disabled, MaxConnLifetime: 20 * time.Millisecond},
		"few streams":     {MaxConnsPerHost: 1, MaxConns: 2, DialDelay: Disabled, VerifyTimeout: time.Millisecond, VerifyAfter: 2 * time.Millisecond, MaxStreamsPerConn: 2},
		"short limits":    {MaxConns: 4, IdleTimeout: 5 * time.Millisecond, AcquireTimeout: 2 * time.Second, TrustIdle: time.Millisecond, VerifyAfter: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.TLS = &tls.Config{RootCAs: roots}
			cfg.Protocols = new(http.Protocols)
			cfg.Protocols.SetHTTP1(true)
			cfg.Protocols.SetHTTP2(true)
			cfg.Logger = quiet
			cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				switch rand.IntN(12) {
				case 0:
					return nil, errInjected
				case 1:
					select {
					case <-time.After(time.Duration(rand.IntN(40)) * time.Millisecond):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			p := newPool(t, plain, cfg)
			over := time.Now().Add(time.Second)
			var callers, others sync.WaitGroup
			for range 24 {
				callers.Go(func() {
					for time.Now().Before(over) {
						askSomething(t, p, servers[rand.IntN(len(servers))].URL)
					}
				})
			}
			others.Go(func() {
				for time.Now().Before(over) {
					pause(time.Duration(rand.IntN(20)) * time.Millisecond)
					ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
					switch rand.IntN(5) {
					case 0:
						p.Reset()
					case 1:
						p.CloseIdleConnections()
					case 2:
						p.Thaw(ctx)
					case 3:
						p.Warm(ctx, servers[0].URL, servers[1].URL)
					case 4:
						p.clock.freeze(time.Duration(rand.IntN(3000)-200)*time.Millisecond, 0)
					}
					cancel()
					if err := check(p.Transport); err != nil {
						t.Error(err)
					}
				}
			})
			callers.Wait()
			others.Wait()
			p.settled(t)
		})
	}
}

// askSomething makes one request, which may be impatient and may leave a part of the answer.
func askSomething(t *testing.T, p *testPool, url string) {
	patience, patient := 10*time.Second, true
	if rand.IntN(6) == 0 {
		patience, patient = time.Duration(rand.IntN(5000))*time.Microsecond, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	method := []string{"GET", "POST"}[rand.IntN(2)]
	resp, err := p.RoundTrip(newRequest(ctx, method, url, "it", []int{noBody, getBody, streamed}[rand.IntN(3)]))
	if err == nil {
		if rand.IntN(3) > 0 {
			_, err = io.ReadAll(resp.Body)
		}
		resp.Body.Close()
	}
	if patient && errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s hangs: %v\n%s", method, err, describe(p.Transport))
	}
}
