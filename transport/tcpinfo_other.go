//go:build !linux || (!amd64 && !arm64)

package transport

// canTellAcknowledged is whether the kernel says what the peer has acknowledged. Where it does not, a connection idle
// for longer than TrustIdle is not used again.
const canTellAcknowledged = false

func readTCPInfo(uintptr) (tcpInfo, bool) { return tcpInfo{}, false }
