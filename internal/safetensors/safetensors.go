// Package safetensors reads and writes tensor files in the safetensors format.
//
// The format is described at https://github.com/huggingface/safetensors:
//
//	+----------+--------------------+-----------------------------------+
//	| N        | JSON header        | data                              |
//	| 8 bytes, | N bytes, padded by | all tensors, back to back,        |
//	| LE       | the writer with    | little-endian, row-major          |
//	|          | spaces to 8        |                                   |
//	+----------+--------------------+-----------------------------------+
//
//	{"__metadata__": {"format": "pt"},
//	 "lm_head.weight": {"dtype": "BF16", "shape": [2048, 128], "data_offsets": [0, 524288]}}
//
// A file is read by mapping it, after every number in the header has been
// checked against the file's real size. A file that is opened is exactly
// covered by its tensors: no gap, no overlap, nothing behind the last one.
package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"cria/internal/half"
)

// DType is an element type by its name in the header.
type DType string

// The element types of the format. cria computes with BF16, F16 and F32; the
// others can be stored and copied.
const (
	BOOL   DType = "BOOL"
	F4     DType = "F4"
	F6E2M3 DType = "F6_E2M3"
	F6E3M2 DType = "F6_E3M2"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E5M2 DType = "F8_E5M2"
	F8E4M3 DType = "F8_E4M3"
	F8E8M0 DType = "F8_E8M0"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	C64    DType = "C64"
	F64    DType = "F64"
	I64    DType = "I64"
	U64    DType = "U64"
)

// dtypes gives each type's size in bits and its rank in the reference's Dtype
// enumeration, by which the writer orders tensors (highest rank first).
var dtypes = map[DType]struct{ bits, rank int }{
	BOOL: {8, 0}, F4: {4, 1}, F6E2M3: {6, 2}, F6E3M2: {6, 3},
	U8: {8, 4}, I8: {8, 5}, F8E5M2: {8, 6}, F8E4M3: {8, 7}, F8E8M0: {8, 8},
	I16: {16, 9}, U16: {16, 10}, F16: {16, 11}, BF16: {16, 12},
	I32: {32, 13}, U32: {32, 14}, F32: {32, 15},
	C64: {64, 16}, F64: {64, 17}, I64: {64, 18}, U64: {64, 19},
}

// Tensor is one named array, row-major.
type Tensor struct {
	Name  string
	DType DType
	Shape []int  // empty for a scalar
	Data  []byte // little-endian; of a File: mapped, read-only, valid until Close
}

// FromFloat32s makes an F32 tensor; it copies v.
func FromFloat32s(name string, shape []int, v []float32) Tensor {
	data := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(x))
	}
	return Tensor{Name: name, DType: F32, Shape: shape, Data: data}
}

// FromBFloat16s makes a BF16 tensor from the values' upper 16 bits; it copies v.
func FromBFloat16s(name string, shape []int, v []uint16) Tensor {
	data := make([]byte, 2*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint16(data[2*i:], x)
	}
	return Tensor{Name: name, DType: BF16, Shape: shape, Data: data}
}

// NumElements is the product of the shape: 1 for a scalar. It is meant for
// tensors of a File and of the constructors, whose shapes are known to fit.
func (t Tensor) NumElements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Float32s returns a copy of the elements as float32, which is exact for the
// types BF16, F16 and F32. Other types are an error.
func (t Tensor) Float32s() ([]float32, error) {
	size, err := t.size()
	if err != nil {
		return nil, err
	}
	if size != len(t.Data) {
		return nil, fmt.Errorf("tensor %q: %s %v needs %d bytes, has %d", t.Name, t.DType, t.Shape, size, len(t.Data))
	}
	out := make([]float32, t.NumElements())
	switch t.DType {
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case BF16:
		for i := range out {
			out[i] = half.BFloat16(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	case F16:
		for i := range out {
			out[i] = half.Float16(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	default:
		return nil, fmt.Errorf("tensor %q is %s; only BF16, F16 and F32 can be used as numbers", t.Name, t.DType)
	}
	return out, nil
}

// size is the number of bytes that dtype and shape ask for.
func (t Tensor) size() (int, error) {
	dt, ok := dtypes[t.DType]
	if !ok {
		return 0, fmt.Errorf("tensor %q has the unknown dtype %q", t.Name, t.DType)
	}
	n := uint64(dt.bits)
	for _, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("tensor %q: negative size in shape %v", t.Name, t.Shape)
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 {
			return 0, fmt.Errorf("tensor %q: the sizes in shape %v overflow", t.Name, t.Shape)
		}
		n = lo
	}
	if n%8 != 0 {
		return 0, fmt.Errorf("tensor %q: %s %v is not a whole number of bytes", t.Name, t.DType, t.Shape)
	}
	if n /= 8; n > math.MaxInt {
		return 0, fmt.Errorf("tensor %q: the sizes in shape %v overflow", t.Name, t.Shape)
	}
	return int(n), nil
}
