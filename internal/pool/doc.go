// Package pool decides for a pool of connections: which connection a request gets, what is dialled, proven and closed, and when.
// It does nothing of that itself. It knows connections only by what it is told of them, and has no socket, no goroutine and no
// clock. Events go in, each with the time, as calls of the methods of a [Machine]; decisions come out of [Machine.Take], or as
// the connection that [Machine.Ask] returns. The driver, package transport, carries the ones in and the others out.
//
// So a seed, a list of events and a time are a whole test, and each rule of docs/pool.md has one place here:
//
//	fit.go      what a connection is to a request, and where it is kept
//	request.go  how a request asks, waits, and gives back what it got
//	dial.go     whom a dial belongs to, when it is late, whom its failure concerns
//	supply.go   how many dials and proofs those who wait need
//	room.go     the limits, and whose turn it is under them
//	conn.go     the life of a connection
//	trust.go    what is known of its peer, and when that must be proven
//	streams.go  how many requests it takes at once
//	leak.go     when forgotten response bodies are looked for
//	clock.go    two clocks, and what they make due
//
// # Words
//
// A request asks for a connection. It is granted one, or waits; a wait ends with a grant, fails, or is given up. A request that is
// done gives its connection back. The order in which requests first asked is their turn.
//
// A dial is begun, for a request, which is its owner, or for nobody; an orphan is a dial whose owner has ended. It is late after
// DialDelay. It fails, is cancelled by the machine, or makes a connection.
//
// A connection is closed by the machine, or has ended by itself. It is retired when it takes no more requests than it has. Once it is
// closed for good it is freed, and leaves its place under the limits. One of HTTP/2 that is retired leaves that at once, and so does
// one that somebody took over. A connection without a request is unused; it is idle if nobody has been promised it either.
//
// A connection is heard when a byte of it is read. It is in doubt when that was too long ago, and proven when its peer has shown that
// it is there.
//
// # States
//
// A connection has three, of which no event changes more than it says. Its life:
//
//	live     GoAway, Reset, maxRefusals, VerifyTimeout,        retired
//	         with requests on it
//	live     the same without a request; expired; in the way   closed (DoClose)
//	retired  its last request is done                          closed (DoClose)
//	any      Unproven, FoundDead, Done(Failed)                 closed (DoClose)
//	any      Ended                                             closed
//	closed   Freed                                             gone: its place under the limits is free
//
// Its trust:
//
//	trusted  not heard for VerifyAfter, and wanted   asked (DoProve)
//	asked    patience has passed                     late: those who wait for it may have dials
//	both     Proven                                  trusted
//	both     Unprovable                              trusted, and TrustIdle holds from now on
//	both     Unproven; VerifyTimeout, not in use     closed
//	both     VerifyTimeout, in use                   retired: its server may be busy with a request
//
// Its streams, over HTTP/2:
//
//	unsaid   Settings, or VerifyTimeout              said
//	both     Done(Refused)                           paused, each time for longer
//	paused   its time has passed                     as before
//
// # Concurrency
//
// A Machine is not safe for concurrent use. Its driver holds a lock around each event and reads the clocks under it; it carries out
// under the same lock what later events refer to (grants, the timer), and after it what takes time. Events may come late, of a
// connection or a dial that is over, and change nothing then.
package pool
