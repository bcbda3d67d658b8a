package kernels

import (
	"time"
	"unsafe"
)

// PeakF32 is what one core reaches now in float32 multiply-adds that touch no memory, in GFLOP/s; 0 at level Generic.
func PeakF32(l Level) float64 {
	const n = 20000
	if l == NEON {
		return fastest(2*16*4*n, func() { peakNEON(n) })
	}
	if !l.asm() {
		return 0
	}
	peak := fastest(2*12*8*n, func() { peakFMA(n) })
	if l >= AVX512 {
		peak = max(peak, fastest(2*12*16*n, func() { peakFMA512(n) }))
	}
	return peak
}

// PeakBF16 is the same for bfloat16 pairs with float32 sums where the CPU has them, otherwise PeakF32.
func PeakBF16(l Level) float64 {
	if !(Arith{l, true}).pairs() {
		return PeakF32(l)
	}
	const n = 20000
	return fastest(4*24*16*n, func() { peakDP(n) })
}

// ReadBandwidth is the rate at which one core reads the elements of x, in GB/s; 0 at level Generic.
func ReadBandwidth(l Level, x []float32) float64 {
	n := len(x) * 4 &^ 511
	if !l.tiles() || n == 0 {
		return 0
	}
	read := readAll
	if l == NEON {
		read = readNEON
	}
	const piece = 1 << 20
	return fastest(float64(n), func() {
		for i := 0; i < n; i += piece {
			read(unsafe.Pointer(&x[i/4]), min(piece, n-i))
		}
	})
}

// fastest is 1e9 operations a second in the best of some runs.
func fastest(operations float64, f func()) float64 {
	best := time.Duration(1 << 62)
	for start, runs := time.Now(), 0; runs < 20 || time.Since(start) < 20*time.Millisecond; runs++ {
		t := time.Now()
		f()
		best = min(best, time.Since(t))
	}
	return operations / best.Seconds() / 1e9
}
