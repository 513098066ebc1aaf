package tracing_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"

	"github.com/thawhttp/thaw/tracing"
)

func TestFaultsOfNewAreNamedTogether(t *testing.T) {
	t.Parallel()
	rt, err := tracing.New(nil, record(t), nil, record(t), nil)
	if rt != nil || err == nil {
		t.Fatalf("got %v, %v; want an error alone", rt, err)
	}
	for _, want := range []string{"New without a RoundTripper", "tracer 1 of New is nil", "tracer 3 of New is nil"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestWithoutATracerThereIsNoLayer(t *testing.T) {
	t.Parallel()
	if next := http.DefaultTransport; newTraced(t, next) != next {
		t.Error("New without a tracer put something in front of the RoundTripper")
	}
}

// respond answers every request with resp, without any hook.
func respond(status int, body io.ReadCloser, length int64) roundTripperFunc {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: body, ContentLength: length, Request: req}, nil
	}
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

func TestStartSaysWhatIsKnownBefore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ method, url, wantMethod, wantURL, wantOrigin string }{
		{"POST", "https://user:secret@api.test/a%2Fb/c?secret=1#secret", "POST", "https://api.test/a%2Fb/c", "https://api.test:443"},
		{"", "http://api.test", "GET", "http://api.test", "http://api.test:80"},
		{"GET", "http://[::1]:8080/?", "GET", "http://[::1]:8080/", "http://[::1]:8080"},
		{"GET", "https://bücher.test/x", "GET", "https://b%C3%BCcher.test/x", "https://xn--bcher-kva.test:443"},
	} {
		r := record(t)
		req := newRequest(t, t.Context(), "GET", tt.url)
		req.Method = tt.method
		before := time.Now()
		resp, err := newTraced(t, respond(204, http.NoBody, 0), r).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Request != req {
			t.Error("the response is of another request than the caller's")
		}
		s, e := r.starts[0], r.one()
		if s.Method != tt.wantMethod || s.URL != tt.wantURL || s.Origin != tt.wantOrigin || s.Attempt != 1 || s.Time.Before(before) {
			t.Errorf("%s %s: Start is %+v", tt.method, tt.url, s)
		}
		if e.Method != s.Method || e.URL != s.URL || e.Origin != s.Origin || e.Attempt != 1 || e.Began != s.Time || e.Ended.Before(e.Began) {
			t.Errorf("%s %s: the exchange is %+v, Start was %+v", tt.method, tt.url, e, s)
		}
	}
}

func TestAnOpaqueURLIsReducedToItsHost(t *testing.T) {
	t.Parallel()
	r := record(t)
	req := newRequest(t, t.Context(), "GET", "https://api.test/")
	req.URL.Opaque = "//user:secret@api.test/a?secret"
	if _, err := newTraced(t, respond(204, nil, 0), r).RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if e := r.one(); e.URL != "https://api.test/" {
		t.Errorf("the URL is %q", e.URL)
	}
}

// injector adds a header to each request.
type injector struct{ name, value string }

func (i injector) Start(ctx context.Context, s tracing.Start) context.Context {
	s.Header.Set(i.name, i.value)
	return ctx
}
func (injector) End(context.Context, tracing.Exchange) {}

func TestHeadersOfTracersTravelAndTheCallersRequestStaysAsItIs(t *testing.T) {
	t.Parallel()
	var sent http.Header
	next := roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		sent = req.Header
		return respond(204, nil, 0)(req)
	})
	rt := newTraced(t, next, injector{"Traceparent", "00-1"}, injector{"X-Amzn-Trace-Id", "Root=1"})
	for _, header := range []http.Header{{"Accept": {"a"}}, nil} {
		req := newRequest(t, t.Context(), "GET", "http://api.test/")
		req.Header = header.Clone()
		if _, err := rt.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(req.Header, header) {
			t.Errorf("the caller's header is %v, was %v", req.Header, header)
		}
		want := http.Header{"Traceparent": {"00-1"}, "X-Amzn-Trace-Id": {"Root=1"}}
		if header != nil {
			want["Accept"] = header["Accept"]
		}
		if !reflect.DeepEqual(sent, want) {
			t.Errorf("sent %v, want %v", sent, want)
		}
	}
}

