package pool

import "time"

// leaks is what is known of response bodies that may have been leaked: of a program that forgets to close them, nobody gives
// anything back, and only the garbage collector finds them.
type leaks struct {
	timer     timer
	gaveBack  moment // when a connection was given back last
	collected moment // when garbage was collected last for that reason
}

const (
	// leakWait is how long requests must wait, and nothing be given back.
	leakWait = time.Second
	// collectEvery is how often garbage is collected for that at most.
	collectEvery = 10 * time.Second
)

// suspectLeaks has it looked after, while somebody waits, whether bodies may have been leaked.
func (m *Machine) suspectLeaks() { m.within(&m.leaks.timer, leakWait) }

// due has garbage collected if whoever has waited longest waits for what others have, and nobody gives anything back.
func (l *leaks) due(m *Machine, _ time.Duration) {
	r := m.waiting.first()
	if r == nil {
		return
	}
	if r.dials.n == 0 && m.age(r.since) >= leakWait && m.age(l.gaveBack) >= leakWait && m.age(l.collected) >= collectEvery {
		l.collected = m.now
		m.decide(Decision{Kind: DoCollect})
	}
	m.suspectLeaks()
}
