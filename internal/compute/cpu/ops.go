package cpu

import (
	"encoding/binary"
	"math"

	"cria/internal/compute"
)

func (b *Backend) Embed(ps *compute.Pass, x compute.Buffer, table compute.Weight, ids []int32) {
	w := table.(*weight)
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

// input sets b.x (T, cols), row by row, to what projections read, and with operand makes it the operand b.in; else it is
// rounded to what the products read, unless there is dropout, whose mask comes before rounding.
func (b *Backend) input(ps *compute.Pass, cols int, operand bool, set func(row []float32, i int)) []float32 {
	n := ps.Rows.Len()
	y := grow(&b.x, n*cols)
	if operand {
		b.in.Reset(b.arith, n, cols)
	}
	b.rows(n, func(_ *worker, t int) {
		row := y[t*cols:][:cols]
		set(row, ps.Rows.From+t)
		if operand {
			b.in.SetRow(t, row)
		} else if ps.Dropout == nil {
			b.round(row)
		}
	})
	return y
}

// normed is the input n(x).
func (b *Backend) normed(ps *compute.Pass, x compute.Buffer, n compute.Norm, operand bool) []float32 {
	xs, w := buf(x), buf(n.Weight).d
	return b.input(ps, xs.cols, operand, func(row []float32, i int) { b.level.RMSNorm(row, xs.row(i), w, n.Eps) })
}

// normBackward adds to dx[Rows] the gradient of x given that of n(x), b.dx.
func (b *Backend) normBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm) {
	xs, w, c := buf(x), buf(n.Weight).d, x.Cols()
	b.rows(ps.Rows.Len(), func(wk *worker, t int) {
		i := ps.Rows.From + t
		inv := b.level.RMSNorm(grow(&wk.row, c), xs.row(i), w, n.Eps)
		b.level.RMSNormBackward(buf(dx).row(i), b.dx[t*c:][:c], xs.row(i), w, inv)
	})
}

func (b *Backend) QKVForward(ps *compute.Pass, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	y := b.normed(ps, x, n, true)
	b.project(ps, q, y, x.Cols(), ps.Rows.From)
	b.project(ps, k, y, x.Cols(), ps.KV)
	b.project(ps, v, y, x.Cols(), ps.KV)
	b.rotate(ps, q.Y, k.Y, rope, b.level.RoPE)
}

// rotate turns the heads of q and k by their positions.
func (b *Backend) rotate(ps *compute.Pass, q, k compute.Buffer, rope *compute.Rope, turn func(x, cos, sin []float32)) {
	half := rope.D / 2
	angles := grow(&b.angles, ps.Rows.Len()*rope.D)
	b.rows(ps.Rows.Len(), func(_ *worker, t int) {
		cos, sin := angles[t*rope.D:][:half], angles[t*rope.D+half:][:half]
		for i, f := range rope.InvFreq {
			s, c := math.Sincos(float64(float32(ps.Pos[t]) * f))
			cos[i], sin[i] = float32(c), float32(s)
		}
		for _, row := range [2][]float32{buf(q).row(ps.Rows.From + t), buf(k).row(ps.KV + t)} {
			for h := 0; h < len(row); h += rope.D {
				turn(row[h:h+rope.D], cos, sin)
			}
		}
	})
}

func (b *Backend) QKVBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	b.rotate(ps, q.DY, k.DY, rope, b.level.RoPEInverse)
	y, c := b.normed(ps, x, n, false), x.Cols()
	dn := grow(&b.dx, ps.Rows.Len()*c)
	b.projectBackward(ps, q, dn, y, c, ps.Rows.From, false)
	b.projectBackward(ps, k, dn, y, c, ps.KV, true)
	b.projectBackward(ps, v, dn, y, c, ps.KV, true)
	b.normBackward(ps, dx, x, n)
}

// addRows sets y[Rows] += res[Rows].
func (b *Backend) addRows(ps *compute.Pass, y, res compute.Buffer) {
	b.rows(ps.Rows.Len(), func(_ *worker, t int) {
		i := ps.Rows.From + t
		b.level.Add(buf(y).row(i), buf(res).row(i))
	})
}

func (b *Backend) OutForward(ps *compute.Pass, o compute.Proj, in, res compute.Buffer) {
	x := buf(in)
	b.setRows(&b.in, ps.Rows.Len(), x.cols, x.from(ps.Rows.From), x.cols)
	b.project(ps, o, x.from(ps.Rows.From), x.cols, ps.Rows.From)
	b.addRows(ps, o.Y, res)
}

func (b *Backend) OutBackward(ps *compute.Pass, o compute.Proj, din, in compute.Buffer) {
	x := buf(in).span(ps.Rows)
	if ps.Dropout == nil { // else rounded after the mask
		x = b.rounded(&b.x, x)
	}
	b.projectBackward(ps, o, buf(din).span(ps.Rows), x, in.Cols(), ps.Rows.From, false)
}

func (b *Backend) GateUpForward(ps *compute.Pass, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	y := b.normed(ps, x, n, true)
	b.project(ps, gate, y, x.Cols(), ps.Rows.From)
	b.project(ps, up, y, x.Cols(), ps.Rows.From)
}

func (b *Backend) GateUpBackward(ps *compute.Pass, dx, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	y, c := b.normed(ps, x, n, false), x.Cols()
	dn := grow(&b.dx, ps.Rows.Len()*c)
	b.projectBackward(ps, gate, dn, y, c, ps.Rows.From, false)
	b.projectBackward(ps, up, dn, y, c, ps.Rows.From, true)
	b.normBackward(ps, dx, x, n)
}

// act is the input silu(gate)·up.
func (b *Backend) act(ps *compute.Pass, gate, up compute.Buffer, operand bool) []float32 {
	return b.input(ps, gate.Cols(), operand, func(row []float32, i int) { b.level.SwiGLU(row, buf(gate).row(i), buf(up).row(i)) })
}

func (b *Backend) DownForward(ps *compute.Pass, d compute.Proj, gate, up, res compute.Buffer) {
	y := b.act(ps, gate, up, true)
	b.project(ps, d, y, gate.Cols(), ps.Rows.From)
	b.addRows(ps, d.Y, res)
}

func (b *Backend) DownBackward(ps *compute.Pass, d compute.Proj, dgate, dup, gate, up compute.Buffer) {
	y, f := b.act(ps, gate, up, false), gate.Cols()
	da := grow(&b.dx, ps.Rows.Len()*f)
	b.projectBackward(ps, d, da, y, f, ps.Rows.From, false)
	b.rows(ps.Rows.Len(), func(_ *worker, t int) {
		i := ps.Rows.From + t
		b.level.SwiGLUBackward(buf(dgate).row(i), buf(dup).row(i), da[t*f:][:f], buf(gate).row(i), buf(up).row(i))
	})
}

func (b *Backend) SumSquares(bs []compute.Buffer) []float64 {
	out := make([]float64, len(bs))
	b.pool.Run(len(bs), func(_, i int) { out[i] = b.level.SumSquares(buf(bs[i]).d) })
	return out
}
