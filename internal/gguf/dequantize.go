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
		blocks(dst, src, info.bytes, q4_0)
	case Q4_1:
		blocks(dst, src, info.bytes, q4_1)
	case Q8_0:
		blocks(dst, src, info.bytes, q8_0)
	default:
		return fmt.Errorf("tensor %q is stored as %v; F32, F16, BF16, Q4_0, Q4_1 and Q8_0 can be read: "+
			"take one of these quantizations of the model", t.Name, t.Type)
	}
	return nil
}

// blockLen is the number of elements of a Q4_0, Q4_1 or Q8_0 block.
const blockLen = 32

func blocks(dst []float32, src []byte, size int, one func(dst *[blockLen]float32, src []byte)) {
	for len(dst) > 0 {
		one((*[blockLen]float32)(dst), src[:size])
		dst, src = dst[blockLen:], src[size:]
	}
}

// q4_0: scale f16, then 16 bytes: byte j holds element j in its low and
// element j+16 in its high half. x = scale (q - 8).
func q4_0(dst *[blockLen]float32, src []byte) {
	scale := half.Float16(binary.LittleEndian.Uint16(src))
	for j, q := range src[2:18] {
		dst[j] = scale * float32(int(q&15)-8)
		dst[j+16] = scale * float32(int(q>>4)-8)
	}
}

// q4_1: scale f16, min f16, then 16 bytes as in q4_0. x = scale q + min.
// float32() keeps a compiler from fusing the product into the sum.
func q4_1(dst *[blockLen]float32, src []byte) {
	scale := half.Float16(binary.LittleEndian.Uint16(src))
	lowest := half.Float16(binary.LittleEndian.Uint16(src[2:]))
	for j, q := range src[4:20] {
		dst[j] = float32(scale*float32(q&15)) + lowest
		dst[j+16] = float32(scale*float32(q>>4)) + lowest
	}
}

// q8_0: scale f16, then 32 signed bytes. x = scale q.
func q8_0(dst *[blockLen]float32, src []byte) {
	scale := half.Float16(binary.LittleEndian.Uint16(src))
	for j, q := range src[2:34] {
		dst[j] = scale * float32(int8(q))
	}
}
