// Package xraydaemon listens as the X-Ray daemon does, on loopback, and keeps what is sent to it.
package xraydaemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// header is the first line of each datagram, see "Sending segment documents to the X-Ray daemon" in the X-Ray
// Developer Guide. What follows it is one document.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// maxDatagram is the most that a UDP datagram has over IPv4 (RFC 768, RFC 791).
const maxDatagram = 65507

// patience is how long Documents waits for its own datagram.
const patience = 10 * time.Second

// mark begins the datagrams that the daemon sends to itself.
var mark = []byte("mark ")

// Daemon is the listener. Its methods are safe for concurrent use.
type Daemon struct {
	conn   *net.UDPConn
	done   chan struct{} // closed when nothing more is read
	marked chan uint64   // the number of the mark that was read last, or less than that

	sync sync.Mutex // Documents takes turns; guards sent
	sent uint64     // marks

	mu   sync.Mutex // guards what follows
	docs [][]byte
	errs []error
}

// Listen begins to listen on a free port. The daemon has to be closed.
func Listen() (*Daemon, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("xraydaemon: %w", err)
	}
	// More than the kernel gives by default, as far as it lets: senders come in bursts.
	_ = conn.SetReadBuffer(4 << 20)
	d := &Daemon{conn: conn, done: make(chan struct{}), marked: make(chan uint64, 1)}
	go d.read()
	return d, nil
}

// Addr is the address of the daemon, for AWS_XRAY_DAEMON_ADDRESS.
func (d *Daemon) Addr() string { return d.conn.LocalAddr().String() }

// Close stops listening. It returns when the daemon's goroutine is gone.
func (d *Daemon) Close() error {
	err := d.conn.Close()
	<-d.done
	return err
}

// Documents returns what was received since it was called last: all that was sent before, because datagrams do
// not overtake each other on loopback. Those that the daemon of X-Ray would drop are errors, joined.
func (d *Daemon) Documents() ([][]byte, error) {
	d.sync.Lock()
	defer d.sync.Unlock()
	d.sent++
	if _, err := d.conn.WriteTo(fmt.Append(mark, d.sent), d.conn.LocalAddr()); err != nil {
		return nil, fmt.Errorf("xraydaemon: %w", err)
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for last := uint64(0); last < d.sent; {
		select {
		case last = <-d.marked:
		case <-d.done:
			return nil, fmt.Errorf("xraydaemon: %w", net.ErrClosed)
		case <-timeout.C:
			return nil, errors.New("xraydaemon: the socket dropped datagrams")
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	docs, err := d.docs, errors.Join(d.errs...)
	d.docs, d.errs = nil, nil
	return docs, err
}

func (d *Daemon) read() {
	defer close(d.done)
	buf := make([]byte, maxDatagram)
	for {
		n, err := d.conn.Read(buf)
		if err != nil {
			return // closed
		}
		d.receive(buf[:n])
	}
}

func (d *Daemon) receive(datagram []byte) {
	if after, ok := bytes.CutPrefix(datagram, mark); ok {
		var number uint64
		_, _ = fmt.Sscan(string(after), &number)
		select {
		case <-d.marked: // nobody waits for this one any more
		default:
		}
		d.marked <- number
		return
	}
	doc, err := parse(datagram)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.errs = append(d.errs, err)
	} else {
		d.docs = append(d.docs, doc)
	}
}

// parse returns the document in a datagram.
func parse(datagram []byte) ([]byte, error) {
	first, doc, ok := bytes.Cut(datagram, []byte("\n"))
	var h header
	switch {
	case !ok:
		return nil, errors.New("xraydaemon: datagram without a header line")
	case json.Unmarshal(first, &h) != nil || h != header{Format: "json", Version: 1}:
		return nil, fmt.Errorf("xraydaemon: header line is %.80q", first)
	case !json.Valid(doc):
		return nil, fmt.Errorf("xraydaemon: document is no JSON: %.80q", doc)
	}
	return bytes.Clone(doc), nil
}
