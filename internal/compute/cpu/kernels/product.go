package kernels

import (
	"fmt"
	"unsafe"
)

const (
	productK   = 256 // block of k: 16 columns of it are half of a level-1 cache
	cacheSets  = 64  // of the level-1 cache, with 8 lines each
	gatherCols = 16  // columns of B that gathered copies at a time,
	gatherRows = 36  // for more rows than these
	neonCols   = 8   // of the narrowest tile of NEON
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
	if !l.tiles() || k == 0 {
		productGo(c, ldc, a, am, ak, b, ldb, m, n, k, accumulate)
		return
	}
	t := tile{kind: l.kind(false), lda: 4 * am, ka: 4 * ak, ldb: 4 * ldb, ldc: 4 * ldc}
	// Low tiles read B so often that its rows must not share cache sets.
	sets := cacheSets / max(1, min(ldb&-ldb*4/cacheLine, cacheSets)) // that a column of B occupies
	shared := t.kind == float32Tile && min(k, productK) > 8*sets
	for k0 := 0; k0 < k; k0 += productK {
		if t.k = min(productK, k-k0); accumulate || k0 > 0 {
			t.acc = 1
		}
		for m0 := 0; m0 < m; {
			m1 := blockEnd(m0, m)
			a := ptr(a, m0*am+k0*ak)
			j := 0
			if shared && m1-m0 > gatherRows {
				j = t.gathered(c[m0*ldc:], a, b[k0*ldb:], m1-m0, n)
			}
			for j < n {
				if n-j < neonCols && t.kind == float32TileNEON {
					t.padded(c[m0*ldc+j:], a, b[k0*ldb+j:], m1-m0, n-j)
					break
				}
				t.b = ptr(b, k0*ldb+j)
				j += t.strip(c[m0*ldc+j:], a, m1-m0, n-j)
			}
			m0 = m1
		}
	}
}

// gathered runs strips of columns of B that it copies first, and returns how many columns it has done: the last ones,
// less than gatherCols, it leaves.
func (t tile) gathered(c []float32, a unsafe.Pointer, b []float32, m, n int) int {
	var buf [productK * gatherCols]float32
	ldb, j := t.ldb, 0
	for ; j+gatherCols <= n; j += gatherCols {
		gather16(&buf[0], &b[j], ldb, t.k)
		t.b, t.ldb = unsafe.Pointer(&buf), 4*gatherCols
		t.strip(c[j:], a, m, gatherCols)
	}
	return j
}

// padded runs the last strip on a copy of B that has as many columns as the tiles, which cannot cut them off.
func (t tile) padded(c []float32, a unsafe.Pointer, b []float32, m, n int) {
	var buf [productK * neonCols]float32
	for i := range t.k {
		copy(buf[i*neonCols:], b[i*t.ldb/4:][:n])
	}
	t.b, t.ldb = unsafe.Pointer(&buf), 4*neonCols
	t.strip(c, a, m, n)
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
