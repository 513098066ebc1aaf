//go:build darwin || (linux && !amd64 && !arm64)

package transport

import "syscall"

// peek asks the kernel what a read of fd would give, without reading and without waiting.
func peek(fd uintptr, buf *[1]byte) peeked {
	n, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return peekedNothing
	case err == nil && n > 0:
		return peekedBytes
	default:
		return peekedEnd // no bytes: the peer has closed it; or an error, a reset for example
	}
}
