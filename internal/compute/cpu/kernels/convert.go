package kernels

import (
	"encoding/binary"
	"unsafe"

	"cria/internal/half"
)

// Widen sets dst to the bfloat16 values in src (little-endian, any alignment), 2*len(dst) bytes.
func (l Level) Widen(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	n := 0
	if l.asm() && len(dst) >= 16 {
		n = len(dst) &^ 15
		widen(&dst[0], unsafe.Pointer(&src[0]), n)
	}
	for i := n; i < len(dst); i++ {
		dst[i] = half.BFloat16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// Narrow sets dst to src as bfloat16, rounded to nearest even; NaN stays NaN. With AVX-512 BF16 subnormal numbers become
// zero, as they count in its products.
func (l Level) Narrow(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	n := 0
	if hasAsm && l >= AVX512BF16 && len(dst) >= 32 {
		n = len(dst) &^ 31
		narrow512(&dst[0], &src[0], n)
	} else if l.asm() && len(dst) >= 16 {
		n = len(dst) &^ 15
		narrow(&dst[0], &src[0], n)
	}
	for i := n; i < len(dst); i++ {
		dst[i] = half.ToBFloat16(src[i])
	}
}

// RoundBF16 sets dst to src rounded to bfloat16, to nearest even; NaN stays NaN. dst may be src.
func (l Level) RoundBF16(dst, src []float32) {
	dst = dst[:len(src)]
	n := 0
	if l.asm() && len(dst) >= 16 {
		n = len(dst) &^ 15
		roundBF16(&dst[0], &src[0], n)
	}
	for i := n; i < len(dst); i++ {
		dst[i] = half.BFloat16(half.ToBFloat16(src[i]))
	}
}