// nested is a Tracer that notes the order of calls, and what its contexts have.
type nested struct {
	name  string
	calls *[]string
}

func (n nested) Start(ctx context.Context, _ tracing.Start) context.Context {
	outer, _ := ctx.Value(nested{}).(string)
	*n.calls = append(*n.calls, "start "+outer+n.name)
	return context.WithValue(ctx, nested{}, outer+n.name)
}

func (n nested) End(ctx context.Context, _ tracing.Exchange) {
	*n.calls = append(*n.calls, "end "+ctx.Value(nested{}).(string))
}

func TestTracersNest(t *testing.T) {
	t.Parallel()
	var calls []string
	next := roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		calls = append(calls, "send "+req.Context().Value(nested{}).(string))
		return respond(204, nil, 0)(req)
	})
	rt := newTraced(t, next, nested{"a", &calls}, nested{"b", &calls}, nested{"c", &calls})
	if _, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/")); err != nil {
		t.Fatal(err)
	}
	want := []string{"start a", "start ab", "start abc", "send abc", "end abc", "end ab", "end a"}
	if !reflect.DeepEqual(calls, want) {
		t.Errorf("the calls are\n%q, want\n%q", calls, want)
	}
}

func TestAnExchangeWithoutABodyEndsWithItsResponse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, method string
		status       int
		body         io.ReadCloser
	}{
		{"HEAD", "HEAD", 200, text("")},
		{"NoContent", "GET", 204, text("")},
		{"NotModified", "GET", 304, text("")},
		{"NoBody", "GET", 200, http.NoBody},
		{"NoBodyOfItsOwn", "GET", 200, stateless{}},
		{"Nil", "GET", 200, nil},
	} {
		r := record(t)
		resp, err := newTraced(t, respond(tt.status, tt.body, -1), r).RoundTrip(newRequest(t, t.Context(), tt.method, "http://api.test/"))
		if err != nil {
			t.Fatal(err)
		}
		if e := r.one(); e.Status != tt.status || e.Err != nil || e.ClosedEarly || e.Proto != "HTTP/1.1" {
			t.Errorf("%s: %+v", tt.name, e)
		}
		if resp.Body != tt.body {
			t.Errorf("%s: the body is another", tt.name)
		}
	}
}

type stateless struct{}

func (stateless) Read([]byte) (int, error) { return 0, io.EOF }
func (stateless) Close() error             { return nil }

func TestAnUpgradeEndsTheExchangeAndLeavesTheConnection(t *testing.T) {
	t.Parallel()
	r := record(t)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	resp, err := newTraced(t, respond(101, ours, -1), r).RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/"))
	if err != nil {
		t.Fatal(err)
	}
	if e := r.one(); e.Status != 101 || e.Err != nil {
		t.Errorf("%+v", e)
	}
	if _, ok := resp.Body.(io.ReadWriteCloser); !ok {
		t.Errorf("the body is a %T, which cannot be written to", resp.Body)
	}
	resp.Body.Close()
	r.ended(0)
}

