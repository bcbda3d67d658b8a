package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"cria/internal/half"
)

// Float32s returns all elements as float32.
func (t Tensor) Float32s() ([]float32, error) {
	if err := t.Rows(nil, 0); err != nil {
		return nil, err
	}
	out := make([]float32, t.NumElements())
	return out, t.Rows(out, 0)
}

// Rows fills dst with whole rows, from row first on, as float32. The values are
// those of gguf-py's dequantize, to the bit: sums and products are rounded to
// float32 one by one.
func (t Tensor) Rows(dst []float32, first int) error {
	info, ok := types[t.Type]
	rowLen := t.RowLen()
	if !ok || rowLen%info.elements != 0 {
		return fmt.Errorf("tensor %q: rows of %d elements of %v cannot be read", t.Name, rowLen, t.Type)
	}
	rowBytes := rowLen / info.elements * info.bytes
	rows, rest := len(dst)/rowLen, len(dst)%rowLen
	if have := len(t.Data) / rowBytes; rest != 0 || first < 0 || first > have || rows > have-first {
		return fmt.Errorf("tensor %q: %d elements from row %d on are not whole rows of its %d x %d", t.Name, len(dst), first, have, rowLen)
	}
	src := t.Data[first*rowBytes : (first+rows)*rowBytes]
	switch t.Type {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half.Float16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = half.BFloat16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case Q4_0:
		blocks(dst, src, info.elements, info.bytes, q4_0)
	case Q4_1:
		blocks(dst, src, info.elements, info.bytes, q4_1)
	case Q5_0:
		blocks(dst, src, info.elements, info.bytes, q5_0)
	case Q5_1:
		blocks(dst, src, info.elements, info.bytes, q5_1)
	case Q8_0:
		blocks(dst, src, info.elements, info.bytes, q8_0)
	case Q4_K:
		blocks(dst, src, info.elements, info.bytes, q4_K)
	case Q5_K:
		blocks(dst, src, info.elements, info.bytes, q5_K)
	case Q6_K:
		blocks(dst, src, info.elements, info.bytes, q6_K)
	default:
		return fmt.Errorf("tensor %q is stored as %v; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K can be read: "+
			"take one of these quantizations of the model", t.Name, t.Type)
	}
	return nil
}

// blocks applies one to every block of dst and src.
func blocks(dst []float32, src []byte, elements, size int, one func(dst []float32, src []byte)) {
	for len(dst) > 0 {
		one(dst[:elements], src[:size])
		dst, src = dst[elements:], src[size:]
	}
}

func float16(src []byte) float32 { return half.Float16(binary.LittleEndian.Uint16(src)) }

// q4_0: scale f16, then 16 bytes: byte j holds element j in its low and
// element j+16 in its high half. x = scale (q - 8).
func q4_0(dst []float32, src []byte) {
	scale := float16(src)
	for j, q := range src[2:18] {
		dst[j] = scale * float32(int(q&15)-8)
		dst[j+16] = scale * float32(int(q>>4)-8)
	}
}

// q4_1: scale f16, min f16, then 16 bytes as in q4_0. x = scale q + min.
// float32() keeps a compiler from fusing the product into the sum.
func q4_1(dst []float32, src []byte) {
	scale, lowest := float16(src), float16(src[2:])
	for j, q := range src[4:20] {
		dst[j] = float32(scale*float32(q&15)) + lowest
		dst[j+16] = float32(scale*float32(q>>4)) + lowest
	}
}

// q5_0: scale f16, the fifth bits of the 32 elements as u32, then 16 bytes as in q4_0. x = scale (q - 16).
func q5_0(dst []float32, src []byte) {
	scale, high := float16(src), binary.LittleEndian.Uint32(src[2:])
	for j, q := range src[6:22] {
		dst[j] = scale * float32(int(q&15)|int(high>>j&1)<<4-16)
		dst[j+16] = scale * float32(int(q>>4)|int(high>>(j+16)&1)<<4-16)
	}
}

// q5_1: scale f16, min f16, then as in q5_0. x = scale q + min.
func q5_1(dst []float32, src []byte) {
	scale, lowest, high := float16(src), float16(src[2:]), binary.LittleEndian.Uint32(src[4:])
	for j, q := range src[8:24] {
		dst[j] = float32(scale*float32(uint32(q&15)|high>>j&1<<4)) + lowest
		dst[j+16] = float32(scale*float32(uint32(q>>4)|high>>(j+16)&1<<4)) + lowest
	}
}

// q8_0: scale f16, then 32 signed bytes. x = scale q.
func q8_0(dst []float32, src []byte) {
	scale := float16(src)
	for j, q := range src[2:34] {
		dst[j] = scale * float32(int8(q))
	}
}

// q4_K: scale and min f16, the 6-bit scales and mins of 8 groups of 32 elements (see groupScale), then 128 bytes: of each 32,
// the low halves are one group and the high halves the next. x = scale s q - min m.
func q4_K(dst []float32, src []byte) {
	for g := range 8 {
		d, m := groupScale(src, g)
		for j, q := range src[16+32*(g/2):][:32] {
			dst[32*g+j] = float32(d*float32(q>>(4*(g&1))&15)) - m
		}
	}
}

// q5_K: as q4_K with 32 bytes of fifth bits in front: bit g of byte j belongs to element j of group g.
func q5_K(dst []float32, src []byte) {
	for g := range 8 {
		d, m := groupScale(src, g)
		for j, q := range src[48+32*(g/2):][:32] {
			dst[32*g+j] = float32(d*float32(q>>(4*(g&1))&15|src[16+j]>>g&1<<4)) - m
		}
	}
}

// groupScale returns what the quants of group g of a q4_K or q5_K block are multiplied by, and what is subtracted then. Of the
// 12 bytes behind scale and min, bytes g and g+4 hold scale and min of group g in their lower 6 bits; groups 4 to 7 have their
// lower 4 bits in the halves of byte g+4 and the upper 2 in bytes g-4 and g.
func groupScale(src []byte, g int) (scale, lowest float32) {
	q := src[4:16]
	var s, m byte
	if g < 4 {
		s, m = q[g]&63, q[g+4]&63
	} else {
		s, m = q[g+4]&15|q[g-4]>>6<<4, q[g+4]>>4|q[g]>>6<<4
	}
	return float16(src) * float32(s), float16(src[2:]) * float32(m)
}

// q6_K: 128 bytes of lower 4 bits, 64 of upper 2 bits, 16 signed scales, scale f16. Each half of the block is four quarters of
// 32 elements: their lower bits stand in the low halves of bytes 0-31 and 32-63 and in the high halves of the same, their
// upper bits in bits 0-1, 2-3, 4-5 and 6-7 of 32 bytes. Every 16 elements have their scale. x = scale s (q - 32).
func q6_K(dst []float32, src []byte) {
	scale := float16(src[208:])
	for i := range dst {
		part, j := i%128/32, i%32
		low := src[64*(i/128)+32*(part&1)+j] >> (4 * (part / 2)) & 15
		high := src[128+32*(i/128)+j] >> (2 * part) & 3
		dst[i] = float32(scale*float32(int8(src[192+i/16]))) * float32(int(low|high<<4)-32)
	}
}
