package cpu

import "cria/internal/compute/cpu/kernels"

// packLong and packShort are how many rows of the inner dimension and columns the pieces have that mapped weights are packed
// in, 1 MiB: few columns, so that the result's block is still in the cache for the next piece.
const packLong, packShort = 2048, 256

// mapped is the layout of weights that are packed where they are multiplied, a piece at a time: a task is some columns and all
// rows.
type mapped struct{ *Backend }

func (b mapped) columns(ps []product, _ int) (most, last int) {
	cols := packShort
	if b.packWide(ps[0].terms[0].order) {
		cols = packLong / 2
	}
	for cols > colNarrow && columnTasks(ps, cols) < 2*b.Threads() {
		cols /= 2
	}
	return cols, 0
}

func (mapped) cut(_, _, most int) (blocks, cols int) { return 1, most }

func (b mapped) prepare(p *product, cols int) {
	for j := range p.terms {
		t := &p.terms[j]
		_, k := t.shape()
		b.forWorkers(func(w *worker) { b.reset(&w.panels, min(k, b.packRows(t.order)), cols, !b.wide(t.w)) })
	}
}

func (b mapped) block(w *worker, bl *block) {
	p := bl.p
	for j := range p.terms {
		t := &p.terms[j]
		_, k := t.shape()
		for k0, rows := 0, b.packRows(t.order); k0 < k; k0 += rows {
			b.piece(w, t.w, t.order, k0, min(k0+rows, k), bl.n0, bl.n1)
			w.panels.MulAt(p.c[bl.n0:], p.ldc, t.in, k0, bl.m0, bl.m1, 0, bl.n1-bl.n0, j > 0 || k0 > 0)
		}
	}
	bl.end(w)
}

// piece makes wk.panels the rows k0 to k1-1 and the columns n0 to n1-1 of Wᵀ (NK) or W (KN).
func (b mapped) piece(wk *worker, w *weight, order kernels.Order, k0, k1, n0, n1 int) {
	wk.panels.Reset(b.level, k1-k0, n1-n0, !b.wide(w))
	w.packPart(&wk.panels, n0, k0, order)
}

// packRows is how many rows of the inner dimension a piece has.
func (b mapped) packRows(order kernels.Order) int {
	if b.packWide(order) {
		return 2 * packShort
	}
	return packLong
}

// packWide says whether pieces are wide instead of long: those of W (KN) in bfloat16, which computes so fast that looking up
// a page of the file for every row of a piece would be seen.
func (b mapped) packWide(order kernels.Order) bool { return b.arith.BF16 && order == kernels.KN }

func (mapped) headCut(rows int) (high, cols int) { return rows, headCols } // columns are packed once

func (b mapped) prepareHead(w *weight, cols int) {
	b.forWorkers(func(wk *worker) { b.reset(&wk.panels, headBlock, cols, !b.wide(w)) })
}

func (b mapped) headPart(wk *worker, part []float32, w *weight, v0, v1, m0, m1, n0, n1 int) {
	b.piece(wk, w, kernels.KN, v0, v1, n0, n1)
	wk.panels.MulTile(part, n1-n0, &b.dlogits, v0, m0, m1, 0, n1-n0)
}
