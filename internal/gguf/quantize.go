package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"cria/internal/half"
)

// AppendRow appends a row in the storage of type t. Every type is rounded as ggml's reference does it (quantize_row_*_ref in
// ggml-quants.c, which gguf-py repeats): sums and products are rounded to float32 one by one. A row must be made of whole
// blocks of finite numbers; numbers that F16 or a scale in F16 cannot hold are an error.
func (t Type) AppendRow(dst []byte, row []float32) ([]byte, error) {
	if t.RowBytes(len(row)) == 0 {
		return dst, fmt.Errorf("rows of %d elements cannot be stored as %v: it needs whole blocks of %d", len(row), t, t.BlockLen())
	}
	var one func(dst []byte, x []float32) []byte
	switch t {
	case F32:
		for _, x := range row {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
		}
		return dst, finite(row)
	case BF16:
		for _, x := range row {
			dst = binary.LittleEndian.AppendUint16(dst, half.ToBFloat16(x))
		}
		return dst, finite(row)
	case F16:
		for _, x := range row {
			h := half.ToFloat16(x)
			if h&0x7c00 == 0x7c00 {
				return dst, fmt.Errorf("%v does not fit in F16: take BF16 or F32", x)
			}
			dst = binary.LittleEndian.AppendUint16(dst, h)
		}
		return dst, nil
	case Q4_0:
		one = appendQ4_0
	case Q5_0:
		one = appendQ5_0
	case Q5_1:
		one = appendQ5_1
	case Q8_0:
		one = appendQ8_0
	case Q4_K:
		one = appendQ4_K
	case Q5_K:
		one = appendQ5_K
	case Q6_K:
		one = appendQ6_K
	default:
		return dst, fmt.Errorf("cria does not write the type %v", t)
	}
	for _, x := range row {
		if !(abs(x) <= 65504) { // scales are F16
			return dst, fmt.Errorf("%v does not fit in %v: the weights are damaged, or take BF16 or F32", x, t)
		}
	}
	for n := t.BlockLen(); len(row) > 0; row = row[n:] {
		dst = one(dst, row[:n])
	}
	return dst, nil
}

// finite refuses what no weight is.
func finite(row []float32) error {
	for _, x := range row {
		if x-x != 0 {
			return fmt.Errorf("%v among the weights: they are damaged", x)
		}
	}
	return nil
}

func appendFloat16(dst []byte, x float32) []byte {
	return binary.LittleEndian.AppendUint16(dst, half.ToFloat16(x))
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// inverse is 1/x, 0 for 0.
func inverse(x float32) float32 {
	if x == 0 {
		return 0
	}
	return 1 / x
}

// largest returns the element of the largest magnitude, the first of several.
func largest(x []float32) (top float32) {
	for _, v := range x {
		if abs(v) > abs(top) {
			top = v
		}
	}
	return top
}

// appendQ4_0: the largest magnitude becomes -8 (quantize_row_q4_0_ref).
func appendQ4_0(dst []byte, x []float32) []byte {
	scale := largest(x) / -8
	inv := inverse(scale)
	dst = appendFloat16(dst, scale)
	for j := range 16 {
		low := min(15, byte(float32(x[j]*inv)+8.5))
		high := min(15, byte(float32(x[j+16]*inv)+8.5))
		dst = append(dst, low|high<<4)
	}
	return dst
}

// appendQ5_0: the largest magnitude becomes -16 (quantize_row_q5_0_ref).
func appendQ5_0(dst []byte, x []float32) []byte {
	scale := largest(x) / -16
	inv := inverse(scale)
	dst = appendFloat16(dst, scale)
	return appendFives(dst, x, func(v float32) byte { return min(31, byte(float32(v*inv)+16.5)) })
}

// appendQ5_1: the smallest number becomes 0 and the largest 31 (quantize_row_q5_1_ref).
func appendQ5_1(dst []byte, x []float32) []byte {
	lowest, highest := x[0], x[0]
	for _, v := range x {
		lowest, highest = min(lowest, v), max(highest, v)
	}
	scale := (highest - lowest) / 31
	inv := inverse(scale)
	dst = appendFloat16(dst, scale)
	dst = appendFloat16(dst, lowest)
	return appendFives(dst, x, func(v float32) byte { return byte(float32((v-lowest)*inv) + 0.5) })
}

// appendFives appends the fifth bits and then the lower four of 32 quants.
func appendFives(dst []byte, x []float32, quant func(float32) byte) []byte {
	var low [16]byte
	var high uint32
	for j := range low {
		a, b := quant(x[j]), quant(x[j+16])
		low[j] = a&15 | b<<4
		high |= uint32(a>>4)<<j | uint32(b>>4)<<(j+16)
	}
	return append(binary.LittleEndian.AppendUint32(dst, high), low[:]...)
}

// appendQ8_0: the largest magnitude becomes 127; halves are rounded away from zero (quantize_row_q8_0_ref).
func appendQ8_0(dst []byte, x []float32) []byte {
	scale := abs(largest(x)) / 127
	inv := inverse(scale)
	dst = appendFloat16(dst, scale)
	for _, v := range x {
		dst = append(dst, byte(int8(math.Round(float64(float32(v*inv))))))
	}
	return dst
}
