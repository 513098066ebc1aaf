package clienttest

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jarcoal/httpmock"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/internal/swap"
)

// New returns a client whose downstream is a mock of its own, and the mock, where responders are registered. The client
// is closed at the end of the test. It has all that [client.New] would make of opts, retries and tracing included, but for
// the pool: what [client.WithTransport] and [client.WithBase] set has no effect, and Warm dials nobody. What is said of
// the mock at [Swap] holds here too.
//
//	api, mock := clienttest.New(t)
//	mock.RegisterResponder("GET", "https://api.example.com/orders/7", httpmock.NewStringResponder(200, `{"id": 7}`))
func New(t testing.TB, opts ...client.Option) (*client.Client, *httpmock.MockTransport) {
	t.Helper()
	c, err := client.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, Swap(t, c)
}

// Swap puts a mock under a client that exists, the one of the package under test for example, until the test ends. It is
// safe while requests run: one that is under way ends where it began, and one that begins before its responder is
// registered fails the test. Two tests that swap the same client cannot run at the same time; the second one fails at
// once.
//
// Over the mock
//
//   - retries follow the client's policy and take no time: whether there is time for a wait, Retry-After included, is
//     decided as ever, and then it is not waited. The budget for retries is a new one.
//   - a request that no responder is registered for fails the test, with the list of those that are. It is not retried,
//     unless a Decide function of the client's own insists.
//   - a responder that panics fails the test, and the request is not retried either.
//   - the body of a request is closed when its responder has returned, and a response has its Request, as with a real
//     downstream.
//
// Responders run in goroutines other than the test's, so they must not call t.Fatal. One that does not return when the
// request's context ends is left behind.
func Swap(t testing.TB, c *client.Client) *httpmock.MockTransport {
	t.Helper()
	point := swap.Of(c.Client.Transport)
	if point == nil {
		t.Fatalf("clienttest: the Transport of the client is a %T, which somebody put there: Swap needs the one that client.New made", c.Client.Transport)
	}
	m := &mocked{t: t, mock: httpmock.NewMockTransport(), told: make(map[string]bool)}
	restore, ok, err := point.Swap(m)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Fatal("clienttest: there is a mock under this client already: its test has not ended. Tests that swap one client cannot run in parallel; clienttest.New makes a client for each")
	}
	t.Cleanup(func() {
		restore()
		m.end()
	})
	return m.mock
}

// mocked is a mock that behaves as a downstream does, and tells the test what the test forgot.
type mocked struct {
	mock *httpmock.MockTransport

	mu   sync.Mutex
	t    testing.TB      // nil once the test has ended
	told map[string]bool // what the test was told
}

func (m *mocked) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.t = nil
}

// fail fails the test, once for the same thing. A request that outlives the test fails nobody's.
func (m *mocked) fail(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.t == nil || m.told[what] {
		return
	}
	m.told[what] = true
	m.t.Errorf("clienttest: %s", what)
}

// panicked is how httpmock's error begins if a responder panicked.
const panicked = "panic in responder: "

func (m *mocked) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	resp, err := m.mock.RoundTrip(req)
	switch {
	case err == nil && resp != nil && resp.Request == nil:
		answer := *resp // the responder may return it again
		answer.Request = req
		return &answer, nil
	case err == nil:
		return resp, nil
	case errors.Is(err, httpmock.NoResponderFound):
		m.fail(req.Method + " " + req.URL.String() + ": " + err.Error() + "; registered are:" + m.list())
		return nil, &mistake{err}
	case strings.HasPrefix(err.Error(), panicked):
		m.fail(req.Method + " " + req.URL.String() + ": " + err.Error())
		return nil, &mistake{err}
	default:
		return nil, err
	}
}

// list names the registered responders, a line each.
func (m *mocked) list() string {
	all := m.mock.Responders()
	if len(all) == 0 {
		return " none"
	}
	return "\n\t" + strings.Join(all, "\n\t")
}

// mistake is an error of the test's own, not of a downstream.
type mistake struct{ err error }

func (e *mistake) Error() string { return e.err.Error() }
func (e *mistake) Unwrap() error { return e.err }

// Permanent keeps package retry from trying again.
func (e *mistake) Permanent() bool { return true }
