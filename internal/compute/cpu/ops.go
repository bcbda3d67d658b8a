package cpu

import (
	"encoding/binary"
	"math"
	"slices"

	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
)

func (b *Backend) Embed(ps *compute.Pass, x compute.Buffer, table compute.Weight, ids []int32) {
	w := table.(*weight)
	if b.idle() {
		return
	}
	for i, id := range ids {
		dst := buf(x).row(ps.Rows.From + i)
		if w.bf16 != nil {
			row := w.bf16[2*int(id)*w.in:]
			for c := range dst {
				dst[c] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(row[2*c:])) << 16)
			}
		} else {
			copy(dst, w.f32[int(id)*w.in:])
		}
	}
}

func (b *Backend) Gather(ps *compute.Pass, dst, src compute.Buffer, rows []int32) {
	b.moved = gatherJob{buf(dst), buf(src), ps.Rows.From, rows}
	b.rows(len(rows), &b.moved)
}

type gatherJob struct {
	dst, src *buffer
	from     int
	rows     []int32
}

func (g *gatherJob) row(_ *worker, i int) {
	copy(g.dst.row(g.from+i), g.src.row(g.from+int(g.rows[i])))
}

// Spread goes from the last row to the first, so that no row is overwritten before it was moved.
func (b *Backend) Spread(ps *compute.Pass, x compute.Buffer, rows []int32) {
	if b.idle() {
		return
	}
	i := len(rows) - 1
	for r := ps.Rows.Len() - 1; r >= 0; r-- {
		row := buf(x).row(ps.Rows.From + r)
		if i >= 0 && int(rows[i]) == r {
			copy(row, buf(x).row(ps.Rows.From+i))
			i--
		} else {
			clear(row)
		}
	}
}

// source is what projections read, x, n(x) or silu(gate)·up: a row of it is made where it is needed.
type source struct {
	x      *buffer   // or gate
	up     *buffer   // nil: no gate
	weight []float32 // of n; nil: none
	eps    float32
}

// normed is n(x).
func normed(x compute.Buffer, n compute.Norm) source {
	return source{x: buf(x), weight: buf(n.Weight).d, eps: n.Eps}
}

// row makes row i.
func (s *source) row(level kernels.Level, row []float32, i int) {
	switch x := s.x.row(i); {
	case s.up != nil:
		level.SwiGLU(row, x, s.up.row(i))
	case s.weight != nil:
		level.RMSNorm(row, x, s.weight, s.eps)
	default:
		copy(row, x)
	}
}

// normBackward adds to rows of dx, counted from the pass's first (nil: all), the gradient of x given that of n(x), b.dx.
func (b *Backend) normBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, rows []int32) {
	count := ps.Rows.Len()
	if rows != nil {
		count = len(rows)
	}
	b.norm = normJob{b, normed(x, n), buf(dx), ps.Rows.From, rows}
	b.forWorkers(func(w *worker) { b.grow(&w.row, x.Cols()) })
	b.rows(count, &b.norm)
}

// normJob is normBackward for some rows.
type normJob struct {
	*Backend
	source
	into *buffer
	from int
	rows []int32 // nil: all
}

func (n *normJob) row(w *worker, t int) {
	c, i := n.x.cols, n.from+t
	if n.rows != nil {
		i = n.from + int(n.rows[t])
	}
	inv := n.level.RMSNorm(w.row[:c], n.x.row(i), n.weight, n.eps)
	n.level.RMSNormBackward(n.into.row(i), n.dx[t*c:][:c], n.x.row(i), n.weight, inv)
}

func (b *Backend) QKVForward(ps *compute.Pass, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	b.project(ps, normed(x, n), nil, [3]int{ps.Rows.From, ps.KV, ps.KV}, q, k, v)
	b.rotate(ps, q.Y, k.Y, rope, false)
}

// angles are the cosines and sines of a pass's positions.
type angles struct {
	rope *compute.Rope
	pos  []int32
	d    []float32 // (T, D): D/2 cosines, D/2 sines
}

// turns makes b.angles those of a pass. Layers share them: they are made again only for other positions.
func (b *Backend) turns(ps *compute.Pass, rope *compute.Rope) {
	a := &b.angles
	b.grow(&a.d, len(ps.Pos)*rope.D)
	if b.idle() {
		a.rope = nil // d may be new memory, whose angles were not computed
		return
	}
	if a.rope != rope || !slices.Equal(a.pos, ps.Pos) {
		a.rope, a.pos = rope, append(a.pos[:0], ps.Pos...)
		b.rows(len(ps.Pos), a)
	}
}

func (a *angles) row(_ *worker, t int) {
	cos, sin := a.of(t)
	for i, f := range a.rope.InvFreq {
		s, c := math.Sincos(float64(float32(a.pos[t]) * f))
		cos[i], sin[i] = float32(c), float32(s)
	}
}

