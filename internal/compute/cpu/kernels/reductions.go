package kernels

import "math"

// SumSquares is Σ x², summed in float64 in a fixed order.
func (l Level) SumSquares(x []float32) float64 {
	if !l.asm() {
		return dotGo(x, x)
	}
	sum := 0.0
	for i := 0; i < len(x); i += chunk {
		sum += sumSquares(&x[i], min(chunk, len(x)-i))
	}
	return sum
}

// Dot is Σ x·y, summed in float64 in a fixed order.
func (l Level) Dot(x, y []float32) float64 {
	y = y[:len(x)]
	if !l.asm() {
		return dotGo(x, y)
	}
	sum := 0.0
	for i := 0; i < len(x); i += chunk {
		sum += dot(&x[i], &y[i], min(chunk, len(x)-i))
	}
	return sum
}

// Max is the largest element, -Inf of none. NaN is passed over.
func (l Level) Max(x []float32) float32 {
	if !l.asm() {
		return maximumGo(x)
	}
	m := float32(math.Inf(-1))
	for i := 0; i < len(x); i += chunk {
		m = max(m, maximum(&x[i], min(chunk, len(x)-i)))
	}
	return m
}

// MaxAbs is the largest absolute value, 0 of none. NaN is passed over.
func (l Level) MaxAbs(x []float32) float32 {
	if !l.asm() {
		return maxAbsGo(x)
	}
	m := float32(0)
	for i := 0; i < len(x); i += chunk {
		m = max(m, maxAbs(&x[i], min(chunk, len(x)-i)))
	}
	return m
}

// FirstNonFinite is the index of the first infinity or NaN, or -1.
func (l Level) FirstNonFinite(x []float32) int {
	if !l.asm() {
		return firstNonFiniteGo(x)
	}
	for i := 0; i < len(x); i += chunk {
		if j := firstNonFinite(&x[i], min(chunk, len(x)-i)); j >= 0 {
			return i + j
		}
	}
	return -1
}
