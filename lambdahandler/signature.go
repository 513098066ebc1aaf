package lambdahandler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/aws/aws-lambda-go/lambda"
)

// call runs the user's handler. What it returns is encoded by the runtime, as if the handler had returned it.
type call func(ctx context.Context, payload []byte) (any, error)

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// signature returns how to call a handler of any signature that lambda.Start takes, or what is wrong with it.
func signature(handler any) (call, error) {
	if h, ok := handler.(lambda.Handler); ok {
		return func(ctx context.Context, payload []byte) (any, error) {
			b, err := h.Invoke(ctx, payload)
			if err != nil {
				return nil, err
			}
			return &raw{r: bytes.NewReader(b)}, nil // bytes that need not be JSON
		}, nil
	}
	if handler == nil {
		return nil, errors.New("lambdahandler: the handler is nil: want a function that lambda.Start takes, or a lambda.Handler")
	}
	f := reflect.ValueOf(handler)
	t := f.Type()
	switch {
	case t.Kind() != reflect.Func:
		return nil, fmt.Errorf("lambdahandler: the handler is a %v: want a function that lambda.Start takes, or a lambda.Handler", t)
	case f.IsNil():
		return nil, fmt.Errorf("lambdahandler: the handler is a nil %v: want a function", t)
	}
	takesContext := t.NumIn() > 0 && isContext(t.In(0))
	switch in, out := t.NumIn(), t.NumOut(); {
	case in > 2, in == 2 && !takesContext, in == 1 && !takesContext && t.In(0).Kind() == reflect.Interface && t.In(0).NumMethod() > 0:
		return nil, fmt.Errorf("lambdahandler: the handler is a %v: want a context.Context, an event, both in this order, or neither", t)
	case out > 2, out > 0 && !t.Out(out-1).Implements(errorType):
		return nil, fmt.Errorf("lambdahandler: the handler is a %v: want it to return nothing, an error, or a value and an error", t)
	}
	takesEvent := t.NumIn() == 2 || t.NumIn() == 1 && !takesContext

	return func(ctx context.Context, payload []byte) (any, error) {
		var args []reflect.Value
		if takesContext {
			args = append(args, reflect.ValueOf(ctx))
		}
		if takesEvent {
			event := reflect.New(t.In(t.NumIn() - 1))
			if err := json.Unmarshal(payload, event.Interface()); err != nil {
				return nil, err
			}
			args = append(args, event.Elem())
		}
		results := f.Call(args)
		if n := len(results); n > 0 {
			if err, ok := results[n-1].Interface().(error); ok && err != nil {
				return nil, err
			}
		}
		if len(results) < 2 {
			return nil, nil
		}
		return results[0].Interface(), nil
	}, nil
}

// isContext reports whether t is context.Context, by whatever name.
func isContext(t reflect.Type) bool {
	return t.Kind() == reflect.Interface && contextType.Implements(t) && t.Implements(contextType)
}

// event is the payload of an event, whatever it is.
type event []byte

// UnmarshalJSON keeps the text.
func (e *event) UnmarshalJSON(b []byte) error {
	*e = bytes.Clone(b)
	return nil
}

// raw is an answer that the runtime passes on as it reads it. It is nothing that JSON could show, by which the runtime
// knows it.
type raw struct {
	r    io.Reader
	done func() // or nil
}

func (a *raw) Read(p []byte) (int, error) { return a.r.Read(p) }

// Close is called by the runtime when the answer was sent.
func (a *raw) Close() error {
	if a.done != nil {
		defer a.done()
	}
	if c, ok := a.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// typed is raw with the content type that the handler's reader has.
type typed struct{ raw }

func (a *typed) ContentType() string { return a.r.(contentTyper).ContentType() }

// contentTyper is what the runtime asks a reader for.
type contentTyper interface{ ContentType() string }

// streamed reports whether the runtime will read answer rather than encode it: a reader that JSON has nothing to say
// about. It returns the reader that has done called once the answer was sent.
func streamed(answer any, done func()) (any, bool) {
	r, ok := answer.(io.Reader)
	if !ok {
		return answer, false
	}
	if b, err := json.Marshal(answer); err == nil && !bytes.HasPrefix(b, []byte("{}")) {
		return answer, false
	}
	a := raw{r, done}
	if _, ok := r.(contentTyper); ok {
		return &typed{a}, true
	}
	return &a, true
}
