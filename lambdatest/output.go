package lambdatest

import (
	"io"
	"os"
	"os/exec"
	"reflect"
	"sync"
	"time"
)

const (
	// keptOutput is how much of the end of the output is kept.
	keptOutput = 8 << 10

	// drainTime is how long the output may stay open after the process and its group are gone: a child that left the
	// group may hold it.
	drainTime = 500 * time.Millisecond
)

// output takes what a process writes: it passes it on and keeps the end.
type output struct {
	readers []*os.File // the ends that are read here; owned by the goroutines until they are over
	copies  sync.WaitGroup

	mu   sync.Mutex
	kept []byte
}

// attach gives cmd the writing ends of new pipes, for as many as there are writers to tell apart. They have to be
// closed with closeAll once cmd has started, or failed to.
func (o *output) attach(cmd *exec.Cmd, stdout, stderr io.Writer) ([]*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	o.copy(r, stdout)
	if equal(stdout, stderr) {
		return []*os.File{w}, nil
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		closeAll([]*os.File{w})
		o.copies.Wait()
		return nil, err
	}
	cmd.Stderr = w2
	o.copy(r2, stderr)
	return []*os.File{w, w2}, nil
}

// equal compares two writers, of which those that cannot be compared are not equal.
func equal(a, b io.Writer) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// copy reads r to its end in a goroutine.
func (o *output) copy(r *os.File, w io.Writer) {
	o.readers = append(o.readers, r)
	o.copies.Go(func() {
		defer closeAll([]*os.File{r})
		buf := make([]byte, 16<<10)
		for {
			n, err := r.Read(buf)
			o.keep(buf[:n])
			if n > 0 && w != nil {
				if _, err := w.Write(buf[:n]); err != nil {
					w = nil // the process goes on: its output is read, and goes nowhere
				}
			}
			if err != nil {
				return
			}
		}
	})
}

func (o *output) keep(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, b...)
	if n := len(o.kept) - keptOutput; n > 0 {
		o.kept = append(o.kept[:0], o.kept[n:]...)
	}
}

// drain waits until the output was read to its end, or for drainTime.
func (o *output) drain() {
	timer := time.AfterFunc(drainTime, func() { closeAll(o.readers) })
	o.copies.Wait()
	timer.Stop()
}

// String returns the end of the output.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
