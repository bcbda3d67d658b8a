package kernels

import (
	"fmt"
	"unsafe"
)

// Blocks of a product: rows x k of A and k x columns of B stay in the level-2 cache while they are used, C's block too.
const (
	blockRows = 96  // of A and C
	blockCols = 256 // of B and C; a multiple of PanelWidth
	blockK    = 512 // of a product of bfloat16 pairs
	blockKF32 = 384 // of the others
	rowsWide  = 3   // height of the largest tile of float32 and 32 columns
	fewRows   = 12  // up to here rows are so few that k is not blocked
	rowsDP    = 12  // height of the largest tile of bfloat16 pairs, and of 8 columns of float32
	rowsFMA   = 6   // height of the largest tile of float32
)

// Mul sets C[m][n] = Σ_k A[m][k] B[k][n] for m0 <= m < m1, n0 <= n < n1, or adds to it. C is the whole matrix, row m at
// c[m*ldc:]; n0 and n1 are multiples of PanelWidth or the matrix's edge. Calls for disjoint ranges may run at the same
// time.
//
// Every element is one chain of additions over ascending k (fused multiply-adds; pairs with VDPBF16PS), starting from
// zero or from C, so its bits do not depend on the ranges nor on the other rows and columns.
func (p *Panels) Mul(c []float32, ldc int, a *Operand, m0, m1, n0, n1 int, accumulate bool) {
	if a.k != p.k || m0 < 0 || m1 > a.rows || n0 < 0 || n1 > p.n || n0%PanelWidth != 0 || n1%PanelWidth != 0 && n1 != p.n {
		panic(fmt.Sprintf("kernels: product of rows %d:%d of %dx%d and columns %d:%d of %dx%d", m0, m1, a.rows, a.k, n0, n1, p.k, p.n))
	}
	if m0 >= m1 || n0 >= n1 {
		return
	}
	if ldc < n1 || (m1-1)*ldc+n1 > len(c) {
		panic(fmt.Sprintf("kernels: result of %dx%d, stride %d, in %d elements", m1, n1, ldc, len(c)))
	}
	if a.arith.pairs() && !p.bf16 {
		panic("kernels: bfloat16 rows times float32 panels")
	}
	if !a.arith.Level.asm() {
		p.mulGo(c, ldc, a, m0, m1, n0, n1, accumulate)
		return
	}
	g := product{p: p, a: a, c: c, ldc: ldc}
	for n := n0; n < n1; n += blockCols {
		forBlocks(m0, m1, func(i, j int) {
			g.block(i, j, n, min(n+blockCols, n1), accumulate)
		})
	}
}

// forBlocks divides the rows m0 to m1-1 into nearly equal blocks of whole tiles.
func forBlocks(m0, m1 int, f func(i, j int)) {
	count := (m1 - m0 + blockRows - 1) / blockRows
	tiles := (m1 - m0 + rowsDP - 1) / rowsDP
	for b := range count {
		f(m0+tiles*b/count*rowsDP, min(m0+tiles*(b+1)/count*rowsDP, m1))
	}
}

// product is one call of Mul.
type product struct {
	p   *Panels
	a   *Operand
	c   []float32
	ldc int
}

// block computes rows m0:m1 and columns n0:n1, block after block of k.
func (g *product) block(m0, m1, n0, n1 int, accumulate bool) {
	kc := blockKF32
	if g.a.arith.pairs() {
		kc = blockK
	}
	if m1-m0 <= fewRows {
		kc = g.p.k
	}
	count := (g.p.k + kc - 1) / kc
	kc = (g.p.k + 16*count - 1) / (16 * count) * 16
	for k0 := 0; k0 < g.p.k; k0 += kc {
		k1 := min(k0+kc, g.p.k)
		for n := n0; n < n1; {
			cols := g.columns(m1-m0, n1-n)
			g.column(m0, m1, n, min(n+cols, n1), cols, k0, k1, accumulate || k0 > 0)
			n += cols
		}
	}
}

// columns is the width of the next tiles: the widest that the tables of tiles have for so many rows, and no wider than
// what is left needs.
func (g *product) columns(rows, left int) int {
	few := rows <= rowsWide || g.a.arith.pairs()
	switch {
	case left <= 8 && !g.p.bf16:
		return 8
	case left > 16 && few:
		return 32
	}
	return 16
}

// column computes rows m0:m1 of up to cols columns from n0 on.
func (g *product) column(m0, m1, n0, n1, cols, k0, k1 int, accumulate bool) {
	t := tile{a: g.a.at(m0, k0), lda: g.a.rowBytes()}
	if accumulate {
		t.acc = 1
	}
	panel, column := n0/PanelWidth*g.p.size(), n0%PanelWidth
	if g.p.bf16 {
		t.b = ptr(g.p.h, panel+k0*PanelWidth+2*column)
		t.k, t.kind = (k1-k0+1)/2, wideTile
	} else {
		t.b = ptr(g.p.f, panel+k0*PanelWidth+column)
		t.k, t.ldb, t.ka = k1-k0, 4*PanelWidth, 4
	}
	if g.a.arith.pairs() {
		t.kind = pairTile
	}
	t.strip(g.c[m0*g.ldc+n0:], g.ldc, m1-m0, n1-n0, cols)
}

// strip runs tiles of cols columns below one another. t.a is the first of the rows; width columns exist in C.
func (t tile) strip(c []float32, ldc, rows, width, cols int) {
	if width == cols {
		t.wholeStrip(c, ldc, rows, cols)
		return
	}
	var buf [blockRows * PanelWidth]float32
	if t.acc != 0 {
		for r := range rows {
			copy(buf[r*cols:], c[r*ldc:][:width])
		}
	}
	t.wholeStrip(buf[:], cols, rows, cols)
	for r := range rows {
		copy(c[r*ldc:][:width], buf[r*cols:])
	}
}

// wholeStrip is strip where all columns exist.
func (t tile) wholeStrip(c []float32, ldc, rows, cols int) {
	high := rowsFMA
	if t.kind == pairTile || cols == 8 {
		high = rowsDP
	}
	t.ldc = 4 * ldc
	// The tiles are of nearly equal height: high ones have one row more than low ones.
	count := (rows + high - 1) / high
	low, more := rows/count, rows%count
	t.c, t.tiles, t.skip = ptr(c, 0), more, 0
	if more > 0 {
		t.run(low+1, cols)
	}
	done := more * (low + 1)
	t.a, t.c, t.tiles, t.skip = unsafe.Add(t.a, done*t.lda), ptr(c, done*ldc), count-more, 0
	t.run(low, cols)
}

// run runs t.tiles tiles of the same height.
func (t *tile) run(rows, cols int) {
	switch t.kind {
	case pairTile:
		runDP(t, rows, cols)
	case wideTile:
		runWide(t, rows, cols)
	default:
		runF32r(t, rows, cols)
	}
}
