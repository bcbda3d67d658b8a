package kernels

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"cria/internal/half"
)

// bfloat16Cases are bit patterns of float32 where rounding to bfloat16 is delicate, and random ones.
func bfloat16Cases(n int) []float32 {
	r := rand.New(rand.NewPCG(12, 1))
	bits := []uint32{0, 1 << 31, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0xff7fffff, 0x7f800000, 0xff800000,
		0x7f800001, 0x7fc00000, 0xffc12345, 0x7fbfffff, 0xffffffff, 0x00800000, 0x00ff8000}
	x := make([]float32, n)
	for i := range x {
		b := r.Uint32()
		if i < len(bits) {
			b = bits[i]
		}
		if b&0x7f800000 == 0 && i >= len(bits) {
			b |= 1 << 23 // no subnormal numbers, see TestNarrowSubnormal
		}
		x[i] = math.Float32frombits(b)
	}
	r.Shuffle(n, func(i, j int) { x[i], x[j] = x[j], x[i] })
	return x
}

func TestConvert(t *testing.T) {
	for _, n := range append([]int{0}, lengths...) {
		x := bfloat16Cases(n)
		for _, l := range Levels() {
			h := make([]uint16, n+2)
			h[0], h[n+1] = 0xabcd, 0xabcd
			l.Narrow(h[1:n+1], x)
			if h[0] != 0xabcd || h[n+1] != 0xabcd {
				t.Fatalf("%v: Narrow of %d wrote outside its result", l, n)
			}
			all, rounded := guarded(n)
			l.RoundBF16(rounded, x)
			checkGuard(t, "RoundBF16", all)
			raw := make([]byte, 2*n+1)
			for i, v := range x {
				want := half.ToBFloat16(v)
				if h[i+1] != want && !(v != v && half.BFloat16(h[i+1]) != half.BFloat16(h[i+1])) {
					t.Fatalf("%v: Narrow(%v = %08x) = %04x, want %04x", l, v, math.Float32bits(v), h[i+1], want)
				}
				if got := math.Float32bits(rounded[i]); got != uint32(want)<<16 {
					t.Fatalf("%v: RoundBF16(%08x) = %08x, want %04x", l, math.Float32bits(v), got, want)
				}
				binary.LittleEndian.PutUint16(raw[2*i+1:], want)
			}
			all, wide := guarded(n)
			l.Widen(wide, raw[1:])
			checkGuard(t, "Widen", all)
			for i := range wide {
				if got, want := math.Float32bits(wide[i]), uint32(binary.LittleEndian.Uint16(raw[2*i+1:]))<<16; got != want {
					t.Fatalf("%v: Widen gives %08x, want %08x", l, got, want)
				}
			}
		}
	}
}

// TestNarrowSubnormal records the one difference of the AVX-512 instruction.
func TestNarrowSubnormal(t *testing.T) {
	x := make([]float32, 32)
	for i := range x {
		x[i] = math.Float32frombits(0x00400000)
	}
	h := make([]uint16, 32)
	for _, l := range Levels() {
		want := uint16(0x0040)
		if l == AVX512BF16 {
			want = 0
		}
		if l.Narrow(h, x); h[5] != want {
			t.Errorf("%v: a subnormal number became %04x, want %04x", l, h[5], want)
		}
	}
}

func TestTranspose(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 2))
	for _, s := range [][2]int{{1, 1}, {8, 8}, {7, 9}, {9, 7}, {16, 24}, {33, 65}, {64, 100}} {
		rows, cols := s[0], s[1]
		lds, ldd := cols+r.IntN(3), rows+r.IntN(3)
		src := normal(r, rows*lds)
		for _, l := range Levels() {
			all, dst := guarded((cols-1)*ldd + rows)
			l.Transpose(dst, ldd, src, lds, rows, cols)
			checkGuard(t, "Transpose", all)
			for j := range cols {
				for i := range ldd {
					switch {
					case i < rows:
						if dst[j*ldd+i] != src[i*lds+j] {
							t.Fatalf("%v %dx%d: [%d][%d] is wrong", l, rows, cols, j, i)
						}
					case j*ldd+i < len(dst) && dst[j*ldd+i] != guard:
						t.Fatalf("%v %dx%d: wrote between rows", l, rows, cols)
					}
				}
			}
		}
	}
}

// TestPanels compares packing at every level with the Go twin, over old contents.
func TestPanels(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 3))
	for _, s := range [][2]int{{1, 1}, {2, 32}, {16, 8}, {17, 33}, {31, 64}, {48, 31}, {129, 40}, {300, 100}} {
		k, n := s[0], s[1]
		for _, order := range []Order{KN, NK} {
			rows, ld := k, n+3
			if order == NK {
				rows, ld = n, k+3
			}
			src := normal(r, rows*ld)
			raw, _ := bf16(src)
			var want [3]*Panels
			for _, l := range Levels() {
				for i := range 3 {
					p := NewPanels(l, k, n, i > 0)
					for j := range p.h {
						p.h[j] = 0x7fff
					}
					for j := range p.f {
						p.f[j] = guard
					}
					if i == 2 {
						p.PackBF16(0, p.Count(), raw, order, ld)
					} else {
						p.PackF32(0, p.Count(), src, order, ld)
					}
					if l == Generic {
						want[i] = p
						continue
					}
					for j := range p.h {
						if p.h[j] != want[i].h[j] {
							t.Fatalf("%v %dx%d order %d kind %d: element %d differs", l, k, n, order, i, j)
						}
					}
					for j := range p.f {
						if p.f[j] != want[i].f[j] {
							t.Fatalf("%v %dx%d order %d kind %d: element %d differs", l, k, n, order, i, j)
						}
					}
				}
			}
		}
	}
}

func BenchmarkPack(b *testing.B) {
	const k, n = 1536, 1536
	w := make([]byte, 2*k*n)
	f := make([]float32, k*n)
	l := Best()
	for _, c := range []struct {
		name  string
		order Order
		bf16  bool
		src   bool // of bfloat16
	}{{"weights/KN", KN, true, true}, {"weights/NK", NK, true, true}, {"rounded/KN", KN, true, false}, {"rounded/NK", NK, true, false}, {"float32/KN", KN, false, false}, {"float32/NK", NK, false, false}} {
		b.Run(c.name, func(b *testing.B) {
			p := NewPanels(l, k, n, c.bf16)
			seconds := best(b, func() {
				if c.src {
					p.PackBF16(0, p.Count(), w, c.order, k)
				} else {
					p.PackF32(0, p.Count(), f, c.order, k)
				}
			})
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(seconds/(k*n)*1e9, "ns/element")
		})
	}
}
