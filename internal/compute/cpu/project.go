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

	ends forwardEnd
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
	in    source
	out   [3]int // first row of each result
	cols  int    // of the input
	lora  bool   // some are adapted
	store [3]compute.Proj
}

func (b *Backend) begin(ps *compute.Pass, in source, out [3]int, prs []compute.Proj) *projections {
	p := &b.projections
	*p = projections{Backend: b, ps: ps, in: in, out: out, cols: prs[0].W.In()}
	p.prs = p.store[:copy(p.store[:], prs)]
	for _, pr := range prs {
		p.lora = p.lora || pr.LoRA != nil
	}
	return p
}

// row makes row t of the input.
func (p *projections) row(row []float32, t int) { p.in.row(p.level, row, p.ps.Rows.From+t) }

// project sets the results of projections of one input x (T, cols), from rows out[j] on, to x Wᵀ plus the LoRA part plus
// res, if not nil.
func (b *Backend) project(ps *compute.Pass, in source, res []float32, out [3]int, prs ...compute.Proj) {
	p, n := b.begin(ps, in, out, prs), ps.Rows.Len()
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
	b.inTiles(n, (*forwardTiles)(p))
	for j, pr := range p.prs {
		y, s := buf(pr.Y), &b.branches[j]
		b.terms[j] = term{pr.W.(*weight), kernels.NK, &b.in}
		b.products[j] = product{terms: b.terms[j : j+1], c: y.from(out[j]), ldc: y.cols}
		if pr.LoRA != nil || res != nil {
			s.ends = forwardEnd{b, s, pr.LoRA != nil, res}
			b.products[j].then = &s.ends
		}
	}
	b.multiply(b.products[:len(prs)])
}

// forwardTiles makes the input and the low-rank parts.
type forwardTiles projections

func (p *forwardTiles) tile(w *worker, t0, t1 int) {
	x := w.tile
	for t := t0; t < t1; t++ {
		row := x[(t-t0)*p.cols:][:p.cols]
		(*projections)(p).row(row, t)
		p.Backend.in.SetRow(t, row)
	}
	for j, pr := range p.prs {
		if pr.LoRA != nil {
			p.projectLow(p.ps, pr, &p.branches[j], w, x, t0, t1)
		}
	}
}

// forwardEnd adds the LoRA part and the residual to a block of a result.
type forwardEnd struct {
	*Backend
	s    *branch
	lora bool
	res  []float32
}

