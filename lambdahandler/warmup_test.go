package lambdahandler_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/transport"
)

func TestWarmupEventsAreRecognised(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload        string
		marked, plugin bool
	}{
		{`{"thaw": "warmup"}`, true, false},
		{"\r\n{\t\"thaw\" :\n\"warmup\" } \n", true, false},
		{`{"source":"serverless-plugin-warmup"}`, false, true},
		{` { "source" : "serverless-plugin-warmup" } `, false, true},
		// What has anything else in it is somebody's order.
		{`{"thaw":"warmup","order":42}`, false, false},
		{`{"order":42,"thaw":"warmup"}`, false, false},
		{`{"thaw":"warmup","more":[1]}`, false, false},
		{`{"thaw":"warmup","thaw":"warmup"}`, false, false},
		{`{"thaw":"warmup","order":42,"thaw":"warmup"}`, false, false},
		{`{"\u0074haw":"warmup"}`, false, false},
		{`{"thaw":"warm\u0075p"}`, false, false},
		{`{"thaw":"warmup"}{"order":42}`, false, false},
		{`{"thaw":"warmup"},`, false, false},
		{`{"thaw":"warmup",}`, false, false},
		{`[{"thaw":"warmup"}]`, false, false},
		{"\ufeff" + `{"thaw":"warmup"}`, false, false},
		{"{\u00a0" + `"thaw":"warmup"}`, false, false},
		{`{"source":"serverless-plugin-warmup","stage":"prod"}`, false, false},
		{`{"version":"0","id":"1","detail-type":"order","source":"serverless-plugin-warmup","account":"1","time":"","region":"","resources":[],"detail":{"order":42}}`, false, false},
		{`{"source":"serverless-plugin-warmup","source":"shop"}`, false, false},
		{`{"thaw":"cold"}`, false, false},
		{`{"detail":{"thaw":"warmup"}}`, false, false},
		{`{"thaw":{"thaw":"warmup"}}`, false, false},
		{`{"detail":{"source":"serverless-plugin-warmup"}}`, false, false},
		{`{"source":"aws.events","detail-type":"Scheduled Event"}`, false, false},
		{`{"Thaw":"warmup","other":"thaw"}`, false, false},
		{`{"THAW":"warmup"}`, false, false},
		{`{"thaw":["warmup"]}`, false, false},
		{`{"thaw":"cold","thaw":"warmup"}`, false, false},
		{`"thaw"`, false, false},
		{`["thaw"]`, false, false},
		{`null`, false, false},
		{`{"thaw"`, false, false},
		{``, false, false},
	} {
		if got := lambdahandler.IsWarmup([]byte(c.payload)); got != c.marked {
			t.Errorf("IsWarmup(%s) is %v", c.payload, got)
		}
		if got := lambdahandler.IsServerlessPluginWarmup([]byte(c.payload)); got != c.plugin {
			t.Errorf("IsServerlessPluginWarmup(%s) is %v", c.payload, got)
		}
	}
}

func TestAWarmupMakesConnectionsWithoutTheHandler(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	ran := 0
	h := lambdahandler.New(c, func(string) { ran++ },
		lambdahandler.WithWarmup(lambdahandler.IsServerlessPluginWarmup, srv.URL),
		lambdahandler.WithWarmup(lambdahandler.IsWarmup, srv.URL, srv.URL))
	if got := mustInvoke(t, h, `{"thaw":"warmup"}`); got != `{"thaw":"warm","open":2}` {
		t.Errorf("answered %s", got)
	}
	mustInvoke(t, h, `{"source":"serverless-plugin-warmup"}`)
	if s := c.Stats(); s.Dials != 2 || s.Open != 2 || ran != 0 {
		t.Errorf("%d dials, %d open, the handler ran %d times; want 2, 2, 0", s.Dials, s.Open, ran)
	}
	mustInvoke(t, h, `"order"`)
	if ran != 1 {
		t.Errorf("the handler ran %d times for its own event", ran)
	}
}

