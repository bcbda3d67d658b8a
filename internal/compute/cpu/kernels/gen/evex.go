package main

import "fmt"

// Instructions of AVX-512 BF16 that Go's assembler does not know, written as bytes. All are register to register:
//
//	62 | R̄ X̄ B̄ R̄' 0 m m m | W v̄ v̄ v̄ v̄ 1 p p | z L'L b V̄' a a a | opcode | modrm
//
// (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, section 2.7).
func evex512(pp, opcode, reg, vvvv, rm int) string { return evex(2, pp, opcode, reg, vvvv, rm) }

// evex is the instruction for vectors of 128<<length bits.
func evex(length, pp, opcode, reg, vvvv, rm int) string {
	inv := func(bit int) int { return bit&1 ^ 1 }
	p0 := inv(reg>>3)<<7 | inv(rm>>4)<<6 | inv(rm>>3)<<5 | inv(reg>>4)<<4 | 2 // map 0F38
	p1 := (^vvvv&15)<<3 | 1<<2 | pp                                           // W0
	p2 := length<<5 | inv(vvvv>>4)<<3                                         // no mask
	modrm := 3<<6 | reg&7<<3 | rm&7
	return fmt.Sprintf("LONG $0x%02x%02x%02x62; WORD $0x%02x%02x", p2, p1, p0, modrm, opcode)
}

const (
	prefixF3 = 2
	prefixF2 = 3
)

// vdpbf16ps is acc[i] += a[2i+1]*b[2i+1] + a[2i]*b[2i] over the 16 lanes.
func (f *file) vdpbf16ps(b, a, acc int) {
	f.instruction(fmt.Sprintf("VDPBF16PS_Z%d_Z%d_Z%d", b, a, acc), evex512(prefixF3, 0x52, acc, a, b))
}

// vdpbf16ps256 is the same over 8 lanes.
func (f *file) vdpbf16ps256(b, a, acc int) {
	f.instruction(fmt.Sprintf("VDPBF16PS_Y%d_Y%d_Y%d", b, a, acc), evex(1, prefixF3, 0x52, acc, a, b))
}

// vcvtne2ps2bf16 is dst = bfloat16(lo) in the lower and bfloat16(hi) in the upper half.
func (f *file) vcvtne2ps2bf16(lo, hi, dst int) {
	f.instruction(fmt.Sprintf("VCVTNE2PS2BF16_Z%d_Z%d_Z%d", lo, hi, dst), evex512(prefixF2, 0x72, dst, hi, lo))
}
