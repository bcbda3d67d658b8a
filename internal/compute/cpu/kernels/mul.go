package kernels

import (
	"fmt"
	"unsafe"
)

// Blocks of a product: rows x k of A and k x columns of B stay in the level-2 cache while they are used, C's block too.
const (
	blockRows = 96  // of A and C
	blockCols = 256 // of B and C; a multiple of PanelWidth
	blockK    = 768 // of a product of bfloat16 pairs
	blockKF32 = 384 // of the others
	fewRows   = 12  // up to here rows are so few that k is not blocked
	rowsHigh  = 12  // height of the highest tile
)

// Mul sets C[m][n] = Σ_k A[m][k] B[k][n] for m0 <= m < m1, n0 <= n < n1, or adds to it. C is the whole matrix, row m at
// c[m*ldc:]; n0 and n1 are multiples of 8 or the matrix's edge. Calls for disjoint ranges may run at the same time.
//
// Every element is one chain of additions over ascending k (fused multiply-adds; pairs with VDPBF16PS), starting from
// zero or from C, so its bits do not depend on the ranges nor on the other rows and columns.
func (p *Panels) Mul(c []float32, ldc int, a *Operand, m0, m1, n0, n1 int, accumulate bool) {
	if a.k != p.k {
		panic(fmt.Sprintf("kernels: product of rows of %d and %d", a.k, p.k))
	}
	p.MulAt(c, ldc, a, 0, m0, m1, n0, n1, accumulate)
}

// MulAt is Mul with the columns of A from ka on, ka even; A may have more than p has rows.
func (p *Panels) MulAt(c []float32, ldc int, a *Operand, ka, m0, m1, n0, n1 int, accumulate bool) {
	g := product{p: p, a: a, ka: ka, c: c, ldc: ldc}
	g.run(m0, m1, n0, n1, accumulate)
}

// MulTile is MulAt with a result that has the rows m0 to m1-1 and the columns n0 to n1-1 only, rows ldc apart.
func (p *Panels) MulTile(c []float32, ldc int, a *Operand, ka, m0, m1, n0, n1 int) {
	g := product{p: p, a: a, ka: ka, c: c, ldc: ldc, m: m0, n: n0}
	g.run(m0, m1, n0, n1, false)
}

// product is one call of Mul. c begins with row m and column n of C.
type product struct {
	p    *Panels
	a    *Operand
	ka   int // first column of a
	c    []float32
	ldc  int
	m, n int
}

// at is C from row m and column n on.
func (g *product) at(m, n int) []float32 { return g.c[(m-g.m)*g.ldc+n-g.n:] }

func (g *product) run(m0, m1, n0, n1 int, accumulate bool) {
	p, a := g.p, g.a
	if g.ka < 0 || g.ka%2 != 0 || a.k-g.ka < p.k || m0 < 0 || m1 > a.rows || n0 < 0 || n1 > p.n || n0%8 != 0 || n1%8 != 0 && n1 != p.n {
		panic(fmt.Sprintf("kernels: product of rows %d:%d of %dx%d and columns %d:%d of %dx%d", m0, m1, a.rows, a.k, n0, n1, p.k, p.n))
	}
	if m0 >= m1 || n0 >= n1 {
		return
	}
	if g.ldc < n1-g.n || (m1-1-g.m)*g.ldc+n1-g.n > len(g.c) {
		panic(fmt.Sprintf("kernels: result of %dx%d, stride %d, in %d elements", m1-g.m, n1-g.n, g.ldc, len(g.c)))
	}
	if a.arith.pairs() && !p.bf16 {
		panic("kernels: bfloat16 rows times float32 panels")
	}
	if !a.arith.Level.tiles() {
		g.inGo(m0, m1, n0, n1, accumulate)
		return
	}
	for n := n0; n < n1; n += blockCols {
		for i := m0; i < m1; {
			j := blockEnd(i, m1)
			g.block(i, j, n, min(n+blockCols, n1), accumulate)
			i = j
		}
	}
}

