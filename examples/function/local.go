package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/thawhttp/thaw/lambdatest"
)

// local runs the function on this machine and shows what it answers and writes.
func local(ctx context.Context, w io.Writer) (err error) {
	api, err := startAPI()
	if err != nil {
		return err
	}
	defer api.stop()
	bootstrap, err := os.Executable()
	if err != nil {
		return err
	}
	written := new(journal)
	fn, err := lambdatest.Start(ctx, lambdatest.Config{
		Path:         bootstrap,
		FunctionName: "orders",
		Timeout:      10 * time.Second,
		Env:          []string{"ORDERS_URL=" + api.url()},
		Stdout:       written,
		Stderr:       written,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fn.Stop(ctx)) }()
	fmt.Fprintln(w, "started, with a connection made in the init phase")

	for _, step := range []struct {
		event string
		lost  bool // the connections, while it is frozen
	}{
		{`{"id": "1", "items": ["two pies"]}`, false},
		{`{"id": "2", "items": ["a cake"]}`, true},
		{`{"thaw": "warmup"}`, true},
		{`{"id": "3", "items": ["six buns"]}`, false},
	} {
		if err := fn.Freeze(ctx); err != nil {
			return err
		}
		written.show(w)
		meanwhile := "nothing happens"
		if step.lost {
			meanwhile = fmt.Sprintf("the API closes %d connection", api.closeConnections())
		}
		// The event is there when the function goes on.
		pending, err := fn.Send([]byte(step.event))
		if err != nil {
			return err
		}
		if err := fn.Thaw(); err != nil {
			return err
		}
		res, err := pending.Wait(ctx)
		if err != nil {
			return err
		}
		if res.Err != nil {
			return res.Err
		}
		fmt.Fprintf(w, "\nfrozen: %s\n%s\n -> %s in %.1f ms\n", meanwhile, step.event, res.Payload, float64(res.Duration.Microseconds())/1000)
	}
	if err := fn.Stop(ctx); err != nil {
		return err
	}
	written.show(w)
	fmt.Fprintf(w, "\nstopped: the API accepted %d connections and got %s\n", api.accepted(), api.counts())
	return nil
}

// journal keeps what the function writes until it is shown.
type journal struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, b...)
	return len(b), nil
}

// show shows the whole lines that there are, the beginning of long ones, and forgets them.
func (j *journal) show(w io.Writer) {
	const most = 150
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		line, rest, ok := bytes.Cut(j.text, []byte("\n"))
		if !ok {
			return
		}
		if len(line) > most {
			line = append(line[:most:most], " ..."...)
		}
		fmt.Fprintf(w, "    | %s\n", line)
		j.text = rest
	}
}
