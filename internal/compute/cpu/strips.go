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

// strips says whether products are made with strips: with AVX2, where weights are not kept packed. Packed panels, of half the
// bytes, are faster in a step of a small model (docs/log.md).
func (b *Backend) strips() bool { return b.level.Strips() && b.mapWeights }

// stripColumns is how many columns a task has: as many tasks for every worker, or many.
func (b *Backend) stripColumns(ps []product) int {
	if n := columnTasks(ps, stripCols); n < 4*b.Threads() && n%b.Threads() != 0 {
		return stripNarrow
	}
	return stripCols
}

// stripsWhole says whether a task makes the strips of all terms at once, so that few rows at a time are computed and ended.
func (p *product) stripsWhole() bool {
	for j := range p.terms {
		if _, k := p.terms[j].shape(); k > stripLong {
			return false
		}
	}
	return true
}

func (b *Backend) prepareStrips(p *product, cols int) {
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

// stripBlock is block with strips.
func (b *Backend) stripBlock(w *worker, bl *block) {
	p, whole := bl.p, bl.p.stripsWhole()
	for j := range p.terms {
		t := &p.terms[j]
		_, k := t.shape()
		if whole {
			b.makeStrips(&w.strips[j], t, 0, k, bl.n0, bl.n1)
			continue
		}
		for k0 := 0; k0 < k; k0 += stripLong {
			s := &w.strips[0]
			b.makeStrips(s, t, k0, min(k0+stripLong, k), bl.n0, bl.n1)
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
		if p.end != nil {
			p.end(w, &rows)
		}
	}
}

// makeStrips makes s the rows k0 to k1-1 and the columns n0 to n1-1 of a term's weights.
func (b *Backend) makeStrips(s *kernels.Strips, t *term, k0, k1, n0, n1 int) {
	s.Reset(b.arith, k1-k0, n1-n0)
	if at := t.w.at(n0, k0, t.order); t.w.bf16 != nil {
		s.PackBF16(t.w.bf16[2*at:], t.order, t.w.in)
	} else {
		s.PackF32(t.w.f32[at:], t.order, t.w.in)
	}
}
