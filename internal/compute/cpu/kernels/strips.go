package kernels

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"cria/internal/half"
)

// StripWidth is the number of columns of a strip.
const StripWidth = 24

// Strips is a part of a right-hand matrix B (K, N), made as float32 just before it is multiplied with many rows:
//
//	[N/24 strips][K][24 columns]
//
// Tiles of 4 x 24 need seven loads for twelve multiply-adds and nothing else. That matters with AVX2, where a core that
// runs two threads begins hardly more instructions than multiply-adds in each of them.
type Strips struct {
	arith Arith
	k, n  int
	f     []float32
}

// Strips says whether weights that are not kept packed are better multiplied as Strips than as Panels.
func (l Level) Strips() bool { return hasAsm && l == AVX2 }

// StripsBytes is the memory of a (k, n) matrix.
func StripsBytes(k, n int) int64 { return 4 * int64(k) * int64(stripCount(n)) * StripWidth }

func stripCount(n int) int { return (n + StripWidth - 1) / StripWidth }

// Reset makes s a (k, n) matrix, undefined until it is packed. Memory is reused where it suffices.
func (s *Strips) Reset(ar Arith, k, n int) {
	if k <= 0 || n <= 0 {
		panic(fmt.Sprintf("kernels: strips of %dx%d", k, n))
	}
	s.arith, s.k, s.n = ar, k, n
	s.f = resized(s.f, k*stripCount(n)*StripWidth)
}

// strip is strip i and how many of its columns exist.
func (s *Strips) strip(i int) (dst []float32, cols int) {
	size := s.k * StripWidth
	return s.f[i*size:][:size], min(StripWidth, s.n-i*StripWidth)
}

// PackBF16 fills s from bfloat16 values (little-endian, any alignment); w begins with the first of them, ld is the distance
// of its rows in elements.
func (s *Strips) PackBF16(w []byte, order Order, ld int) {
	s.check(len(w)/2, order, ld)
	if order == KN {
		s.packKN(w, ld)
		return
	}
	for i := range stripCount(s.n) {
		dst, cols := s.strip(i)
		s.packNK(dst, w[2*i*StripWidth*ld:], cols, ld)
	}
}

// packKN fills all strips from k rows of bfloat16 values, a few rows at a time: a strip's part of a row is less than a cache
// line, and its lines are asked for beforehand, since rows are too far apart for the processor to foresee them.
func (s *Strips) packKN(w []byte, ld int) {
	const chunk = 16 // of k
	whole := 0
	if s.arith.Level.asm() {
		whole = s.n / StripWidth
	}
	for k0 := 0; k0 < s.k; k0 += chunk {
		k1 := min(k0+chunk, s.k)
		if next := min(k1+chunk, s.k); whole > 0 && k1 < next {
			prefetchRows(unsafe.Pointer(&w[2*k1*ld]), 2*ld, next-k1, (2*s.n+63)/64)
		}
		for i := range stripCount(s.n) {
			dst, cols := s.strip(i)
			if i < whole {
				widenRows(&dst[k0*StripWidth], unsafe.Pointer(&w[2*(k0*ld+i*StripWidth)]), 2*ld, k1-k0)
				continue
			}
			for k := k0; k < k1; k++ {
				wideRow(dst[k*StripWidth:][:StripWidth], w[2*(k*ld+i*StripWidth):][:2*cols])
			}
		}
	}
}

// packNK fills a strip from cols rows of bfloat16 values.
func (s *Strips) packNK(dst []float32, w []byte, cols, ld int) {
	const chunk = 256 // of k
	done := 0
	if s.arith.Level.asm() && cols == StripWidth {
		var pairs [chunk * StripWidth]uint16 // [chunk/2][24 columns][2], as in panels
		for ; done+16 <= s.k; done += chunk {
			n := min(chunk, (s.k-done)&^15)
			for j := 0; j < StripWidth; j += 8 {
				transpose8(unsafe.Pointer(&pairs[2*j]), 4*StripWidth, unsafe.Pointer(&w[2*(j*ld+done)]), 2*ld, n/16)
			}
			widenPairs(&dst[done*StripWidth], &pairs[0], n/2)
		}
		done = s.k &^ 15
	}
	for j := range StripWidth {
		for k := done; k < s.k; k++ {
			if dst[k*StripWidth+j] = 0; j < cols {
				dst[k*StripWidth+j] = half.BFloat16(binary.LittleEndian.Uint16(w[2*(j*ld+k):]))
			}
		}
	}
}

