package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var lengths = []int{1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 100, 576, 1000, 2049, 16384, 16391, 40000}

// mixed is normal numbers with some large, small and special ones.
func mixed(r *rand.Rand, n int, special bool) []float32 {
	x := normal(r, n)
	for i := range x {
		switch r.IntN(16) {
		case 0:
			x[i] *= 1e3
		case 1:
			x[i] *= 1e-6
		case 2:
			x[i] = 0
		case 3:
			if special {
				x[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1e18, -1e18, 1e-42, float32(math.Copysign(0, -1))}[r.IntN(7)]
			}
		}
	}
	return x
}

// elementwise runs f at every level on copies of the arrays, which are results as well, between guards. It compares the
// results with those of the Go twin, within ulps of the largest of the values that scale names for an element.
func compareWithTwin(t *testing.T, name string, n int, arrays [][]float32, f func(l Level, a [][]float32), tolerance func(i int) float64) {
	t.Helper()
	run := func(l Level) (all, inner [][]float32) {
		for _, a := range arrays {
			g, in := guarded(len(a))
			copy(in, a)
			all, inner = append(all, g), append(inner, in)
		}
		f(l, inner)
		return all, inner
	}
	_, want := run(Generic)
	for _, l := range Levels()[1:] {
		all, got := run(l)
		for k := range arrays {
			checkGuard(t, fmt.Sprintf("%s, %d elements, array %d", name, n, k), all[k])
			for i := range want[k] {
				w, g := float64(want[k][i]), float64(got[k][i])
				if w == g || w != w && g != g {
					continue
				}
				if d := math.Abs(w - g); !(d <= tolerance(i)) {
					t.Fatalf("%s %v, %d elements: array %d [%d] = %v, want %v (tolerance %.3g)", name, l, n, k, i, g, w, tolerance(i))
				}
			}
		}
	}
}

const eps = 0x1p-23 // of float32; half of it is the error of one rounding

func TestElementwise(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for _, n := range lengths {
		for _, special := range []bool{false, true} {
			x, y, z, w := mixed(r, n, special), mixed(r, n, special), mixed(r, n, special), normal(r, n)
			abs := func(v float32) float64 { return math.Abs(float64(v)) }
			exact := func(int) float64 { return 0 }
			compareWithTwin(t, "Add", n, [][]float32{y, x}, func(l Level, a [][]float32) { l.Add(a[0], a[1]) }, exact)
			compareWithTwin(t, "Scale", n, [][]float32{y}, func(l Level, a [][]float32) { l.Scale(a[0], 0.3) }, exact)
			compareWithTwin(t, "Axpy", n, [][]float32{y, x}, func(l Level, a [][]float32) { l.Axpy(a[0], -1.7, a[1]) },
				func(i int) float64 { return eps * (abs(y[i]) + 1.7*abs(x[i])) })
			compareWithTwin(t, "SoftmaxBackward", n, [][]float32{w, x, y}, func(l Level, a [][]float32) { l.SoftmaxBackward(a[0], a[1], a[2], 0.25, 0.125) }, exact)
			if !special {
				compareWithTwin(t, "RMSNorm", n, [][]float32{w, x, y}, func(l Level, a [][]float32) {
					a[0][0] = l.RMSNorm(a[0], a[1], a[2], 1e-5) // the result is judged by its uses
				}, func(i int) float64 { return 4 * eps * (1 + abs(x[i])*abs(y[i])/math.Sqrt(meanSquare(x)+1e-5)) })
				inv := float32(1 / math.Sqrt(meanSquare(x)+1e-5))
				mean := 0.0
				for i := range x {
					mean += abs(y[i]) * abs(w[i]) * abs(x[i]) / float64(n)
				}
				compareWithTwin(t, "RMSNormBackward", n, [][]float32{z, y, x, w}, func(l Level, a [][]float32) { l.RMSNormBackward(a[0], a[1], a[2], a[3], inv) },
					func(i int) float64 {
						return 4 * eps * (abs(z[i]) + abs(inv)*abs(y[i])*abs(w[i]) + abs(x[i])*math.Pow(abs(inv), 3)*mean)
					})
			}
			compareWithTwin(t, "SwiGLU", n, [][]float32{w, x, y}, func(l Level, a [][]float32) { l.SwiGLU(a[0], a[1], a[2]) },
				func(i int) float64 { return 4*eps*abs(x[i])*abs(y[i])/(1+math.Exp(-float64(x[i]))) + 1e-36 })
			compareWithTwin(t, "SwiGLUBackward", n, [][]float32{w, z, x, y, w}, func(l Level, a [][]float32) { l.SwiGLUBackward(a[0], a[1], a[2], a[3], a[4]) },
				func(i int) float64 { return 8*eps*abs(x[i])*(abs(y[i])+abs(w[i])*(1+abs(y[i]))) + 1e-36 })
			h := n / 2
			rope := func(i int) float64 { i %= max(h, 1); return eps * (abs(x[i])*2 + abs(x[i+h])*2) }
			if h > 0 && !special {
				cos, sin := make([]float32, h), make([]float32, h)
				for i := range cos {
					s, c := math.Sincos(r.Float64() * 7)
					cos[i], sin[i] = float32(c), float32(s)
				}
				compareWithTwin(t, "RoPE", n, [][]float32{x[:2*h], cos, sin}, func(l Level, a [][]float32) { l.RoPE(a[0], a[1], a[2]) }, rope)
				compareWithTwin(t, "RoPEInverse", n, [][]float32{x[:2*h], cos, sin}, func(l Level, a [][]float32) { l.RoPEInverse(a[0], a[1], a[2]) }, rope)
			}
		}
	}
}

