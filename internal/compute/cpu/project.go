package cpu

import (
	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
)

const (
	colBlock  = 256 // columns of a task of a product
	colNarrow = 64  // the same where there are too few tasks for the workers
	rowBlock  = 96
)

// mul sets c[t] = in[t] Wᵀ (NK) or in[t] W (KN) for all rows of the operand, or adds to it.
func (b *Backend) mul(c []float32, ldc int, in *kernels.Operand, w *weight, order kernels.Order, accumulate bool) {
	k, n := w.in, w.out
	if order == kernels.KN {
		k, n = n, k
	}
	m := in.Rows()
	if b.mapWeights {
		b.pool.Run((n+colBlock-1)/colBlock, func(id, i int) {
			n0 := i * colBlock
			cols := min(colBlock, n-n0)
			p := &b.workers[id].panels
			p.Reset(b.level, k, cols, !b.wide(w))
			w.pack(p, 0, p.Count(), n0, order)
			p.Mul(c[n0:], ldc, in, 0, m, 0, cols, accumulate)
		})
		return
	}
	b.mulPanels(c, ldc, in, b.panels(w, order), accumulate)
}

// mulPanels is the product with packed columns, divided into blocks of rows and columns.
func (b *Backend) mulPanels(c []float32, ldc int, in *kernels.Operand, p *kernels.Panels, accumulate bool) {
	m, n, cols := in.Rows(), p.N(), colBlock
	mb := (m + rowBlock - 1) / rowBlock
	if (n+cols-1)/cols*mb < 4*b.pool.Workers() {
		cols = colNarrow
	}
	nb := (n + cols - 1) / cols
	b.pool.Run(mb*nb, func(_, i int) {
		m0, n0 := m*(i/nb)/mb, i%nb*cols
		p.Mul(c, ldc, in, m0, m*(i/nb+1)/mb, n0, min(n0+cols, n), accumulate)
	})
}

// round rounds x in place to what a product reads.
func (b *Backend) round(x []float32) {
	if b.arith.BF16 {
		b.level.RoundBF16(x, x)
	}
}

// setRows makes the rows of x (ld apart, k long) the operand of products.
func (b *Backend) setRows(op *kernels.Operand, rows, k int, x []float32, ld int) {
	op.Reset(b.arith, rows, k)
	b.rows(rows, func(_ *worker, t int) { op.SetRow(t, x[t*ld:][:k]) })
}

// project sets pr.Y, from row out on, to x Wᵀ plus the LoRA part. x (T, in) has been set as the operand b.in.
func (b *Backend) project(ps *compute.Pass, pr compute.Proj, x []float32, ld, out int) {
	w, y := pr.W.(*weight), buf(pr.Y)
	b.mul(y.from(out), y.cols, &b.in, w, kernels.NK, false)
	l := pr.LoRA
	if l == nil {
		return
	}
	n, in := ps.Rows.Len(), w.in
	a, bt, low := buf(l.A), buf(l.Bt), buf(pr.Low)
	r := a.rows
	op := &b.in
	if d := ps.Dropout; d != nil {
		op = &b.low
		op.Reset(b.arith, n, in)
		b.rows(n, func(wk *worker, t int) {
			row := grow(&wk.row, in)
			key, ctr := d.Key(ps.Node[t], ps.Pos[t], l.Module)
			b.level.Dropout(row, x[t*ld:][:in], key, ctr, d.Threshold, d.Scale)
			op.SetRow(t, row)
		})
	}
	b.loraA.Reset(b.level, in, r, b.arith.BF16)
	b.loraA.PackF32(0, b.loraA.Count(), a.d, kernels.NK, in)
	lowF, rb := grow(&b.lowF, n*r), b.rounded(&b.rb, bt.d)
	b.tiles(n, func(_ *worker, t0, t1 int) {
		dst := low.d[(ps.Rows.From+t0)*r : (ps.Rows.From+t1)*r]
		b.loraA.Mul(low.from(ps.Rows.From), r, op, t0, t1, 0, r, false)
		b.level.Scale(dst, l.Scale)
		src := lowF[t0*r : t1*r]
		copy(src, dst)
		b.round(src)
		b.level.Product(y.from(out+t0), y.cols, src, r, 1, rb, w.out, t1-t0, w.out, r, true)
	})
}

