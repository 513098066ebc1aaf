//go:build linux || darwin

package transport

import (
	"errors"
	"syscall"
)

// canReadSockets is whether readSocket can be used.
const canReadSockets = true

// maxRead is how much is read at once: Darwin refuses more than 2 GiB (Go issue 7812).
const maxRead = 1 << 30

// readSocket reads a socket, which does not block.
func readSocket(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p[:min(len(p), maxRead)])
	errno, _ := errors.AsType[syscall.Errno](err)
	return n, errno
}
