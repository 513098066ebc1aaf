package clienttest

import (
	"bytes"
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"
)

// The HTTP server knows nothing of the GOAWAY, SETTINGS and RST_STREAM frames that this file adds to what it writes. So it must
// not see what clients answer to them, nor the streams that a GOAWAY has ruled out or that were refused.
//
// Of a refused stream the HTTP server must see the header blocks all the same, or it could not decode those of later streams
// (RFC 9113, section 4.3). It gets them with a field added that makes them invalid. So it handles no request, and what it has to
// say of the stream is dropped.

const (
	preface       = "PRI * HTTP/" // what only HTTP/2 begins with
	prefaceLength = 24            // bytes of all of it, RFC 9113, section 3.4
	frameHeader   = 9             // bytes, RFC 9113, section 4.1
)

func frameLength(h []byte) int     { return int(h[0])<<16 | int(h[1])<<8 | int(h[2]) }
func frameStream(h []byte) int64   { return int64(binary.BigEndian.Uint32(h[5:]) & math.MaxInt32) }
func isAcknowledged(h []byte) bool { return http2.Flags(h[4]).Has(http2.FlagSettingsAck) }
func endsBlock(h []byte) bool      { return http2.Flags(h[4]).Has(http2.FlagHeadersEndHeaders) }

// endsStream reports whether nothing comes after the frame on its stream.
func endsStream(h []byte) bool {
	switch http2.FrameType(h[3]) {
	case http2.FrameHeaders, http2.FrameData:
		return http2.Flags(h[4]).Has(http2.FlagDataEndStream) // the same bit in both
	case http2.FrameRSTStream:
		return true
	}
	return false
}

// beginHTTP2 is called by the reader, ahead of the first frame.
func (c *conn) beginHTTP2() {
	c.left = prefaceLength
	s := c.server
	s.mu.Lock()
	c.h2.Store(true)
	limit, away := s.streams, s.away > 0
	s.mu.Unlock()
	if limit != maxStreams {
		c.insert(settings(limit))
	}
	if away {
		c.goAway() // with last stream 0
	}
}

// readFrames reads what the HTTP server is to see.
func (c *conn) readFrames(p []byte) (int, error) {
	if c.left == 0 && len(c.behind) > 0 {
		n := copy(p, c.behind)
		c.behind = c.behind[n:]
		return n, nil
	}
	for c.left == 0 {
		h, err := c.in.Peek(frameHeader)
		if err != nil {
			return c.in.Read(p) // what there is, and then the error
		}
		c.left = frameHeader + frameLength(h)
		if c.admits(h) {
			break
		}
		if _, err := c.in.Discard(c.left); err != nil {
			return 0, err
		}
		c.left = 0
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// admits reports whether the HTTP server is to see the frame whose header is h.
func (c *conn) admits(h []byte) bool {
	typ, stream := http2.FrameType(h[3]), frameStream(h)
	if typ == http2.FrameSettings && isAcknowledged(h) {
		c.acks++
		return c.acks == 1 // those of the HTTP server itself
	}
	s := c.server
	s.mu.Lock()
	var limited, refusing bool
	if typ == http2.FrameHeaders && stream > c.last && c.upTo < 0 {
		c.last = stream
		if refusing = s.refusing > 0 || s.allowed >= 0 && len(c.open) >= s.allowed; refusing {
			c.refused[stream] = true
		} else {
			c.open[stream] = true
			c.streams++
			limited = s.perConn >= 0 && c.streams >= s.perConn
		}
	}
	if typ == http2.FrameRSTStream {
		delete(c.open, stream)
	}
	refused := c.refused[stream]
	admitted := c.upTo < 0 || stream <= c.upTo
	s.mu.Unlock()
	if limited {
		c.goAway()
	}
	if refusing {
		c.insert(frame(func(f *http2.Framer) error { return f.WriteRSTStream(uint32(stream), http2.ErrCodeRefusedStream) }))
	}
	if refused {
		return c.admitsRefused(h)
	}
	return admitted
}

// admitsRefused is admits for a frame of a stream that was refused.
func (c *conn) admitsRefused(h []byte) bool {
	stream := uint32(frameStream(h))
	switch http2.FrameType(h[3]) {
	case http2.FrameHeaders, http2.FrameContinuation:
		if endsBlock(h) {
			h[4] &^= byte(http2.FlagHeadersEndHeaders) // h is where the HTTP server reads it from
			c.behind = frame(func(f *http2.Framer) error { return f.WriteContinuation(stream, true, invalidField) })
		}
		return true
	case http2.FrameData:
		if n := frameLength(h); n > 0 { // give its room in the connection's window back
			c.insert(frame(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, uint32(n)) }))
		}
	}
	return false
}