// rounded returns x as a product reads it, in scratch where that is not x itself.
func (b *Backend) rounded(scratch *[]float32, x []float32) []float32 {
	if !b.arith.BF16 {
		return x
	}
	y := grow(scratch, len(x))
	b.level.RoundBF16(y, x)
	return y
}

// tiles runs f for blocks of the rows 0..n-1, on all workers.
func (b *Backend) tiles(n int, f func(w *worker, t0, t1 int)) {
	const block = 24 // a multiple of the tiles' heights
	b.pool.Run((n+block-1)/block, func(id, i int) { f(&b.workers[id], i*block, min(n, (i+1)*block)) })
}

// projectBackward adds to dx (T, in), or sets it, what pr.DY from row out on says of x (T, in; rows ld apart), and adds to
// the LoRA gradients. x has been rounded to what the products read, unless there is dropout.
func (b *Backend) projectBackward(ps *compute.Pass, pr compute.Proj, dx, x []float32, ld, out int, accumulate bool) {
	w, dy := pr.W.(*weight), buf(pr.DY)
	n := ps.Rows.Len()
	b.setRows(&b.in, n, w.out, dy.from(out), w.out)
	b.mul(dx, w.in, &b.in, w, kernels.KN, accumulate)
	l := pr.LoRA
	if l == nil {
		return
	}
	in, a, bt, low := w.in, buf(l.A), buf(l.Bt), buf(pr.Low)
	r := a.rows
	// dlow = Scale · dy B
	b.loraA.Reset(b.level, w.out, r, b.arith.BF16)
	b.loraA.PackF32(0, b.loraA.Count(), bt.d, kernels.NK, w.out)
	dlow, ra := grow(&b.dlow, n*r), b.rounded(&b.ra, a.d)
	lowF, xd := grow(&b.lowF, n*r), x
	copy(lowF, low.from(ps.Rows.From)[:n*r])
	b.round(lowF)
	dys := dy.from(out)
	if b.arith.BF16 {
		dys = grow(&b.dy, n*w.out)
	}
	d := ps.Dropout
	if d != nil {
		xd = grow(&b.dl, n*in)
	}
	b.tiles(n, func(wk *worker, t0, t1 int) {
		part := dlow[t0*r : t1*r]
		b.loraA.Mul(dlow, r, &b.in, t0, t1, 0, r, false)
		b.level.Scale(part, l.Scale)
		b.round(part)
		if b.arith.BF16 {
			b.level.RoundBF16(dys[t0*w.out:t1*w.out], dy.from(out + t0)[:(t1-t0)*w.out])
		}
		if d == nil {
			b.level.Product(dx[t0*in:], in, part, r, 1, ra, in, t1-t0, in, r, true)
			return
		}
		row := grow(&wk.row, (t1-t0)*in)
		b.level.Product(row, in, part, r, 1, ra, in, t1-t0, in, r, false)
		for t := t0; t < t1; t++ {
			key, ctr := d.Key(ps.Node[t], ps.Pos[t], l.Module)
			b.level.DropoutAdd(dx[t*in:][:in], row[(t-t0)*in:][:in], key, ctr, d.Threshold, d.Scale)
			masked := xd[t*in:][:in]
			b.level.Dropout(masked, x[t*ld:][:in], key, ctr, d.Threshold, d.Scale)
			b.round(masked)
		}
	})
	if l.DA == nil {
		return
	}
	if d != nil {
		ld = in
	}
	b.sumOverTokens(ps, buf(l.DA), dlow, r, xd, ld)
	b.sumOverTokens(ps, buf(l.DB), lowF, r, dys, w.out)
}

// sumOverTokens adds Σ_t left[t]ᵀ right[t] to grad (R, cols), block by block as compute.BlockRows says.
func (b *Backend) sumOverTokens(ps *compute.Pass, grad *buffer, left []float32, r int, right []float32, ld int) {
	const cols = 128
	b.pool.Run((grad.cols+cols-1)/cols, func(_, i int) {
		n0 := i * cols
		n := min(cols, grad.cols-n0)
		ps.Blocks(func(_ int, s compute.Span) {
			b.level.Product(grad.d[n0:], grad.cols, left[s.From*r:], 1, r, right[s.From*ld+n0:], ld, r, n, s.Len(), true)
		})
	})
}
