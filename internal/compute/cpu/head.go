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
	b.in.Reset(b.arith, len(rows), xs.cols)
	b.rows(len(rows), func(wk *worker, i int) {
		row := grow(&wk.row, xs.cols)
		b.level.RMSNorm(row, xs.row(ps.Rows.From+int(rows[i])), w, n.Eps)
		b.in.SetRow(i, row)
	})
}

func (b *Backend) Logits(ps *compute.Pass, logits, x compute.Buffer, n compute.Norm, head compute.Weight, rows []int32) {
	if len(rows) == 0 {
		return
	}
	b.headInput(ps, x, n, rows)
	b.mul(buf(logits).d, logits.Cols(), &b.in, head.(*weight), kernels.NK, false)
}

// labelled is one row with its targets.
type labelled struct {
	row     int32
	targets []compute.Target
}

func (b *Backend) HeadLoss(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, head compute.Weight, targets []compute.Target, loss compute.Buffer) {
	b.Zero(dx, ps.Rows)
	var all []labelled
	for from := 0; from < len(targets); {
		to := from + 1
		for to < len(targets) && targets[to].Row == targets[from].Row {
			to++
		}
		all = append(all, labelled{targets[from].Row, targets[from:to]})
		from = to
	}
	for from := 0; from < len(all); from += headRows {
		b.headChunk(ps, dx, x, n, head.(*weight), all[from:min(from+headRows, len(all))], buf(loss).d)
	}
}

// headChunk computes logits, losses and gradients of some rows.
func (b *Backend) headChunk(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, w *weight, chunk []labelled, loss []float32) {
	rows := make([]int32, len(chunk))
	for i, c := range chunk {
		rows[i] = c.row
	}
	b.headInput(ps, x, n, rows)
	v, c := w.out, w.in
	logits := grow(&b.logits, len(chunk)*v)
	b.mul(logits, v, &b.in, w, kernels.NK, false)
	b.pool.Run(len(chunk), func(_, i int) {
		l := logits[i*v:][:v]
		top := b.level.Max(l)
		sum := b.level.ExpSum(nil, l, 1, top)
		lse := float64(top) + math.Log(sum)
		var weight float64
		for _, t := range chunk[i].targets {
			loss[t.Index] = float32(lse - float64(l[t.Token]))
			weight += float64(t.Weight)
		}
		b.level.Exp(l, l, 1, top, float32(weight/sum))
		for _, t := range chunk[i].targets {
			l[t.Token] -= t.Weight
		}
	})
	dn := b.headGradient(logits, len(chunk), w)
	xs, nw := buf(x), buf(n.Weight).d
	b.rows(len(chunk), func(wk *worker, i int) {
		r := ps.Rows.From + int(rows[i])
		inv := b.level.RMSNorm(grow(&wk.row, c), xs.row(r), nw, n.Eps)
		b.level.RMSNormBackward(buf(dx).row(r), dn[i*c:][:c], xs.row(r), nw, inv)
	})
}

// headBlock is how many rows of the vocabulary are summed at a time in the gradient of the head's input. Its terms cancel
// almost wholly (probabilities sum to one, the target stands against them), and one chain of V additions would lose four
// digits to rounding.
const headBlock = 1024

// headGradient returns dlogits W, (rows, C), in scratch.
func (b *Backend) headGradient(dlogits []float32, rows int, w *weight) []float32 {
	v, c := w.out, w.in
	dn, part := grow(&b.dx, rows*c), grow(&b.dl, rows*c)
	clear(dn)
	for i, block := range w.blocks(headBlock) {
		b.setRows(&b.low, rows, block.out, dlogits[i*headBlock:], v)
		b.mul(part, c, &b.low, block, kernels.KN, false)
		b.rows(rows, func(_ *worker, r int) { b.level.Add(dn[r*c:][:c], part[r*c:][:c]) })
	}
	return dn
}

// blocks divides a weight into views of n rows each, the last one smaller.
func (w *weight) blocks(n int) []*weight {
	if w.views == nil {
		for o := 0; o < w.out; o += n {
			v := &weight{out: min(n, w.out-o), in: w.in}
			if w.bf16 != nil {
				v.bf16 = w.bf16[2*o*w.in : 2*(o+v.out)*w.in]
			} else {
				v.f32 = w.f32[o*w.in : (o+v.out)*w.in]
			}
			w.views = append(w.views, v)
		}
	}
	return w.views
}

func (b *Backend) Update(params []compute.Param, o compute.AdamW) {
	k := kernels.NewAdamW(o.LR, o.Beta1, o.Beta2, o.Eps, o.WeightDecay, o.Step, o.GradScale)
	b.pool.Run(len(params), func(_, i int) {
		w, m, v := buf(params[i].W).d, buf(params[i].M).d, buf(params[i].V).d
		b.level.AdamW(w, buf(params[i].G).d, m, v, k)
		if o.BFloat16 {
			b.level.RoundBF16(w, w)
			b.level.RoundBF16(m, m)
			b.level.RoundBF16(v, v)
		}
	})
}