func (e *forwardEnd) end(_ *worker, bl block) {
	c, ld := bl.p.c, bl.p.ldc
	if e.lora {
		e.s.bt.Mul(c, ld, &e.s.low, bl.m0, bl.m1, bl.n0, bl.n1, true)
	}
	if e.res != nil {
		for t := bl.m0; t < bl.m1; t++ {
			e.level.Add(c[t*ld+bl.n0:t*ld+bl.n1], e.res[t*ld+bl.n0:t*ld+bl.n1])
		}
	}
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
// on, say of it, and adds to the LoRA gradients, which alone read the input. then, if not nil, ends blocks of dx.
func (b *Backend) projectBackward(ps *compute.Pass, dx *[]float32, in source, out [3]int, then ender, prs ...compute.Proj) {
	p, n := b.begin(ps, in, out, prs), ps.Rows.Len()
	for j, pr := range p.prs {
		s, l := &b.branches[j], pr.LoRA
		b.operand(&s.dy, n, pr.W.Out())
		b.terms[j] = term{pr.W.(*weight), kernels.KN, &s.dy}
		if l == nil {
			continue
		}
		r := l.A.Rows()
		b.use.FLOP += 2 * float64(n) * float64(r) * float64(pr.W.Out()+p.cols)
		b.addPack(&s.a, buf(l.A), kernels.KN)
		b.addPack(&s.bt, buf(l.Bt), kernels.NK)
		b.operand(&s.low, n, r)
		b.operand(&s.xd, n, p.cols)
		b.bytes(&s.bits, n*kernels.MaskBytes(p.cols))
		b.grow(&s.dlow, n*r)
		b.pairs(&s.lowP, n, r)
		b.pairs(&s.dlo, n, r)
	}
	b.packLoRA()
	b.forWorkers(func(w *worker) {
		b.grow(&w.row, p.cols)
		b.grow(&w.x, p.cols)
		if ps.Dropout != nil {
			b.grow(&w.tile, tileRows*p.cols)
			w.setMask(ps.Dropout)
		}
	})
	b.inTiles(n, (*backwardTiles)(p))
	if dx != nil {
		b.backwardEnd = backwardEnd{p, then}
		b.products[0] = product{b.terms[:len(prs)], *dx, p.cols, &b.backwardEnd}
		b.multiply(b.products[:1])
	}
	b.sums(p)
}

// backwardTiles makes operands of the gradients of the results, dlow = Scale·dy B and, for the sums over tokens, dropout(x).
type backwardTiles projections

func (p *backwardTiles) tile(w *worker, t0, t1 int) {
	for j, pr := range p.prs {
		s, dy, l := &p.branches[j], buf(pr.DY), pr.LoRA
		s.dy.SetRows(t0, t1-t0, dy.from(p.out[j]+t0), dy.cols)
		if l != nil {
			r := l.A.Rows()
			s.bt.Mul(s.dlow, r, &s.dy, t0, t1, 0, r, false)
			p.level.Scale(s.dlow[t0*r:t1*r], l.Scale)
			s.low.SetRows(t0, t1-t0, s.dlow[t0*r:t1*r], r)
		}
	}
	if p.lora {
		for t := t0; t < t1; t++ {
			(*projections)(p).row(w.x[:p.cols], t)
			p.dropped(p.ps, w, w.x[:p.cols], t, p.prs)
		}
	}
}

// backwardEnd adds LoRA's part to a block of dx.
type backwardEnd struct {
	*projections
	then ender
}

func (e *backwardEnd) end(w *worker, bl block) {
	for j, pr := range e.prs {
		switch s := &e.branches[j]; {
		case pr.LoRA == nil:
		case e.ps.Dropout == nil:
			s.a.Mul(bl.p.c, e.cols, &s.low, bl.m0, bl.m1, bl.n0, bl.n1, true)
		default:
			s.droppedBackward(e.level, e.ps.Dropout.Scale, w, bl)
		}
	}
	if e.then != nil {
		e.then.end(w, bl)
	}
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
func (s *branch) droppedBackward(level kernels.Level, scale float32, w *worker, bl block) {
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
func (b *Backend) sums(p *projections) {
	const cols = 128
	m := &b.loraSums
	m.of, m.blocks = m.of[:0], m.blocks[:0]
	p.ps.Blocks(func(_ int, sp compute.Span) { m.blocks = append(m.blocks, sp) })
	for j, pr := range p.prs {
		l, s := pr.LoRA, &b.branches[j]
		if l == nil || l.DA == nil {
			continue
		}
		b.use.FLOP += 2 * float64(p.ps.Rows.Len()) * float64(l.A.Rows()) * float64(pr.W.Out()+pr.W.In())
		for n0 := 0; n0 < l.DA.Cols(); n0 += cols {
			m.of = append(m.of, loraSum{buf(l.DA), &s.dlo, &s.xd, n0, min(n0+cols, l.DA.Cols())})
		}
		for n0 := 0; n0 < l.DB.Cols(); n0 += cols {
			m.of = append(m.of, loraSum{buf(l.DB), &s.lowP, &s.dy, n0, min(n0+cols, l.DB.Cols())})
		}
	}
	b.run(len(p.prs)*len(m.blocks), (*pairJob)(p))
	b.run(len(m.of), m)
}

// pairJob makes what the sums over tokens read, a block of one branch each.
type pairJob projections

func (p *pairJob) task(_ *worker, i int) {
	blocks := p.loraSums.blocks
	j, sp := i/len(blocks), blocks[i%len(blocks)]
	pr, s := p.prs[j], &p.branches[j]
	if pr.LoRA == nil || pr.LoRA.DA == nil {
		return
	}
	r := pr.LoRA.A.Rows()
	s.lowP.Set(sp.From, sp.To, buf(pr.Low).from(p.ps.Rows.From)[sp.From*r:sp.To*r])
	s.dlo.Set(sp.From, sp.To, s.dlow[sp.From*r:sp.To*r])
}

// loraSums are the tasks of sums.
type loraSums struct {
	of     []loraSum
	blocks []compute.Span
}

// loraSum is columns n0 to n1-1 of one gradient.
type loraSum struct {
	grad   *buffer
	left   *kernels.Pairs
	right  *kernels.Operand
	n0, n1 int
}

func (m *loraSums) task(_ *worker, i int) {
	t := &m.of[i]
	for _, sp := range m.blocks {
		t.left.AddSums(t.grad.d, t.grad.cols, t.right, sp.From, sp.To, t.n0, t.n1)
	}
}
