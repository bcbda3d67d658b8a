package compute

import "math"

func (p *Plain[F]) Logits(ps *Pass, logits, x Buffer, n Norm, head Weight, rows []int32) {
	w := p.weight(head)
	for i, r := range rows {
		nx := p.rounded(p.norm(p.buf(x).row(ps.Rows.From+int(r)), n))
		l := p.buf(logits).row(i)
		for o := range l {
			l[o] = dot(w.row(o), nx)
		}
	}
}

func (p *Plain[F]) HeadLoss(ps *Pass, dx, x Buffer, n Norm, head Weight, targets []Target, loss Buffer) {
	if dx != nil {
		p.Zero(dx, ps.Rows)
	}
	w := p.weight(head)
	l := p.Alloc(1, w.out)
	for len(targets) > 0 {
		row := targets[0].Row
		m := 1
		for m < len(targets) && targets[m].Row == row {
			m++
		}
		p.Logits(ps, l, x, n, head, []int32{row})
		lr := p.buf(l).row(0)
		top := F(math.Inf(-1))
		for _, v := range lr {
			top = max(top, v)
		}
		var sum, weight F
		for _, v := range lr {
			sum += F(math.Exp(float64(v - top)))
		}
		lse := top + F(math.Log(float64(sum)))
		here := targets[:m]
		targets = targets[m:]
		for _, t := range here {
			p.buf(loss).d[t.Index] = lse - lr[t.Token]
			weight += F(t.Weight)
		}
		if dx == nil {
			continue
		}
		for o := range lr {
			lr[o] = weight * F(math.Exp(float64(lr[o]-lse)))
		}
		for _, t := range here {
			lr[t.Token] -= F(t.Weight)
		}
		dn := make([]F, w.in)
		for o := range lr {
			axpy(dn, p.round(lr[o]), w.row(o))
		}
		i := ps.Rows.From + int(row)
		p.normBackward(p.buf(dx).row(i), dn, p.buf(x).row(i), n)
	}
}

func (p *Plain[F]) SumSquares(sums []float64, bs []Buffer) {
	clear(sums)
	for i, b := range bs {
		for _, x := range p.buf(b).d {
			sums[i] += float64(x) * float64(x)
		}
	}
}

// Update follows torch.optim.AdamW's single-tensor path (_single_tensor_adamw).
func (p *Plain[F]) Update(params []Param, o AdamW) {
	bias1, bias2 := 1-math.Pow(o.Beta1, float64(o.Step)), 1-math.Pow(o.Beta2, float64(o.Step))
	for _, pa := range params {
		w, g, m, v := p.buf(pa.W).d, p.buf(pa.G).d, p.buf(pa.M).d, p.buf(pa.V).d
		for i := range w {
			gi := g[i] * F(o.GradScale)
			w[i] *= F(1 - o.LR*o.WeightDecay)
			m[i] += (gi - m[i]) * F(1-o.Beta1)
			v[i] = v[i]*F(o.Beta2) + F(1-o.Beta2)*gi*gi
			w[i] -= F(o.LR/bias1) * m[i] / (F(math.Sqrt(float64(v[i])))/F(math.Sqrt(bias2)) + F(o.Eps))
			if o.BFloat16 {
				w[i], m[i], v[i] = F(RoundBFloat16(float32(w[i]))), F(RoundBFloat16(float32(m[i]))), F(RoundBFloat16(float32(v[i])))
			}
		}
	}
}

var _ Backend = (*Plain[float32])(nil)
