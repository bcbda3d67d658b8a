package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

type productCase struct {
	m, n, k, am, ak, ldb, ldc int
	a, b, before              []float32
}

func newProductCase(r *rand.Rand, m, n, k int, transposed bool) *productCase {
	c := &productCase{m: m, n: n, k: k, ldb: n + r.IntN(4), ldc: n + r.IntN(4)}
	c.am, c.ak = k+r.IntN(4), 1
	if transposed {
		c.am, c.ak = 1, m+r.IntN(4)
	}
	c.a, c.b = normal(r, (m-1)*c.am+(k-1)*c.ak+1), normal(r, (k-1)*c.ldb+n)
	c.before = normal(r, (m-1)*c.ldc+n)
	return c
}

func (c *productCase) String() string {
	return fmt.Sprintf("%dx%dx%d, strides %d %d %d %d", c.m, c.k, c.n, c.am, c.ak, c.ldb, c.ldc)
}

func (c *productCase) run(t *testing.T, l Level) {
	t.Helper()
	for _, accumulate := range []bool{false, true} {
		all, out := guarded(len(c.before))
		copy(out, c.before)
		l.Product(out, c.ldc, c.a, c.am, c.ak, c.b, c.ldb, c.m, c.n, c.k, accumulate)
		checkGuard(t, c.String(), all)
		for i := range c.m {
			for j := range c.ldc {
				at := i*c.ldc + j
				if j >= c.n {
					if at < len(out) && out[at] != c.before[at] {
						t.Fatalf("%v %v: wrote between rows", l, c)
					}
					continue
				}
				sum := 0.0
				if accumulate {
					sum = float64(c.before[at])
				}
				norm := math.Abs(sum)
				for k := range c.k {
					x := float64(c.a[i*c.am+k*c.ak]) * float64(c.b[k*c.ldb+j])
					sum += x
					norm += math.Abs(x)
				}
				if d := math.Abs(sum - float64(out[at])); !(d <= float64(c.k+2)*norm*0x1p-24) {
					t.Fatalf("%v %v: C[%d][%d] = %v, want %v", l, c, i, j, out[at], sum)
				}
			}
		}
	}
}

func TestProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, l := range Levels() {
		for _, s := range [][3]int{{1, 1, 1}, {1, 40, 64}, {2, 33, 5}, {3, 300, 64}, {4, 64, 300}, {5, 16, 7}, {6, 17, 513}, {7, 15, 33}, {8, 576, 64},
			{13, 1024, 20}, {40, 1024, 20}, {64, 64, 100}, {97, 65, 65}, {128, 1, 9}} {
			for _, transposed := range []bool{false, true} {
				c := newProductCase(r, s[0], s[1], s[2], transposed)
				c.run(t, l)
				if s[1] == 1024 {
					c.ldb = 1024
					c.run(t, l)
				}
			}
		}
	}
}

func TestProductSameBits(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, l := range Levels() {
		c := newProductCase(r, 101, 77, 600, true)
		whole := make([]float32, len(c.before))
		l.Product(whole, c.ldc, c.a, c.am, c.ak, c.b, c.ldb, c.m, c.n, c.k, false)
		for range 30 {
			m0, n0, k0 := r.IntN(c.m), r.IntN(c.n), r.IntN(c.k)
			m, n := 1+r.IntN(c.m-m0), 1+r.IntN(c.n-n0)
			part := make([]float32, len(c.before))
			l.Product(part[m0*c.ldc+n0:], c.ldc, c.a[m0*c.am:], c.am, c.ak, c.b[n0:], c.ldb, m, n, k0, false)
			l.Product(part[m0*c.ldc+n0:], c.ldc, c.a[m0*c.am+k0*c.ak:], c.am, c.ak, c.b[n0+k0*c.ldb:], c.ldb, m, n, c.k-k0, true)
			for i := m0; i < m0+m; i++ {
				for j := n0; j < n0+n; j++ {
					if part[i*c.ldc+j] != whole[i*c.ldc+j] {
						t.Fatalf("%v rows %d+%d, columns %d+%d, k split at %d: C[%d][%d] = %v, whole %v", l, m0, m, n0, n, k0, i, j, part[i*c.ldc+j], whole[i*c.ldc+j])
					}
				}
			}
		}
	}
}

