package compute

import "math"

// keys calls f with every key-value row that query row t (counted from the pass's first) of segment s sees.
func (ps *Pass) keys(s *Segment, t int, f func(row int)) {
	for _, c := range s.Context {
		for r := c.From; r < c.To; r++ {
			f(r)
		}
	}
	for r := s.From; r <= t; r++ {
		f(ps.KV + r)
	}
}

func (p *Plain[F]) AttentionForward(ps *Pass, h Heads, out, lse, q, k, v Buffer) {
	scale := F(1 / math.Sqrt(float64(h.D)))
	for si := range ps.Segments {
		s := &ps.Segments[si]
		for t := s.From; t < s.To; t++ {
			i := ps.Rows.From + t
			for hd := range h.H {
				qr, kv := p.buf(q).row(i)[hd*h.D:][:h.D], hd/(h.H/h.KV)*h.D
				o := p.buf(out).row(i)[hd*h.D:][:h.D]
				clear(o)
				top := F(math.Inf(-1))
				ps.keys(s, t, func(r int) { top = max(top, scale*dot(qr, p.buf(k).row(r)[kv:][:h.D])) })
				var sum F
				ps.keys(s, t, func(r int) {
					e := F(math.Exp(float64(scale*dot(qr, p.buf(k).row(r)[kv:][:h.D]) - top)))
					sum += e
					axpy(o, e, p.buf(v).row(r)[kv:][:h.D])
				})
				for c := range o {
					o[c] /= sum
				}
				p.buf(lse).row(i)[hd] = top + F(math.Log(float64(sum)))
			}
		}
	}
}

// AttentionBackward sets dq and adds to dk and dv: with P = softmax(scale·q kᵀ), dP = dout vᵀ and δ = Σ dout·out,
// dS = P·(dP - δ), dq = scale·dS k, dk = scale·dSᵀ q, dv = Pᵀ dout.
func (p *Plain[F]) AttentionBackward(ps *Pass, h Heads, dq, dk, dv, dout, out, lse, q, k, v Buffer) {
	scale := F(1 / math.Sqrt(float64(h.D)))
	p.Zero(dq, ps.Rows)
	ps.Blocks(func(si int, rows Span) {
		s := &ps.Segments[si]
		for t := rows.From; t < rows.To; t++ {
			i := ps.Rows.From + t
			for hd := range h.H {
				kv := hd / (h.H / h.KV) * h.D
				qr, do := p.buf(q).row(i)[hd*h.D:][:h.D], p.buf(dout).row(i)[hd*h.D:][:h.D]
				dqr := p.buf(dq).row(i)[hd*h.D:][:h.D]
				delta := dot(do, p.buf(out).row(i)[hd*h.D:][:h.D])
				l := p.buf(lse).row(i)[hd]
				ps.keys(s, t, func(r int) {
					kr, vr := p.buf(k).row(r)[kv:][:h.D], p.buf(v).row(r)[kv:][:h.D]
					pr := F(math.Exp(float64(scale*dot(qr, kr) - l)))
					ds := scale * pr * (dot(do, vr) - delta)
					axpy(dqr, ds, kr)
					axpy(p.buf(dk).row(r)[kv:][:h.D], ds, qr)
					axpy(p.buf(dv).row(r)[kv:][:h.D], pr, do)
				})
			}
		}
	})
}
