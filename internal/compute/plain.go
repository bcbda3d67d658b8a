package compute

import (
	"fmt"
	"math"

	"cria/internal/safetensors"
)

// Plain is the reference implementation: one loop after the other, in the arithmetic of F. Plain[float64] is the oracle
// of finite differences, Plain[float32] the twin that faster backends are compared with.
type Plain[F float32 | float64] struct {
	DType DType // BFloat16 rounds what enters the products, as on every backend
}

type plainBuffer[F float32 | float64] struct {
	rows, cols int
	d          []F
}

func (b *plainBuffer[F]) Rows() int         { return b.rows }
func (b *plainBuffer[F]) Cols() int         { return b.cols }
func (b *plainBuffer[F]) row(i int) []F     { return b.d[i*b.cols : (i+1)*b.cols] }
func (b *plainBuffer[F]) rowsOf(s Span) []F { return b.d[s.From*b.cols : s.To*b.cols] }

type plainWeight[F float32 | float64] struct {
	out, in int
	d       []F // as a product reads it
	exact   []F // as the file has it
}

func (w *plainWeight[F]) Out() int      { return w.out }
func (w *plainWeight[F]) In() int       { return w.in }
func (w *plainWeight[F]) row(o int) []F { return w.d[o*w.in : (o+1)*w.in] }

func (p *Plain[F]) buf(b Buffer) *plainBuffer[F]    { return b.(*plainBuffer[F]) }
func (p *Plain[F]) weight(w Weight) *plainWeight[F] { return w.(*plainWeight[F]) }

// round is what the compute type does to an element that enters a product.
func (p *Plain[F]) round(x F) F {
	if p.DType == BFloat16 {
		return F(RoundBFloat16(float32(x)))
	}
	return x
}

// RoundBFloat16 rounds to the nearest bfloat16, ties to even; NaN stays NaN.
func RoundBFloat16(x float32) float32 {
	b := math.Float32bits(x)
	if b&0x7FFFFFFF > 0x7F800000 {
		return x
	}
	return math.Float32frombits((b + 0x7FFF + b>>16&1) & 0xFFFF0000)
}

func (p *Plain[F]) Name() string { return "plain" }
func (p *Plain[F]) Close()       {}

func (p *Plain[F]) Alloc(rows, cols int) Buffer {
	return &plainBuffer[F]{rows, cols, make([]F, rows*cols)}
}

func (p *Plain[F]) Weight(t safetensors.Tensor) (Weight, error) {
	if len(t.Shape) != 2 {
		return nil, fmt.Errorf("tensor %s has shape %v, a matrix was expected", t.Name, t.Shape)
	}
	v, err := t.Float32s()
	if err != nil {
		return nil, err
	}
	w := &plainWeight[F]{t.Shape[0], t.Shape[1], make([]F, len(v)), make([]F, len(v))}
	for i, x := range v {
		w.exact[i], w.d[i] = F(x), p.round(F(x))
	}
	return w, nil
}

func (p *Plain[F]) Write(dst Buffer, row int, src []float32) {
	b := p.buf(dst)
	for i, x := range src {
		b.d[row*b.cols+i] = F(x)
	}
}

func (p *Plain[F]) Read(dst []float32, src Buffer, row int) {
	b := p.buf(src)
	for i := range dst {
		dst[i] = float32(b.d[row*b.cols+i])
	}
}

func (p *Plain[F]) Zero(b Buffer, rows Span) { clear(p.buf(b).rowsOf(rows)) }

func (p *Plain[F]) Gather(ps *Pass, dst, src Buffer, rows []int32) {
	for i, r := range rows {
		copy(p.buf(dst).row(ps.Rows.From+i), p.buf(src).row(ps.Rows.From+int(r)))
	}
}

func (p *Plain[F]) Spread(ps *Pass, x Buffer, rows []int32) {
	i := len(rows) - 1
	for r := ps.Rows.Len() - 1; r >= 0; r-- {
		row := p.buf(x).row(ps.Rows.From + r)
		if i >= 0 && int(rows[i]) == r {
			copy(row, p.buf(x).row(ps.Rows.From+i))
			i--
		} else {
			clear(row)
		}
	}
}

func (p *Plain[F]) Embed(ps *Pass, x Buffer, table Weight, ids []int32) {
	w := p.weight(table)
	for i, id := range ids {
		copy(p.buf(x).row(ps.Rows.From+i), w.exact[int(id)*w.in:])
	}
}

// --- projections

// dropped returns row t of a LoRA's input as the product reads it: dropped out, then rounded.
func (p *Plain[F]) dropped(ps *Pass, l *LoRA, t int, x []F) []F {
	y := make([]F, len(x))
	copy(y, x)
	if ps.Dropout != nil {
		ps.Dropout.Apply(len(y), ps.Node[t], ps.Pos[t], l.Module, func(c int, f float32) { y[c] *= F(f) })
	}
	for i := range y {
		y[i] = p.round(y[i])
	}
	return y
}