// invalidField is a header field whose name is "A", in upper case, and whose value is empty. It leaves no trace in the table of
// fields (RFC 7541, section 6.2.2).
var invalidField = []byte{0, 1, 'A', 0}

// goAway tells the client that no stream is dealt with but those it has opened. It reports whether it did: an HTTP/1.1
// connection, and one that was told before, is left as it is.
func (c *conn) goAway() bool {
	if !c.h2.Load() || c.path.Broken() {
		return false
	}
	c.server.mu.Lock()
	told := c.upTo >= 0
	if !told {
		c.upTo = c.last
	}
	last := c.upTo
	c.server.mu.Unlock()
	if !told {
		c.insert(frame(func(f *http2.Framer) error { return f.WriteGoAway(uint32(last), http2.ErrCodeNo, nil) }))
	}
	return !told
}

// settings is the frame that limits the streams to n at once.
func settings(n int) []byte {
	return frame(func(f *http2.Framer) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(n)})
	})
}

func frame(write func(*http2.Framer) error) []byte {
	var b bytes.Buffer
	_ = write(http2.NewFramer(&b, nil)) // a buffer takes everything
	return b.Bytes()
}

// frameWriter knows where in a frame the HTTP server's writing stands.
type frameWriter struct {
	header  []byte // of the frame that is begun, until it is complete
	due     int    // bytes that are left of the frame after its header
	dropped bool   // that frame is not to be written
	greeted bool   // a frame has been written: the first one must be the HTTP server's SETTINGS
	pending []byte // frames to be written between two others
}

// between reports whether the next byte is the first of a frame.
func (w *frameWriter) between() bool { return w.greeted && w.due == 0 && len(w.header) == 0 }

// insert writes a frame as soon as one can be written.
func (c *conn) insert(f []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if !c.out.between() {
		c.out.pending = append(c.out.pending, f...)
		return
	}
	_, _ = c.Conn.Write(f) // that the connection is gone, the HTTP server will notice
}

// writeFrames writes what the HTTP server writes, and between its frames the pending ones. writing is held.
func (c *conn) writeFrames(p []byte) error {
	w := &c.out
	var out []byte
	for {
		if w.between() {
			out, w.pending = append(out, w.pending...), nil
		}
		if len(p) == 0 {
			break
		}
		if w.due > 0 {
			n := min(w.due, len(p))
			if !w.dropped {
				out = append(out, p[:n]...)
			}
			p, w.due = p[n:], w.due-n
			continue
		}
		n := min(frameHeader-len(w.header), len(p))
		w.header, p = append(w.header, p[:n]...), p[n:]
		if len(w.header) < frameHeader {
			continue
		}
		h := w.header
		w.header, w.due, w.greeted = nil, frameLength(h), true
		if w.dropped = c.drops(h); w.dropped {
			continue
		}
		out = append(out, h...)
		if c.stall != nil && http2.FrameType(h[3]) == http2.FrameHeaders {
			if err := c.holdUp(out); err != nil {
				return err
			}
			out = nil
		}
	}
	if len(out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(out)
	return err
}

// drops reports whether the client is not to see the frame whose header is h, because its stream was refused.
func (c *conn) drops(h []byte) bool {
	if !endsStream(h) {
		return false
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	stream := frameStream(h)
	delete(c.open, stream)
	return c.refused[stream]
}
