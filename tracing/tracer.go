package tracing

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"
)

// Tracer is told of each exchange, before it and after it. Its methods are called from many goroutines, for different
// exchanges at once. They must not block: the request waits for both.
type Tracer interface {
	// Start is called before an attempt is made, by the goroutine that makes it. The request is sent with the context
	// that Start returns, which must be ctx or derived from it.
	Start(ctx context.Context, s Start) context.Context

	// End is called once for each call of Start, with the context that it returned. That context may have ended. The
	// goroutine is any: the one that reads or closes the body, or, if the body was leaked, one of the runtime.
	// With several tracers, the one that started last is the first to end.
	End(ctx context.Context, e Exchange)
}

// Start is what is known before an attempt.
type Start struct {
	Method  string    // never empty
	URL     string    // without user information, query and fragment; cut beyond 512 bytes
	Origin  string    // "https://host:port", as in the pool's statistics
	Attempt int       // of the request: 1, 2, 3
	Time    time.Time // when it begins

	// Header is what will be sent, for a tracer to add to: a trace header, for example. It is a copy that belongs to
	// this attempt, so the caller's request stays as it is. It is never nil. It must not be changed, or kept, once Start
	// has returned.
	Header http.Header
}

// Exchange is what became of an attempt.
type Exchange struct {
	Method  string // never empty
	URL     string // without user information, query and fragment; cut beyond 512 bytes
	Origin  string // "https://host:port", as in the pool's statistics
	Attempt int    // of the request: 1, 2, 3

	Began, Ended time.Time
	Answered     time.Time // when the response was there, its body unread; zero if none came

	Status int    // of the response; 0 if none came
	Proto  string // of the response, "HTTP/1.1" or "HTTP/2.0"; empty if none came

	// Err is what ended the exchange, or nil if that was the end of the body or its Close. With a status, it is what
	// broke the body off. If the request's deadline had passed, it matches context.DeadlineExceeded. The text of an error of
	// the pool has at most 512 bytes, all printable; that of others' errors may be anything.
	Err error
	// Failed is the phase in which Err happened: one of the constants. It is empty without Err, and where the phase is
	// not known because the RoundTripper below calls no hooks of httptrace.
	Failed string
	// ClosedEarly is whether the body was closed before all of it had been read.
	ClosedEarly bool

	// BytesOut is how much of the request's body was sent, in bytes. The body of a known length counts when all of it
	// was sent.
	BytesOut int64
	// BytesIn is how much of the response's body was read, in bytes, after decompression.
	BytesIn int64

	// Replays is how often the RoundTripper below sent the request again on another connection.
	Replays int

	Conn   Conn
	TLS    TLS
	Timing Timing

	// Dial is what it took to make the connection, in the order in which it happened. It is empty if the exchange was
	// given a connection that was there, or that was being made for another one. If no connection came, it is how far
	// the dial had got that was begun for this exchange. It must not be changed.
	Dial []Phase
}

// The phases of an exchange, in their order. Those with the first three names are in [Exchange.Dial]; a failure can be
// in any.
const (
	PhaseDNS     = "dns"
	PhaseConnect = "connect"
	PhaseTLS     = "tls"
	PhaseWait    = "wait"   // for a connection, while it was not this exchange that dialled
	PhaseWrite   = "write"  // of the request
	PhaseHeader  = "header" // waiting for the response's header
	PhaseBody    = "body"   // of the response
)

// Phase is a part of making a connection.
type Phase struct {
	Name  string // PhaseDNS, PhaseConnect or PhaseTLS
	Began time.Time
	Took  time.Duration // if it had not ended, until the end of the exchange
	Err   error         // what it failed with, or nil
}

// Conn is the connection of an exchange, as it was when the exchange got it. It is zero if none came, or if the
// RoundTripper does not say; ID, Age, Uses and Protocol are zero over anything but the pool.
type Conn struct {
	ID         uint64        // unique among the connections of a pool; the first one is 1
	Reused     bool          // it had carried another request before, or carries one beside
	WasIdle    bool          // it came out of the idle connections
	Idle       time.Duration // how long it had been idle
	Age        time.Duration // since it was established: the larger of the differences of both clocks, as the pool has it
	Uses       uint64        // the requests that it was given, this one included
	Protocol   string        // "http/1.1" or "h2"
	RemoteAddr string        // "ip:port", the proxy's if there is one
}

// TLS is what the connection's TLS handshake agreed on. It is zero without TLS.
type TLS struct {
	Version     uint16 // tls.VersionTLS13, for example
	CipherSuite uint16 // tls.TLS_AES_128_GCM_SHA256, for example
	Resumed     bool   // an earlier session was resumed
}

func tlsOf(s *tls.ConnectionState) TLS {
	if s == nil {
		return TLS{}
	}
	return TLS{Version: s.Version, CipherSuite: s.CipherSuite, Resumed: s.DidResume}
}

// Timing is how long the parts of an exchange took. A part that did not take place is zero; one that had not ended when
// the exchange failed lasted until then. If the request was sent again by the pool, all but Total is of the last time.
// The monotonic clock measures.
type Timing struct {
	Wait time.Duration // from asking for a connection to having one: waiting and dialling

	// What of Wait was spent on dialling, if the exchange was given the connection that it had dialled. Two TLS
	// handshakes, the one with an HTTPS proxy included, are added up.
	DNS, Connect, TLS time.Duration

	Write     time.Duration // from having the connection until the request was sent, or answered if that came first
	FirstByte time.Duration // from then on, until the first byte of the response
	Total     time.Duration // from the beginning of the exchange to its end, reading the body included
}
