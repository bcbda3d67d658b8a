package cpu

import (
	"encoding/binary"
	"math"
	"slices"

	"cria/internal/compute"
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
	b.rows(len(rows), func(_ *worker, i int) {
		copy(buf(dst).row(ps.Rows.From+i), buf(src).row(ps.Rows.From+int(rows[i])))
	})
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

// normRow makes rows of n(x), counted from the pass's first.
func (b *Backend) normRow(ps *compute.Pass, x compute.Buffer, n compute.Norm) func(row []float32, t int) {
	xs, w := buf(x), buf(n.Weight).d
	return func(row []float32, t int) { b.level.RMSNorm(row, xs.row(ps.Rows.From+t), w, n.Eps) }
}

// normBackward adds to dx[Rows] the gradient of x given that of n(x), b.dx.
func (b *Backend) normBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm) {
	xs, w, c := buf(x), buf(n.Weight).d, x.Cols()
	b.forWorkers(func(w *worker) { b.grow(&w.row, c) })
	b.rows(ps.Rows.Len(), func(wk *worker, t int) {
		i := ps.Rows.From + t
		inv := b.level.RMSNorm(wk.row[:c], xs.row(i), w, n.Eps)
		b.level.RMSNormBackward(buf(dx).row(i), b.dx[t*c:][:c], xs.row(i), w, inv)
	})
}

func (b *Backend) QKVForward(ps *compute.Pass, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	b.project(ps, x.Cols(), b.normRow(ps, x, n), nil, [3]int{ps.Rows.From, ps.KV, ps.KV}, q, k, v)
	b.rotate(ps, q.Y, k.Y, rope, b.level.RoPE)
}

// angles are the cosines and sines of a pass's positions.
type angles struct {
	rope *compute.Rope
	pos  []int32
	d    []float32 // (T, D): D/2 cosines, D/2 sines
}

// turns returns the angles of a pass. Layers share them: they are made again only for other positions.
func (b *Backend) turns(ps *compute.Pass, rope *compute.Rope) []float32 {
	a := &b.angles
	d := b.grow(&a.d, len(ps.Pos)*rope.D)
	if b.idle() || a.rope == rope && slices.Equal(a.pos, ps.Pos) {
		return d
	}
	a.rope, a.pos = rope, append(a.pos[:0], ps.Pos...)
	half := rope.D / 2
	b.rows(len(ps.Pos), func(_ *worker, t int) {
		cos, sin := d[t*rope.D:][:half], d[t*rope.D+half:][:half]
		for i, f := range rope.InvFreq {
			s, c := math.Sincos(float64(float32(ps.Pos[t]) * f))
			cos[i], sin[i] = float32(c), float32(s)
		}
	})
	return d
}

// rotate turns the heads of q and k by their positions.
func (b *Backend) rotate(ps *compute.Pass, q, k compute.Buffer, rope *compute.Rope, turn func(x, cos, sin []float32)) {
	half, angles := rope.D/2, b.turns(ps, rope)
	b.rows(ps.Rows.Len(), func(_ *worker, t int) {
		cos, sin := angles[t*rope.D:][:half], angles[t*rope.D+half:][:half]
		for _, row := range [2][]float32{buf(q).row(ps.Rows.From + t), buf(k).row(ps.KV + t)} {
			for h := 0; h < len(row); h += rope.D {
				turn(row[h:h+rope.D], cos, sin)
			}
		}
	})
}

func (b *Backend) QKVBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	b.rotate(ps, q.DY, k.DY, rope, b.level.RoPEInverse)
	out := [3]int{ps.Rows.From, ps.KV, ps.KV}
	if dx == nil {
		b.projectBackward(ps, nil, b.normRow(ps, x, n), out, nil, q, k, v)
		return
	}
	b.grow(&b.dx, ps.Rows.Len()*x.Cols())
	b.projectBackward(ps, &b.dx, b.normRow(ps, x, n), out, nil, q, k, v)
	b.normBackward(ps, dx, x, n)
}

// rowOf makes rows of a buffer, counted from the pass's first.
func rowOf(ps *compute.Pass, x *buffer) func(row []float32, t int) {
	return func(row []float32, t int) { copy(row, x.row(ps.Rows.From+t)) }
}

func (b *Backend) OutForward(ps *compute.Pass, o compute.Proj, in, res compute.Buffer) {
	x := buf(in)
	b.project(ps, x.cols, rowOf(ps, x), buf(res).span(ps.Rows), [3]int{ps.Rows.From}, o)
}

func (b *Backend) OutBackward(ps *compute.Pass, o compute.Proj, din, in compute.Buffer) {
	dx := buf(din).span(ps.Rows)
	b.projectBackward(ps, &dx, rowOf(ps, buf(in)), [3]int{ps.Rows.From}, nil, o)
}

func (b *Backend) GateUpForward(ps *compute.Pass, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	b.project(ps, x.Cols(), b.normRow(ps, x, n), nil, [3]int{ps.Rows.From, ps.Rows.From}, gate, up)
}

func (b *Backend) GateUpBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	b.grow(&b.dx, ps.Rows.Len()*x.Cols())
	b.projectBackward(ps, &b.dx, b.normRow(ps, x, n), [3]int{ps.Rows.From, ps.Rows.From}, nil, gate, up)
	b.normBackward(ps, dx, x, n)
}

// actRow makes rows of silu(gate)·up.
func (b *Backend) actRow(ps *compute.Pass, gate, up compute.Buffer) func(row []float32, t int) {
	return func(row []float32, t int) {
		b.level.SwiGLU(row, buf(gate).row(ps.Rows.From+t), buf(up).row(ps.Rows.From+t))
	}
}

func (b *Backend) DownForward(ps *compute.Pass, d compute.Proj, gate, up, res compute.Buffer) {
	b.project(ps, gate.Cols(), b.actRow(ps, gate, up), buf(res).span(ps.Rows), [3]int{ps.Rows.From}, d)
}

func (b *Backend) DownBackward(ps *compute.Pass, d compute.Proj, dgate, dup, gate, up compute.Buffer) {
	f := gate.Cols()
	b.grow(&b.dx, ps.Rows.Len()*f)
	end := func(bl *block) {
		for t := bl.m0; t < bl.m1; t++ {
			i, n0, n1 := ps.Rows.From+t, bl.n0, bl.n1
			b.level.SwiGLUBackward(buf(dgate).row(i)[n0:n1], buf(dup).row(i)[n0:n1], b.dx[t*f:][n0:n1], buf(gate).row(i)[n0:n1], buf(up).row(i)[n0:n1])
		}
	}
	b.projectBackward(ps, &b.dx, b.actRow(ps, gate, up), [3]int{ps.Rows.From}, end, d)
}

func (b *Backend) SumSquares(bs []compute.Buffer) []float64 {
	out := make([]float64, len(bs))
	b.run(len(bs), func(_, i int) { out[i] = b.level.SumSquares(buf(bs[i]).d) })
	return out
}
