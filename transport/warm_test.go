package transport

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An origin that was never asked may turn out to speak HTTP/2, where one connection is enough however often it is named.
func TestWarmBeyondMaxConnsPerHostFailsOnHTTP1Only(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConnsPerHost: 2})
		urls := slices.Repeat([]string{s.url}, 3)
		for range 2 { // before its protocol is known, and after
			err := p.Warm(t.Context(), urls...)
			if (err == nil) != m.h2 {
				t.Errorf("error %v", err)
			}
			if err != nil && (!errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "3 connections asked for, but MaxConnsPerHost is 2")) {
				t.Errorf("error %v", err)
			}
			if got := p.Stats(); m.h2 && got.Idle != 1 || got.Dialing != 0 {
				t.Errorf("after Warm: %+v", got.Origin)
			}
		}
	})
}

// The origin has the connection that was asked for, although it is in use and another one is being dialled.
func TestWarmDoesNotWaitForADialThatItDoesNotNeed(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	end := p.underWay(t, s)
	dialling, release := make(chan struct{}), make(chan struct{})
	p.net.before = func(string) error {
		close(dialling)
		<-release
		return errors.New("none of Warm's")
	}
	done := make(chan error, 1)
	go func() { done <- p.send(s.request(t.Context(), "POST", "second", noBody)) }()
	<-dialling
	if err := p.Warm(t.Context(), s.url); err != nil {
		t.Error(err)
	}
	close(release)
	<-done
	if err := end(); err != nil {
		t.Error(err)
	}
}

// A dial from before a freeze, whose time is up at the thaw, is not Warm's.
func TestWarmDialsAnewAfterTheDialOfAnotherHasFailed(t *testing.T) {
	forModes(t, modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{})
		fail := p.abandonDial(t, s)
		done := make(chan error, 1)
		go func() { done <- p.Warm(t.Context(), s.url) }()
		o := p.originOf(t, s.request(t.Context(), "GET", "", noBody))
		eventually(t, "Warm has begun", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return o.pins > 0
		})
		fail()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := p.Stats(); got.Idle != 1 || got.Dials != 2 {
			t.Errorf("after Warm: %+v", got.Origin)
		}
	})
}

func TestWarmBeyondTheIdleLimitsDialsNothing(t *testing.T) {
	for setting, cfg := range map[string]Config{
		"MaxIdleConnsPerHost is 1": {MaxIdleConnsPerHost: 1},
		"MaxIdleConns is 1":        {MaxIdleConns: 1},
	} {
		s := serve(t, plain)
		p := newPool(t, plain, cfg)
		p.mustSend(t, s.request(t.Context(), "GET", "1", noBody)) // what it speaks is known
		if err := p.Warm(t.Context(), s.url, s.url); err == nil || !strings.Contains(err.Error(), "2 connections asked for, but "+setting) {
			t.Errorf("error %v, want one that says that %s", err, setting)
		}
		if n := p.net.dials(); n != 1 {
			t.Errorf("%d dials", n)
		}
		if err := p.Warm(t.Context(), s.url); err != nil {
			t.Error(err)
		}
	}
}

func TestWarmBeyondMaxConnsMakesThoseThatThereIsRoomForFirst(t *testing.T) {
	forModes(t, h1Modes, func(t *testing.T, m mode) {
		s := serve(t, m)
		p := newPool(t, m, Config{MaxConns: 2})
		err := p.Warm(t.Context(), s.url, s.url, s.url)
		if !errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "no room for 1 more") || !strings.Contains(err.Error(), "MaxConns is 2") {
			t.Errorf("error %v", err)
		}
		if got := p.Stats(); got.Idle != 2 || got.Dialing != 0 {
			t.Errorf("after Warm: %+v", got.Origin)
		}
	})
}

// What ends a dial or closes a connection makes room, and Warm waits for that.
func TestWarmAfterDialsWereEnded(t *testing.T) {
	for name, end := range map[string]func(*Transport){"Reset": (*Transport).Reset, "CloseIdleConnections": (*Transport).CloseIdleConnections} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hung atomic.Bool
			p := newPool(t, plain, Config{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if !hung.Swap(true) {
					<-ctx.Done()
					pause(20 * time.Millisecond)
					return nil, ctx.Err()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}})
			s := serve(t, plain)
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := p.send(s.request(short, "GET", "it", noBody)); err == nil {
				t.Fatal("answered")
			}
			end(p.Transport)
			soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := p.Warm(soon, s.url); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWarmTakesThePlaceOfADialThatNobodyWaitsFor(t *testing.T) {
	s := serve(t, plain)
	for name, cfg := range map[string]Config{"MaxConns": {MaxConns: 1}, "MaxConnsPerHost": {MaxConnsPerHost: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hung atomic.Bool
			cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if !hung.Swap(true) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			cfg.DialDelay = 50 * time.Millisecond
			p := newPool(t, plain, cfg)
			dark := "http://dark.test/"
			if cfg.MaxConnsPerHost == 1 {
				dark = s.url
			}
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := p.send(newRequest(short, "GET", dark, "it", noBody)); err == nil {
				t.Fatal("answered")
			}
			soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := p.Warm(soon, s.url); err != nil {
				t.Error(err)
			}
		})
	}
}

// However much longer than DialDelay a dial takes, there is one more beside it, and what it makes counts.
func TestWarmOfASlowHost(t *testing.T) {
	bubble(t, Config{DialTimeout: time.Minute}, bubbleBoth, func(t *testing.T, p *Transport, s *pipes) {
		s.delay = 50 * time.Second
		if err := p.Warm(t.Context(), "http://a.test"); err != nil {
			t.Error(err)
		}
		if st := p.Stats(); st.Dials != 2 {
			t.Errorf("%+v", st.Origin)
		}
	})
}
