package cpu

import "cria/internal/compute/cpu/kernels"

// Products with kernels.Strips: a task is some columns of a mapped weight, made float32 in pieces, and all rows.
const (
	stripCols   = 8 * kernels.StripWidth // columns of a task,
	stripNarrow = stripCols / 2          // where there are too few tasks for the workers,
	stripLast   = stripCols / 4          // and of the last ones
	stripLong   = 768                    // rows of the inner dimension of a piece: about a level-2 cache with stripCols
	stripRows   = 2 * rowBlock           // rows that are computed and ended together
)

// strips is the layout of mapped weights that kernels.Level.Strips asks for. Packed panels, of half the bytes, are faster in a
// step of a small model (docs/log.md).
type strips struct{ *Backend }

// columns: as many tasks for every worker, or many.
func (b strips) columns(ps []product, _ int) (most, last int) {
	if n := columnTasks(ps, stripCols); n < 4*b.Threads() && n%b.Threads() != 0 {
		return stripNarrow, stripLast
	}
	return stripCols, stripLast
}

func (strips) cut(_, _, most int) (blocks, cols int) { return 1, most }

// stripsWhole says whether a task makes the strips of all terms at once, so that few rows at a time are computed and ended.
func (p *product) stripsWhole() bool {
	for j := range p.terms {
		if _, k := p.terms[j].shape(); k > stripLong {
			return false
		}
	}
	return true
}

func (b strips) prepare(p *product, cols int) {
	whole := p.stripsWhole()
	for j := range p.terms {
		at := j
		if !whole {
			at = 0
		}
		_, k := p.terms[j].shape()
		b.forWorkers(func(w *worker) { b.resetStrips(&w.strips[at], min(k, stripLong), cols) })
	}
}

func (b strips) block(w *worker, bl *block) {
	p, whole := bl.p, bl.p.stripsWhole()
	for j := range p.terms {
		t := &p.terms[j]
		_, k := t.shape()
		if whole {
			b.piece(&w.strips[j], t.w, t.order, 0, k, bl.n0, bl.n1)
			continue
		}
		for k0 := 0; k0 < k; k0 += stripLong {
			s := &w.strips[0]
			b.piece(s, t.w, t.order, k0, min(k0+stripLong, k), bl.n0, bl.n1)
			s.Mul(p.c[bl.n0:], p.ldc, t.in, k0, bl.m0, bl.m1, j > 0 || k0 > 0)
		}
	}
	count := parts(bl.m1-bl.m0, stripRows)
	for i := range count {
		rows := *bl
		rows.m0, rows.m1 = bl.m0+(bl.m1-bl.m0)*i/count, bl.m0+(bl.m1-bl.m0)*(i+1)/count
		for j := range p.terms {
			if whole {
				w.strips[j].Mul(p.c[bl.n0:], p.ldc, p.terms[j].in, 0, rows.m0, rows.m1, j > 0)
			}
		}
		rows.end(w)
	}
}

// piece makes s the rows k0 to k1-1 and the columns n0 to n1-1 of Wᵀ (NK) or W (KN).
func (b strips) piece(s *kernels.Strips, w *weight, order kernels.Order, k0, k1, n0, n1 int) {
	s.Reset(b.arith, k1-k0, n1-n0)
	if at := w.at(n0, k0, order); w.bf16 != nil {
		s.PackBF16(w.bf16[2*at:], order, w.in)
	} else {
		s.PackF32(w.f32[at:], order, w.in)
	}
}

func (strips) headCut(rows int) (high, cols int) { return rows, stripNarrow }

func (b strips) prepareHead(_ *weight, cols int) {
	b.forWorkers(func(wk *worker) { b.resetStrips(&wk.strips[0], headBlock, cols) })
}

func (b strips) headPart(wk *worker, part []float32, w *weight, v0, v1, m0, m1, n0, n1 int) {
	b.piece(&wk.strips[0], w, kernels.KN, v0, v1, n0, n1)
	wk.strips[0].Mul(part, n1-n0, &b.dlogits, v0, m0, m1, false)
}
