package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
)

func TestOriginsWithoutAConnectionAreForgottenButNotWhatTheyCounted(t *testing.T) {
	s := serve(t, plain)
	var p *pool
	p = newPool(t, plain, Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == s.url[len("http://"):] {
			return p.net.dial(ctx, network, addr)
		}
		return nil, errors.New("nobody there")
	}})
	p.mustSend(t, s.request(t.Context(), "GET", "it", noBody))
	const asked = 3 * maxOrigins
	for i := range asked {
		if err := p.send(newRequest(t.Context(), "GET", fmt.Sprintf("http://%d.test/", i), "it", noBody)); err == nil {
			t.Fatal("answered")
		}
	}
	p.mu.Lock()
	origins, aliases := len(p.origins), len(p.aliases)
	p.mu.Unlock()
	if origins > maxOrigins || aliases > 4*maxOrigins {
		t.Errorf("%d origins and %d ways to write them are remembered", origins, aliases)
	}
	if got := p.Stats(); got.Dials != asked+1 || got.DialErrors != asked || got.Origins[s.url].Idle != 1 {
		t.Errorf("after %d origins: %+v", asked, got.Origin)
	}
	p.mustSend(t, s.request(t.Context(), "GET", "again", noBody))
	if n := p.net.dials(); n != 1 {
		t.Errorf("%d connections to the origin that is in use", n)
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.origins) != 1 || len(p.aliases) > 4*maxOrigins {
		t.Errorf("%d origins, and %d ways to write them are remembered", len(p.origins), len(p.aliases))
	}
}
