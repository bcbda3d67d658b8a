package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestPhilox checks the known answers of the Random123 distribution (kat_vectors, philox4x32 10).
func TestPhilox(t *testing.T) {
	const ones = 0xffffffff
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{ones, ones, ones, ones}, [2]uint32{ones, ones}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(c.ctr, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
}

func TestDropout(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for _, n := range lengths {
		src, before := mixed(r, n, false), normal(r, n)
		src[r.IntN(n)] = float32(math.NaN())
		for _, threshold := range []uint32{0, 1, 6554, 32768, 40000, 65535, 65536} {
			key, ctr := [2]uint32{r.Uint32(), r.Uint32()}, [3]uint32{r.Uint32(), r.Uint32(), r.Uint32()}
			want, wantAdd := make([]float32, n), append([]float32(nil), before...)
			for c := range want {
				bits := philox([4]uint32{uint32(c / 8), ctr[0], ctr[1], ctr[2]}, key)
				if bits[c%8/2]>>(16*(c%2))&0xffff >= threshold {
					want[c] = src[c] * 1.25
				}
				wantAdd[c] += want[c]
			}
			var m Mask
			m.SetKey(key[0], key[1], threshold, 1.25)
			m.SetRow(ctr[0], ctr[1], ctr[2])
			for _, l := range Levels() {
				what := fmt.Sprintf("%v, %d elements, threshold %d: dst", l, n, threshold)
				all, got := guarded(n)
				l.Dropout(got, src, nil, &m)
				checkGuard(t, what, all)
				sameValues(t, what, got, want)
				bits := make([]byte, MaskBytes(n)+1)
				bits[MaskBytes(n)] = 0xab
				l.Dropout(got, src, bits[:MaskBytes(n)], &m)
				sameValues(t, what+" with bits", got, want)
				if bits[MaskBytes(n)] != 0xab {
					t.Fatalf("%s: bits written beyond their end", what)
				}
				copy(got, before)
				l.MaskAdd(got, src, bits, 1.25)
				checkGuard(t, what, all)
				sameValues(t, what+" added", got, wantAdd)
			}
		}
	}
}

// sameValues is equality with NaN equal to itself and -0 to 0.
func sameValues(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] && (got[i] == got[i] || want[i] == want[i]) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, got[i], want[i])
		}
	}
}
