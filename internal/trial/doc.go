// Package trial holds nothing but tests: the pool against real servers and proxies, on networks of its own, and for a
// long time. See docs/reliability.md.
//
// The tests start the servers that are installed, on free loopback ports and with configurations that they write
// themselves, if THAW_TRIAL says how long each trial is to put its server under load. What is not installed is skipped; where
// CI=true is set, it fails.
package trial
