package kernels

import (
	"fmt"
	"unsafe"
)

const (
	productK    = 256 // block of k: 16 columns of it are half of a level-1 cache
	productCols = 16
	productWide = 32 // columns of tiles of up to 3 rows
	cacheSets   = 64 // of the level-1 cache, with 8 lines each
)

// Product sets C[i*ldc+j] = Σ_t A[i*am+t*ak] B[t*ldb+j] for i < m, j < n, t < k, or adds to it, in float32 and without
// preparation of A and B. With am = 1 A is transposed: the gradients Σ_t over tokens of attention and LoRA.
//
// As with Mul, every element is one chain of fused multiply-adds over ascending t.
func (l Level) Product(c []float32, ldc int, a []float32, am, ak int, b []float32, ldb int, m, n, k int, accumulate bool) {
	if m <= 0 || n <= 0 || k < 0 {
		return
	}
	if ldc < n || (m-1)*ldc+n > len(c) || k > 0 && (ldb < n || (k-1)*ldb+n > len(b) || (m-1)*am+(k-1)*ak >= len(a)) {
		panic(fmt.Sprintf("kernels: product %dx%dx%d of %d elements (strides %d, %d) and %d (stride %d) in %d (stride %d)", m, k, n, len(a), am, ak, len(b), ldb, len(c), ldc))
	}
	if !l.asm() || k == 0 {
		productGo(c, ldc, a, am, ak, b, ldb, m, n, k, accumulate)
		return
	}
	t := tile{lda: 4 * am, ka: 4 * ak, ldb: 4 * ldb}
	sets := cacheSets / max(1, min(ldb&-ldb*4/cacheLine, cacheSets)) // that a column of B occupies
	for k0 := 0; k0 < k; k0 += productK {
		if t.k = min(productK, k-k0); accumulate || k0 > 0 {
			t.acc = 1
		}
		forBlocks(0, m, func(m0, m1 int) {
			b, c := b[k0*ldb:], c[m0*ldc:]
			t.a = ptr(a, m0*am+k0*ak)
			j := 0
			if m1-m0 <= 2*rowsFMA || t.k <= 8*sets {
				for _, cols := range []int{productWide, productCols} {
					for ; j+cols <= n && (cols == productCols || m1-m0 <= rowsWide); j += cols {
						t.b = ptr(b, j)
						t.strip(c[j:], ldc, m1-m0, cols, cols)
					}
				}
			}
			if j < n {
				productCopied(t, c[j:], ldc, b[j:], ldb, m1-m0, n-j)
			}
		})
	}
}

// productCopied copies the columns of B first: where their rows share cache sets, and at the edge, where a tile would read
// beyond them.
func productCopied(t tile, c []float32, ldc int, b []float32, ldb, m, n int) {
	var buf [productK * productCols]float32
	t.b, t.ldb = unsafe.Pointer(&buf), 4*productCols
	for j := 0; j < n; j += productCols {
		width := min(productCols, n-j)
		if width == productCols {
			gather16(&buf[0], &b[j], 4*ldb, t.k)
		} else {
			for i := range t.k {
				copy(buf[i*productCols:], b[i*ldb+j:][:width])
			}
		}
		cols := productCols
		if width <= 8 {
			cols = 8
		}
		t.strip(c[j:], ldc, m, width, cols)
	}
}

// productGo is Product in Go.
func productGo(c []float32, ldc int, a []float32, am, ak int, b []float32, ldb int, m, n, k int, accumulate bool) {
	for i := range m {
		out := c[i*ldc:][:n]
		if !accumulate {
			clear(out)
		}
		for t := range k {
			axpyGo(out, a[i*am+t*ak], b[t*ldb:])
		}
	}
}