// project sets pr.Y[out+t] = in[t] Wᵀ + LoRA for the tokens t of the pass.
func (p *Plain[F]) project(ps *Pass, pr Proj, in func(t int) []F, out int) {
	w := p.weight(pr.W)
	for t := range ps.Rows.Len() {
		x := in(t)
		r := make([]F, len(x))
		for i := range x {
			r[i] = p.round(x[i])
		}
		y := p.buf(pr.Y).row(out + t)
		for o := range y {
			y[o] = dot(w.row(o), r)
		}
		if l := pr.LoRA; l != nil {
			a, b, low := p.buf(l.A), p.buf(l.Bt), p.buf(pr.Low).row(ps.Rows.From+t)
			xd := p.dropped(ps, l, t, x)
			for j := range low {
				low[j] = F(l.Scale) * dot(p.rounded(a.row(j)), xd)
			}
			for j, u := range p.rounded(low) {
				axpy(y, u, p.rounded(b.row(j)))
			}
		}
	}
}

// projectBackward calls add with what pr.DY[out+t] says of in[t], and adds to the LoRA gradients.
func (p *Plain[F]) projectBackward(ps *Pass, pr Proj, in func(t int) []F, out int, add func(t int, dx []F)) {
	w, dys := p.weight(pr.W), p.buf(pr.DY)
	for t := range ps.Rows.Len() {
		dy := p.rounded(dys.row(out + t))
		dx := make([]F, w.in)
		for o, g := range dy {
			axpy(dx, g, w.row(o))
		}
		if l := pr.LoRA; l != nil {
			a := p.buf(l.A)
			dlow := p.dlow(l, dy)
			d := make([]F, w.in)
			for j := range dlow {
				axpy(d, dlow[j], p.rounded(a.row(j)))
			}
			if ps.Dropout != nil {
				ps.Dropout.Apply(len(d), ps.Node[t], ps.Pos[t], l.Module, func(c int, f float32) { d[c] *= F(f) })
			}
			axpy(dx, 1, d)
		}
		add(t, dx)
	}
	if l := pr.LoRA; l != nil && l.DA != nil {
		ps.Blocks(func(_ int, rows Span) {
			for t := rows.From; t < rows.To; t++ {
				dy := p.rounded(dys.row(out + t))
				dlow, low := p.dlow(l, dy), p.rounded(p.buf(pr.Low).row(ps.Rows.From+t))
				xd := p.dropped(ps, l, t, in(t))
				for j := range dlow {
					axpy(p.buf(l.DA).row(j), dlow[j], xd)
					axpy(p.buf(l.DB).row(j), low[j], dy)
				}
			}
		})
	}
}

// dlow is Scale · dy B, rounded as the next products read it.
func (p *Plain[F]) dlow(l *LoRA, dy []F) []F {
	b := p.buf(l.Bt)
	d := make([]F, b.rows)
	for j := range d {
		d[j] = p.round(F(l.Scale) * dot(p.rounded(b.row(j)), dy))
	}
	return d
}

func (p *Plain[F]) rounded(x []F) []F {
	y := make([]F, len(x))
	for i := range x {
		y[i] = p.round(x[i])
	}
	return y
}

