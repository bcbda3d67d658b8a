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
	b.operand(&b.in, len(rows), x.Cols())
	b.forWorkers(func(w *worker) { b.grow(&w.row, x.Cols()) })
	b.headIn = headIn{b, normed(x, n), ps.Rows.From, rows}
	b.rows(len(rows), &b.headIn)
}

type headIn struct {
	*Backend
	source
	from int
	rows []int32
}

func (h *headIn) row(w *worker, i int) {
	row := w.row[:h.x.cols]
	h.source.row(h.level, row, h.from+int(h.rows[i]))
	h.in.SetRow(i, row)
}

// headProduct sets logits (rows, V) to the product of b.in with the head.
func (b *Backend) headProduct(logits []float32, w *weight) {
	b.terms[0] = term{w, kernels.NK, &b.in}
	b.products[0] = product{terms: b.terms[:1], c: logits, ldc: w.out}
	b.multiply(b.products[:1])
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
	v := w.out
	logits := b.grow(&b.logits, len(rows)*v)
	b.headProduct(logits, w)
	if dx != nil {
		b.operand(&b.dlogits, len(rows), v)
	}
	b.loss = lossJob{b, logits, v, targets, b.labelAt[from : to+1], loss, dx != nil}
	b.run(len(rows), &b.loss)
	if dx == nil {
		return
	}
	b.headGradient(len(rows), w)
	b.normBackward(ps, dx, x, n, rows)
}

// lossJob computes the losses of rows of logits and their gradients, b.dlogits.
type lossJob struct {
	*Backend
	logits   []float32
	v        int
	targets  []compute.Target
	at       []int // first target of each row
	loss     []float32
	backward bool
}

func (j *lossJob) task(_ *worker, i int) {
	l, at := j.logits[i*j.v:][:j.v], j.targets[j.at[i]:j.at[i+1]]
	top := j.level.Max(l)
	sum := j.level.ExpSum(nil, l, 1, top)
	lse := float64(top) + math.Log(sum)
	var weight float64
	for _, t := range at {
		j.loss[t.Index] = float32(lse - float64(l[t.Token]))
		weight += float64(t.Weight)
	}
	if !j.backward {
		return
	}
	j.level.Exp(l, l, 1, top, float32(weight/sum))
	for _, t := range at {
		l[t.Token] -= t.Weight
	}
	j.dlogits.SetRow(i, l)
}

const (
	// headBlock is how many rows of the vocabulary are summed at a time in the gradient of the head's input. Its terms
	// cancel almost wholly (probabilities sum to one, the target stands against them), and one chain of V additions would
	// lose four digits to rounding.
	headBlock = 1024
	headCols  = 64 // columns and
	headTile  = 48 // rows of a task
)

// headGradient makes b.dx (rows, C) dlogits W.
func (b *Backend) headGradient(rows int, w *weight) {
	v, c := w.out, w.in
	b.grow(&b.dx, rows*c)
	b.use.FLOP += 2 * float64(rows) * float64(v) * float64(c)
	high, cols := b.layout.headCut(rows)
	b.forWorkers(func(wk *worker) { b.grow(&wk.tile, high*cols) })
	b.layout.prepareHead(w, cols)
	b.headGrad = headGradJob{b, w, rows, high, cols}
	b.run(parts(c, cols)*parts(rows, high), &b.headGrad)
}

// headGradJob is the tasks of headGradient.
type headGradJob struct {
	*Backend
	w                *weight
	rows, high, cols int
}

func (h *headGradJob) task(wk *worker, i int) {
	w, c, nc := h.w, h.w.in, parts(h.w.in, h.cols)
	m0, n0 := i/nc*h.high, i%nc*h.cols
	m1, n1 := min(m0+h.high, h.rows), min(n0+h.cols, c)
	cols := n1 - n0
	part := wk.tile[:(m1-m0)*cols]
	for v0 := 0; v0 < w.out; v0 += headBlock {
		h.layout.headPart(wk, part, w, v0, min(v0+headBlock, w.out), m0, m1, n0, n1)
		for m := m0; m < m1; m++ {
			row, add := h.dx[m*c+n0:m*c+n1], part[(m-m0)*cols:][:cols]
			if v0 == 0 {
				copy(row, add)
			} else {
				h.level.Add(row, add)
			}
		}
	}
}

func (b *Backend) Update(params []compute.Param, o compute.AdamW) {
	b.update = updateJob{b.level, params, kernels.NewAdamW(o.LR, o.Beta1, o.Beta2, o.Eps, o.WeightDecay, o.Step, o.GradScale), o.BFloat16}
	b.run(len(params), &b.update)
}

type updateJob struct {
	level  kernels.Level
	params []compute.Param
	k      kernels.AdamW
	bf16   bool
}

func (u *updateJob) task(_ *worker, i int) {
	p := &u.params[i]
	w, m, v := buf(p.W).d, buf(p.M).d, buf(p.V).d
	u.level.AdamW(w, buf(p.G).d, m, v, &u.k)
	if u.bf16 {
		u.level.RoundBF16(w, w)
		u.level.RoundBF16(m, m)
		u.level.RoundBF16(v, v)
	}
}