// TestProductChain asks every level for the bits of the chain that Product promises, with every tile: heights, widths, and
// edges of B and C.
func TestProductChain(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	for m := 1; m <= 25; m++ {
		for _, n := range tileWidths {
			c := newProductCase(r, m, n, 1+r.IntN(9), m%2 == 1)
			for _, accumulate := range []bool{false, true} {
				want := append([]float32(nil), c.before...)
				for i := range m {
					for j := range n {
						sum := float32(0)
						if accumulate {
							sum = c.before[i*c.ldc+j]
						}
						for k := range c.k {
							sum = fma(c.a[i*c.am+k*c.ak], c.b[k*c.ldb+j], sum)
						}
						want[i*c.ldc+j] = sum
					}
				}
				for _, l := range Levels() {
					if !fuses(l) {
						continue
					}
					all, got := guarded(len(c.before))
					copy(got, c.before)
					l.Product(got, c.ldc, c.a, c.am, c.ak, c.b, c.ldb, m, n, c.k, accumulate)
					checkGuard(t, c.String(), all)
					equalBits(t, fmt.Sprint(l, " ", c), got, want)
				}
			}
		}
	}
}

func FuzzProduct(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(33), uint16(65), false)
	f.Add(uint64(2), uint8(13), uint8(15), uint16(300), true)
	f.Fuzz(func(t *testing.T, seed uint64, m, n uint8, k uint16, transposed bool) {
		c := newProductCase(rand.New(rand.NewPCG(seed, 1)), int(m)%70+1, int(n)+1, int(k)%600+1, transposed)
		for _, l := range Levels() {
			c.run(t, l)
		}
	})
}

func BenchmarkProduct(b *testing.B) {
	for _, l := range Levels() {
		peak := PeakF32(l)
		if peak == 0 {
			continue
		}
		for _, s := range []struct {
			name                      string
			m, n, k, am, ak, ldb, ldc int
		}{
			{"scores/m24", 24, 70, 64, 576, 1, 70, 70}, // q kᵀ: queries, keys, head size
			{"scores/m62", 62, 150, 64, 576, 1, 150, 150},
			{"scores/m72", 72, 120, 64, 576, 1, 120, 120},
			{"scores/m186", 186, 200, 64, 576, 1, 200, 200},
			{"scores/m1", 1, 256, 64, 576, 1, 256, 256},
			{"values/m24", 24, 64, 70, 70, 1, 192, 576},
			{"values/m62", 62, 64, 120, 120, 1, 192, 576},
			{"values/m150", 150, 64, 200, 200, 1, 192, 576},
			{"values/ld1024", 62, 128, 200, 200, 1, 1024, 4096},
			{"dV/m70", 70, 64, 24, 1, 70, 576, 64}, // keys, head size, queries
			{"dV/m150", 150, 64, 62, 1, 150, 576, 64},
			{"dA/r8", 8, 576, 64, 1, 8, 576, 576},
			{"lowrank/r8", 256, 8, 576, 576, 1, 8, 8},
		} {
			a, x, c := make([]float32, s.m*s.am+s.k*s.ak), make([]float32, s.k*s.ldb), make([]float32, s.m*s.ldc)
			b.Run(fmt.Sprintf("%v/%s/n%d", l, s.name, s.n), func(b *testing.B) {
				seconds := best(b, func() { l.Product(c, s.ldc, a, s.am, s.ak, x, s.ldb, s.m, s.n, s.k, true) })
				reportRate(b, 2*float64(s.m)*float64(s.n)*float64(s.k), seconds, peak)
			})
		}
	}
}
