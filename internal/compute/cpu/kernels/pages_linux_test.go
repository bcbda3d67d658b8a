package kernels

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"
)

// beforeNothing copies x to the end of memory after which nothing can be read or written.
func beforeNothing(t *testing.T, x []float32) []float32 {
	t.Helper()
	page := syscall.Getpagesize()
	size := (4*len(x) + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	out := unsafe.Slice((*float32)(unsafe.Pointer(&mem[size-4*len(x)])), len(x))
	copy(out, x)
	return out
}

// TestProductPages asks that products touch nothing behind their arguments.
func TestProductPages(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 10))
	for _, m := range []int{1, 2, 3, 5, 7, 12, 13, 50} {
		for _, n := range []int{1, 5, 8, 15, 17, 30, 32, 47} {
			for _, transposed := range []bool{false, true} {
				c := newProductCase(r, m, n, 1+r.IntN(20), transposed)
				c.a, c.b = beforeNothing(t, c.a), beforeNothing(t, c.b)
				out := beforeNothing(t, c.before)
				for _, l := range Levels() {
					l.Product(out, c.ldc, c.a, c.am, c.ak, c.b, c.ldb, m, n, c.k, true)
				}
			}
		}
	}
}