func TestABodyEndsTheExchangeOnce(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken off")
	readAll := func(b io.ReadCloser) { io.Copy(io.Discard, b) }
	read := func(n int64) func(io.ReadCloser) { return func(b io.ReadCloser) { io.CopyN(io.Discard, b, n) } }
	closeIt := func(b io.ReadCloser) { b.Close() }
	for _, tt := range []struct {
		name   string
		length int64
		body   io.Reader
		use    []func(io.ReadCloser)
		in     int64
		early  bool
		err    error
		failed string
	}{
		{"ReadToTheEnd", 5, strings.NewReader("hello"), []func(io.ReadCloser){readAll}, 5, false, nil, ""},
		{"ReadAndClosedTwice", 5, strings.NewReader("hello"), []func(io.ReadCloser){readAll, closeIt, closeIt, readAll}, 5, false, nil, ""},
		{"Closed", 5, strings.NewReader("hello"), []func(io.ReadCloser){closeIt, closeIt}, 0, true, nil, ""},
		{"ClosedInTheMiddle", 5, strings.NewReader("hello"), []func(io.ReadCloser){read(2), closeIt}, 2, true, nil, ""},
		{"AllReadAndClosedBeforeTheEndWasSeen", 5, strings.NewReader("hello"), []func(io.ReadCloser){read(5), closeIt}, 5, false, nil, ""},
		{"OfUnknownLengthAndClosedBeforeTheEndWasSeen", -1, strings.NewReader("hello"), []func(io.ReadCloser){read(5), closeIt}, 5, true, nil, ""},
		{"Broken", 9, io.MultiReader(strings.NewReader("hello"), failing{broken}), []func(io.ReadCloser){readAll, closeIt}, 5, false, broken, tracing.PhaseBody},
	} {
		r := record(t)
		resp, err := newTraced(t, respond(200, io.NopCloser(tt.body), tt.length), r).RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/"))
		if err != nil {
			t.Fatal(err)
		}
		r.ended(0)
		for _, use := range tt.use {
			use(resp.Body)
		}
		if e := r.one(); e.BytesIn != tt.in || e.ClosedEarly != tt.early || !errors.Is(e.Err, tt.err) || e.Failed != tt.failed || e.Status != 200 {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestCloseThatInterruptsARead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := record(t)
		ours, theirs := net.Pipe()
		defer theirs.Close()
		resp, err := newTraced(t, respond(200, ours, -1), r).RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/"))
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, resp.Body)
		synctest.Wait()
		resp.Body.Close()
		synctest.Wait()
		if e := r.one(); e.Err != nil || !e.ClosedEarly {
			t.Errorf("what the caller wanted is a failure: %+v", e)
		}
	})
}

func TestALeakedBodyEndsTheExchange(t *testing.T) {
	t.Parallel()
	ended := make(chan tracing.Exchange, 1)
	leak(t, ended)
	deadline := time.After(10 * time.Second)
	for {
		runtime.GC()
		select {
		case e := <-ended:
			if !errors.Is(e.Err, tracing.ErrLeaked) || e.Failed != tracing.PhaseBody || e.BytesIn != 2 {
				t.Errorf("%+v", e)
			}
			return
		case <-deadline:
			t.Fatal("the exchange did not end")
		case <-time.After(time.Millisecond):
		}
	}
}

//go:noinline
func leak(t *testing.T, ended chan<- tracing.Exchange) {
	rt := newTraced(t, respond(200, text("hello"), 5), teller(ended))
	resp, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/"))
	if err != nil {
		t.Fatal(err)
	}
	io.CopyN(io.Discard, resp.Body, 2)
}

// teller is a Tracer that sends on what has ended.
type teller chan<- tracing.Exchange

func (teller) Start(ctx context.Context, _ tracing.Start) context.Context { return ctx }
func (c teller) End(_ context.Context, e tracing.Exchange)                { c <- e }

func TestErrorsEndTheExchange(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	r := record(t)
	rt := newTraced(t, roundTripperFunc(func(*http.Request) (*http.Response, error) { return nil, refused }), r)
	if _, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/")); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if e := r.one(); !errors.Is(e.Err, refused) || e.Status != 0 || e.Failed != "" || e.Conn != (tracing.Conn{}) {
		t.Errorf("%+v", e)
	}
	rt = newTraced(t, roundTripperFunc(func(*http.Request) (*http.Response, error) { return nil, nil }), r)
	if resp, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/")); resp != nil || err != nil {
		t.Errorf("got %v, %v", resp, err)
	}
	if e := r.one(); e.Err == nil || !strings.Contains(e.Err.Error(), "neither a response nor an error") {
		t.Errorf("%+v", e)
	}
}

