package transport

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

func TestASnapshotIsTheSumOfItsOrigins(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if err := p.send(s.request(context.Background(), "GET", "id", noBody)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		st := p.Stats()
		var sum Origin
		for _, o := range st.Origins {
			sum.add(o)
		}
		if sum != st.Origin {
			t.Fatalf("the sum is\n%+v, the parts add up to\n%+v", st.Origin, sum)
		}
		if st.Reused > st.Requests {
			t.Fatalf("%d of %d requests reused a connection", st.Reused, st.Requests)
		}
	}
}

// Several origins have one name where requests go through different proxies. What was counted of one that is forgotten stays.
func TestCountersOnlyGrow(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{
		Proxy: func(req *http.Request) (*url.URL, error) {
			if proxy := req.Header.Get("X-Proxy"); proxy != "" {
				return url.Parse(proxy)
			}
			return nil, nil
		},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "api.test:80" {
				return nil, errInjected
			}
			return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(s.url, "http://"))
		},
	})
	var before Origin
	for n := range 6 {
		req := newRequest(t.Context(), "GET", "http://api.test/", fmt.Sprint(n), noBody)
		proxy := []string{"", "socks5://proxy.invalid:1"}[n%2]
		req.Header.Set("X-Proxy", proxy)
		if err := p.send(req); (err == nil) != (proxy == "") {
			t.Fatalf("through %q: %v", proxy, err)
		}
		st := p.Stats()
		if now := st.Origins["http://api.test:80"]; now.Requests < before.Requests || now.Dials <= before.Dials && n%2 == 1 || now.DialErrors != uint64(n+1)/2 {
			t.Errorf("after %d requests:\n%+v, before\n%+v", n+1, now, before)
		} else {
			before = now
		}
		if st.Unreached != (Origin{}) {
			t.Errorf("a name that was reached is among those that were not: %+v", st.Unreached)
		}
	}
}

func TestConnectedIsTheStatsOfThoseWithConnections(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		kept, closed := serve(t, m), serve(t, m)
		p := newPool(t, m, Config{})
		p.mustSend(t, closed.request(t.Context(), "GET", "1", noBody))
		p.CloseIdleConnections()
		p.settled(t)
		p.mustSend(t, kept.request(t.Context(), "GET", "2", noBody))
		got, st := p.Connected(), p.Stats()
		if len(got) != 1 || got[kept.url] != st.Origins[kept.url] || got[kept.url].Open != 1 || len(st.Origins) != 2 {
			t.Errorf("%+v\nof %+v", got, st)
		}
	})
}
