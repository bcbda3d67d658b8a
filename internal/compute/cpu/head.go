package cpu

import (
	"math"

	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
)

// headRows is how many rows of logits exist at a time.
const headRows = 96

// headInput makes n(x) of some rows of the pass the operand b.in.
func (b *Backend) headInput(ps *compute.Pass, x compute.Buffer, n compute.Norm, rows []int32) {
	xs, w := buf(x), buf(n.Weight).d
	b.operand(&b.in, len(rows), xs.cols)
	b.forWorkers(func(w *worker) { b.grow(&w.row, xs.cols) })
	b.rows(len(rows), func(wk *worker, i int) {
		b.level.RMSNorm(wk.row[:xs.cols], xs.row(ps.Rows.From+int(rows[i])), w, n.Eps)
		b.in.SetRow(i, wk.row[:xs.cols])
	})
}

// headProduct sets logits (rows, V) to the product of b.in with the head.
func (b *Backend) headProduct(logits []float32, w *weight) {
	b.terms[0] = term{w, kernels.NK, &b.in}
	b.one[0] = product{terms: b.terms[:1], c: logits, ldc: w.out}
	b.multiply(b.one[:])
}

func (b *Backend) Logits(ps *compute.Pass, logits, x compute.Buffer, n compute.Norm, head compute.Weight, rows []int32) {
	if len(rows) == 0 {
		return
	}
	b.headInput(ps, x, n, rows)
	b.headProduct(buf(logits).d, head.(*weight))
}

func (b *Backend) HeadLoss(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, head compute.Weight, targets []compute.Target, loss compute.Buffer) {
	if dx != nil {
		b.Zero(dx, ps.Rows)
	}
	b.labelled, b.labelAt = b.labelled[:0], b.labelAt[:0]
	for i, t := range targets {
		if i == 0 || targets[i-1].Row != t.Row {
			b.labelled, b.labelAt = append(b.labelled, t.Row), append(b.labelAt, i)
		}
	}
	b.labelAt = append(b.labelAt, len(targets))
	for from := 0; from < len(b.labelled); from += headRows {
		b.headChunk(ps, dx, x, n, head.(*weight), targets, from, min(from+headRows, len(b.labelled)), buf(loss).d)
	}
}

// headChunk computes logits, losses and gradients of the labelled rows from to to-1.
func (b *Backend) headChunk(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, w *weight, targets []compute.Target, from, to int, loss []float32) {
	rows := b.labelled[from:to]
	b.headInput(ps, x, n, rows)
	v, c := w.out, w.in
	logits := b.grow(&b.logits, len(rows)*v)
	b.headProduct(logits, w)
	if dx != nil {
		b.operand(&b.dlogits, len(rows), v)
	}
	b.run(len(rows), func(_, i int) {
		l, at := logits[i*v:][:v], targets[b.labelAt[from+i]:b.labelAt[from+i+1]]
		top := b.level.Max(l)
		sum := b.level.ExpSum(nil, l, 1, top)
		lse := float64(top) + math.Log(sum)
		var weight float64
		for _, t := range at {
			loss[t.Index] = float32(lse - float64(l[t.Token]))
			weight += float64(t.Weight)
		}
		if dx == nil {
			return
		}
		b.level.Exp(l, l, 1, top, float32(weight/sum))
		for _, t := range at {
			l[t.Token] -= t.Weight
		}
		b.dlogits.SetRow(i, l)
	})
	if dx == nil {
		return
	}
	dn := b.headGradient(len(rows), w)
	xs, nw := buf(x), buf(n.Weight).d
	b.rows(len(rows), func(wk *worker, i int) {
		r := ps.Rows.From + int(rows[i])
		inv := b.level.RMSNorm(wk.row[:c], xs.row(r), nw, n.Eps)
		b.level.RMSNormBackward(buf(dx).row(r), dn[i*c:][:c], xs.row(r), nw, inv)
	})
}

const (
	// headBlock is how many rows of the vocabulary are summed at a time in the gradient of the head's input. Its terms
	// cancel almost wholly (probabilities sum to one, the target stands against them), and one chain of V additions would
	// lose four digits to rounding.
	headBlock = 1024
	headCols  = 64 // columns and
	headTile  = 48 // rows of a task
)

// headGradient returns dlogits W, (rows, C), in scratch.
func (b *Backend) headGradient(rows int, w *weight) []float32 {
	v, c := w.out, w.in
	dn := b.grow(&b.dx, rows*c)
	b.use.FLOP += 2 * float64(rows) * float64(v) * float64(c)
	high, cols := b.layout.headCut(rows)
	b.forWorkers(func(wk *worker) { b.grow(&wk.tile, high*cols) })
	b.layout.prepareHead(w, cols)
	nc := parts(c, cols)
	b.run(nc*parts(rows, high), func(id, i int) {
		m0, n0 := i/nc*high, i%nc*cols
		m1, n1 := min(m0+high, rows), min(n0+cols, c)
		b.headTile(&b.workers[id], dn, w, m0, m1, n0, n1)
	})
	return dn
}

// headTile is rows m0 to m1-1 and columns n0 to n1-1 of headGradient.
func (b *Backend) headTile(wk *worker, dn []float32, w *weight, m0, m1, n0, n1 int) {
	c, cols := w.in, n1-n0
	part := wk.tile[:(m1-m0)*cols]
	for v0 := 0; v0 < w.out; v0 += headBlock {
		b.layout.headPart(wk, part, w, v0, min(v0+headBlock, w.out), m0, m1, n0, n1)
		for m := m0; m < m1; m++ {
			row, add := dn[m*c+n0:m*c+n1], part[(m-m0)*cols:][:cols]
			if v0 == 0 {
				copy(row, add)
			} else {
				b.level.Add(row, add)
			}
		}
	}
}

func (b *Backend) Update(params []compute.Param, o compute.AdamW) {
	k := kernels.NewAdamW(o.LR, o.Beta1, o.Beta2, o.Eps, o.WeightDecay, o.Step, o.GradScale)
	b.run(len(params), func(_, i int) {
		w, m, v := buf(params[i].W).d, buf(params[i].M).d, buf(params[i].V).d
		b.level.AdamW(w, buf(params[i].G).d, m, v, k)
		if o.BFloat16 {
			b.level.RoundBF16(w, w)
			b.level.RoundBF16(m, m)
			b.level.RoundBF16(v, v)
		}
	})
}