func dot[F float32 | float64](a, b []F) F {
	var s F
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func axpy[F float32 | float64](y []F, a F, x []F) {
	for i := range y {
		y[i] += a * x[i]
	}
}

// --- normalised inputs

func (p *Plain[F]) norm(x []F, n Norm) []F {
	w, r := p.buf(n.Weight).row(0), invRMS(x, n.Eps)
	y := make([]F, len(x))
	for i := range x {
		y[i] = x[i] * r * w[i]
	}
	return y
}

func invRMS[F float32 | float64](x []F, eps float32) F {
	return 1 / F(math.Sqrt(float64(dot(x, x)/F(len(x))+F(eps))))
}

// normBackward adds to dx the gradient of x given dn, that of n(x): with r = 1/rms(x) and g = w·dn it is
// r·g - x·r³·mean(g·x).
func (p *Plain[F]) normBackward(dx, dn, x []F, n Norm) {
	w, r := p.buf(n.Weight).row(0), invRMS(x, n.Eps)
	var m F
	for i := range x {
		m += w[i] * dn[i] * x[i]
	}
	m *= r * r * r / F(len(x))
	for i := range x {
		dx[i] += r*w[i]*dn[i] - m*x[i]
	}
}

func (p *Plain[F]) normProject(ps *Pass, x Buffer, n Norm, out int, pr Proj) {
	p.project(ps, pr, func(t int) []F { return p.norm(p.buf(x).row(ps.Rows.From+t), n) }, out)
}

func (p *Plain[F]) QKVForward(ps *Pass, x Buffer, n Norm, q, k, v Proj, rope *Rope) {
	p.normProject(ps, x, n, ps.Rows.From, q)
	p.normProject(ps, x, n, ps.KV, k)
	p.normProject(ps, x, n, ps.KV, v)
	for t, pos := range ps.Pos {
		rotate(p.buf(q.Y).row(ps.Rows.From+t), rope, pos, 1)
		rotate(p.buf(k.Y).row(ps.KV+t), rope, pos, 1)
	}
}

func (p *Plain[F]) QKVBackward(ps *Pass, dx, x Buffer, n Norm, q, k, v Proj, rope *Rope) {
	for t, pos := range ps.Pos {
		rotate(p.buf(q.DY).row(ps.Rows.From+t), rope, pos, -1)
		rotate(p.buf(k.DY).row(ps.KV+t), rope, pos, -1)
	}
	p.normProjectBackward(ps, dx, x, n, []int{ps.Rows.From, ps.KV, ps.KV}, q, k, v)
}

func (p *Plain[F]) normProjectBackward(ps *Pass, dx, x Buffer, n Norm, out []int, prs ...Proj) {
	dn := make([]F, ps.Rows.Len()*x.Cols())
	for i, pr := range prs {
		in := func(t int) []F { return p.norm(p.buf(x).row(ps.Rows.From+t), n) }
		p.projectBackward(ps, pr, in, out[i], func(t int, d []F) { axpy(dn[t*x.Cols():(t+1)*x.Cols()], 1, d) })
	}
	if dx == nil {
		return
	}
	for t := range ps.Rows.Len() {
		i := ps.Rows.From + t
		p.normBackward(p.buf(dx).row(i), dn[t*x.Cols():(t+1)*x.Cols()], p.buf(x).row(i), n)
	}
}

// rotate turns every head of x by sign times the angles of pos.
func rotate[F float32 | float64](x []F, r *Rope, pos int32, sign F) {
	for h := 0; h < len(x); h += r.D {
		for i, f := range r.InvFreq {
			s, c := math.Sincos(float64(float32(pos) * f))
			a, b := x[h+i], x[h+i+r.D/2]
			x[h+i] = a*F(c) - b*F(s)*sign
			x[h+i+r.D/2] = b*F(c) + a*F(s)*sign
		}
	}
}

func (p *Plain[F]) OutForward(ps *Pass, o Proj, in, res Buffer) {
	p.project(ps, o, func(t int) []F { return p.buf(in).row(ps.Rows.From + t) }, ps.Rows.From)
	axpy(p.buf(o.Y).rowsOf(ps.Rows), 1, p.buf(res).rowsOf(ps.Rows))
}

func (p *Plain[F]) OutBackward(ps *Pass, o Proj, din, in Buffer) {
	p.projectBackward(ps, o, func(t int) []F { return p.buf(in).row(ps.Rows.From + t) }, ps.Rows.From,
		func(t int, d []F) { copy(p.buf(din).row(ps.Rows.From+t), d) })
}

func (p *Plain[F]) GateUpForward(ps *Pass, x Buffer, n Norm, gate, up Proj) {
	p.normProject(ps, x, n, ps.Rows.From, gate)
	p.normProject(ps, x, n, ps.Rows.From, up)
}

func (p *Plain[F]) GateUpBackward(ps *Pass, dx, x Buffer, n Norm, gate, up Proj) {
	p.normProjectBackward(ps, dx, x, n, []int{ps.Rows.From, ps.Rows.From}, gate, up)
}

func (p *Plain[F]) act(ps *Pass, gate, up Buffer) func(t int) []F {
	return func(t int) []F {
		g, u := p.buf(gate).row(ps.Rows.From+t), p.buf(up).row(ps.Rows.From+t)
		a := make([]F, len(g))
		for i := range a {
			a[i] = g[i] * sigmoid(g[i]) * u[i]
		}
		return a
	}
}

func sigmoid[F float32 | float64](x F) F { return F(1 / (1 + math.Exp(-float64(x)))) }

func (p *Plain[F]) DownForward(ps *Pass, d Proj, gate, up, res Buffer) {
	p.project(ps, d, p.act(ps, gate, up), ps.Rows.From)
	axpy(p.buf(d.Y).rowsOf(ps.Rows), 1, p.buf(res).rowsOf(ps.Rows))
}

func (p *Plain[F]) DownBackward(ps *Pass, d Proj, dgate, dup, gate, up Buffer) {
	dact := make([][]F, ps.Rows.Len())
	p.projectBackward(ps, d, p.act(ps, gate, up), ps.Rows.From, func(t int, dx []F) { dact[t] = dx })
	for t, da := range dact {
		i := ps.Rows.From + t
		g, u, dg, du := p.buf(gate).row(i), p.buf(up).row(i), p.buf(dgate).row(i), p.buf(dup).row(i)
		for c := range da {
			s := sigmoid(g[c])
			silu := g[c] * s
			dg[c], du[c] = da[c]*u[c]*(s+silu*(1-s)), da[c]*silu
		}
	}
}
