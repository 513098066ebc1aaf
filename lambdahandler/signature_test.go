package lambdahandler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/transport"
)

type order struct {
	ID   int    `json:"id"`
	Note string `json:"note,omitempty"`
}

// page is an answer that is not JSON, with a type of its own.
type page struct {
	io.Reader
	closed *int
	C      chan int
}

func (page) ContentType() string { return "text/html" }

func (p page) Close() error {
	*p.closed++
	return nil
}

// both is a reader that JSON has something to say about.
type both struct {
	*strings.Reader `json:"-"`
	Name            string
}

type bytesHandler struct{}

func (bytesHandler) Invoke(_ context.Context, payload []byte) ([]byte, error) {
	if string(payload) == `"fail"` {
		return nil, errors.New("bytes: failed")
	}
	return append([]byte("not JSON: "), payload...), nil
}

func TestHandlersOfEverySignatureAnswerAsWithTheRuntimeAlone(t *testing.T) {
	t.Parallel()
	failed := errors.New("no such order")
	c := newClient(t, transport.Config{})
	for i, fn := range []any{
		func() {},
		func(order) {},
		func() error { return nil },
		func() error { return failed },
		func(order) error { return failed },
		func() (order, error) { return order{ID: 7}, nil },
		func(o order) (order, error) { return o, nil },
		func(o *order) (*order, error) { return o, nil },
		func(context.Context) {},
		func(context.Context) error { return failed },
		func(ctx context.Context) (bool, error) { return ctx != nil, nil },
		func(context.Context, order) {},
		func(context.Context, order) error { return nil },
		func(_ context.Context, o order) (string, error) { return o.Note, nil },
		func(_ context.Context, o order) (*order, error) { return nil, nil },
		func(e any) (any, error) { return e, nil },
		func(_ context.Context, e map[string]any) (map[string]any, error) { return e, nil },
		func(b []byte) ([]byte, error) { return b, nil },
		func() (string, error) { return "<a>&", nil },
		func() (chan int, error) { return nil, nil },
		func() (io.Reader, error) { return strings.NewReader("text"), nil },
		func() (*bytes.Buffer, error) { return bytes.NewBufferString("buffer"), nil },
		func() (page, error) { return page{Reader: strings.NewReader("<p>"), closed: new(int)}, nil },
		func() (both, error) { return both{strings.NewReader("text"), "json"}, nil },
		bytesHandler{},
		lambda.NewHandler(func(o order) (order, error) { return o, nil }),
		lambda.NewHandlerWithOptions(func() (string, error) { return "<a>", nil }, lambda.WithSetEscapeHTML(true)),
	} {
		for _, payload := range []string{`{"id":1,"note":"<n>"}`, `{"id":"x"}`, `null`, `"fail"`, `"aGk="`, `[1, 2]`, `3.0`} {
			want, wantErr := lambda.NewHandler(fn).Invoke(t.Context(), []byte(payload))
			got, err := lambdahandler.New(c, fn).Invoke(t.Context(), []byte(payload))
			if !bytes.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("handler %d, %T, payload %s: got %q, %v; the runtime alone gives %q, %v", i, fn, payload, got, err, want, wantErr)
			}
		}
	}
}

func TestHandlersThatTheRuntimeRefusesAreRefused(t *testing.T) {
	t.Parallel()
	c := newClient(t, transport.Config{})
	for _, fn := range []any{
		nil, 1, "f", (func())(nil),
		func(int, int) {},
		func(context.Context, int, int) {},
		func(io.Reader) {},
		func(order, context.Context) {},
		func() int { return 1 },
		func() (int, int) { return 1, 2 },
		func() (int, int, error) { return 1, 2, nil },
		func() (error, int) { return nil, 1 }, //nolint:staticcheck // what is to be refused
	} {
		var l logs
		_, err := lambdahandler.New(c, fn, lambdahandler.WithLogger(l.logger())).Invoke(t.Context(), []byte("{}"))
		if err == nil || !strings.HasPrefix(err.Error(), "lambdahandler: the handler is ") || !strings.Contains(err.Error(), ": want ") {
			t.Errorf("%T: error %v, want one that says what is allowed", fn, err)
		}
		if !strings.Contains(l.lines()[0], "the handler is") {
			t.Errorf("%T: logged %q", fn, l.lines())
		}
	}
}

func TestAllFaultsAreSaidAtOnce(t *testing.T) {
	t.Parallel()
	var l logs
	h := lambdahandler.New(nil, 1,
		lambdahandler.WithDeadlineMargin(-2), lambdahandler.WithWarmup(nil), lambdahandler.WithWarmupHold(-3),
		lambdahandler.WithMetrics(nil), lambdahandler.WithShutdown(-4), lambdahandler.WithLogger(l.logger()), nil,
		lambdahandler.WithDeadlineMargin(0), lambdahandler.WithWarmupHold(0), lambdahandler.WithShutdown(0), lambdahandler.WithLogger(nil))
	_, err := h.Invoke(t.Context(), []byte("{}"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"New(nil)", "the handler is a int", "WithDeadlineMargin(-2ns)", "WithWarmup(nil)", "WithWarmupHold(-3ns)", "WithMetrics(nil)",
		"WithShutdown(-4ns)", "option 6 of New is nil", "WithDeadlineMargin was given twice", "WithWarmupHold was given twice",
		"WithShutdown was given twice", "WithLogger was given twice", "WithLogger(nil)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

// The runtime streams what the handler returns as a reader; so it must get the reader, not its bytes.
func TestAReaderIsReadWhenTheAnswerIsSent(t *testing.T) {
	t.Parallel()
	c := newClient(t, transport.Config{})
	read, closed := false, 0
	h := lambdahandler.New(c, func() (page, error) {
		return page{Reader: readerFunc(func([]byte) (int, error) {
			read = true
			return 0, io.EOF
		}), closed: &closed}, nil
	})
	mustInvoke(t, h, "{}")
	if !read || closed != 1 {
		t.Errorf("read: %v, closed %d times; want true, 1", read, closed)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
