package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOriginsWithoutAConnectionAreForgottenButNotWhatTheyCounted(t *testing.T) {
	s := serve(t, plain)
	var p *testPool
	p = newPool(t, plain, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == s.url[len("http://"):] {
			return p.net.dial(ctx, network, addr)
		}
		return nil, errors.New("nobody there")
	}})
	p.mustSend(t, s.request(t.Context(), "GET", "it", noBody))
	const asked = 3 * maxVacant
	for i := range asked {
		url := fmt.Sprintf("http://%d.test/", i)
		if err := p.send(newRequest(t.Context(), "GET", url, "it", noBody)); err == nil {
			t.Fatal("answered")
		}
		if err := p.Warm(t.Context(), url); err == nil {
			t.Fatal("warmed")
		}
		if n := len(p.Stats().Origins); n != 1 {
			t.Fatalf("%d origins, want the one that was reached", n)
		}
	}
	p.remembered(t, 1)
	if got := p.Stats(); got.Dials != 2*asked+1 || got.DialErrors != 2*asked || got.Waits != asked+1 || got.Origins[s.url].Idle != 1 {
		t.Errorf("after %d origins: %+v", asked, got.Origin)
	}
	p.mustSend(t, s.request(t.Context(), "GET", "again", noBody))
	if n := p.net.dials(); n != 1 {
		t.Errorf("%d connections to the origin that is in use", n)
	}
}

// Of origins that were reached, what they counted is remembered for longer than they are.
func TestOriginsThatWereReachedAreRemembered(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		host := strings.TrimPrefix(strings.TrimPrefix(s.url, "https://"), "http://")
		var p *testPool
		p = newPool(t, m, Config{TLS: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return p.net.dial(ctx, network, host)
		}})
		send := func(name string) {
			t.Helper()
			p.mustSend(t, newRequest(t.Context(), "GET", strings.Replace(s.url, host, name, 1), "it", noBody))
			p.CloseIdleConnections()
			p.settled(t)
		}
		const asked = 2 * maxVacant
		for i := range asked {
			send(fmt.Sprintf("%d.example.com:80", i))
			send("often.example.com:80")
		}
		eventually(t, "what was closed is forgotten", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.origins) == maxVacant
		})
		p.remembered(t, maxVacant)
		got := p.Stats()
		if len(got.Origins) != asked+1 || got.Requests != 2*asked || got.Dials != 2*asked || got.Closed.Reset != 2*asked {
			t.Errorf("after %d origins: %+v", asked, got.Origin)
		}
		for name, o := range got.Origins {
			if want := uint64(1); strings.Contains(name, "often") && o.Requests != asked || !strings.Contains(name, "often") && o.Requests != want {
				t.Errorf("%s: %+v", name, o)
			}
		}
	})
}

// A host that is given up on while it is dialled is forgotten when the dial has ended.
func TestOriginsThatNobodyWaitsForAreForgottenWithTheirDials(t *testing.T) {
	release := make(chan struct{})
	p := newPool(t, plain, Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
		<-release
		return nil, errors.New("nobody there")
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for i := range 3 {
		go func() {
			done <- p.send(newRequest(ctx, "GET", fmt.Sprintf("http://%d.test/", i), "it", noBody))
		}()
	}
	eventually(t, "the dials are under way", func() bool { return p.Stats().Dialing == 3 })
	cancel()
	for range 3 {
		<-done
	}
	p.remembered(t, 3)
	close(release)
	eventually(t, "the dials have ended", func() bool { return p.Stats().Dialing == 0 })
	p.remembered(t, 0)
	if got := p.Stats(); got.Waits != 3 || got.WaitTime == 0 || got.DialErrors != 3 {
		t.Errorf("%+v", got.Origin)
	}
}

func TestTheWaysToWriteAHostAreForgottenToo(t *testing.T) {
	p := newPool(t, plain, Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("nobody there")
	}})
	for i := range 1 << 13 {
		host := []rune("bücherbücherb")
		for bit := range host {
			if i>>bit&1 == 1 && host[bit] < 0x80 {
				host[bit] -= 'a' - 'A'
			} else if i>>bit&1 == 1 {
				host[bit] = 'Ü'
			}
		}
		p.send(newRequest(t.Context(), "GET", "http://"+string(host)+".test/", "it", noBody))
	}
	p.remembered(t, 0)
}

// remembered checks that so many origins are, and no more ways to write them than there may be.
func (p *testPool) remembered(t *testing.T, origins int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.origins) != origins || len(p.aliases) > maxAliases*origins || p.vacant.Len() > maxVacant {
		t.Errorf("%d origins, %d ways to write them, %d without a connection are remembered; want %d origins", len(p.origins), len(p.aliases), p.vacant.Len(), origins)
	}
}

// An origin is made without the lock, and the pool may be closed meanwhile.
func TestRequestsToNewOriginsEndWithThePool(t *testing.T) {
	for round := range 50 {
		p := newPool(t, plain, Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("nobody there")
		}})
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 32 {
			wg.Go(func() {
				<-start
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				err := p.send(newRequest(ctx, "GET", fmt.Sprintf("http://bücher-%d.test/", i), "it", noBody))
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("a request waited for its deadline after Close")
				}
			})
		}
		close(start)
		<-time.After(time.Duration(round%10) * 20 * time.Microsecond)
		p.Close()
		wg.Wait()
	}
}
