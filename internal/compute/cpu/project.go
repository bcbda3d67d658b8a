package cpu

import (
	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
)

// tileRows is how many rows of an operand are made at a time: a multiple of the tiles' heights, few enough to stay in the
// cache between the steps.
const tileRows = 24

// tiles runs f for blocks of the rows 0 to n-1, as many for every worker.
func (b *Backend) tiles(n int, f func(w *worker, t0, t1 int)) {
	count := parts(parts(n, tileRows), b.Threads()) * b.Threads()
	b.run(count, func(id, i int) {
		if t0, t1 := n*i/count, n*(i+1)/count; t0 < t1 {
			f(&b.workers[id], t0, t1)
		}
	})
}

// branch is what one of up to three projections of the same input needs in an operation.
type branch struct {
	a, bt kernels.Panels  // of LoRA: (in, R) and (R, out) in the forward pass, (R, in) and (out, R) in the backward pass
	low   kernels.Operand // (T, R) forward: Scale·dropout(x) Aᵀ; backward: Scale·dy B

	// in the backward pass
	dy        kernels.Operand // (T, out)
	xd        kernels.Operand // (T, in) dropout(x)
	bits      []byte          // (T, in/8) its mask
	lowP, dlo kernels.Pairs   // (T, R) what the sums over tokens read: Scale·dropout(x) Aᵀ and Scale·dy B
	dlow      []float32       // (T, R) the latter
}

// setMask sets what the masks of a step have in common.
func (w *worker) setMask(d *compute.Dropout) {
	k0, k1 := d.Key()
	w.mask.SetKey(k0, k1, d.Threshold, d.Scale)
}

// loraPack is a matrix of LoRA to be packed.
type loraPack struct {
	p     *kernels.Panels
	x     *buffer
	order kernels.Order
}

// addPack makes p the matrix x, which has k (KN) or n (NK) rows, with the next packLoRA.
func (b *Backend) addPack(p *kernels.Panels, x *buffer, order kernels.Order) {
	k, n := x.rows, x.cols
	if order == kernels.NK {
		k, n = n, k
	}
	b.reset(p, k, n, b.arith.BF16)
	b.packs = append(b.packs, loraPack{p, x, order})
}

// packLoRA packs what was added.
func (b *Backend) packLoRA() {
	const panels = 6 // of a task
	most := 0
	for _, t := range b.packs {
		n := t.x.cols
		if t.order == kernels.NK {
			n = t.x.rows
		}
		most = max(most, parts(n, kernels.PanelWidth))
	}
	each := parts(most, panels)
	b.run(len(b.packs)*each, func(_, i int) {
		t, from := &b.packs[i/each], i%each*panels
		if to := min(from+panels, t.p.Count()); from < to {
			t.p.PackF32(from, to, t.x.d, t.order, t.x.cols)
		}
	})
	b.packs = b.packs[:0]
}

// project sets the results of projections of one input x (T, cols), from rows out[j] on, to x Wᵀ plus the LoRA part plus
// res, if not nil. set makes row t of x.
func (b *Backend) project(ps *compute.Pass, cols int, set func(row []float32, t int), res []float32, out [3]int, prs ...compute.Proj) {
	n, drop := ps.Rows.Len(), false
	b.operand(&b.in, n, cols)
	for j, pr := range prs {
		if l := pr.LoRA; l != nil {
			s := &b.branches[j]
			b.addPack(&s.a, buf(l.A), kernels.NK)
			b.addPack(&s.bt, buf(l.Bt), kernels.KN)
			b.operand(&s.low, n, l.A.Rows())
			b.use.FLOP += 2 * float64(n) * float64(l.A.Rows()) * float64(cols+l.Bt.Cols())
			drop = ps.Dropout != nil
		}
	}
	b.packLoRA()
	b.forWorkers(func(w *worker) {
		b.grow(&w.tile, tileRows*cols)
		b.grow(&w.row, cols)
		if drop {
			w.setMask(ps.Dropout)
			b.operand(&w.dropped, tileRows, cols)
		}
	})
	b.tiles(n, func(w *worker, t0, t1 int) {
		x := w.tile
		for t := t0; t < t1; t++ {
			row := x[(t-t0)*cols:][:cols]
			set(row, t)
			b.in.SetRow(t, row)
		}
		for j, pr := range prs {
			if pr.LoRA != nil {
				b.projectLow(ps, pr, &b.branches[j], w, x, t0, t1)
			}
		}
	})
	var work [3]product
	for j, pr := range prs {
		y, s := buf(pr.Y), &b.branches[j]
		b.terms[j] = term{pr.W.(*weight), kernels.NK, &b.in}
		work[j] = product{terms: b.terms[j : j+1], c: y.from(out[j]), ldc: y.cols}
		if pr.LoRA == nil && res == nil {
			continue
		}
		adapted := pr.LoRA != nil
		work[j].done = func(_ *worker, bl *block) {
			c, ld := bl.p.c, bl.p.ldc
			if adapted {
				s.bt.Mul(c, ld, &s.low, bl.m0, bl.m1, bl.n0, bl.n1, true)
			}
			if res != nil {
				for t := bl.m0; t < bl.m1; t++ {
					b.level.Add(c[t*ld+bl.n0:t*ld+bl.n1], res[t*ld+bl.n0:t*ld+bl.n1])
				}
			}
		}
	}
	b.multiply(work[:len(prs)])
}

