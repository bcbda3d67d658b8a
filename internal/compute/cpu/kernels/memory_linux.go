package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// adviseHuge asks for huge pages in the whole ones of b. Memory that is streamed through (the weights) then needs 512
// times fewer address translations. It is only advice: errors do not matter.
func adviseHuge(b []byte) {
	const page = 2 << 20
	start := int(-uintptr(unsafe.Pointer(&b[0])) % page)
	if n := (len(b) - start) / page * page; n > 0 {
		_ = unix.Madvise(b[start:start+n], unix.MADV_HUGEPAGE)
	}
}
