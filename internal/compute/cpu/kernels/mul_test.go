package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"cria/internal/half"
)

// guard stands around every result of a kernel under test; it must survive.
const guard = float32(-12345.5)

func guarded(n int) (all, inner []float32) {
	all = make([]float32, n+2*40)
	for i := range all {
		all[i] = guard
	}
	return all, all[40 : 40+n : 40+n]
}

func checkGuard(t *testing.T, what string, all []float32) {
	t.Helper()
	for i := range 40 {
		if all[i] != guard || all[len(all)-1-i] != guard {
			t.Fatalf("%s: wrote outside its result", what)
		}
	}
}

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// bf16 rounds a matrix and returns it as bytes and as values.
func bf16(x []float32) (raw []byte, values []float32) {
	raw, values = make([]byte, 2*len(x)), make([]float32, len(x))
	for i, v := range x {
		h := half.ToBFloat16(v)
		binary.LittleEndian.PutUint16(raw[2*i:], h)
		values[i] = half.BFloat16(h)
	}
	return raw, values
}

// ariths are all kinds of arithmetic that can run here.
func ariths() []Arith {
	var a []Arith
	for _, l := range Levels() {
		a = append(a, Arith{l, false}, Arith{l, true})
	}
	return a
}

// mulCase is a product with everything that is needed to judge it.
type mulCase struct {
	ar      Arith
	m, k, n int
	order   Order
	bf16    bool // of the panels
	a, b    []float32
	op      Operand
	p       *Panels
}

func newMulCase(r *rand.Rand, ar Arith, m, k, n int, order Order, weights bool) *mulCase {
	c := &mulCase{ar: ar, m: m, k: k, n: n, order: order, bf16: weights || ar.BF16}
	c.a = normal(r, m*k)
	src := normal(r, k*n)
	rows, ld := k, n
	if order == NK {
		rows, ld = n, k
	}
	pad := r.IntN(3)
	c.p = NewPanels(ar.Level, k, n, c.bf16)
	spread := make([]float32, rows*(ld+pad))
	for i := range rows {
		copy(spread[i*(ld+pad):], src[i*ld:][:ld])
	}
	raw, rounded := bf16(spread)
	if weights {
		odd := append([]byte{0}, raw...)[1:] // not aligned
		for i := range c.p.Count() {
			c.p.PackBF16(i, i+1, odd, order, ld+pad)
		}
	} else {
		for i := range c.p.Count() {
			c.p.PackF32(i, i+1, spread, order, ld+pad)
		}
	}
	if c.bf16 {
		spread = rounded
	}
	c.b = make([]float32, k*n)
	for i := range k {
		for j := range n {
			if order == NK {
				c.b[i*n+j] = spread[j*(ld+pad)+i]
			} else {
				c.b[i*n+j] = spread[i*(ld+pad)+j]
			}
		}
	}
	c.op.Reset(ar, m, k)
	c.op.SetRows(0, m, c.a, k)
	if ar.BF16 {
		_, c.a = bf16(c.a)
	}
	return c
}

// check compares a result (row stride ldc, added to what was there before) with the sum in float64. The error of a chain
// of k additions is at most k eps/2 times the sum of the absolute values (Higham 2002, section 3.1).
func (c *mulCase) check(t *testing.T, got []float32, ldc int, before float64) {
	t.Helper()
	for i := range c.m {
		for j := range c.n {
			sum, norm := before, math.Abs(before)
			for k := range c.k {
				x := float64(c.a[i*c.k+k]) * float64(c.b[k*c.n+j])
				sum += x
				norm += math.Abs(x)
			}
			if d := math.Abs(sum - float64(got[i*ldc+j])); !(d <= float64(c.k+2)*norm*0x1p-24) {
				t.Fatalf("%v %dx%dx%d: C[%d][%d] = %v, want %v (error %.3g, norm %.3g)", c.ar, c.m, c.k, c.n, i, j, got[i*ldc+j], sum, d, norm)
			}
		}
	}
}

func (c *mulCase) String() string {
	return fmt.Sprintf("%v/bf16=%v/%dx%dx%d/order=%d/bf16panels=%v", c.ar.Level, c.ar.BF16, c.m, c.k, c.n, c.order, c.bf16)
}

