package transport

import "time"

// Stats is a snapshot of a [Transport]. Counters only grow; gauges are as of now.
type Stats struct {
	Origin                    // the sum over all origins
	Origins map[string]Origin // by "https://host:port"

	// Unreached is the part of the sum that is of origins to which no connection could ever be made, and which nobody tries any
	// more. They have no entry in Origins: else whoever chooses the hosts that are tried, by a redirect for one, would choose
	// how many entries there are. Of the origins that were reached and have no connection any more, the 256 that were used last
	// have one.
	Unreached Origin
}

// Origin is the part of [Stats] that concerns one origin.
type Origin struct {
	// Gauges. On HTTP/2 a connection with a stream is in use. Open counts established connections:
	// Idle and InUse together; Dialing counts those on their way.
	Open, InUse, Idle, Dialing, Waiting int
	Streams                             int // HTTP/2 streams in flight

	Requests   uint64 // round trips that were given a connection, replays not counted again
	Reused     uint64 // of these, the ones whose connection had been used before
	Dials      uint64 // begun
	DialErrors uint64 // of these, failed, TLS handshake included, or ended by the pool, which others needed the room of

	Handshakes uint64 // TLS handshakes completed
	Resumed    uint64 // of these, resumed from an earlier session

	Waits    uint64        // requests that had to wait for a connection
	WaitTime time.Duration // spent waiting by all of them, those that gave up included

	Verified     uint64 // connections proven alive by a PING or by an acknowledged request
	VerifyFailed uint64 // connections that could not be proven alive
	Replayed     uint64 // requests sent again on another connection
	Leaked       uint64 // response bodies that were garbage collected without Close

	Closed Closed
}

// Reached reports whether there has been a connection to the origin. One that was not reached is in Stats.Origins for as long as
// somebody tries to.
func (o Origin) Reached() bool { return o.Requests > 0 || o.Open > 0 || o.Closed != Closed{} }

// Closed counts closed connections by reason.
type Closed struct {
	IdleTimeout uint64 // idle longer than IdleTimeout or than the server's Keep-Alive header allows
	Lifetime    uint64 // older than MaxConnLifetime
	Stale       uint64 // found dead when taken, or idle as long as one found dead
	Unverified  uint64 // not proven alive within VerifyTimeout
	Server      uint64 // closed by the server: while idle, after "Connection: close", by GOAWAY, or because it refuses streams
	Error       uint64 // broken in use: an error, a cancelled HTTP/1.1 request, a body closed too early
	Excess      uint64 // more idle connections than allowed, or making room for another one
	Reset       uint64 // by Reset, CloseIdleConnections or Close
}

// add adds the counters and gauges of b to o.
func (o *Origin) add(b Origin) {
	o.Open += b.Open
	o.InUse += b.InUse
	o.Idle += b.Idle
	o.Dialing += b.Dialing
	o.Waiting += b.Waiting
	o.Streams += b.Streams
	o.Requests += b.Requests
	o.Reused += b.Reused
	o.Dials += b.Dials
	o.DialErrors += b.DialErrors
	o.Handshakes += b.Handshakes
	o.Resumed += b.Resumed
	o.Waits += b.Waits
	o.WaitTime += b.WaitTime
	o.Verified += b.Verified
	o.VerifyFailed += b.VerifyFailed
	o.Replayed += b.Replayed
	o.Leaked += b.Leaked
	o.Closed.IdleTimeout += b.Closed.IdleTimeout
	o.Closed.Lifetime += b.Closed.Lifetime
	o.Closed.Stale += b.Closed.Stale
	o.Closed.Unverified += b.Closed.Unverified
	o.Closed.Server += b.Closed.Server
	o.Closed.Error += b.Closed.Error
	o.Closed.Excess += b.Closed.Excess
	o.Closed.Reset += b.Closed.Reset
}
