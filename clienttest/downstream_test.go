package clienttest_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/clienttest"
)

func TestOneConnectionForTenRequests(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		for i := range 10 {
			resp, err := c.Post(d.URL+"/orders?n="+strconv.Itoa(i), "text/plain", strings.NewReader("two pies"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != "POST /orders\n" || err != nil {
				t.Fatalf("answered %q %v", body, err)
			}
		}
		d.AssertConnections(t, 1)
		d.AssertRequests(t, 10)
		d.AssertNoRequestTwice(t)
		conns := d.Connections()
		handshakes := 0
		if conns[0].TLS {
			handshakes = 1
		}
		d.AssertHandshakes(t, handshakes)
		if withTLS := strings.HasPrefix(d.URL, "https:"); withTLS != conns[0].TLS || conns[0].Resumed || !conns[0].Open {
			t.Errorf("%+v", conns[0])
		}
		for i, r := range conns[0].Requests {
			if r.Conn != 1 || r.URI != "/orders?n="+strconv.Itoa(i) || r.Length != 8 || r.Digest != d.Requests()[0].Digest || r.Proto != conns[0].Protocol || r.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("request %d: %+v", i, r)
			}
		}
	})
}

func TestTheProtocolIsTheOneAskedFor(t *testing.T) {
	t.Parallel()
	for p, want := range map[clienttest.Protocol]string{
		clienttest.HTTPS: "HTTP/2.0", clienttest.HTTP2TLS: "HTTP/2.0", clienttest.HTTP2Plain: "HTTP/2.0",
		clienttest.HTTP1: "HTTP/1.1", clienttest.HTTP1TLS: "HTTP/1.1",
	} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			seen := make(chan *tls.ConnectionState, 1)
			d := clienttest.Downstream(t, clienttest.WithProtocol(p), clienttest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- r.TLS
			})))
			mustGet(t, thaw(t, d).Client, d.URL)
			if got := d.Connections()[0].Protocol; got != want {
				t.Errorf("spoke %s, want %s", got, want)
			}
			if state := <-seen; (state != nil) != strings.HasPrefix(d.URL, "https:") {
				t.Errorf("the handler saw the TLS state %v at %s", state, d.URL)
			}
		})
	}

	t.Run("HTTPS to a client without HTTP/2", func(t *testing.T) {
		t.Parallel()
		d := clienttest.Downstream(t)
		c := plain(t, d)
		c.Transport.(*http.Transport).Protocols.SetHTTP2(false)
		mustGet(t, c, d.URL)
		if got := d.Connections()[0].Protocol; got != "HTTP/1.1" {
			t.Errorf("spoke %s", got)
		}
	})
}

func TestBodiesOfAnySizeArrive(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, d *clienttest.Server, c *http.Client) {
		var wg sync.WaitGroup
		for _, size := range []int{0, 1, 20000, 3 << 20} {
			wg.Go(func() {
				want := strings.Repeat("x", size)
				resp, err := c.Post(d.URL+"/?"+strconv.Itoa(size), "", strings.NewReader(want))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); string(got) != want || err != nil {
					t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
				}
			})
		}
		wg.Wait()
		d.AssertNoRequestTwice(t)
	}, clienttest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(body)
	})))
}

func TestSessionsAreResumed(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1TLS))
	c := thaw(t, d)
	mustGet(t, c.Client, d.URL)
	c.CloseIdleConnections()
	mustGet(t, c.Client, d.URL)
	d.AssertHandshakes(t, 2)
	if conns := d.Connections(); conns[0].Resumed || !conns[1].Resumed {
		t.Errorf("%+v", conns)
	}
}

func TestWarmIsAConnectionThatCarriedNothing(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	if err := thaw(t, d).Warm(t.Context(), d.URL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the handshake is over on this side too", func() bool { return d.Connections()[0].TLS })
	d.AssertConnections(t, 1)
	d.AssertHandshakes(t, 1)
	d.AssertRequests(t, 0)
}

func TestFaultsOfTheOptionsAreToldTogether(t *testing.T) {
	t.Parallel()
	f := &tb{TB: t}
	f.run(func() {
		clienttest.Downstream(f, clienttest.WithHandler(nil), clienttest.WithProtocol(17), nil, clienttest.WithProtocol(-1))
	})
	got := f.take()
	for _, want := range []string{"WithHandler(nil)", "WithProtocol(Protocol(17))", "option 2 of Downstream is nil", "Protocol(-1)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not speak of %s", got, want)
		}
	}
}

func TestAtTheEndOfTheTestNothingIsLeft(t *testing.T) {
	t.Parallel()
	each(t, allProtocols, func(t *testing.T, _ *clienttest.Server, _ *http.Client) {
		for _, fault := range []clienttest.Fault{clienttest.StallBeforeHeader(), clienttest.StallInHeader(), clienttest.StallInBody()} {
			f := &tb{TB: t}
			var wg sync.WaitGroup
			f.run(func() {
				d := clienttest.Downstream(f)
				c := plain(t, d)
				mustGet(t, c, d.URL)
				d.Next(fault)
				wg.Go(func() { get(t.Context(), c, d.URL) }) // it ends: with the answer, if that is quicker than the end
				eventually(t, "the request has come", func() bool { return len(d.Requests()) == 2 })
			})
			wg.Wait()
			if got := f.take(); got != "" {
				t.Errorf("%v: %s", fault, got)
			}
		}
	})
}

func TestRootPEMIsWhatTheServerIsTrustedBy(t *testing.T) {
	t.Parallel()
	d := clienttest.Downstream(t)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(d.RootPEM()) {
		t.Fatalf("no certificate in %q", d.RootPEM())
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	mustGet(t, &http.Client{Transport: tr}, d.URL)

	if d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1)); d.RootPEM() != nil || d.TLS() != nil {
		t.Error("a server without TLS has a certificate")
	}
}