func meanSquare(x []float32) float64 {
	s := 0.0
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return s / float64(len(x))
}

// TestInPlace asks that results may be written over the arguments that the comments name.
func TestInPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 2))
	n := 77
	gate, up, dact := normal(r, n), normal(r, n), normal(r, n)
	for _, l := range Levels() {
		act, dgate, dup := make([]float32, n), make([]float32, n), make([]float32, n)
		l.SwiGLU(act, gate, up)
		l.SwiGLUBackward(dgate, dup, dact, gate, up)
		g, u := append([]float32(nil), gate...), append([]float32(nil), up...)
		l.SwiGLUBackward(g, u, dact, g, u)
		equalBits(t, "dgate", g, dgate)
		equalBits(t, "dup", u, dup)
		g, u = append([]float32(nil), gate...), append([]float32(nil), up...)
		l.SwiGLU(u, g, u)
		equalBits(t, "act", u, act)
	}
}

func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, got[i], want[i])
		}
	}
}

// TestExp measures the error of exp in units in the last place, over all of its range.
func TestExp(t *testing.T) {
	var x []float32
	for v := float32(-105); v < 90; v += 0.00137 {
		x = append(x, v)
	}
	r := rand.New(rand.NewPCG(9, 3))
	for range 100000 {
		x = append(x, float32(r.NormFloat64()*math.Pow(10, 1-6*r.Float64())))
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	x = append(x, 0, float32(math.Copysign(0, -1)), 88.72283, 88.7229, -87.33655, -103.97207, -103.98, inf, -inf, nan, 1e30, -1e30)
	for _, l := range Levels() {
		y := make([]float32, len(x))
		l.Exp(y, x, 1, 0, 1)
		worst, at := 0.0, float32(0)
		for i := range x {
			want := math.Exp(float64(x[i]))
			switch got := float64(y[i]); {
			case x[i] != x[i]:
				if got == got {
					t.Fatalf("%v: exp(NaN) = %v", l, got)
				}
			case want > math.MaxFloat32*(1+0x1p-25):
				if !math.IsInf(got, 1) {
					t.Fatalf("%v: exp(%v) = %v", l, x[i], got)
				}
			default:
				ulp := math.Max(math.Ldexp(1, int(math.Floor(math.Log2(want)))-23), 0x1p-149)
				if want == 0 {
					ulp = 0x1p-149
				}
				if e := math.Abs(got-want) / ulp; !(e <= worst) {
					worst, at = e, x[i]
				}
			}
		}
		t.Logf("%v: at most %.3f ulp, at %v", l, worst, at)
		if worst > 1.5 {
			t.Errorf("%v: error of %.3f ulp at %v", l, worst, at)
		}
	}
}

func TestReductions(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 4))
	for _, n := range lengths {
		x, y := mixed(r, n, false), mixed(r, n, false)
		squares, product, norm, top, absTop := 0.0, 0.0, 0.0, math.Inf(-1), 0.0
		for i := range x {
			a, b := float64(x[i]), float64(y[i])
			squares += a * a
			product += a * b
			norm += math.Abs(a * b)
			top, absTop = max(top, a), max(absTop, math.Abs(a))
		}
		for _, l := range Levels() {
			if d := math.Abs(l.SumSquares(x) - squares); d > float64(n)*0x1p-53*squares {
				t.Errorf("%v: SumSquares of %d is off by %g", l, n, d)
			}
			if d := math.Abs(l.Dot(x, y) - product); d > float64(n)*0x1p-53*norm {
				t.Errorf("%v: Dot of %d is off by %g", l, n, d)
			}
			if got := l.Max(x); float64(got) != top {
				t.Errorf("%v: Max of %d = %v, want %v", l, n, got, top)
			}
			if got := l.MaxAbs(x); float64(got) != absTop {
				t.Errorf("%v: MaxAbs of %d = %v, want %v", l, n, got, absTop)
			}
			if got := l.FirstNonFinite(x); got != -1 {
				t.Errorf("%v: FirstNonFinite of %d finite elements = %d", l, n, got)
			}
			negative := make([]float32, n)
			for i := range negative {
				negative[i] = -1 - float32(i%5)
			}
			if got := l.Max(negative); got != -1 {
				t.Errorf("%v: Max of %d negative elements = %v", l, n, got)
			}
			at := r.IntN(n)
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
				z := append([]float32(nil), x...)
				z[at] = bad
				if at+3 < n {
					z[at+3] = bad
				}
				if got := l.FirstNonFinite(z); got != at {
					t.Errorf("%v: FirstNonFinite of %d = %d, want %d", l, n, got, at)
				}
				if bad != bad {
					z[at] = x[at]
					if at+3 < n {
						z[at+3] = x[at+3]
					}
					z = append(z, bad)
					if got := l.Max(z); float64(got) != top {
						t.Errorf("%v: Max with NaN = %v, want %v", l, got, top)
					}
				}
			}
		}
	}
	for _, l := range Levels() {
		if l.Max(nil) != float32(math.Inf(-1)) || l.MaxAbs(nil) != 0 || l.SumSquares(nil) != 0 || l.FirstNonFinite(nil) != -1 || l.ExpSum(nil, nil, 1, 0) != 0 {
			t.Errorf("%v: wrong result for no elements", l)
		}
	}
}

