package transport

import "encoding/binary"

// frameScanner follows the HTTP/2 frames (RFC 9113, section 4) of one direction, as far as the pool must know: how many
// streams a server allows, whether it is going away, and whether it answers what it was asked. The bytes go on to
// x/net/http2, which checks them; the scanner skips what it does not understand. It is owned by the connection's reader,
// or by whoever may write.
type frameScanner struct {
	buf     [9]byte // of the frame header, then of the entry of SETTINGS that is being read
	have    uint8   // bytes in buf
	payload bool    // in the payload of a SETTINGS frame
	left    uint32  // bytes left of the payload
}

// frames follows those of a connection.
type frames struct {
	read    frameScanner
	written frameScanner
	events  frameEvents // what those that were read said, until the protocol layer has dealt with them
}

// frameEvents is what the frames of one read said.
type frameEvents struct {
	settings   bool   // a SETTINGS frame ended
	hasStreams bool   // one of them said how many streams the server allows
	goAway     bool   // a GOAWAY frame began
	streams    uint32 // the last value of SETTINGS_MAX_CONCURRENT_STREAMS
	stream     uint32 // the highest one that a HEADERS frame began for
}

func (e *frameEvents) any() bool { return e.settings || e.goAway }

const (
	frameHeaders  = 0x1
	frameSettings = 0x4
	frameGoAway   = 0x7
	flagAck       = 0x1

	settingMaxConcurrentStreams = 0x3
)

// scan reads the next bytes of the connection and adds what they say to ev.
func (s *frameScanner) scan(p []byte, ev *frameEvents) {
	for len(p) > 0 {
		if s.left > 0 && !s.payload {
			n := min(int(s.left), len(p))
			s.left -= uint32(n)
			p = p[n:]
			continue
		}
		want := len(s.buf)
		if s.payload {
			want = min(6, int(s.left)+int(s.have)) // an entry: two bytes of name, four of value
		}
		n := copy(s.buf[s.have:want], p)
		s.have += uint8(n)
		p = p[n:]
		if s.payload {
			s.left -= uint32(n)
		}
		if int(s.have) < want {
			return
		}
		s.have = 0
		if s.payload {
			if want == 6 && binary.BigEndian.Uint16(s.buf[:]) == settingMaxConcurrentStreams {
				ev.hasStreams = true
				ev.streams = binary.BigEndian.Uint32(s.buf[2:])
			}
			if s.left == 0 {
				s.payload = false
				ev.settings = true
			}
			continue
		}
		s.left = uint32(s.buf[0])<<16 | uint32(s.buf[1])<<8 | uint32(s.buf[2])
		switch kind, flags := s.buf[3], s.buf[4]; {
		case kind == frameHeaders:
			ev.stream = max(ev.stream, binary.BigEndian.Uint32(s.buf[5:])&^(1<<31)) // the first bit is reserved
		case kind == frameSettings && flags&flagAck == 0:
			s.payload = s.left > 0
			ev.settings = ev.settings || s.left == 0
		case kind == frameGoAway:
			ev.goAway = true
		}
	}
}