func TestAPanicEndsTheExchangeAndGoesOn(t *testing.T) {
	t.Parallel()
	r := record(t)
	rt := newTraced(t, roundTripperFunc(func(*http.Request) (*http.Response, error) { panic("boom") }), r)
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recovered %v", got)
			}
		}()
		rt.RoundTrip(newRequest(t, t.Context(), "GET", "http://api.test/"))
	}()
	if e := r.one(); e.Err == nil || !strings.Contains(e.Err.Error(), "panicked") {
		t.Errorf("%+v", e)
	}
}

func TestRequestsThatAreNoneAreLeftToTheRoundTripperBelow(t *testing.T) {
	t.Parallel()
	r := record(t)
	refused := errors.New("refused")
	rt := tracing.CountAttempts(newTraced(t, roundTripperFunc(func(*http.Request) (*http.Response, error) { return nil, refused }), r))
	for _, req := range []*http.Request{nil, {Method: "GET"}} {
		if _, err := rt.RoundTrip(req); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
	}
	r.ended(0)
}

func TestAttemptsOfARequestAreNumbered(t *testing.T) {
	t.Parallel()
	r := record(t)
	attempts := newTraced(t, respond(204, nil, 0), r)
	thrice := roundTripperFunc(func(req *http.Request) (resp *http.Response, err error) {
		for range 3 {
			resp, err = attempts.RoundTrip(req)
		}
		return resp, err
	})
	numbers := func(n int) (got []int) {
		for _, e := range r.ended(n) {
			got = append(got, e.Attempt)
		}
		return got
	}
	c := &http.Client{Transport: tracing.CountAttempts(thrice)}
	req := newRequest(t, t.Context(), "GET", "http://api.test/")
	for range 2 {
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Request != req {
			t.Error("the response is of another request than the caller's")
		}
	}
	if got := numbers(6); !reflect.DeepEqual(got, []int{1, 2, 3, 1, 2, 3}) {
		t.Errorf("the attempts of two requests have the numbers %v", got)
	}
	if _, err := thrice.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if got := numbers(3); !reflect.DeepEqual(got, []int{1, 1, 1}) {
		t.Errorf("with nobody counting, the numbers are %v", got)
	}
}

func TestOverAMockThereIsNoConnection(t *testing.T) {
	t.Parallel()
	r := record(t)
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("POST", "http://api.test/old", httpmock.NewStringResponder(307, "").HeaderSet(http.Header{"Location": {"/new"}}))
	mock.RegisterResponder("POST", "http://api.test/new", httpmock.NewStringResponder(201, "done"))
	c := &http.Client{Transport: tracing.CountAttempts(newTraced(t, mock, r))}
	resp, err := c.Post("http://api.test/old", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "done" {
		t.Errorf("got %q", body)
	}
	ends := r.ended(2)
	if e := ends[0]; e.URL != "http://api.test/old" || e.Status != 307 || e.Attempt != 1 {
		t.Errorf("the redirect is %+v", e)
	}
	e := ends[1]
	if e.URL != "http://api.test/new" || e.Status != 201 || e.Attempt != 1 || e.BytesOut != 4 || e.BytesIn != 4 {
		t.Errorf("the exchange is %+v", e)
	}
	timing := e.Timing
	timing.Total = 0
	if e.Conn != (tracing.Conn{}) || e.TLS != (tracing.TLS{}) || timing != (tracing.Timing{}) || e.Dial != nil || e.Replays != 0 {
		t.Errorf("the exchange knows of a connection: %+v", e)
	}
}

func TestIdleConnectionsAreClosedThroughTheLayers(t *testing.T) {
	t.Parallel()
	closed := 0
	c := &http.Client{Transport: tracing.CountAttempts(newTraced(t, idle{closed: &closed}, record(t)))}
	c.CloseIdleConnections()
	if closed != 1 {
		t.Errorf("the RoundTripper below was told %d times, want once", closed)
	}
	c = &http.Client{Transport: newTraced(t, respond(204, nil, 0), record(t))} // which has no such method
	c.CloseIdleConnections()
}

type idle struct {
	http.RoundTripper
	closed *int
}

func (i idle) CloseIdleConnections() { *i.closed++ }

func TestBytesOut(t *testing.T) {
	t.Parallel()
	consume := roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
		return respond(204, nil, 0)(req)
	})
	again := roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		io.CopyN(io.Discard, req.Body, 2)
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
		return consume(req)
	})
	half := roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		io.CopyN(io.Discard, req.Body, 2)
		req.Body.Close()
		return nil, io.ErrClosedPipe
	})
	for _, tt := range []struct {
		name  string
		known bool
		next  http.RoundTripper
		want  int64
	}{
		{"KnownLength", true, consume, 5},
		{"KnownLengthNotSent", true, half, 0},
		{"UnknownLength", false, consume, 5},
		{"UnknownLengthHalfSent", false, half, 2},
		{"UnknownLengthSentAgain", false, again, 5},
	} {
		r := record(t)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://api.test/", bytes.NewReader([]byte("hello")))
		if err != nil {
			t.Fatal(err)
		}
		body := req.Body
		if !tt.known {
			req.ContentLength = -1
		}
		rt := newTraced(t, roundTripperFunc(func(out *http.Request) (*http.Response, error) {
			if tt.known && out.Body != body {
				t.Errorf("%s: the body is wrapped, so the RoundTripper below does not recognise it", tt.name)
			}
			return tt.next.RoundTrip(out)
		}), r)
		if _, err := rt.RoundTrip(req); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		if e := r.one(); e.BytesOut != tt.want {
			t.Errorf("%s: %d bytes out, want %d", tt.name, e.BytesOut, tt.want)
		}
	}
}

