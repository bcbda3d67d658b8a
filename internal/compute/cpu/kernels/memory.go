package kernels

import "unsafe"

const cacheLine = 64

// Alloc returns n zeroed elements as the kernels like them: from a cache line on, large ones in huge pages where the
// system gives them.
func Alloc(n int) []float32 { return aligned[float32](n) }

func aligned[T uint16 | float32](n int) []T {
	var zero T
	size := int(unsafe.Sizeof(zero))
	b := make([]T, n+cacheLine/size)
	skip := 0
	if r := int(uintptr(unsafe.Pointer(&b[0])) % cacheLine); r > 0 {
		skip = (cacheLine - r) / size
	}
	b = b[skip : skip+n : skip+n]
	if n*size >= 2<<20 {
		adviseHuge(unsafe.Slice((*byte)(unsafe.Pointer(&b[0])), n*size))
	}
	return b
}

// resized returns b with n elements, newly allocated only if they do not fit. The elements are not cleared.
func resized[T uint16 | float32](b []T, n int) []T {
	if cap(b) >= n && b != nil {
		return b[:n]
	}
	return aligned[T](n)
}

func ptr[T any](s []T, i int) unsafe.Pointer { return unsafe.Pointer(&s[i]) }