// of is the cosines and sines of row t.
func (a *angles) of(t int) (cos, sin []float32) {
	half := a.rope.D / 2
	return a.d[t*a.rope.D:][:half], a.d[t*a.rope.D+half:][:half]
}

// rotate turns the heads of q and k by their positions, or back.
func (b *Backend) rotate(ps *compute.Pass, q, k compute.Buffer, rope *compute.Rope, back bool) {
	b.turns(ps, rope)
	b.turn = rotateJob{b, buf(q), buf(k), ps.Rows.From, ps.KV, back}
	b.rows(ps.Rows.Len(), &b.turn)
}

type rotateJob struct {
	*Backend
	q, k     *buffer
	from, kv int // first rows
	back     bool
}

func (r *rotateJob) row(_ *worker, t int) {
	cos, sin := r.angles.of(t)
	r.heads(r.q.row(r.from+t), cos, sin)
	r.heads(r.k.row(r.kv+t), cos, sin)
}

func (r *rotateJob) heads(row, cos, sin []float32) {
	d := 2 * len(cos)
	for h := 0; h < len(row); h += d {
		if r.back {
			r.level.RoPEInverse(row[h:h+d], cos, sin)
		} else {
			r.level.RoPE(row[h:h+d], cos, sin)
		}
	}
}

func (b *Backend) QKVBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	b.rotate(ps, q.DY, k.DY, rope, true)
	out := [3]int{ps.Rows.From, ps.KV, ps.KV}
	if dx == nil {
		b.projectBackward(ps, nil, normed(x, n), out, nil, q, k, v)
		return
	}
	b.grow(&b.dx, ps.Rows.Len()*x.Cols())
	b.projectBackward(ps, &b.dx, normed(x, n), out, nil, q, k, v)
	b.normBackward(ps, dx, x, n, nil)
}

func (b *Backend) OutForward(ps *compute.Pass, o compute.Proj, in, res compute.Buffer) {
	b.project(ps, source{x: buf(in)}, buf(res).span(ps.Rows), [3]int{ps.Rows.From}, o)
}

func (b *Backend) OutBackward(ps *compute.Pass, o compute.Proj, din, in compute.Buffer) {
	dx := buf(din).span(ps.Rows)
	b.projectBackward(ps, &dx, source{x: buf(in)}, [3]int{ps.Rows.From}, nil, o)
}

func (b *Backend) GateUpForward(ps *compute.Pass, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	b.project(ps, normed(x, n), nil, [3]int{ps.Rows.From, ps.Rows.From}, gate, up)
}

func (b *Backend) GateUpBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	b.grow(&b.dx, ps.Rows.Len()*x.Cols())
	b.projectBackward(ps, &b.dx, normed(x, n), [3]int{ps.Rows.From, ps.Rows.From}, nil, gate, up)
	b.normBackward(ps, dx, x, n, nil)
}

func (b *Backend) DownForward(ps *compute.Pass, d compute.Proj, gate, up, res compute.Buffer) {
	b.project(ps, source{x: buf(gate), up: buf(up)}, buf(res).span(ps.Rows), [3]int{ps.Rows.From}, d)
}

func (b *Backend) DownBackward(ps *compute.Pass, d compute.Proj, dgate, dup, gate, up compute.Buffer) {
	b.grow(&b.dx, ps.Rows.Len()*gate.Cols())
	b.act = actBackward{b, ps.Rows.From, buf(dgate), buf(dup), buf(gate), buf(up)}
	b.projectBackward(ps, &b.dx, source{x: buf(gate), up: buf(up)}, [3]int{ps.Rows.From}, &b.act, d)
}

// actBackward sets dgate and dup given the gradient of silu(gate)·up, b.dx.
type actBackward struct {
	*Backend
	from                 int
	dgate, dup, gate, up *buffer
}

func (a *actBackward) end(_ *worker, bl block) {
	for t := bl.m0; t < bl.m1; t++ {
		i, n0, n1 := a.from+t, bl.n0, bl.n1
		a.level.SwiGLUBackward(a.dgate.row(i)[n0:n1], a.dup.row(i)[n0:n1], a.dx[t*a.gate.cols:][n0:n1], a.gate.row(i)[n0:n1], a.up.row(i)[n0:n1])
	}
}

func (b *Backend) SumSquares(sums []float64, bs []compute.Buffer) {
	b.squares = squares{b.level, bs, sums}
	b.run(len(bs), &b.squares)
}

type squares struct {
	level kernels.Level
	of    []compute.Buffer
	sums  []float64
}

func (s *squares) task(_ *worker, i int) { s.sums[i] = s.level.SumSquares(buf(s.of[i]).d) }
