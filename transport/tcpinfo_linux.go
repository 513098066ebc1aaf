//go:build linux && (amd64 || arm64)

package transport

import (
	"syscall"
	"time"
	"unsafe"
)

// canTellAcknowledged is whether the kernel says what the peer has acknowledged.
const canTellAcknowledged = true

// linuxTCPInfo is the beginning of struct tcp_info, of linux/tcp.h.
type linuxTCPInfo struct {
	_          [8]uint8
	_          [15]uint32 // rto to rcv_ssthresh
	rtt        uint32     // microseconds
	_          [8]uint32  // rttvar to total_retrans
	_          [2]uint64  // pacing rates
	bytesAcked uint64     // since Linux 4.1 (RFC 4898, tcpEStatsAppHCThruOctetsAcked)
}

// readTCPInfo asks the kernel about a TCP connection (tcp(7), TCP_INFO).
func readTCPInfo(fd uintptr) (tcpInfo, bool) {
	var info linuxTCPInfo
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || uintptr(size) < unsafe.Sizeof(info) {
		return tcpInfo{}, false
	}
	return tcpInfo{acked: info.bytesAcked, rtt: time.Duration(info.rtt) * time.Microsecond}, true
}