func TestGetBodyThatFailsIsTheCallersError(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	rt := newTraced(t, roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		_, err := req.GetBody()
		return nil, err
	}), record(t))
	req := newRequest(t, t.Context(), "POST", "http://api.test/")
	req.Body, req.GetBody = text("hello"), func() (io.ReadCloser, error) { return nil, gone }
	if _, err := rt.RoundTrip(req); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestTimingOfEachPart(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		r := record(t)
		rt := newTraced(t, roundTripperFunc(func(req *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(req.Context())
			time.Sleep(1 * ms)
			trace.GetConn("api.test:443")
			time.Sleep(2 * ms)
			trace.DNSStart(httptrace.DNSStartInfo{})
			time.Sleep(4 * ms)
			trace.DNSDone(httptrace.DNSDoneInfo{})
			trace.ConnectStart("tcp", "[::1]:443")
			time.Sleep(8 * ms)
			trace.ConnectStart("tcp", "127.0.0.1:443") // both at once, as RFC 8305 has it
			time.Sleep(16 * ms)
			trace.ConnectDone("tcp", "127.0.0.1:443", nil)
			time.Sleep(1 * ms)
			trace.ConnectDone("tcp", "[::1]:443", errors.New("cancelled"))
			trace.TLSHandshakeStart()
			time.Sleep(32 * ms)
			trace.TLSHandshakeDone(tls.ConnectionState{}, nil)
			trace.GotConn(httptrace.GotConnInfo{})
			time.Sleep(64 * ms)
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			time.Sleep(128 * ms)
			trace.GotFirstResponseByte()
			return respond(200, text("hello"), 5)(req)
		}), r)
		began := time.Now()
		resp, err := rt.RoundTrip(newRequest(t, t.Context(), "GET", "https://api.test/"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(256 * ms)
		io.Copy(io.Discard, resp.Body)
		e := r.one()
		if want := (tracing.Timing{Wait: 63 * ms, DNS: 4 * ms, Connect: 24 * ms, TLS: 32 * ms, Write: 64 * ms, FirstByte: 128 * ms, Total: 512 * ms}); e.Timing != want {
			t.Errorf("timing\n%+v, want\n%+v", e.Timing, want)
		}
		want := []tracing.Phase{
			{Name: tracing.PhaseDNS, Began: began.Add(3 * ms), Took: 4 * ms},
			{Name: tracing.PhaseConnect, Began: began.Add(7 * ms), Took: 24 * ms},
			{Name: tracing.PhaseTLS, Began: began.Add(32 * ms), Took: 32 * ms},
		}
		if !reflect.DeepEqual(e.Dial, want) {
			t.Errorf("dial\n%+v, want\n%+v", e.Dial, want)
		}
		if took := e.Answered.Sub(began); took != 256*ms {
			t.Errorf("answered after %v, want 256ms", took)
		}
	})
}

