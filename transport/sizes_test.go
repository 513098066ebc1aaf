package transport

import (
	"testing"
	"unsafe"
)

// What is allocated for each connection and each request is kept within these classes of the allocator: with the next ones,
// an idle connection or a POST takes more memory than http.Transport's.
func TestWhatIsAllocatedOftenFitsItsSizeClass(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64-bit platforms")
	}
	for _, c := range []struct {
		what        string
		size, class uintptr
	}{
		{"a connection", unsafe.Sizeof(conn{}), 576},
		{"its socket", unsafe.Sizeof(rawConn{}), 80},
		{"a lease's record", unsafe.Sizeof(leaseRecord{}), 416},
		{"a request with a body", unsafe.Sizeof(outgoing{}), 352},
		{"a response", unsafe.Sizeof(response{}), 240},
	} {
		if c.size > c.class {
			t.Errorf("%s takes %d bytes, want at most %d", c.what, c.size, c.class)
		}
	}
}
