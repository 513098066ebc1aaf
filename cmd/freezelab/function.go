package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// event is the payload of an invocation.
type event struct {
	ID   string `json:"id"`
	Kind kind   `json:"kind"`
}

// outcome is what the function answers: how its one request went.
type outcome struct {
	Proto   string        `json:"proto,omitempty"`
	Error   string        `json:"error,omitempty"`
	Elapsed time.Duration `json:"elapsed"` // of the request, its response's body included
}

// payload is the body of POST requests.
var payload = bytes.Repeat([]byte("freeze "), 32)

// serveFunction is the function: it makes one request an invocation, with a client made outside the handler.
func serveFunction(c *http.Client, url string) {
	lambda.Start(func(ctx context.Context, e event) (outcome, error) {
		start := time.Now()
		proto, err := call(ctx, c, url, e)
		o := outcome{Proto: proto, Elapsed: time.Since(start)}
		if err != nil {
			o.Error = err.Error()
		}
		return o, nil
	})
}

// call makes the request that e asks for, reads the answer and returns the protocol spoken.
func call(ctx context.Context, c *http.Client, target string, e event) (proto string, err error) {
	method, size := http.MethodGet, 0
	var body io.Reader
	switch e.Kind {
	case kindPost:
		method, size, body = http.MethodPost, len(payload), bytes.NewReader(payload)
	case kindStream:
		// http.NewRequest does not know the type: the request has no GetBody and no length.
		method, size, body = http.MethodPost, len(payload), struct{ io.Reader }{bytes.NewReader(payload)}
	case kindGet:
	default:
		return "", fmt.Errorf("no kind of request is called %q", e.Kind)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return "", err
	}
	req.Header.Set(headerID, e.ID)
	req.Header.Set(headerSize, strconv.Itoa(size))
	resp, err := c.Do(req)
	if err != nil {
		return "", cause(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("reading the body: %w", err)
	}
	if resp.StatusCode != http.StatusOK || string(got) != answer {
		return "", fmt.Errorf("answered %s: %q", resp.Status, got)
	}
	return resp.Proto, nil
}

// cause is err without the method and the URL that http.Client puts before it.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
