package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thawhttp/thaw/internal/faultnet"
)

// tunnel is a connection through CONNECT. It passes bytes on and looks at nothing but the outside of TLS records.
type tunnel struct {
	client   *faultnet.Conn
	upstream net.Conn
	record   *record
	passed   *atomic.Int64 // bytes from the downstream, of all tunnels

	mu        sync.Mutex // guards what follows
	handshake handshake
	answered  bool // the last bytes came from the downstream
}

// run passes bytes on until both sides have ended.
func (t *tunnel) run(in io.Reader) {
	var both sync.WaitGroup
	both.Go(func() {
		err := t.pass(in, t.sent, func(b []byte) error {
			if t.client.Broken() {
				return nil // nobody is there
			}
			_, err := t.upstream.Write(b)
			return err
		})
		t.record.died(t.client, causeFunction, "")
		if err != nil {
			t.upstream.Close()
		} else if half, ok := t.upstream.(*net.TCPConn); ok {
			_ = half.CloseWrite() // fails only on a closed connection
		}
	})
	both.Go(func() {
		err := t.pass(t.upstream, t.received, func(b []byte) error {
			_, err := t.client.Write(b)
			return err
		})
		if t.client.Broken() {
			return // the lab did it, and the function is not to know
		}
		t.record.died(t.client, causeDownstream, "")
		if tcp, ok := t.client.Conn.(*net.TCPConn); ok && err == nil {
			_ = tcp.CloseWrite()
		} else {
			t.client.Break(faultnet.Reset)
		}
	})
	both.Wait()
	t.client.Close()
	t.upstream.Close()
}

// pass reads to the end of in, which is no error.
func (t *tunnel) pass(in io.Reader, note func([]byte), write func([]byte) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			note(buf[:n])
			if err := write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sent notes bytes from the function.
func (t *tunnel) sent(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.record.change(t.client, func(l *lane, now time.Time) {
		if l.ready.IsZero() {
			if l.hello.IsZero() {
				l.hello = now
			}
			n, done := t.handshake.read(b)
			l.shaking += int64(n)
			b = b[n:]
			if !done {
				return
			}
			l.ready = now
			if l.shaking == 0 {
				l.hello = time.Time{} // no TLS
			}
		}
		if len(b) == 0 {
			return
		}
		if len(l.uses) == 0 || t.answered || t.client.Broken() && !l.uses[len(l.uses)-1].lost {
			l.uses = append(l.uses, use{span: span{from: now}, lost: t.client.Broken()})
			t.answered = false
		}
		l.uses[len(l.uses)-1].out += int64(len(b))
	})
}

// received notes bytes from the downstream.
func (t *tunnel) received(b []byte) {
	t.passed.Add(int64(len(b)))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.record.change(t.client, func(l *lane, now time.Time) {
		if l.ready.IsZero() {
			l.shaking += int64(len(b))
			return
		}
		if n := len(l.uses); n > 0 { // before that it is session tickets
			l.uses[n-1].to = now
			l.uses[n-1].in += int64(len(b))
			t.answered = true
		}
	})
}

// The types of TLS records (RFC 8446, section 5.1).
const (
	recordChangeCipherSpec = 20
	recordHandshake        = 22
	recordApplicationData  = 23
)

// handshake finds the end of a TLS handshake in what a client sends. That is the end of its first encrypted record,
// which is its Finished: in TLS 1.3 one of type application data, in TLS 1.2 one of type handshake after a
// ChangeCipherSpec. A client that authenticates itself with a certificate in TLS 1.3 is at its end a record or two later.
type handshake struct {
	header []byte // of the record, as far as it has come
	left   int    // bytes of the record that are to come
	begun  bool   // TLS it is
	final  bool   // the record is the last one
	cipher bool   // ChangeCipherSpec has come
	done   bool
}

// read returns how many bytes of b belong to the handshake, and whether it is over. What is not TLS has none.
func (h *handshake) read(b []byte) (n int, done bool) {
	const header = 5 // type, version (2), length (2)
	for n < len(b) && !h.done {
		if h.left == 0 {
			if !h.begun && b[n] != recordHandshake {
				h.done = true
				break
			}
			h.begun = true
			h.header = append(h.header, b[n])
			n++
			if len(h.header) < header {
				continue
			}
			kind := h.header[0]
			h.left = int(h.header[3])<<8 | int(h.header[4])
			h.final = kind == recordApplicationData || kind == recordHandshake && h.cipher
			h.cipher = h.cipher || kind == recordChangeCipherSpec
			h.header = h.header[:0]
		}
		take := min(h.left, len(b)-n)
		n, h.left = n+take, h.left-take
		h.done = h.final && h.left == 0
	}
	return n, h.done
}
