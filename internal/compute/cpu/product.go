package cpu

import "cria/internal/compute/cpu/kernels"

// layout is how weights come to the tiles that multiply them: packed, mapped or strips.
type layout interface {
	// columns is how many columns tasks of products of m rows have at most, and the last ones of every worker (0: the same).
	columns(ps []product, m int) (most, last int)
	// cut is how many blocks of rows and how many columns the tasks of a result of (m, n) have.
	cut(m, n, most int) (blocks, cols int)
	// prepare makes what tasks of so many columns need.
	prepare(p *product, cols int)
	// block computes one task.
	block(w *worker, bl *block)

	// headCut is how many rows and columns the tasks of the head's gradient have.
	headCut(rows int) (high, cols int)
	// prepareHead makes what they need.
	prepareHead(w *weight, cols int)
	// headPart sets part to the rows m0 to m1-1 of dlogits times the rows v0 to v1-1, columns n0 to n1-1 of w.
	headPart(wk *worker, part []float32, w *weight, v0, v1, m0, m1, n0, n1 int)
}

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
	then  ender // nil: nothing
}

// ender does what is left to do with a block of rows and columns whose terms are summed, while it is in the cache.
type ender interface{ end(w *worker, bl block) }

// block is one task: columns n0 to n1-1 of rows m0 to m1-1 of a product.
type block struct {
	p              *product
	m0, m1, n0, n1 int
}

// end ends a block whose terms are summed.
func (bl block) end(w *worker) {
	if bl.p.then != nil {
		bl.p.then.end(w, bl)
	}
}

// parts is n/size, rounded up.
func parts(n, size int) int { return (n + size - 1) / size }

// multiply computes products of the same rows that do not depend on one another.
func (b *Backend) multiply(ps []product) {
	m := ps[0].terms[0].in.Rows()
	most, last := b.layout.columns(ps, m)
	b.blocks = b.blocks[:0]
	for i := range ps {
		p := &ps[i]
		for j := range p.terms {
			n, k := p.terms[j].shape()
			b.use.FLOP += 2 * float64(m) * float64(n) * float64(k)
		}
		n, _ := p.terms[0].shape()
		mb, cols := b.layout.cut(m, n, most)
		b.layout.prepare(p, min(cols, n))
		for j := range mb {
			for n0 := 0; n0 < n; n0 += cols {
				b.blocks = append(b.blocks, block{p, m * j / mb, m * (j + 1) / mb, n0, min(n0+cols, n)})
			}
		}
	}
	if last > 0 {
		b.splitLast(last)
	}
	b.run(len(b.blocks), blockJob{b})
}

// blockJob is the blocks of multiply.
type blockJob struct{ *Backend }

func (b blockJob) task(w *worker, i int) { b.layout.block(w, &b.blocks[i]) }

// columnTasks is how many tasks of so many columns there are.
func columnTasks(ps []product, cols int) (n int) {
	for i := range ps {
		out, _ := ps[i].terms[0].shape()
		n += parts(out, cols)
	}
	return n
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
