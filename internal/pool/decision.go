package pool

import "time"

// Decision is what the driver is to do. It carries decisions out in the order in which they came.
type Decision struct {
	Kind    Kind
	Reason  Reason
	Conn    *Conn
	Dial    *Dial
	Request *Request
	Err     error
	In      time.Duration
}

// Kind says what a [Decision] is.
type Kind uint8

const (
	// DoGrant gives Request, which waits, its Grant.
	DoGrant Kind = iota
	// DoFail tells Request, which waits, that it has ended with Err.
	DoFail
	// DoDial begins Dial, for Request or, if that is nil, for nobody. Dialed or DialFailed is the answer.
	DoDial
	// DoCancel ends Dial. DialFailed is the answer, or Dialed if it comes too late.
	DoCancel
	// DoClose closes Conn, for Reason. Freed is the answer.
	DoClose
	// DoProve has the peer of Conn show that it is there. Proven, Unproven or Unprovable is the answer; without one the machine
	// gives the connection up when VerifyTimeout has passed.
	DoProve
	// DoSettle says that the proof of Conn is over: it is trusted, or closed.
	DoSettle
	// DoLook looks at the socket of Conn, which is idle. If it is dead, Ended is the answer.
	DoLook
	// DoWake has Tick called once In has passed. It replaces the one before.
	DoWake
	// DoCollect collects garbage: response bodies may have been leaked, and requests wait for their connections.
	DoCollect
)

func (m *Machine) decide(d Decision) { m.decisions = append(m.decisions, d) }

// Take returns the decisions that came of the events since the last call, or nil. They may be kept until the slice is given
// back as the spare of a later call, which the machine then fills.
func (m *Machine) Take(spare []Decision) []Decision {
	// A wake-up whose time has passed, and which has not come, may have been set on a clock that stood still since.
	if t := m.timers.first(); t != nil && (t.key < int64(m.wakeAt) || m.wakeAt <= m.now) && !m.shut {
		m.wakeAt = moment(t.key)
		m.decide(Decision{Kind: DoWake, In: time.Duration(max(m.wakeAt-m.now, 0))})
	}
	if len(m.decisions) == 0 {
		return nil
	}
	taken := m.decisions
	m.decisions = spare[:0]
	return taken
}