func TestExpSum(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 5))
	for _, n := range lengths {
		x := normal(r, n)
		if n > 3 {
			x[n-2] = float32(math.Inf(-1)) // masked
		}
		m := Generic.Max(x)
		for _, l := range Levels() {
			want := 0.0
			for _, v := range x {
				want += math.Exp(0.125 * (float64(v) - float64(m)))
			}
			all, y := guarded(n)
			sum := l.ExpSum(y, x, 0.125, 0.125*m)
			checkGuard(t, "ExpSum", all)
			only := l.ExpSum(nil, x, 0.125, 0.125*m)
			if math.Abs(sum-want) > 40*eps*want || only != sum {
				t.Errorf("%v: sum of %d is %v and %v, want %v", l, n, sum, only, want)
			}
			if n > 3 && y[n-2] != 0 {
				t.Errorf("%v: exp(-Inf) = %v", l, y[n-2])
			}
		}
	}
}

func BenchmarkElementwise(b *testing.B) {
	var mask Mask
	mask.SetKey(1, 2, 6554, 1.1)
	const n = 4096
	x, y, z, w, v := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i], y[i], z[i], w[i], v[i] = r.Float32(), r.Float32(), r.Float32(), r.Float32(), r.Float32()
	}
	h := make([]uint16, n)
	o := NewAdamW(1e-4, 0.9, 0.999, 1e-8, 0.01, 3, 1)
	for _, l := range Levels() {
		for _, c := range []struct {
			name string
			f    func()
		}{
			{"Add", func() { l.Add(y, x) }},
			{"Axpy", func() { l.Axpy(y, 0.5, x) }},
			{"RMSNorm", func() { l.RMSNorm(y, x, w, 1e-5) }},
			{"RMSNormBackward", func() { l.RMSNormBackward(y, x, z, w, 1e-3) }},
			{"SwiGLU", func() { l.SwiGLU(y, x, z) }},
			{"SwiGLUBackward", func() { l.SwiGLUBackward(y, v, x, z, w) }},
			{"RoPE", func() { l.RoPE(y, z, w) }},
			{"Max", func() { l.Max(x) }},
			{"ExpSum", func() { l.ExpSum(y, x, 1, 1) }},
			{"SumSquares", func() { l.SumSquares(x) }},
			{"FirstNonFinite", func() { l.FirstNonFinite(x) }},
			{"AdamW", func() { l.AdamW(x, y, z, w, &o) }},
			{"Dropout", func() { l.Dropout(y, x, nil, &mask) }},
			{"Narrow", func() { l.Narrow(h, x) }},
			{"RoundBF16", func() { l.RoundBF16(y, x) }},
		} {
			b.Run(fmt.Sprintf("%v/%s", l, c.name), func(b *testing.B) {
				seconds := best(b, c.f)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(n/seconds/1e9, "Gelem/s")
			})
		}
	}
}