// wideRow sets dst to bfloat16 values and zeros.
func wideRow(dst []float32, src []byte) {
	n := len(src) / 2
	for i := range n {
		dst[i] = half.BFloat16(binary.LittleEndian.Uint16(src[2*i:]))
	}
	clear(dst[n:])
}

// PackF32 fills s from float32 values, rounding them to bfloat16 where the arithmetic asks for it.
func (s *Strips) PackF32(w []float32, order Order, ld int) {
	s.check(len(w), order, ld)
	for i := range stripCount(s.n) {
		dst, cols := s.strip(i)
		if cols < StripWidth {
			clear(dst)
		}
		if order == NK {
			s.arith.Level.Transpose(dst, StripWidth, w[i*StripWidth*ld:], ld, cols, s.k)
			continue
		}
		for k := range s.k {
			copy(dst[k*StripWidth:][:cols], w[k*ld+i*StripWidth:])
		}
	}
	if s.arith.BF16 {
		s.arith.Level.RoundBF16(s.f, s.f)
	}
}

func (s *Strips) check(have int, order Order, ld int) {
	rows, cols := s.k, s.n
	if order == NK {
		rows, cols = cols, rows
	}
	if ld < cols || (rows-1)*ld+cols > have {
		panic(fmt.Sprintf("kernels: strips of %dx%d in %d elements, stride %d", s.k, s.n, have, ld))
	}
}

// Mul sets C[m][n] = Σ_k A[m][ka+k] B[k][n] for m0 <= m < m1 and all n, or adds to it. Row m of C stands at c[m*ldc:]. The
// bits are those of Panels.Mul.
func (s *Strips) Mul(c []float32, ldc int, a *Operand, ka, m0, m1 int, accumulate bool) {
	if a.arith.pairs() || ka < 0 || a.k-ka < s.k || m0 < 0 || m1 > a.rows {
		panic(fmt.Sprintf("kernels: product of rows %d:%d of %dx%d and strips of %dx%d", m0, m1, a.rows, a.k, s.k, s.n))
	}
	if m0 >= m1 {
		return
	}
	if ldc < s.n || (m1-1)*ldc+s.n > len(c) {
		panic(fmt.Sprintf("kernels: result of %dx%d, stride %d, in %d elements", m1, s.n, ldc, len(c)))
	}
	if !s.arith.Level.asm() {
		s.mulGo(c, ldc, a, ka, m0, m1, accumulate)
		return
	}
	// A strip stays in the cache for all rows; what reads it then is nearly all of A, a line after the other.
	t := tile{kind: stripTile, lda: a.rowBytes(), ka: 4, ldc: 4 * ldc}
	kc := evenly(s.k, blockKF32, 8)
	for k0 := 0; k0 < s.k; k0 += kc {
		if accumulate || k0 > 0 {
			t.acc = 1
		}
		t.k = min(kc, s.k-k0)
		for n := 0; n < s.n; n += StripWidth {
			t.b = ptr(s.f, n*s.k+k0*StripWidth)
			rows := m1 - m0
			if s.n-n < StripWidth {
				rows = blockRows // of copied
			}
			for i := m0; i < m1; i += rows {
				t.strip(c[i*ldc+n:], a.at(i, ka+k0), min(rows, m1-i), s.n-n)
			}
		}
	}
}

// mulGo is Mul in Go.
func (s *Strips) mulGo(c []float32, ldc int, a *Operand, ka, m0, m1 int, accumulate bool) {
	for m := m0; m < m1; m++ {
		x := a.row(m)[ka:][:s.k]
		for i := range stripCount(s.n) {
			b, cols := s.strip(i)
			var sum [StripWidth]float32
			out := c[m*ldc+i*StripWidth:][:cols]
			if accumulate {
				copy(sum[:], out)
			}
			for k, x := range x {
				for j, y := range b[k*StripWidth:][:StripWidth] {
					sum[j] += x * y
				}
			}
			copy(out, sum[:])
		}
	}
}
