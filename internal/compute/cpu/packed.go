package cpu

import "cria/internal/compute/cpu/kernels"

const (
	rowBlock  = 96  // rows and
	colBlock  = 256 // columns of a task of a product
	colNarrow = 64  // the same where there are too few tasks for the workers
)

// packed is the layout of weights that are kept as kernels.Panels.
type packed struct{ *Backend }

func (b packed) columns(ps []product, m int) (most, last int) {
	if columnTasks(ps, colBlock)*parts(m, rowBlock) < 4*b.Threads() {
		return colNarrow, colNarrow
	}
	return colBlock, colNarrow
}

func (b packed) cut(m, n, most int) (blocks, cols int) {
	nb, mb := parts(n, most), parts(m, rowBlock)
	if nb*mb%b.Threads() != 0 { // tasks of the same size, the same number for every worker
		mb = parts(mb, b.Threads()) * b.Threads()
	}
	return mb, parts(parts(n, nb), kernels.PanelWidth) * kernels.PanelWidth
}

func (b packed) prepare(p *product, _ int) {
	for j := range p.terms {
		b.panels(p.terms[j].w, p.terms[j].order)
	}
}

func (b packed) block(w *worker, bl *block) {
	p := bl.p
	for j := range p.terms {
		t := &p.terms[j]
		b.panels(t.w, t.order).Mul(p.c, p.ldc, t.in, bl.m0, bl.m1, bl.n0, bl.n1, j > 0)
	}
	bl.end(w)
}

func (packed) headCut(int) (high, cols int) { return headTile, headCols }

func (b packed) prepareHead(w *weight, _ int) { b.panels(w, kernels.KN) }

func (b packed) headPart(_ *worker, part []float32, w *weight, v0, v1, m0, m1, n0, n1 int) {
	p := w.bwd.Slice(v0, v1)
	p.MulTile(part, n1-n0, &b.dlogits, v0, m0, m1, n0, n1)
}
