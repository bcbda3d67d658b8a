package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// stripsCase multiplies a part of a matrix as Strips, made in every way, and asks for the bits of its Panels.
func stripsCase(t *testing.T, r *rand.Rand, ar Arith, m, k, n, k0, n0 int, order Order, weights, accumulate bool) {
	t.Helper()
	what := fmt.Sprintf("%v %dx%dx%d from %d, %d, order %d, bfloat16 %v", ar, m, k, n, k0, n0, order, weights)
	rows, cols, ld := k0+k, n0+n+r.IntN(3), 0
	b := normal(r, rows*cols) // (rows, cols)
	at, src := k0*cols+n0, b
	if ld = cols; order == NK {
		at, ld, src = n0*rows+k0, rows, make([]float32, len(b))
		Generic.Transpose(src, rows, b, cols, rows, cols)
	}
	raw, rounded := bf16(src)
	exact := src // what the values are after rounding
	if weights || ar.BF16 {
		exact = rounded
	}
	if weights {
		src = rounded
	}
	part := NewPanels(ar.Level, k, n, false)
	for i := range part.Count() {
		part.PackF32(i, i+1, exact[at:], order, ld)
	}
	var op Operand
	op.Reset(ar, m, k0+k)
	op.SetRows(0, m, normal(r, m*(k0+k)), k0+k)
	ka, ldc := k0&^1, n+r.IntN(5)
	if op.k-ka < k {
		ka = 0
	}
	before := normal(r, (m-1)*ldc+n)
	want := slices.Clone(before)
	part.MulAt(want, ldc, &op, ka, 0, m, 0, n, accumulate)

	var s Strips
	s.Reset(ar, k, n)
	made := []string{"float32"}
	if weights {
		made = append(made, "bfloat16")
	}
	for _, from := range made {
		for i := range s.f {
			s.f[i] = guard // what a making leaves out is seen
		}
		switch from {
		case "float32":
			s.PackF32(src[at:], order, ld)
		case "bfloat16":
			odd := append([]byte{0}, raw...)[1:] // not aligned
			s.PackBF16(odd[2*at:], order, ld)
		}
		guards, out := guarded(len(before))
		copy(out, before)
		s.Mul(out, ldc, &op, ka, 0, m, accumulate)
		checkGuard(t, what, guards)
		equalBits(t, what+", made of "+from, out, want)
	}
}

// stripAriths are the arithmetics that strips can be multiplied in.
func stripAriths() []Arith { return slices.DeleteFunc(ariths(), Arith.pairs) }

func TestStrips(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	for _, ar := range stripAriths() {
		for _, order := range []Order{KN, NK} {
			for i, n := range tileWidths {
				for j, k := range []int{1, 2, 3, 15, 16, 17, 48, 255, 257, 300} {
					stripsCase(t, r, ar, 1+(i+3*j)%14, k, n, 2*(j%4)+i%2, 8*(i%5)+j%2, order, (i+j)%3 > 0, j%2 == 0)
				}
			}
			stripsCase(t, r, ar, 101, 1061, 333, 6, 40, order, true, true) // blocks of rows and of k
			stripsCase(t, r, ar, 97, 577, 72, 0, 0, order, false, false)
		}
	}
}

func FuzzStrips(f *testing.F) {
	f.Add(uint64(1), uint8(20), uint16(40), uint8(30), uint8(2), uint8(8), uint8(3))
	all := stripAriths()
	f.Fuzz(func(t *testing.T, seed uint64, m uint8, k uint16, n, k0, n0, flags uint8) {
		r := rand.New(rand.NewPCG(seed, 2))
		stripsCase(t, r, all[int(flags>>3)%len(all)], int(m)%120+1, int(k)%900+1, int(n)+1, int(k0)%20, int(n0)%70, Order(flags&1), flags&2 != 0, flags&4 != 0)
	})
}