func TestMul(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sizes := [][3]int{{1, 1, 1}, {1, 64, 64}, {1, 577, 129}, {2, 33, 100}, {3, 100, 65}, {4, 17, 31}, {5, 7, 47}, {6, 96, 96}, {7, 31, 16},
		{11, 48, 17}, {12, 64, 32}, {13, 65, 33}, {25, 1100, 40}, {97, 8, 80}, {100, 3, 300}}
	for _, ar := range ariths() {
		for _, s := range sizes {
			for _, order := range []Order{KN, NK} {
				for _, weights := range []bool{false, true} {
					c := newMulCase(r, ar, s[0], s[1], s[2], order, weights)
					ldc := c.n + r.IntN(5)
					all, out := guarded((c.m-1)*ldc + c.n)
					c.p.Mul(out, ldc, &c.op, 0, c.m, 0, c.n, false)
					checkGuard(t, c.String(), all)
					c.check(t, out, ldc, 0)
					for i := range c.m {
						for j := c.n; j < ldc && i+1 < c.m; j++ {
							if out[i*ldc+j] != guard {
								t.Fatalf("%v: wrote between rows", c)
							}
						}
					}
					for i := range out {
						out[i] = 3
					}
					c.p.Mul(out, ldc, &c.op, 0, c.m, 0, c.n, true)
					checkGuard(t, c.String(), all)
					c.check(t, out, ldc, 3)
				}
			}
		}
	}
}

// TestMulSameBits asks that an element does not depend on the ranges of a call, nor on the other rows.
func TestMulSameBits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, ar := range ariths() {
		for _, weights := range []bool{false, true} {
			m, k, n := 101, 1061, 333
			c := newMulCase(r, ar, m, k, n, KN, weights)
			whole := make([]float32, m*n)
			c.p.Mul(whole, n, &c.op, 0, m, 0, n, false)
			for range 40 {
				m0, n0 := r.IntN(m), 8*r.IntN(n/8)
				m1 := min(m0+1+r.IntN(30), m)
				n1 := min(n0+8+8*r.IntN(n/8), n)
				var op Operand
				op.Reset(ar, m1-m0, k)
				op.SetRows(0, m1-m0, c.a[m0*k:], k)
				got := make([]float32, (m1-m0)*n)
				c.p.Mul(got, n, &op, 0, m1-m0, n0, n1, false)
				tile := make([]float32, (m1-m0)*(n1-n0))
				c.p.MulTile(tile, n1-n0, &op, 0, 0, m1-m0, n0, n1)
				for i := m0; i < m1; i++ {
					for j := n0; j < n1; j++ {
						g, in := got[(i-m0)*n+j], tile[(i-m0)*(n1-n0)+j-n0]
						if want := math.Float32bits(whole[i*n+j]); math.Float32bits(g) != want || math.Float32bits(in) != want {
							t.Fatalf("%v rows %d:%d columns %d:%d: C[%d][%d] = %v, whole %v", c, m0, m1, n0, n1, i, j, g, whole[i*n+j])
						}
					}
				}
			}
		}
	}
}

// tileWidths are numbers of columns with all edges of tiles.
var tileWidths = []int{1, 2, 7, 8, 9, 12, 15, 16, 17, 23, 24, 25, 31, 32, 33, 39, 40, 47, 48, 50, 57, 63, 64, 65, 70}

func fma(a, b, c float32) float32 { return float32(math.FMA(float64(a), float64(b), float64(c))) }

// fuses says whether sums of products at a level are fused multiply-adds: Go's compiler makes them where every CPU of an
// architecture has them.
func fuses(l Level) bool { return l != Generic || runtime.GOARCH == "arm64" }

// TestMulChain asks for the bits of the chain that Mul promises: fused multiply-adds over ascending k, in pairs the odd
// element before the even one.
func TestMulChain(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	sizes := [][3]int{{1, 1200, 40}, {4, 801, 64}, {13, 900, 50}, {100, 77, 33}}
	for i, n := range tileWidths { // every tile
		for m := 1; m <= 13; m++ {
			sizes = append(sizes, [3]int{m, 1 + (m+i)%7, n})
		}
	}
	for _, ar := range ariths() {
		if !fuses(ar.Level) {
			continue
		}
		for i, s := range sizes {
			c := newMulCase(r, ar, s[0], s[1], s[2], NK, i%2 == 0)
			got := normal(r, c.m*c.n)
			want := append([]float32(nil), got...)
			c.p.Mul(got, c.n, &c.op, 0, c.m, 0, c.n, true)
			for i := range c.m {
				for j := range c.n {
					sum := want[i*c.n+j]
					for k := 0; k < c.k; k++ {
						at := k
						if ar.pairs() && k^1 < c.k {
							at = k ^ 1
						}
						sum = fma(c.a[i*c.k+at], c.b[at*c.n+j], sum)
					}
					want[i*c.n+j] = sum
				}
			}
			equalBits(t, c.String(), got, want)
		}
	}
}