func TestAWarmupReplacesWhatWasLost(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	h := lambdahandler.New(c, func(ctx context.Context) error { return get(ctx, c, srv.URL) }, lambdahandler.WithWarmup(lambdahandler.IsWarmup))
	mustInvoke(t, h, `"order"`)
	srv.CloseClientConnections()
	eventually(t, "the pool has seen the end", func() bool { return c.Stats().Open == 0 })
	mustInvoke(t, h, `{"thaw":"warmup"}`)
	if s := c.Stats(); s.Dials != 2 || s.Idle != 1 {
		t.Errorf("%d dials, %d idle; want 2, 1", s.Dials, s.Idle)
	}
}

func TestAWarmupSucceedsThoughADownstreamIsDown(t *testing.T) {
	t.Parallel()
	c := newClient(t, transport.Config{})
	var l logs
	h := lambdahandler.New(c, func() {}, lambdahandler.WithLogger(l.logger()),
		lambdahandler.WithWarmup(lambdahandler.IsWarmup, "http://127.0.0.1:1"))
	// Whoever may invoke the function is not to learn what it calls.
	if got := mustInvoke(t, h, `{"thaw":"warmup"}`); got != `{"thaw":"warm","open":0}` {
		t.Errorf("answered %s", got)
	}
	if line := l.lines()[0]; !strings.Contains(line, "level=WARN") || !strings.Contains(line, "127.0.0.1:1") {
		t.Errorf("logged %q", line)
	}
}

func TestAWarmupHoldsItsEnvironment(t *testing.T) {
	t.Parallel()
	const hold = 75 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		api, err := client.New()
		if err != nil {
			t.Fatal(err)
		}
		defer api.Close()
		h := lambdahandler.New(api, func() {}, lambdahandler.WithWarmup(lambdahandler.IsWarmup), lambdahandler.WithWarmupHold(hold))
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { mustInvoke(t, h, `{"thaw":"warmup"}`) })
		}
		wg.Wait()
		if took := time.Since(began); took != hold {
			t.Errorf("it took %v, want %v", took, hold)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, err := h.Invoke(ctx, []byte(`{"thaw":"warmup"}`)); err != nil || time.Since(began) >= 20*time.Millisecond {
			t.Errorf("with 20ms left it took %v, %v", time.Since(began), err)
		}
	})
}

func TestInitMakesConnections(t *testing.T) {
	t.Parallel()
	srv := downstream(t)
	c := newClient(t, transport.Config{})
	if err := lambdahandler.Init(c, time.Minute, srv.URL, srv.URL); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Idle != 2 {
		t.Errorf("%d idle connections, want 2", s.Idle)
	}
}

func TestInitIsBoundedAndFailsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3 * time.Second
		c, err := client.New(client.WithTransport(transport.Config{
			DialTimeout: transport.Disabled,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				if strings.HasPrefix(addr, "down") {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.UnknownNetworkError("down")}
				}
				<-ctx.Done() // a hole
				return nil, ctx.Err()
			},
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		began := time.Now()
		err = lambdahandler.Init(c, limit, "https://hole.test", "https://down.test")
		if took := time.Since(began); took != limit {
			t.Errorf("Init took %v, want its limit of %v", took, limit)
		}
		if err == nil || !strings.Contains(err.Error(), "hole.test") || !strings.Contains(err.Error(), "down.test") {
			t.Errorf("error %v, want one that names both", err)
		}
	})
}

func TestInitRefusesBadArguments(t *testing.T) {
	t.Parallel()
	c := newClient(t, transport.Config{})
	for _, err := range []error{
		lambdahandler.Init(nil, time.Second),
		lambdahandler.Init(c, 0),
		lambdahandler.Init(c, -time.Second),
		lambdahandler.Init(c, time.Second, "not a URL"),
	} {
		if err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("error %v, want one that says what is allowed", err)
		}
	}
}