// blockEnd is where a block of rows ends that begins at m0: the rows up to m1 are divided into nearly equal blocks of whole
// tiles.
func blockEnd(m0, m1 int) int {
	count := (m1 - m0 + blockRows - 1) / blockRows
	tiles := (m1 - m0 + rowsHigh - 1) / rowsHigh
	return min(m0+(tiles+count-1)/count*rowsHigh, m1)
}

// evenly is the size of the parts that k is divided into, of about most: nearly equal ones, multiples of unit.
func evenly(k, most, unit int) int {
	count := (k + most - 1) / most
	return (k + unit*count - 1) / (unit * count) * unit
}

// block computes rows m0:m1 and columns n0:n1, block after block of k.
func (g *product) block(m0, m1, n0, n1 int, accumulate bool) {
	kc := blockKF32
	t := tile{kind: g.a.arith.Level.kind(g.p.bf16), lda: g.a.rowBytes(), ldb: 4 * PanelWidth, ka: 4, ldc: 4 * g.ldc}
	if g.a.arith.pairs() {
		kc, t.kind = blockK, pairTile
	}
	if m1-m0 <= fewRows {
		kc = g.p.k
	}
	kc = evenly(g.p.k, kc, 16)
	for k0 := 0; k0 < g.p.k; k0 += kc {
		if accumulate || k0 > 0 {
			t.acc = 1
		}
		t.k = min(kc, g.p.k-k0)
		if g.p.bf16 {
			t.k = (t.k + 1) / 2
		}
		a := g.a.at(m0, g.ka+k0)
		for n := n0; n < n1; {
			panel, column := n/PanelWidth*g.p.size(), n%PanelWidth
			if g.p.bf16 {
				t.b = ptr(g.p.h, panel+k0*PanelWidth+2*column)
			} else {
				t.b = ptr(g.p.f, panel+k0*PanelWidth+column)
			}
			n += t.strip(g.at(m0, n), a, m1-m0, min(n1-n, PanelWidth-column))
		}
	}
}

// strip runs tiles below one another that begin at the rows a, at t.b and at c, and returns how many columns they have.
// left columns exist from there on.
func (t tile) strip(c []float32, a unsafe.Pointer, rows, left int) int {
	s := t.kind.shape(rows, left)
	switch {
	case left >= s.cols:
		t.last = s.cut
		t.column(c, a, rows, s)
		return s.cols
	case s.cut > 0:
		t.last = left - (s.cols - s.cut)
		t.column(c, a, rows, s)
	case t.kind == float32Tile:
		t.kind, t.last = edgeTile, left
		t.column(c, a, rows, edgeTile.shape(rows, left))
	default:
		t.copied(c, a, rows, left, s)
	}
	return left
}

// copied is a strip whose tiles have more columns than C.
func (t tile) copied(c []float32, a unsafe.Pointer, rows, left int, s *tileShape) {
	var buf [blockRows * PanelWidth]float32
	ldc := t.ldc / 4
	if t.acc != 0 {
		for r := range rows {
			copy(buf[r*s.cols:], c[r*ldc:][:left])
		}
	}
	t.ldc = 4 * s.cols
	t.column(buf[:], a, rows, s)
	for r := range rows {
		copy(c[r*ldc:][:left], buf[r*s.cols:])
	}
}

// column runs tiles of nearly equal height below one another: the first ones have one row more than the others.
func (t tile) column(c []float32, a unsafe.Pointer, rows int, s *tileShape) {
	count := (rows + s.high - 1) / s.high
	low, more := rows/count, rows%count
	if more > 0 {
		t.a, t.c, t.tiles, t.skip = a, ptr(c, 0), more, 0
		t.run(low+1, s.cols)
	}
	done := more * (low + 1)
	t.a, t.c, t.tiles, t.skip = unsafe.Add(a, done*t.lda), ptr(c, done*(t.ldc/4)), count-more, 0
	t.run(low, s.cols)
}
