package cpu

import (
	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
)

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

	// what ends a block of the result in the forward pass
	level   kernels.Level
	adapted bool
	res     []float32 // nil: no residual
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
	b.packs.of = append(b.packs.of, loraPack{p, x, order})
}

// packLoRA packs what was added.
func (b *Backend) packLoRA() {
	most := 0
	for _, t := range b.packs.of {
		n := t.x.cols
		if t.order == kernels.NK {
			n = t.x.rows
		}
		most = max(most, parts(n, kernels.PanelWidth))
	}
	b.packs.each = parts(most, packPanels)
	b.run(len(b.packs.of)*b.packs.each, &b.packs)
	b.packs.of = b.packs.of[:0]
}

const packPanels = 6 // of a task

// packs are the tasks of packLoRA.
type packs struct {
	of   []loraPack
	each int // tasks of a matrix
}

func (p *packs) task(_ *worker, i int) {
	t, from := &p.of[i/p.each], i%p.each*packPanels
	if to := min(from+packPanels, t.p.Count()); from < to {
		t.p.PackF32(from, to, t.x.d, t.order, t.x.cols)
	}
}

// projections are up to three projections of one input at work.
type projections struct {
	*Backend
	ps    *compute.Pass
	prs   []compute.Proj
	src   source          // of the input
	out   [3]int          // first row of each result
	cols  int             // of the input
	lora  bool            // some are adapted
	store [3]compute.Proj // memory of prs
}

// begin fills b.projections.
func (b *Backend) begin(ps *compute.Pass, src source, out [3]int, prs []compute.Proj) *projections {
	p := &b.projections
	*p = projections{Backend: b, ps: ps, src: src, out: out, cols: prs[0].W.In()}
	p.prs = p.store[:copy(p.store[:], prs)]
	for _, pr := range prs {
		p.lora = p.lora || pr.LoRA != nil
	}
	return p
}

// row makes row t of the input.
func (p *projections) row(row []float32, t int) { p.src.row(p.level, row, p.ps.Rows.From+t) }

// mask is the dropout mask of row t for a module.
func (p *projections) mask(w *worker, t int, l *compute.LoRA) *kernels.Mask {
	w.mask.SetRow(uint32(p.ps.Pos[t]), uint32(p.ps.Node[t]), l.Module)
	return &w.mask
}

// project sets the results of projections of one input x (T, cols), from rows out[j] on, to x Wᵀ plus the LoRA part plus
// res, if not nil.
func (b *Backend) project(ps *compute.Pass, src source, res []float32, out [3]int, prs ...compute.Proj) {
	p, n := b.begin(ps, src, out, prs), ps.Rows.Len()
	b.operand(&b.in, n, p.cols)
	for j, pr := range p.prs {
		if l := pr.LoRA; l != nil {
			s := &b.branches[j]
			b.addPack(&s.a, buf(l.A), kernels.NK)
			b.addPack(&s.bt, buf(l.Bt), kernels.KN)
			b.operand(&s.low, n, l.A.Rows())
			b.use.FLOP += 2 * float64(n) * float64(l.A.Rows()) * float64(p.cols+l.Bt.Cols())
		}
	}
	b.packLoRA()
	b.forWorkers(func(w *worker) {
		b.grow(&w.tile, tileRows*p.cols)
		b.grow(&w.row, p.cols)
		if p.lora && ps.Dropout != nil {
			w.setMask(ps.Dropout)
			b.operand(&w.dropped, tileRows, p.cols)
		}
	})
	b.inTiles(n, forwardTiles{p})
	for j, pr := range p.prs {
		y, s := buf(pr.Y), &b.branches[j]
		b.terms[j] = term{pr.W.(*weight), kernels.NK, &b.in}
		b.products[j] = product{terms: b.terms[j : j+1], c: y.from(out[j]), ldc: y.cols}
		if pr.LoRA != nil || res != nil {
			s.level, s.adapted, s.res = b.level, pr.LoRA != nil, res
			b.products[j].then = s
		}
	}
	b.multiply(b.products[:len(prs)])
}

// forwardTiles makes the input and the low-rank parts.
type forwardTiles struct{ *projections }

func (p forwardTiles) tile(w *worker, t0, t1 int) {
	for t := t0; t < t1; t++ {
		row := w.tile[(t-t0)*p.cols:][:p.cols]
		p.row(row, t)
		p.in.SetRow(t, row)
	}
	for j, pr := range p.prs {
		if pr.LoRA != nil {
			p.low(pr, &p.branches[j], w, t0, t1)
		}
	}
}

// low sets Low = Scale·dropout(x) Aᵀ for rows t0 to t1-1, whose x stands in w.tile.
func (p forwardTiles) low(pr compute.Proj, s *branch, w *worker, t0, t1 int) {
	op, first := &p.in, t0 // first is the row of op that is the tile's first
	if p.ps.Dropout != nil {
		op, first = &w.dropped, 0
		op.Reset(p.arith, t1-t0, p.cols)
		for t := t0; t < t1; t++ {
			p.level.Dropout(w.row[:p.cols], w.tile[(t-t0)*p.cols:][:p.cols], nil, p.mask(w, t, pr.LoRA))
			op.SetRow(t-t0, w.row[:p.cols])
		}
	}
	r := buf(pr.Low).cols
	dst := buf(pr.Low).from(p.ps.Rows.From + t0)[:(t1-t0)*r]
	s.a.MulTile(dst, r, op, 0, first, first+t1-t0, 0, r)
	p.level.Scale(dst, pr.LoRA.Scale)
	s.low.SetRows(t0, t1-t0, dst, r)
}

// end adds the LoRA part and the residual to a block of a result of the forward pass.
func (s *branch) end(_ *worker, bl block) {
	c, ld := bl.p.c, bl.p.ldc
	if s.adapted {
		s.bt.Mul(c, ld, &s.low, bl.m0, bl.m1, bl.n0, bl.n1, true)
	}
	if s.res != nil {
		for t := bl.m0; t < bl.m1; t++ {
			s.level.Add(c[t*ld+bl.n0:t*ld+bl.n1], s.res[t*ld+bl.n0:t*ld+bl.n1])
		}
	}
}
