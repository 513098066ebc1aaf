//go:build race

package transport_test

// raceDetector is whether the tests run with the race detector, which makes handshakes some ten times slower.
const raceDetector = true