// projectLow sets Low = Scale·dropout(x) Aᵀ for rows t0 to t1-1, whose x stands in a tile.
func (b *Backend) projectLow(ps *compute.Pass, pr compute.Proj, s *branch, w *worker, x []float32, t0, t1 int) {
	low, cols := buf(pr.Low), pr.W.In()
	op, first := &b.in, t0 // first is the row of op that is the tile's first
	if d := ps.Dropout; d != nil {
		op, first = &w.dropped, 0
		op.Reset(b.arith, t1-t0, cols)
		for t := t0; t < t1; t++ {
			w.mask.SetRow(uint32(ps.Pos[t]), uint32(ps.Node[t]), pr.LoRA.Module)
			b.level.Dropout(w.row[:cols], x[(t-t0)*cols:][:cols], nil, &w.mask)
			op.SetRow(t-t0, w.row[:cols])
		}
	}
	r := low.cols
	dst := low.from(ps.Rows.From + t0)[:(t1-t0)*r]
	s.a.MulTile(dst, r, op, 0, first, first+t1-t0, 0, r)
	b.level.Scale(dst, pr.LoRA.Scale)
	s.low.SetRows(t0, t1-t0, dst, r)
}

// projectBackward sets dx (T, in), unless it is nil, to what the gradients of projections of one input, from rows out[j]
// on, say of it, and adds to the LoRA gradients. set makes row t of the input, which only LoRA reads. end, if not nil, is
// called for blocks of dx that are done.
func (b *Backend) projectBackward(ps *compute.Pass, dx *[]float32, set func(row []float32, t int), out [3]int, end func(*block), prs ...compute.Proj) {
	n, in := ps.Rows.Len(), prs[0].W.In()
	adapted := false
	for j, pr := range prs {
		s, l := &b.branches[j], pr.LoRA
		b.operand(&s.dy, n, pr.W.Out())
		b.terms[j] = term{pr.W.(*weight), kernels.KN, &s.dy}
		if l == nil {
			continue
		}
		adapted = true
		r := l.A.Rows()
		b.use.FLOP += 2 * float64(n) * float64(r) * float64(pr.W.Out()+in)
		b.addPack(&s.a, buf(l.A), kernels.KN)
		b.addPack(&s.bt, buf(l.Bt), kernels.NK)
		b.operand(&s.low, n, r)
		b.operand(&s.xd, n, in)
		b.bytes(&s.bits, n*kernels.MaskBytes(in))
		b.grow(&s.dlow, n*r)
		b.pairs(&s.lowP, n, r)
		b.pairs(&s.dlo, n, r)
	}
	b.packLoRA()
	b.forWorkers(func(w *worker) {
		b.grow(&w.row, in)
		b.grow(&w.x, in)
		if ps.Dropout != nil {
			b.grow(&w.tile, tileRows*in)
			w.setMask(ps.Dropout)
		}
	})
	b.tiles(n, func(w *worker, t0, t1 int) {
		for j, pr := range prs {
			s, dy, l := &b.branches[j], buf(pr.DY), pr.LoRA
			s.dy.SetRows(t0, t1-t0, dy.from(out[j]+t0), dy.cols)
			if l != nil { // dlow = Scale·dy B
				r := l.A.Rows()
				s.bt.Mul(s.dlow, r, &s.dy, t0, t1, 0, r, false)
				b.level.Scale(s.dlow[t0*r:t1*r], l.Scale)
				s.low.SetRows(t0, t1-t0, s.dlow[t0*r:t1*r], r)
			}
		}
		if adapted {
			for t := t0; t < t1; t++ {
				set(w.x[:in], t)
				b.dropped(ps, w, w.x[:in], t, prs)
			}
		}
	})
	if dx != nil {
		b.one[0] = product{terms: b.terms[:len(prs)], c: *dx, ldc: in}
		b.one[0].done = func(w *worker, bl *block) {
			for j, pr := range prs {
				switch s := &b.branches[j]; {
				case pr.LoRA == nil:
				case ps.Dropout == nil:
					s.a.Mul(bl.p.c, in, &s.low, bl.m0, bl.m1, bl.n0, bl.n1, true)
				default:
					s.droppedBackward(b.level, ps.Dropout.Scale, w, bl)
				}
			}
			if end != nil {
				end(bl)
			}
		}
		b.multiply(b.one[:])
	}
	b.sums(ps, prs)
}

