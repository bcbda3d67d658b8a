//go:build amd64

package kernels

import (
	"fmt"
	"testing"
	"unsafe"
)

func BenchmarkTile(b *testing.B) {
	peak := PeakF32(AVX2)
	for _, rows := range []int{1, 2, 3, 4, 5, 6} {
		for _, k := range []int{96, 192, 288, 384} {
			for _, tiles := range []int{1, 14} {
				a := aligned[float32](96 * (k*2 + 16))
				p := aligned[uint16](k * 128)
				c := aligned[float32](96 * 64)
				t := tile{a: ptr(a, 0), lda: 4 * (k + 16), b: ptr(p, 0), k: k / 2, ldb: 0, kind: wideTile, ldc: 64 * 4}
				b.Run(fmt.Sprintf("r%d/k%d/t%d", rows, k, tiles), func(b *testing.B) {
					s := best(b, func() { t.tiles = tiles; t.c = unsafe.Pointer(&c[0]); t.run(rows, 16) })
					reportRate(b, 2*float64(rows*16*k*tiles), s, peak)
				})
			}
		}
	}
}
