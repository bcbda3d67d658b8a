package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"

	"cria/internal/compute"
)

// How many blocks of queries keep their parts of dk and dv at a time depends on the number of threads, and changes no bit.
func TestAttentionWaves(t *testing.T) {
	const rows = 1300
	h := compute.Heads{H: 4, KV: 2, D: 16}
	hd, kvd := h.H*h.D, h.KV*h.D
	ps := &compute.Pass{Rows: compute.Span{To: rows}, Segments: []compute.Segment{
		{Span: compute.Span{To: 1000}},
		{Span: compute.Span{From: 1000, To: 1230}, Context: []compute.Span{{To: 1000}}},
		{Span: compute.Span{From: 1230, To: rows}},
	}}
	var want [][]float32
	for _, threads := range []int{1, 2, 30} {
		rng := rand.New(rand.NewPCG(4, 2))
		b := New(Options{Threads: threads})
		act := func(cols int) compute.Buffer {
			x, row := b.Alloc(rows, cols), make([]float32, cols)
			for r := range rows {
				for i := range row {
					row[i] = float32(rng.NormFloat64())
				}
				b.Write(x, r, row)
			}
			return x
		}
		q, k, v, dout, out, lse := act(hd), act(kvd), act(kvd), act(hd), b.Alloc(rows, hd), b.Alloc(rows, h.H)
		grads := []compute.Buffer{b.Alloc(rows, hd), b.Alloc(rows, kvd), b.Alloc(rows, kvd)}
		b.AttentionForward(ps, h, out, lse, q, k, v)
		b.AttentionBackward(ps, h, grads[0], grads[1], grads[2], dout, out, lse, q, k, v)
		n, _ := b.attend.wave(b.listQueries(ps))
		t.Logf("%d threads: %d of %d blocks in the first wave", threads, n, len(b.queries))
		if whole := n == len(b.queries); whole != (threads == 30) {
			t.Errorf("%d threads: %d of %d blocks in the first wave", threads, n, len(b.queries))
		}
		for i, g := range grads {
			got := buf(g).d
			if threads == 1 {
				want = append(want, got)
			} else if !slices.Equal(got, want[i]) {
				t.Errorf("%d threads: other bits of gradient %d", threads, i)
			}
		}
		b.Close()
	}
}
