package kernels

import (
	"encoding/binary"
	"unsafe"

	"cria/internal/half"
)

// Widen sets dst to the bfloat16 values in src (little-endian, any alignment), 2*len(dst) bytes.
func (l Level) Widen(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	i := 0
	if l.asm() {
		for ; i+16 <= len(dst); i += chunk {
			widen(&dst[i], unsafe.Pointer(&src[2*i]), min(chunk, len(dst)-i)&^15)
		}
		i = len(dst) &^ 15
	}
	for ; i < len(dst); i++ {
		dst[i] = half.BFloat16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// Narrow sets dst to src as bfloat16, rounded to nearest even; NaN stays NaN. With AVX-512 BF16 subnormal numbers become
// zero, as they count in its products.
func (l Level) Narrow(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	i := 0
	if hasAsm && l >= AVX512BF16 {
		for ; i+32 <= len(dst); i += chunk {
			narrow512(&dst[i], &src[i], min(chunk, len(dst)-i)&^31)
		}
		i = len(dst) &^ 31
	} else if l.asm() {
		for ; i+16 <= len(dst); i += chunk {
			narrow(&dst[i], &src[i], min(chunk, len(dst)-i)&^15)
		}
		i = len(dst) &^ 15
	}
	for ; i < len(dst); i++ {
		dst[i] = half.ToBFloat16(src[i])
	}
}

// RoundBF16 sets dst to src rounded to bfloat16, to nearest even; NaN stays NaN. dst may be src.
func (l Level) RoundBF16(dst, src []float32) {
	dst = dst[:len(src)]
	i := 0
	if l.asm() {
		for ; i+16 <= len(dst); i += chunk {
			roundBF16(&dst[i], &src[i], min(chunk, len(dst)-i)&^15)
		}
		i = len(dst) &^ 15
	}
	for ; i < len(dst); i++ {
		dst[i] = half.BFloat16(half.ToBFloat16(src[i]))
	}
}
