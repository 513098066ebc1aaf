package transport

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// closeFunc is a response body at its end.
type closeFunc func() error

func (closeFunc) Read([]byte) (int, error) { return 0, io.EOF }
func (f closeFunc) Close() error           { return f() }

// If the response is closed before the protocol layer has closed the request's body, that takes another goroutine.
func TestCloseOfAnEndedResponseLetsTheStreamEndFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // what is ready runs when, and only when, this goroutine gives way
	const attempts = 3                              // now and then the scheduler looks for others in another order
	for range attempts {
		out := &outgoing{body: requestBody{rc: io.NopCloser(strings.NewReader("body"))}}
		first := false
		b := &body{
			rc: closeFunc(func() error {
				first = out.body.state.Load()&bodyClosed != 0
				return nil
			}),
			resp: new(http.Response),
			out:  out,
			c:    &conn{h2: new(http2.ClientConn)},
		}
		b.ended.Store(true)
		go out.body.Close()
		b.Close()
		if first {
			return
		}
	}
	t.Errorf("%d responses were closed before the request's body, whose stream had ended and was ready to do it", attempts)
}