// TestAllocations asks that nothing is allocated where training and decoding call.
func TestAllocations(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 6))
	pool := NewPool(2)
	defer pool.Close()
	var mask Mask
	mask.SetKey(1, 2, 6554, 1.1)
	for _, ar := range ariths() {
		c := newMulCase(r, ar, 13, 100, 77, NK, true)
		out, x := make([]float32, 13*77), make([]float32, 100)
		run := func() {
			c.op.Reset(ar, 13, 100)
			c.op.SetRow(1, x)
			pool.Run(3, func(_, i int) { c.p.Mul(out, 77, &c.op, 0, 13, i*PanelWidth, min((i+1)*PanelWidth, 77), true) })
			ar.Level.Product(out, 77, c.a, 100, 1, c.b, 77, 13, 77, 100, true)
			ar.Level.Dropout(x, x, nil, &mask)
		}
		if n := testing.AllocsPerRun(20, run); n > 1 { // the closure
			t.Errorf("%v: %v allocations", c, n)
		}
	}
}

func FuzzMul(f *testing.F) {
	f.Add(uint64(1), uint8(5), uint16(70), uint8(33), uint8(0))
	f.Add(uint64(2), uint8(13), uint16(1030), uint8(64), uint8(7))
	f.Fuzz(func(t *testing.T, seed uint64, m uint8, k uint16, n uint8, flags uint8) {
		r := rand.New(rand.NewPCG(seed, 0))
		a := ariths()
		c := newMulCase(r, a[int(flags>>2)%len(a)], int(m)%40+1, int(k)%1500+1, int(n)+1, Order(flags&1), flags&2 != 0)
		all, out := guarded(c.m * c.n)
		c.p.Mul(out, c.n, &c.op, 0, c.m, 0, c.n, false)
		checkGuard(t, c.String(), all)
		c.check(t, out, c.n, 0)
	})
}

func BenchmarkMul(b *testing.B) {
	for _, threads := range []int{1, 2} {
		pool := NewPool(threads)
		defer pool.Close()
		for _, bf16 := range []bool{false, true} {
			ar := Arith{Best(), bf16}
			peak := PeakF32(ar.Level)
			if bf16 {
				peak = PeakBF16(ar.Level)
			}
			for _, kn := range [][2]int{{576, 192}, {576, 576}, {576, 1536}, {1536, 576}, {576, 49152}, {4096, 1024}, {4096, 4096}, {4096, 14336}, {14336, 4096}} {
				k, n := kn[0], kn[1]
				p := NewPanels(ar.Level, k, n, true)
				for i := range p.h {
					p.h[i] = half.ToBFloat16(float32(i%13) - 6)
				}
				for _, m := range []int{1, 4, 64, 256, 1000} {
					if float64(m)*float64(k)*float64(n) > 6e10 {
						continue
					}
					b.Run(fmt.Sprintf("threads%d/bf16=%v/k%d/n%d/m%d", threads, bf16, k, n, m), func(b *testing.B) {
						var op Operand
						op.Reset(ar, m, k)
						row := make([]float32, k)
						for i := range row {
							row[i] = float32(i%7) - 3
						}
						for i := range m {
							op.SetRow(i, row)
						}
						c := Alloc(m * n)
						each := max(1, p.Count()/(4*threads)) // panels of a task
						seconds := best(b, func() {
							pool.Run((p.Count()+each-1)/each, func(_, i int) {
								p.Mul(c, n, &op, 0, m, i*each*PanelWidth, min((i+1)*each*PanelWidth, n), false)
							})
						})
						reportRate(b, 2*float64(m)*float64(k)*float64(n), seconds, peak*float64(threads))
						b.ReportMetric(2*float64(k)*float64(n)/seconds/1e9, "GB/s")
					})
				}
			}
		}
	}
}
