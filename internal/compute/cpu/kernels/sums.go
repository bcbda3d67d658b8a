package kernels

import "fmt"

// sumRows is the height of the largest tile of AddSums.
const sumRows = 8

// Pairs is a narrow left-hand matrix (T, R) of sums over its rows: gradients of LoRA sum outer products over tokens. It
// holds what AddSums reads of blocks of rows; Set fills it.
type Pairs struct {
	arith Arith
	r     int
	f     []float32 // (T, R), rounded with bfloat16 arithmetic
	h     []uint16  // [T/2 pairs of a block][R][2]; a block begins at its first row rounded up to an even number
}

// Reset makes p a (t, r) matrix whose rows are undefined. Memory is reused where it suffices.
func (p *Pairs) Reset(ar Arith, t, r int) {
	p.arith, p.r = ar, r
	if ar.pairs() {
		p.h = resized(p.h, 2*(t+1)*r)
	} else {
		p.f = resized(p.f, t*r)
	}
}

// PairsBytes is the memory of a (t, r) matrix.
func PairsBytes(ar Arith, t, r int) int64 {
	if ar.pairs() {
		return 2 * 2 * int64(t+1) * int64(r)
	}
	return 4 * int64(t) * int64(r)
}

// Set sets the rows t0 to t1-1, which must be a whole block of the later sums, from src (t1-t0, R).
func (p *Pairs) Set(t0, t1 int, src []float32) {
	n := t1 - t0
	src = src[:n*p.r]
	l := p.arith.Level
	switch {
	case !p.arith.BF16:
		copy(p.f[t0*p.r:], src)
	case !p.arith.pairs():
		l.RoundBF16(p.f[t0*p.r:t1*p.r], src)
	default:
		dst := p.h[2*t0*p.r:]
		var one [64]uint16
		for t := 0; t < n; t++ {
			for r0 := 0; r0 < p.r; r0 += len(one) {
				part := one[:min(len(one), p.r-r0)]
				l.Narrow(part, src[t*p.r+r0:][:len(part)])
				for i, v := range part {
					dst[t/2*2*p.r+2*(r0+i)+t%2] = v
				}
			}
		}
		if n%2 == 1 {
			for i := range p.r {
				dst[n/2*2*p.r+2*i+1] = 0
			}
		}
	}
}

// AddSums adds to c[i*ldc+j], i < R, n0 <= j < n1, the sums over the rows t0 <= t < t1 of left[t][i] right[t][j]. The rows
// are a block that was given to left.Set; n0 is a multiple of PanelWidth. c begins with the first column of right.
//
// Every element is one chain over ascending t (pairs with VDPBF16PS) that starts from c.
func (left *Pairs) AddSums(c []float32, ldc int, right *Operand, t0, t1, n0, n1 int) {
	if t0 < 0 || t1 > right.rows || n0 < 0 || n1 > right.k || n0%PanelWidth != 0 || ldc < n1 || (left.r-1)*ldc+n1 > len(c) {
		panic(fmt.Sprintf("kernels: sums of rows %d:%d and columns %d:%d of %dx%d in %d elements, stride %d", t0, t1, n0, n1, right.rows, right.k, len(c), ldc))
	}
	if t0 >= t1 || n0 >= n1 {
		return
	}
	if !left.arith.pairs() {
		left.arith.Level.Product(c[n0:], ldc, left.f[t0*left.r:], 1, left.r, right.f[t0*right.stride+n0:], right.stride, left.r, n1-n0, t1-t0, true)
		return
	}
	h := left.h[2*t0*left.r : 2*(t0+(t1-t0+1)/2*2)*left.r]
	whole := n0 + (n1-n0)/PanelWidth*PanelWidth
	for n := n0; n < whole; n += PanelWidth {
		for i := 0; i < left.r; i += sumRows {
			left.tile(c[i*ldc+n:], ldc, h[2*i:], right.h[t0*right.stride+n:], right.stride, min(sumRows, left.r-i), t1-t0)
		}
	}
	if whole < n1 {
		left.edge(c[whole:], ldc, h, right.h[t0*right.stride+whole:], right.stride, n1-whole, t1-t0)
	}
}

// tile adds sums over tokens of rows x 32 elements.
func (left *Pairs) tile(c []float32, ldc int, h, right []uint16, ldr, rows, tokens int) {
	pairs := tokens / 2
	if pairs > 0 {
		runSum(rows, &c[0], 4*ldc, &h[0], 4*left.r, &right[0], 2*ldr, pairs)
	}
	if tokens%2 == 1 { // the other token of the last pair counts with zero
		runSum(rows, &c[0], 4*ldc, &h[2*pairs*left.r], 4*left.r, &right[2*pairs*ldr], 0, 1)
	}
}

// edge is tile for all rows and the last columns, less than 32.
func (left *Pairs) edge(c []float32, ldc int, h, right []uint16, ldr, cols, tokens int) {
	var out [sumRows * PanelWidth]float32
	var rows [2 * PanelWidth]uint16
	for i := 0; i < left.r; i += sumRows {
		n := min(sumRows, left.r-i)
		for r := range n {
			copy(out[r*PanelWidth:][:cols], c[(i+r)*ldc:])
		}
		for t := 0; t < tokens; t += 2 {
			copy(rows[:cols], right[t*ldr:])
			copy(rows[PanelWidth:][:cols], right[min(t+1, tokens-1)*ldr:])
			runSum(n, &out[0], 4*PanelWidth, &h[t*left.r+2*i], 4*left.r, &rows[0], 2*PanelWidth, 1)
		}
		for r := range n {
			copy(c[(i+r)*ldc:][:cols], out[r*PanelWidth:])
		}
	}
}
