package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"cria/internal/half"
)

// AddSums against sums in float64, for every arithmetic, odd sizes and blocks that do not begin at the first row.
func TestAddSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	for _, s := range []struct{ t, r, n int }{{1, 1, 1}, {7, 3, 33}, {64, 8, 64}, {65, 16, 100}, {130, 9, 31}, {20, 17, 96}, {63, 64, 40}} {
		left, right := normal(rng, s.t*s.r), normal(rng, s.t*s.n)
		for _, l := range Levels() {
			for _, bf16 := range []bool{false, true} {
				ar := Arith{l, bf16}
				var p Pairs
				var op Operand
				p.Reset(ar, s.t, s.r)
				op.Reset(ar, s.t, s.n)
				op.SetRows(0, s.t, right, s.n)
				blocks := [][2]int{{0, s.t / 3}, {s.t / 3, s.t}}
				for _, b := range blocks {
					p.Set(b[0], b[1], left[b[0]*s.r:b[1]*s.r])
				}
				ldc := s.n + 3
				all, c := guarded(s.r * ldc)
				copy(c, normal(rng, len(c)))
				before := append([]float32(nil), c...)
				for _, b := range blocks {
					for n0 := 0; n0 < s.n; n0 += 64 {
						p.AddSums(c, ldc, &op, b[0], b[1], n0, min(n0+64, s.n))
					}
				}
				what := fmt.Sprintf("%v bf16=%v %+v", l, bf16, s)
				checkGuard(t, what, all)
				round := func(x float32) float64 {
					if bf16 {
						x = half.BFloat16(half.ToBFloat16(x))
					}
					return float64(x)
				}
				for i := range s.r {
					for j := range ldc {
						want, size := float64(before[i*ldc+j]), 0.0
						if j < s.n {
							for k := range s.t {
								x := round(left[k*s.r+i]) * round(right[k*s.n+j])
								want += x
								size += math.Abs(x)
							}
						}
						if got := float64(c[i*ldc+j]); math.Abs(got-want) > 1e-6*(size+math.Abs(want)) {
							t.Fatalf("%s: element %d,%d is %g, want %g", what, i, j, got, want)
						}
					}
				}
			}
		}
	}
}

func BenchmarkAddSums(b *testing.B) {
	rng := rand.New(rand.NewPCG(3, 9))
	const tokens, r, n = 64, 8, 576
	for _, l := range Levels() {
		for _, bf16 := range []bool{false, true} {
			b.Run(fmt.Sprintf("%v_bf16=%v", l, bf16), func(b *testing.B) {
				var p Pairs
				var op Operand
				p.Reset(Arith{l, bf16}, tokens, r)
				op.Reset(Arith{l, bf16}, tokens, n)
				op.SetRows(0, tokens, normal(rng, tokens*n), n)
				p.Set(0, tokens, normal(rng, tokens*r))
				c := make([]float32, r*n)
				seconds := best(b, func() { p.AddSums(c, n, &op, 0, tokens, 0, n) })
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(2*tokens*r*n/seconds/1e9, "GFLOP/s")
			})
		}
	}
}
