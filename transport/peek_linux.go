//go:build linux && (amd64 || arm64)

package transport

import (
	"syscall"
	"unsafe"
)

// peek asks the kernel what a read of fd would give, without reading and without waiting. syscall.Recvfrom would
// allocate room for an address that TCP does not have.
func peek(fd uintptr, buf *[1]byte) peeked {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(buf)), uintptr(len(buf)),
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return peekedNothing
	case errno == 0 && n > 0:
		return peekedBytes
	default:
		return peekedEnd // no bytes: the peer has closed it; or an error, a reset for example
	}
}
