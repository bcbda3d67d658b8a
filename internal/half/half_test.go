package half

import (
	"math"
	"testing"
)

func TestFloat16(t *testing.T) {
	for h := range 1 << 16 {
		sign, exp, frac := 1.0, h>>10&31, float64(h&1023)
		if h>>15 == 1 {
			sign = -1
		}
		var want float64
		switch exp {
		case 0:
			want = math.Ldexp(frac, -24)
		case 31:
			want = math.Inf(1)
			if frac != 0 {
				want = math.NaN()
			}
		default:
			want = math.Ldexp(1024+frac, exp-25)
		}
		want *= sign
		got := Float16(uint16(h))
		if math.IsNaN(want) {
			if got == got {
				t.Fatalf("%#04x = %v, want NaN", h, got)
			}
		} else if float64(got) != want || math.Signbit(float64(got)) != (sign < 0) {
			t.Fatalf("%#04x = %v, want %v", h, got, want)
		}
	}
}

func TestBFloat16(t *testing.T) {
	for b := range 1 << 16 {
		v := BFloat16(uint16(b))
		if v != v {
			if w := BFloat16(ToBFloat16(v)); w == w {
				t.Fatalf("NaN %#04x became %v", b, w)
			}
			continue
		}
		if got := ToBFloat16(v); got != uint16(b) {
			t.Fatalf("%#04x came back as %#04x", b, got)
		}
	}
	for _, c := range []struct {
		bits uint32
		want uint16
	}{
		{0x3f807fff, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, // below, at and above the tie
		{0x3f818000, 0x3f82}, {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x00008000, 0}, {0x80018000, 0x8002},
		{0x7f800001, 0x7fc0}, {0xffc00000, 0xffc0},
	} {
		if got := ToBFloat16(math.Float32frombits(c.bits)); got != c.want {
			t.Errorf("%#08x rounds to %#04x, want %#04x", c.bits, got, c.want)
		}
	}
}

func TestToFloat16(t *testing.T) {
	for h := range 1 << 16 {
		v := Float16(uint16(h))
		if v != v {
			if w := Float16(ToFloat16(v)); w == w {
				t.Fatalf("NaN %#04x became %v", h, w)
			}
			continue
		}
		if got := ToFloat16(v); got != uint16(h) {
			t.Fatalf("%#04x came back as %#04x", h, got)
		}
		if h&0x7fff >= 0x7bff {
			continue
		}
		// Halfway to the next number away from zero: to the even one. A little less, a little more: to the nearer one.
		middle := (v + Float16(uint16(h+1))) / 2
		bits := math.Float32bits(middle)
		for d, want := range map[uint32]int{bits - 1: h, bits: h + h&1, bits + 1: h + 1} {
			if got := ToFloat16(math.Float32frombits(d)); got != uint16(want) {
				t.Fatalf("%v rounds to %#04x, want %#04x", math.Float32frombits(d), got, want)
			}
		}
	}
	for x, want := range map[float32]uint16{65519: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, -1e30: 0xfc00, 1e-30: 0, -1e-30: 0x8000, float32(math.Inf(1)): 0x7c00} {
		if got := ToFloat16(x); got != want {
			t.Errorf("%v rounds to %#04x, want %#04x", x, got, want)
		}
	}
}
