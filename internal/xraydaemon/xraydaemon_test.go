package xraydaemon

import (
	"net"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const headerLine = `{"format": "json", "version": 1}` + "\n"

func listen(t *testing.T) (*Daemon, net.Conn) {
	t.Helper()
	d, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	conn, err := net.Dial("udp4", d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return d, conn
}

func send(t *testing.T, conn net.Conn, datagram string) {
	t.Helper()
	if _, err := conn.Write([]byte(datagram)); err != nil {
		t.Fatal(err)
	}
}

func TestDocumentsAreAllThatWasSentBefore(t *testing.T) {
	t.Parallel()
	d, conn := listen(t)
	for round := range 3 {
		for range 50 {
			send(t, conn, headerLine+`{"name": "a"}`)
		}
		docs, err := d.Documents()
		if len(docs) != 50 || err != nil {
			t.Fatalf("round %d: %d documents and %v, want 50", round, len(docs), err)
		}
	}
	if docs, err := d.Documents(); len(docs) != 0 || err != nil {
		t.Errorf("then %d documents and %v, want none", len(docs), err)
	}
}

func TestWhatTheDaemonWouldDropIsAnError(t *testing.T) {
	t.Parallel()
	d, conn := listen(t)
	for _, datagram := range []string{
		`{"name": "a"}`, // "Missing header"
		"{\"format\": \"json\", \"version\": 2}\n{}",
		"{\"format\": \"xml\", \"version\": 1}\n{}",
		"format: json\n{}",
		headerLine + `{"name": `,
		headerLine,
	} {
		send(t, conn, datagram)
		if docs, err := d.Documents(); len(docs) != 0 || err == nil {
			t.Errorf("%q: %d documents and %v, want an error", datagram, len(docs), err)
		}
	}
	// The daemon takes a header without spaces, and one with what it does not know.
	send(t, conn, "{\"version\":1,\"format\":\"json\",\"more\":true}\n{}")
	if docs, err := d.Documents(); len(docs) != 1 || err != nil {
		t.Errorf("%d documents and %v, want one", len(docs), err)
	}
}

func TestDocumentsOfAClosedDaemonIsAnError(t *testing.T) {
	t.Parallel()
	d, _ := listen(t)
	d.Close()
	if _, err := d.Documents(); err == nil {
		t.Error("no error")
	}
}
