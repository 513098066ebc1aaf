//go:build !linux && !darwin

package transport

import "syscall"

// canReadSockets is whether readSocket can be used.
const canReadSockets = false

func readSocket(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }
