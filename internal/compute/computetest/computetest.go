// Package computetest is the conformance suite of compute.Backend: every operation against the plain implementation.
package computetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"cria/internal/compute"
	"cria/internal/safetensors"
)

// Shape is one case of the suite.
type Shape struct {
	C, F, V, R int
	compute.Heads
	Segments []int // lengths; segment i > 0 attends to segment 0 if i is odd, to 0 and i-1 if that is odd and i even
	Base     int   // first row of the pass on the stack; rows below are context of all segments
	Dropout  float64
}

// Shapes are odd, small and awkward sizes first, then one near SmolLM2's.
var Shapes = []Shape{
	{C: 16, F: 24, V: 33, R: 1, Heads: compute.Heads{H: 2, KV: 1, D: 8}, Segments: []int{1}},
	{C: 30, F: 70, V: 101, R: 3, Heads: compute.Heads{H: 3, KV: 3, D: 10}, Segments: []int{5, 1, 7}, Dropout: 0.3},
	{C: 72, F: 100, V: 517, R: 8, Heads: compute.Heads{H: 6, KV: 2, D: 12}, Segments: []int{70, 13, 1, 130}, Base: 9, Dropout: 0.1},
	{C: 18, F: 26, V: 40, R: 2, Heads: compute.Heads{H: 4, KV: 2, D: 8}, Segments: []int{1100, 90, 40}},
	{C: 130, F: 258, V: 300, R: 17, Heads: compute.Heads{H: 4, KV: 4, D: 34}, Segments: []int{65, 64, 3}, Base: 67},
	{C: 576, F: 640, V: 1300, R: 8, Heads: compute.Heads{H: 9, KV: 3, D: 64}, Segments: []int{47, 31, 20}, Dropout: 0.1},
}

// pass lays the shape's segments on the stack.
func (s Shape) pass() *compute.Pass {
	p := &compute.Pass{KV: s.Base, Dropout: compute.NewDropout(s.Dropout, 7, 3)}
	type placed struct {
		context []compute.Span
		end     int // position after the last token
	}
	var done []placed
	below := placed{end: s.Base}
	if s.Base > 0 {
		below.context = []compute.Span{{From: 0, To: s.Base}}
	}
	row := 0
	for i, n := range s.Segments {
		parent := below
		switch {
		case i > 0 && i%2 == 1:
			parent = done[0]
		case i > 1:
			parent = done[i-1]
		}
		seg := compute.Segment{Span: compute.Span{From: row, To: row + n}, Context: parent.context}
		own := append(append([]compute.Span{}, parent.context...), compute.Span{From: s.Base + row, To: s.Base + row + n})
		done = append(done, placed{own, parent.end + n})
		for k := range n {
			p.Pos = append(p.Pos, int32(parent.end+k))
			p.Node = append(p.Node, int32(i))
		}
		p.Segments = append(p.Segments, seg)
		row += n
	}
	p.Rows = compute.Span{From: s.Base, To: s.Base + row}
	return p
}

// twins is one buffer on both backends.
type twins struct{ want, got compute.Buffer }

type harness struct {
	t         *testing.T
	ref, be   compute.Backend
	rng       *rand.Rand
	tolerance float64
	rows      int
	weights   int // made so far
}

// buffer makes a (rows, cols) pair filled with normal numbers times scale.
func (h *harness) buffer(rows, cols int, scale float64) twins {
	v := make([]float32, rows*cols)
	for i := range v {
		v[i] = float32(h.rng.NormFloat64() * scale)
	}
	b := twins{h.ref.Alloc(rows, cols), h.be.Alloc(rows, cols)}
	h.ref.Write(b.want, 0, v)
	h.be.Write(b.got, 0, v)
	return b
}

func (h *harness) act(cols int) twins { return h.buffer(h.rows, cols, 1) }

// weight makes a pair of frozen matrices, every third of which is float32 with values that bfloat16 does not have.
func (h *harness) weight(out, in int) (want, got compute.Weight) {
	v := make([]float32, out*in)
	for i := range v {
		v[i] = float32(h.rng.NormFloat64() / math.Sqrt(float64(in)))
	}
	name, shape := fmt.Sprint(out, "x", in), []int{out, in}
	t := safetensors.FromFloat32s(name, shape, v)
	if h.weights++; h.weights%3 != 0 {
		upper := make([]uint16, len(v))
		for i, x := range v {
			upper[i] = uint16(math.Float32bits(compute.RoundBFloat16(x)) >> 16)
		}
		t = safetensors.FromBFloat16s(name, shape, upper)
	}
	var err error
	if want, err = h.ref.Weight(t); err != nil {
		h.t.Fatal(err)
	}
	if got, err = h.be.Weight(t); err != nil {
		h.t.Fatal(err)
	}
	return want, got
}

// check compares a whole buffer, rows outside of the pass included, relative to its norm.
func (h *harness) check(name string, b twins) {
	h.t.Helper()
	n := b.want.Rows() * b.want.Cols()
	w, g := make([]float32, n), make([]float32, n)
	h.ref.Read(w, b.want, 0)
	h.be.Read(g, b.got, 0)
	var d, s float64
	for i := range w {
		d += float64(w[i]-g[i]) * float64(w[i]-g[i])
		s += float64(w[i]) * float64(w[i])
	}
	if e := math.Sqrt(d / max(s, 1e-30)); !(e <= h.tolerance) {
		h.t.Errorf("%s: relative error %.3g, allowed %.3g", name, e, h.tolerance)
	}
}

// proj is a pair of projections.
type proj struct{ want, got compute.Proj }

func (h *harness) proj(in, out, r int, module uint32) (p proj, da, db twins) {
	w, g := h.weight(out, in)
	a, b := h.buffer(r, in, 1/math.Sqrt(float64(in))), h.buffer(r, out, 0.3)
	da, db = h.buffer(r, in, 0.1), h.buffer(r, out, 0.1)
	low := h.act(r)
	y, dy := h.act(out), h.act(out)
	p.want = compute.Proj{Linear: &compute.Linear{W: w, LoRA: &compute.LoRA{A: a.want, Bt: b.want, DA: da.want, DB: db.want, Scale: 2, Module: module}},
		Y: y.want, DY: dy.want, Low: low.want}
	p.got = compute.Proj{Linear: &compute.Linear{W: g, LoRA: &compute.LoRA{A: a.got, Bt: b.got, DA: da.got, DB: db.got, Scale: 2, Module: module}},
		Y: y.got, DY: dy.got, Low: low.got}
	return p, da, db
}

func (p proj) y() twins   { return twins{p.want.Y, p.got.Y} }
func (p proj) low() twins { return twins{p.want.Low, p.got.Low} }

// Run checks all operations of be, which must compute in dtype.
func Run(t *testing.T, be compute.Backend, dtype compute.DType) {
	ref := &compute.Plain[float32]{DType: dtype}
	for _, s := range Shapes {
		t.Run(fmt.Sprintf("C%d_H%d_R%d", s.C, s.H, s.R), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(s.C)))
			p := s.pass()
			h := &harness{t: t, ref: ref, be: be, rng: rng, rows: p.Rows.To + 2}
			// float32: rounding errors of K-term sums, sqrt(K)·2^-24 with room for exp and reordering.
			h.tolerance = 4e-6
			if dtype == compute.BFloat16 {
				// an intermediate that differs in its last float32 bit may round to the other bfloat16 neighbour
				h.tolerance = 1.0 / 1024
			}
			h.projections(s, p)
			h.attention(s, p)
			h.head(s, p)
			h.optimizer(s)
		})
	}
}