// dropped sets row t of xd = dropout(x) of all branches, and the bits of their masks.
func (b *Backend) dropped(ps *compute.Pass, w *worker, x []float32, t int, prs []compute.Proj) {
	for j, pr := range prs {
		s := &b.branches[j]
		switch {
		case pr.LoRA == nil:
		case ps.Dropout == nil:
			s.xd.SetRow(t, x)
		default:
			n := kernels.MaskBytes(len(x))
			w.mask.SetRow(uint32(ps.Pos[t]), uint32(ps.Node[t]), pr.LoRA.Module)
			b.level.Dropout(w.row[:len(x)], x, s.bits[t*n:][:n], &w.mask)
			s.xd.SetRow(t, w.row[:len(x)])
		}
	}
}

// droppedBackward adds mask·scale·(dlow A) to a block of dx.
func (s *branch) droppedBackward(level kernels.Level, scale float32, w *worker, bl *block) {
	in, cols := bl.p.ldc, bl.n1-bl.n0
	bytes := kernels.MaskBytes(in)
	for t0 := bl.m0; t0 < bl.m1; t0 += tileRows {
		t1 := min(t0+tileRows, bl.m1)
		s.a.MulTile(w.tile, cols, &s.low, 0, t0, t1, bl.n0, bl.n1)
		for t := t0; t < t1; t++ {
			level.MaskAdd(bl.p.c[t*in+bl.n0:][:cols], w.tile[(t-t0)*cols:][:cols], s.bits[t*bytes+bl.n0/8:], scale)
		}
	}
}

// sums adds to the gradients of LoRA: dA = Σ_t dlow[t]ᵀ dropout(x)[t] and dB = Σ_t low[t]ᵀ dy[t], block by block as
// compute.BlockRows says.
func (b *Backend) sums(ps *compute.Pass, prs []compute.Proj) {
	const cols = 128
	b.sumTasks, b.sumBlocks = b.sumTasks[:0], b.sumBlocks[:0]
	ps.Blocks(func(_ int, sp compute.Span) { b.sumBlocks = append(b.sumBlocks, sp) })
	for j, pr := range prs {
		l, s := pr.LoRA, &b.branches[j]
		if l == nil || l.DA == nil {
			continue
		}
		low, r := buf(pr.Low).from(ps.Rows.From), l.A.Rows()
		b.use.FLOP += 2 * float64(ps.Rows.Len()) * float64(r) * float64(pr.W.Out()+pr.W.In())
		b.run(len(b.sumBlocks), func(_, i int) {
			sp := b.sumBlocks[i]
			s.lowP.Set(sp.From, sp.To, low[sp.From*r:sp.To*r])
			s.dlo.Set(sp.From, sp.To, s.dlow[sp.From*r:sp.To*r])
		})
		for n0 := 0; n0 < l.DA.Cols(); n0 += cols {
			b.sumTasks = append(b.sumTasks, sumTask{buf(l.DA), &s.dlo, &s.xd, n0, min(n0+cols, l.DA.Cols())})
		}
		for n0 := 0; n0 < l.DB.Cols(); n0 += cols {
			b.sumTasks = append(b.sumTasks, sumTask{buf(l.DB), &s.lowP, &s.dy, n0, min(n0+cols, l.DB.Cols())})
		}
	}
	b.run(len(b.sumTasks), func(_, i int) {
		t := &b.sumTasks[i]
		for _, sp := range b.sumBlocks {
			t.left.AddSums(t.grad.d, t.grad.cols, t.right, sp.From, sp.To, t.n0, t.n1)
		}
	})
}

// sumTask is columns n0 to n1-1 of one gradient.
type sumTask struct {
	grad   *buffer
	left   *kernels.Pairs
	right  *kernels.Operand
	n0, n1 int
}