func TestWherePartsFail(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	refused := errors.New("refused")
	type hooks = httptrace.ClientTrace
	getConn := func(h *hooks) { h.GetConn("") }
	gotConn := func(h *hooks) { h.GotConn(httptrace.GotConnInfo{Reused: true}) }
	connect := func(h *hooks) { h.ConnectStart("tcp", "") }
	for _, tt := range []struct {
		name  string
		hooks []func(*hooks) // a millisecond apart
		want  string
		time  tracing.Timing // Total is that of the hooks
	}{
		{"Unknown", nil, "", tracing.Timing{}},
		{"Wait", []func(*hooks){getConn}, tracing.PhaseWait, tracing.Timing{Wait: ms}},
		{"DNS", []func(*hooks){getConn,
			func(h *hooks) { h.DNSStart(httptrace.DNSStartInfo{}) },
			func(h *hooks) { h.DNSDone(httptrace.DNSDoneInfo{Err: refused}) }}, tracing.PhaseDNS, tracing.Timing{Wait: 3 * ms, DNS: ms}},
		{"ConnectWithoutAnAnswer", []func(*hooks){getConn, connect}, tracing.PhaseConnect, tracing.Timing{Wait: 2 * ms, Connect: ms}},
		{"ConnectToTheLastAddress", []func(*hooks){getConn, connect,
			func(h *hooks) { h.ConnectDone("tcp", "", refused) }, connect,
			func(h *hooks) { h.ConnectDone("tcp", "", refused) }}, tracing.PhaseConnect, tracing.Timing{Wait: 5 * ms, Connect: 3 * ms}},
		{"TLS", []func(*hooks){getConn, connect,
			func(h *hooks) { h.ConnectDone("tcp", "", nil) },
			func(h *hooks) { h.TLSHandshakeStart() },
			func(h *hooks) { h.TLSHandshakeDone(tls.ConnectionState{}, refused) }}, tracing.PhaseTLS, tracing.Timing{Wait: 5 * ms, Connect: ms, TLS: ms}},
		{"AfterTheDial", []func(*hooks){getConn, connect, func(h *hooks) { h.ConnectDone("tcp", "", nil) }}, tracing.PhaseWait, tracing.Timing{Wait: 3 * ms, Connect: ms}},
		{"Write", []func(*hooks){getConn, gotConn, func(h *hooks) { h.WroteRequest(httptrace.WroteRequestInfo{Err: refused}) }}, tracing.PhaseWrite, tracing.Timing{Wait: ms, Write: 2 * ms}},
		{"WriteUnended", []func(*hooks){getConn, gotConn}, tracing.PhaseWrite, tracing.Timing{Wait: ms, Write: ms}},
		{"Header", []func(*hooks){getConn, gotConn, func(h *hooks) { h.WroteRequest(httptrace.WroteRequestInfo{}) }}, tracing.PhaseHeader, tracing.Timing{Wait: ms, Write: ms, FirstByte: ms}},
		{"HeaderBroken", []func(*hooks){getConn, gotConn, func(h *hooks) { h.GotFirstResponseByte() }}, tracing.PhaseHeader, tracing.Timing{Wait: ms, Write: ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := record(t)
				rt := newTraced(t, roundTripperFunc(func(req *http.Request) (*http.Response, error) {
					for _, hook := range tt.hooks {
						hook(httptrace.ContextClientTrace(req.Context()))
						time.Sleep(ms)
					}
					return nil, refused
				}), r)
				rt.RoundTrip(newRequest(t, t.Context(), "GET", "https://api.test/"))
				tt.time.Total = time.Duration(len(tt.hooks)) * ms
				if e := r.one(); e.Failed != tt.want || e.Timing != tt.time {
					t.Errorf("failed %q, timing %+v;\nwant %q, %+v", e.Failed, e.Timing, tt.want, tt.time)
				}
			})
		})
	}
}