func (h *harness) projections(s Shape, p *compute.Pass) {
	x, dx, nw := h.act(s.C), h.act(s.C), h.buffer(1, s.C, 1)
	nWant, nGot := compute.Norm{Weight: nw.want, Eps: 1e-5}, compute.Norm{Weight: nw.got, Eps: 1e-5}
	rope := &compute.Rope{D: s.D}
	for i := range s.D / 2 {
		rope.InvFreq = append(rope.InvFreq, float32(math.Pow(10000, -float64(2*i)/float64(s.D))))
	}
	ids := make([]int32, p.Rows.Len())
	for i := range ids {
		ids[i] = int32(h.rng.IntN(s.V))
	}
	tw, tg := h.weight(s.V, s.C)
	e := h.act(s.C)
	h.ref.Embed(p, e.want, tw, ids)
	h.be.Embed(p, e.got, tg, ids)
	h.check("Embed", e)

	var rows []int32
	for i := range p.Rows.Len() {
		if h.rng.IntN(3) == 0 {
			rows = append(rows, int32(i))
		}
	}
	some := h.act(s.C)
	h.ref.Gather(p, some.want, e.want, rows)
	h.be.Gather(p, some.got, e.got, rows)
	h.check("Gather", some)
	h.ref.Spread(p, some.want, rows)
	h.be.Spread(p, some.got, rows)
	h.check("Spread", some)

	q, dqa, dqb := h.proj(s.C, s.H*s.D, s.R, 0)
	k, dka, dkb := h.proj(s.C, s.KV*s.D, s.R, 1)
	v, _, _ := h.proj(s.C, s.KV*s.D, s.R, 2)
	v.want.LoRA, v.got.LoRA = nil, nil // one projection without LoRA
	h.ref.QKVForward(p, x.want, nWant, q.want, k.want, v.want, rope)
	h.be.QKVForward(p, x.got, nGot, q.got, k.got, v.got, rope)
	for name, b := range map[string]twins{"q": q.y(), "k": k.y(), "v": v.y(), "low": q.low()} {
		h.check("QKVForward "+name, b)
	}
	h.ref.QKVBackward(p, nil, x.want, nWant, q.want, k.want, v.want, rope)
	h.be.QKVBackward(p, nil, x.got, nGot, q.got, k.got, v.got, rope)
	for name, b := range map[string]twins{"dA": dqa, "dB": dqb, "k dA": dka, "k dB": dkb} {
		h.check("QKVBackward without dx "+name, b)
	}
	h.ref.QKVBackward(p, dx.want, x.want, nWant, q.want, k.want, v.want, rope)
	h.be.QKVBackward(p, dx.got, x.got, nGot, q.got, k.got, v.got, rope)
	for name, b := range map[string]twins{"dx": dx, "dA": dqa, "dB": dqb, "k dA": dka, "k dB": dkb} {
		h.check("QKVBackward "+name, b)
	}

	o, doa, dob := h.proj(s.H*s.D, s.C, s.R, 3)
	in, din, res := h.act(s.H*s.D), h.act(s.H*s.D), h.act(s.C)
	h.ref.OutForward(p, o.want, in.want, res.want)
	h.be.OutForward(p, o.got, in.got, res.got)
	h.check("OutForward", o.y())
	h.ref.OutBackward(p, o.want, din.want, in.want)
	h.be.OutBackward(p, o.got, din.got, in.got)
	for name, b := range map[string]twins{"din": din, "dA": doa, "dB": dob} {
		h.check("OutBackward "+name, b)
	}

	g, dga, dgb := h.proj(s.C, s.F, s.R, 4)
	u, _, dub := h.proj(s.C, s.F, s.R, 5)
	h.ref.GateUpForward(p, x.want, nWant, g.want, u.want)
	h.be.GateUpForward(p, x.got, nGot, g.got, u.got)
	h.check("GateUpForward gate", g.y())
	h.check("GateUpForward up", u.y())
	h.ref.GateUpBackward(p, dx.want, x.want, nWant, g.want, u.want)
	h.be.GateUpBackward(p, dx.got, x.got, nGot, g.got, u.got)
	for name, b := range map[string]twins{"dx": dx, "dA": dga, "dB": dgb, "up dB": dub} {
		h.check("GateUpBackward "+name, b)
	}

	d, dda, ddb := h.proj(s.F, s.C, s.R, 6)
	gate, up, dgate, dup := h.act(s.F), h.act(s.F), h.act(s.F), h.act(s.F)
	h.ref.DownForward(p, d.want, gate.want, up.want, res.want)
	h.be.DownForward(p, d.got, gate.got, up.got, res.got)
	h.check("DownForward", d.y())
	h.ref.DownBackward(p, d.want, dgate.want, dup.want, gate.want, up.want)
	h.be.DownBackward(p, d.got, dgate.got, dup.got, gate.got, up.got)
	for name, b := range map[string]twins{"dgate": dgate, "dup": dup, "dA": dda, "dB": ddb} {
		h.check("DownBackward "+name, b)
	}
}

