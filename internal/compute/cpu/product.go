package cpu

import "cria/internal/compute/cpu/kernels"

const (
	rowBlock  = 96  // rows and
	colBlock  = 256 // columns of a task of a product
	colNarrow = 64  // the same where there are too few tasks for the workers

	// Weights that are not kept packed are packed in pieces of 1 MiB of so many rows of the inner dimension and columns: few
	// columns, so that the result's block is still in the cache for the next piece.
	packLong, packShort = 2048, 256
)

// term is in[t] Wᵀ (NK) or in[t] W (KN).
type term struct {
	w     *weight
	order kernels.Order
	in    *kernels.Operand
}

// shape is the number of columns of a term and its inner dimension.
func (t *term) shape() (n, k int) {
	if t.order == kernels.KN {
		return t.w.in, t.w.out
	}
	return t.w.out, t.w.in
}

// product sets c[t] to a sum of terms of the same shape.
type product struct {
	terms []term
	c     []float32
	ldc   int
	// end, if not nil, is called for a block of rows and columns whose terms are summed, while it is in the cache.
	end func(w *worker, bl *block)
}

// block is one task: columns n0 to n1-1 of rows m0 to m1-1 of a product.
type block struct {
	p              *product
	m0, m1, n0, n1 int
}

// parts is n/size, rounded up.
func parts(n, size int) int { return (n + size - 1) / size }

// multiply computes products of the same rows that do not depend on one another.
func (b *Backend) multiply(ps []product) {
	m := ps[0].terms[0].in.Rows()
	strips := b.strips()
	most, narrow := b.taskColumns(ps, m), colNarrow
	if strips {
		most, narrow = b.stripColumns(ps), stripLast
	}
	b.blocks = b.blocks[:0]
	for i := range ps {
		p := &ps[i]
		n, _ := p.terms[0].shape()
		mb, cols := 1, most
		if !b.mapWeights {
			nb := parts(n, most)
			cols = parts(parts(n, nb), kernels.PanelWidth) * kernels.PanelWidth
			if mb = parts(m, rowBlock); nb*mb%b.Threads() != 0 { // tasks of the same size, the same number for every worker
				mb = parts(mb, b.Threads()) * b.Threads()
			}
		}
		b.prepare(p, m, min(cols, n), strips)
		for j := range mb {
			for n0 := 0; n0 < n; n0 += cols {
				b.blocks = append(b.blocks, block{p, m * j / mb, m * (j + 1) / mb, n0, min(n0+cols, n)})
			}
		}
	}
	if strips || !b.mapWeights {
		b.splitLast(narrow)
	}
	b.run(len(b.blocks), b.block)
}

// columnTasks is how many tasks of so many columns there are.
func columnTasks(ps []product, cols int) (n int) {
	for i := range ps {
		out, _ := ps[i].terms[0].shape()
		n += parts(out, cols)
	}
	return n
}

// taskColumns is how many columns a task has at most: few enough that all workers have work.
func (b *Backend) taskColumns(ps []product, m int) int {
	if !b.mapWeights {
		if columnTasks(ps, colBlock)*parts(m, rowBlock) < 4*b.Threads() {
			return colNarrow
		}
		return colBlock
	}
	cols := packShort
	if b.packWide(ps[0].terms[0].order) {
		cols = packLong / 2
	}
	for cols > colNarrow && columnTasks(ps, cols) < 2*b.Threads() {
		cols /= 2
	}
	return cols
}

// prepare counts a product with m rows, and makes what tasks of so many columns need.
func (b *Backend) prepare(p *product, m, cols int, strips bool) {
	for j := range p.terms {
		t := &p.terms[j]
		n, k := t.shape()
		b.use.FLOP += 2 * float64(m) * float64(n) * float64(k)
		switch {
		case strips:
		case b.mapWeights:
			b.forWorkers(func(w *worker) { b.reset(&w.panels, min(k, b.packRows(t.order)), cols, !b.wide(t.w)) })
		default:
			b.panels(t.w, t.order)
		}
	}
	if strips {
		b.prepareStrips(p, cols)
	}
}

// splitLast cuts the last task of every worker into narrow ones, so that workers of unequal speed end together.
func (b *Backend) splitLast(narrow int) {
	n := max(len(b.blocks)-b.Threads(), 0)
	last := append(b.last[:0], b.blocks[n:]...)
	b.last, b.blocks = last, b.blocks[:n]
	for _, bl := range last {
		for n0 := bl.n0; n0 < bl.n1; n0 += narrow {
			part := bl
			part.n0, part.n1 = n0, min(n0+narrow, bl.n1)
			b.blocks = append(b.blocks, part)
		}
	}
}

// packRows is how many rows of the inner dimension a piece has.
func (b *Backend) packRows(order kernels.Order) int {
	if b.packWide(order) {
		return 2 * packShort
	}
	return packLong
}

// packWide says whether pieces are wide instead of long: those of W (KN) in bfloat16, which computes so fast that looking up
// a page of the file for every row of a piece would be seen.
func (b *Backend) packWide(order kernels.Order) bool { return b.arith.BF16 && order == kernels.KN }

// block computes one task of multiply.
func (b *Backend) block(id, i int) {
	w, bl := &b.workers[id], &b.blocks[i]
	p := bl.p
	if b.strips() {
		b.stripBlock(w, bl)
		return
	}
	for j := range p.terms {
		t := &p.terms[j]
		accumulate := j > 0
		if !b.mapWeights {
			b.panels(t.w, t.order).Mul(p.c, p.ldc, t.in, bl.m0, bl.m1, bl.n0, bl.n1, accumulate)
			continue
		}
		_, k := t.shape()
		for k0, rows := 0, b.packRows(t.order); k0 < k; k0 += rows {
			k1 := min(k0+rows, k)
			w.panels.Reset(b.level, k1-k0, bl.n1-bl.n0, !b.wide(t.w))
			t.w.packPart(&w.panels, bl.n0, k0, t.order)
			w.panels.MulAt(p.c[bl.n0:], p.ldc, t.in, k0, bl.m0, bl.m1, 0, bl.n1-bl.n0, accumulate || k0 > 0)
		}
	}
	if p.end != nil {
		p.end(w, bl)
	}
}
