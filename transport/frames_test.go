package transport

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2"
)

// framesOf reads b with x/net/http2's Framer and returns what the pool wants to know of it. It returns false if the
// Framer objects to something.
func framesOf(b []byte) (frameEvents, bool) {
	var ev frameEvents
	r := bytes.NewReader(b)
	fr := http2.NewFramer(nil, r)
	fr.SetMaxReadFrameSize(1 << 16)
	fr.AllowIllegalReads = true
	for r.Len() > 0 {
		f, err := fr.ReadFrame()
		if err != nil {
			return frameEvents{}, false
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				ev.settings = true
				f.ForeachSetting(func(s http2.Setting) error {
					if s.ID == http2.SettingMaxConcurrentStreams {
						ev.hasStreams, ev.streams = true, s.Val
					}
					return nil
				})
			}
		case *http2.GoAwayFrame:
			ev.goAway = true
		case *http2.HeadersFrame:
			ev.stream = max(ev.stream, f.StreamID)
		}
	}
	return ev, true
}

// scanInPieces scans b in pieces of the sizes that cuts names, over and over.
func scanInPieces(b, cuts []byte) frameEvents {
	var s frameScanner
	var ev frameEvents
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		s.scan(b[:n], &ev)
		b = b[n:]
	}
	return ev
}

// serverFrames is what a server may send.
func serverFrames() map[string][]byte {
	write := func(f func(*http2.Framer)) []byte {
		var b bytes.Buffer
		f(http2.NewFramer(&b, nil))
		return b.Bytes()
	}
	max := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n} }
	window := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}
	return map[string][]byte{
		"nothing":             nil,
		"empty settings":      write(func(f *http2.Framer) { f.WriteSettings() }),
		"settings":            write(func(f *http2.Framer) { f.WriteSettings(window, max(250), window) }),
		"no streams":          write(func(f *http2.Framer) { f.WriteSettings(max(0)) }),
		"twice in one":        write(func(f *http2.Framer) { f.WriteSettings(max(7), window, max(1<<32-1)) }),
		"without the setting": write(func(f *http2.Framer) { f.WriteSettings(window) }),
		"acknowledgement":     write(func(f *http2.Framer) { f.WriteSettingsAck() }),
		"goaway":              write(func(f *http2.Framer) { f.WriteGoAway(9, http2.ErrCodeNo, []byte("maintenance")) }),
		"data that looks like goaway": write(func(f *http2.Framer) {
			f.WriteData(1, false, []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0})
		}),
		"a conversation": write(func(f *http2.Framer) {
			f.WriteSettings(max(100))
			f.WriteSettingsAck()
			f.WriteWindowUpdate(0, 1<<20)
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
			f.WriteData(1, true, bytes.Repeat([]byte{4}, 20000))
			f.WritePing(false, [8]byte{4, 0, 7})
			f.WriteSettings(window, max(3))
			f.WriteRSTStream(3, http2.ErrCodeRefusedStream)
			f.WriteGoAway(1, http2.ErrCodeNo, nil)
		}),
	}
}

func TestFrameScannerSeesWhatTheFramerSees(t *testing.T) {
	for name, b := range serverFrames() {
		want, ok := framesOf(b)
		if !ok {
			t.Fatalf("%s: the Framer objects", name)
		}
		for _, cuts := range [][]byte{nil, {0}, {1}, {8}, {9, 5}, {2, 0, 30}, {255}} {
			if got := scanInPieces(b, cuts); got != want {
				t.Errorf("%s in pieces of %v: %+v, want %+v", name, cuts, got, want)
			}
		}
	}
}

// SETTINGS that name no limit mean the default, also if they come late.
func TestLateSettingsWithoutALimit(t *testing.T) {
	pool, err := New(Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	c := &conn{protocol: h2, origin: &origin{t: pool}} // which is still its dial's
	for _, step := range []struct {
		ev   frameEvents
		want int
	}{
		{frameEvents{settings: true}, defaultStreams},
		{frameEvents{settings: true, hasStreams: true, streams: 7}, 7},
		{frameEvents{settings: true}, 7},
	} {
		if pool.frames(c, step.ev); c.early.streams != step.want || !c.early.settings {
			t.Errorf("after %+v: %d streams, want %d", step.ev, c.early.streams, step.want)
		}
	}
}

func TestFrameScannerTellsGoAwayFromItsFirstBytes(t *testing.T) {
	var s frameScanner
	var ev frameEvents
	s.scan([]byte{0, 1, 0, frameGoAway, 0, 0, 0, 0, 0}, &ev)
	if !ev.goAway {
		t.Error("the frame's header says so; its payload need not have come")
	}
}

func TestFrameScannerAllocatesNothing(t *testing.T) {
	b := serverFrames()["a conversation"]
	var s frameScanner
	var ev frameEvents
	if n := testing.AllocsPerRun(100, func() { s.scan(b, &ev) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzFrameScanner(f *testing.F) {
	for _, b := range serverFrames() {
		f.Add(b, []byte{})
		f.Add(b, []byte{0, 7})
	}
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		got := scanInPieces(b, cuts)
		if whole := scanInPieces(b, nil); got != whole {
			t.Fatalf("in pieces %+v, at once %+v", got, whole)
		}
		// Where x/net/http2 objects the connection is over, whatever the scanner says.
		if want, ok := framesOf(b); ok && got != want {
			t.Fatalf("scanner %+v, Framer %+v", got, want)
		}
		// Whole frames of another type say nothing, whatever they hold.
		data := make([]byte, 9, 9+len(b))
		binary.BigEndian.PutUint32(data, uint32(len(b))<<8)
		if got := scanInPieces(append(data, b...), cuts); len(b) < 1<<24 && got != (frameEvents{}) {
			t.Fatalf("as DATA: %+v", got)
		}
	})
}