func (h *harness) attention(s Shape, p *compute.Pass) {
	hd, kvd := s.H*s.D, s.KV*s.D
	out, lse := h.act(hd), h.act(s.H)
	q, k, v := h.act(hd), h.act(kvd), h.act(kvd)
	h.ref.AttentionForward(p, s.Heads, out.want, lse.want, q.want, k.want, v.want)
	h.be.AttentionForward(p, s.Heads, out.got, lse.got, q.got, k.got, v.got)
	h.check("AttentionForward", out)
	h.check("AttentionForward lse", lse)
	dq, dk, dv, dout := h.act(hd), h.act(kvd), h.act(kvd), h.act(hd)
	h.ref.AttentionBackward(p, s.Heads, dq.want, dk.want, dv.want, dout.want, out.want, lse.want, q.want, k.want, v.want)
	h.be.AttentionBackward(p, s.Heads, dq.got, dk.got, dv.got, dout.got, out.got, lse.got, q.got, k.got, v.got)
	for name, b := range map[string]twins{"dq": dq, "dk": dk, "dv": dv} {
		h.check("AttentionBackward "+name, b)
	}
}

func (h *harness) head(s Shape, p *compute.Pass) {
	x, dx, nw := h.act(s.C), h.act(s.C), h.buffer(1, s.C, 1)
	w, g := h.weight(s.V, s.C)
	nWant, nGot := compute.Norm{Weight: nw.want, Eps: 1e-6}, compute.Norm{Weight: nw.got, Eps: 1e-6}
	var targets []compute.Target
	var rows []int32
	for r := range p.Rows.Len() {
		for range h.rng.IntN(3) { // none, one or two targets
			targets = append(targets, compute.Target{Row: int32(r), Token: int32(h.rng.IntN(s.V)), Weight: h.rng.Float32(), Index: int32(len(targets))})
		}
		if h.rng.IntN(3) == 0 {
			rows = append(rows, int32(r))
		}
	}
	loss := h.buffer(1, max(1, len(targets)), 1)
	h.ref.HeadLoss(p, dx.want, x.want, nWant, w, targets, loss.want)
	h.be.HeadLoss(p, dx.got, x.got, nGot, g, targets, loss.got)
	h.check("HeadLoss dx", dx)
	h.check("HeadLoss loss", loss)
	alone := h.buffer(1, max(1, len(targets)), 1)
	h.ref.HeadLoss(p, nil, x.want, nWant, w, targets, alone.want)
	h.be.HeadLoss(p, nil, x.got, nGot, g, targets, alone.got)
	h.check("HeadLoss loss without gradient", alone)
	logits := h.buffer(max(1, len(rows)), s.V, 1)
	h.ref.Logits(p, logits.want, x.want, nWant, w, rows)
	h.be.Logits(p, logits.got, x.got, nGot, g, rows)
	h.check("Logits", logits)
}

func (h *harness) optimizer(s Shape) {
	w, g, m, v := h.buffer(s.R, s.C, 1), h.buffer(s.R, s.C, 1), h.buffer(s.R, s.C, 0.1), h.buffer(s.R, s.C, 0)
	o := compute.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01, GradScale: 0.7}
	for o.Step = 1; o.Step <= 3; o.Step++ {
		h.ref.Update([]compute.Param{{W: w.want, G: g.want, M: m.want, V: v.want}}, o)
		h.be.Update([]compute.Param{{W: w.got, G: g.got, M: m.got, V: v.got}}, o)
	}
	h.check("Update", w)
	h.check("Update m", m)
	h.check("Update v", v)
	a, b := make([]float64, 2), []float64{1, 1}
	h.ref.SumSquares(a, []compute.Buffer{g.want, w.want})
	h.be.SumSquares(b, []compute.Buffer{g.got, w.got})
	for i := range a {
		if math.Abs(a[i]-b[i]) > 1e-6*a[i] {
			h.t.Errorf("SumSquares: %g, want %g", b[i], a[i])
		}
	}
}
