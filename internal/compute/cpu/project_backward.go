package cpu

import (
	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
)

// projectBackward sets dx (T, in), unless it is nil, to what the gradients of projections of one input, from rows out[j]
// on, say of it, and adds to the LoRA gradients, which alone read the input. then, if not nil, ends blocks of dx.
func (b *Backend) projectBackward(ps *compute.Pass, dx *[]float32, src source, out [3]int, then ender, prs ...compute.Proj) {
	p, n := b.begin(ps, src, out, prs), ps.Rows.Len()
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
	b.inTiles(n, backwardTiles{p})
	if dx != nil {
		b.backwardEnd = backwardEnd{p, then}
		b.products[0] = product{b.terms[:len(prs)], *dx, p.cols, &b.backwardEnd}
		b.multiply(b.products[:1])
	}
	b.sums(p)
}

// backwardTiles makes operands of the gradients of the results, dlow = Scale·dy B and, for the sums over tokens, dropout(x).
type backwardTiles struct{ *projections }

func (p backwardTiles) tile(w *worker, t0, t1 int) {
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
			p.row(w.x[:p.cols], t)
			p.dropped(w, w.x[:p.cols], t)
		}
	}
}

// dropped sets row t of xd = dropout(x) of all branches, and the bits of their masks.
func (p backwardTiles) dropped(w *worker, x []float32, t int) {
	for j, pr := range p.prs {
		s := &p.branches[j]
		switch {
		case pr.LoRA == nil:
		case p.ps.Dropout == nil:
			s.xd.SetRow(t, x)
		default:
			n := kernels.MaskBytes(len(x))
			p.level.Dropout(w.row[:len(x)], x, s.bits[t*n:][:n], p.mask(w, t, pr.LoRA))
			s.xd.SetRow(t, w.row[:len(x)])
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
	b.run(len(p.prs)*len(m.blocks), pairJob{p})
	b.run(len(m.of), m)
}

// pairJob makes what the sums over tokens read, a block of one branch each.
type pairJob struct{ *projections }

func (p pairJob) task(_ *worker, i int) {
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
