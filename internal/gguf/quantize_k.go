package gguf

import "math"

// The K types store blocks of 256 elements in groups with scales of their own. Scales are searched for: of a few candidates
// the one with the smallest weighted error is taken. Everything here is computed in the order of ggml-quants.c.

// nearest rounds to the nearest integer, ties to even, as nearest_int does for |x| < 2^22.
func nearest(x float32) int {
	return int(math.Float32bits(x+12582912)&0x7fffff) - 0x400000
}

func clamp(n, low, high int) int { return max(low, min(high, n)) }

// nearestFloat is clamp(nearest(x)) without leaving the floating-point numbers, for the loops that try scales; NaN stays NaN.
func nearestFloat(x, low, high float32) float32 {
	x = float32(x+12582912) - 12582912
	if x < low {
		return low
	}
	if x > high {
		return high
	}
	return x
}

// fitMin finds scale and lowest so that x is about scale q + lowest with q from 0 to top and lowest at most 0
// (make_qkx2_quants without use_mad). It tries steps+1 scales from (top+first) on, each 0.1 further, takes the least squares
// of scale and lowest for their quants, and keeps the quants with the smallest error under weights.
func fitMin(q *[32]byte, x, weights *[32]float32, top int, first float32, steps int) (scale, lowest float32) {
	lowest, highest := x[0], x[0]
	sumW := weights[0]
	sumX := float32(sumW * x[0])
	for i := 1; i < len(x); i++ {
		lowest, highest = min(lowest, x[i]), max(highest, x[i])
		sumW += weights[i]
		sumX += float32(weights[i] * x[i])
	}
	lowest = min(lowest, 0)
	if highest == lowest {
		*q = [32]byte{}
		return 0, lowest
	}
	start, span := lowest, highest-lowest
	inv := float32(top) / span
	scale = 1 / inv
	var try [32]float32
	for i, v := range x {
		try[i] = float32(clamp(nearest(inv*(v-start)), 0, top))
	}
	keep := func() {
		for i, l := range try {
			q[i] = byte(l)
		}
	}
	keep()
	best := squareError(&try, x, weights, scale, lowest)
	for step := range steps + 1 {
		inv := (first + float32(0.1*float32(step)) + float32(top)) / span
		var sumL, sumL2, sumXL float32
		for i, v := range x {
			l := nearestFloat(inv*(v-start), 0, float32(top))
			try[i] = l
			wl := float32(weights[i] * l)
			sumL += wl
			sumL2 += float32(wl * l)
			sumXL += float32(wl * v)
		}
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		s := (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		m := (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if m > 0 {
			m, s = 0, sumXL/sumL2
		}
		if e := squareError(&try, x, weights, s, m); e < best {
			keep()
			best, scale, lowest = e, s, m
			start, span = m, highest-m
		}
	}
	return scale, lowest
}

// squareError is the weighted sum of (scale q + lowest - x)^2.
func squareError(q, x, weights *[32]float32, scale, lowest float32) (sum float32) {
	for i, v := range x {
		diff := float32(scale*q[i]) + lowest - v
		sum += float32(weights[i] * float32(diff*diff))
	}
	return sum
}

func appendQ4_K(dst []byte, x []float32) []byte {
	dst, q := appendGroups(dst, x, 15, -1, 20)
	return appendHalves(dst, q)
}

func appendQ5_K(dst []byte, x []float32) []byte {
	dst, q := appendGroups(dst, x, 31, -0.5, 15)
	var high [32]byte
	for i := range q {
		high[i%32] |= q[i] >> 4 << (i / 32)
		q[i] &= 15
	}
	return appendHalves(append(dst, high[:]...), q)
}

// appendHalves appends each two groups of 32 as the low and high halves of 32 bytes.
func appendHalves(dst []byte, q *[256]byte) []byte {
	for i := 0; i < len(q); i += 64 {
		for j := range 32 {
			dst = append(dst, q[i+j]|q[i+j+32]<<4)
		}
	}
	return dst
}

// appendGroups appends scale, min and the 6-bit scales of a q4_K or q5_K block, and returns the quants from 0 to top
// (quantize_row_q4_K_ref, quantize_row_q5_K_ref).
func appendGroups(dst []byte, x []float32, top int, first float32, steps int) ([]byte, *[256]byte) {
	var q [256]byte
	var weights [32]float32
	var scales, mins [8]float32
	var maxScale, maxMin float32
	for g := range scales {
		group := (*[32]float32)(x[32*g:])
		var sum float32
		for _, v := range group {
			sum += float32(v * v)
		}
		mean := float32(math.Sqrt(float64(sum / 32)))
		for i, v := range group {
			weights[i] = mean + abs(v)
		}
		scale, lowest := fitMin((*[32]byte)(q[32*g:]), group, &weights, top, first, steps)
		scales[g], mins[g] = scale, -lowest
		maxScale, maxMin = max(maxScale, scale), max(maxMin, -lowest)
	}
	block := len(dst)
	dst = appendFloat16(dst, maxScale/63)
	dst = appendFloat16(dst, maxMin/63)
	var packed [12]byte
	inv := func(m float32) float32 {
		if m > 0 {
			return 63 / m
		}
		return 0
	}
	for g := range scales {
		s := min(63, byte(nearest(inv(maxScale)*scales[g])))
		m := min(63, byte(nearest(inv(maxMin)*mins[g])))
		if g < 4 {
			packed[g], packed[g+4] = s, m
			continue
		}
		packed[g+4] = s&15 | m<<4
		packed[g-4] |= s >> 4 << 6
		packed[g] |= m >> 4 << 6
	}
	dst = append(dst, packed[:]...)
	for g := range scales {
		d, m := groupScale(dst[block:], g)
		if d == 0 {
			continue
		}
		for i, v := range x[32*g:][:32] {
			q[32*g+i] = byte(clamp(nearest((v+m)/d), 0, top))
		}
	}
	return dst, &q
}

// tiny is GROUP_MAX_EPS: groups of smaller numbers are zero.
const tiny = 1e-15

// fitSymmetric finds the scale for which x is about scale (q - 32) with q from 0 to 63, and the quants (make_qx_quants with
// nmax 32 and rmse_type 1): the element of the largest magnitude is tried at -32 and at 18 places around, each time with the
// scale of least squares, weighted by x^2.
func fitSymmetric(q *[16]byte, x *[16]float32) float32 {
	top := largest(x[:])
	if abs(top) < tiny {
		*q = [16]byte{}
		return 0
	}
	sums := func(inv float32) (xl, l2 float32) {
		for _, v := range x {
			l := nearestFloat(inv*v, -32, 31)
			w := float32(v * v)
			xl += float32(float32(w*v) * l)
			l2 += float32(float32(w*l) * l)
		}
		return xl, l2
	}
	keep := func(inv float32) {
		for i, v := range x {
			q[i] = byte(clamp(nearest(inv*v), -32, 31) + 32)
		}
	}
	inv := -32 / top
	keep(inv)
	xl, l2 := sums(inv)
	var scale float32
	if l2 != 0 {
		scale = xl / l2
	}
	best := float32(scale * xl)
	for step := -9; step <= 9; step++ {
		if step == 0 {
			continue
		}
		inv := -(32 + float32(0.1*float32(step))) / top
		xl, l2 := sums(inv)
		if l2 > 0 && float32(xl*xl) > float32(best*l2) {
			keep(inv)
			scale = xl / l2
			best = float32(scale * xl)
		}
	}
	return scale
}

// appendQ6_K appends a q6_K block (quantize_row_q6_K_ref).
func appendQ6_K(dst []byte, x []float32) []byte {
	var q [256]byte
	var scales [16]float32
	for g := range scales {
		scales[g] = fitSymmetric((*[16]byte)(q[16*g:]), (*[16]float32)(x[16*g:]))
	}
	top := largest(scales[:])
	if abs(top) < tiny {
		return append(dst, make([]byte, 210)...)
	}
	inv := -128 / top
	scale := appendFloat16(nil, 1/inv)
	var rounded [16]byte
	for g := range scales {
		s := int8(min(127, nearest(inv*scales[g])))
		rounded[g] = byte(s)
		d := float32(float16(scale) * float32(s))
		if d == 0 {
			continue
		}
		for i, v := range x[16*g:][:16] {
			q[16*g+i] = byte(clamp(nearest(v/d), -32, 31) + 32)
		}
	}
	for half := 0; half < 256; half += 128 {
		for j := range 64 {
			dst = append(dst, q[half+j]&15|q[half+j+64]<<4)
		}
	}
	for half := 0; half < 256; half += 128 {
		for j := half; j < half+32; j++ {
			dst = append(dst, q[j]>>4|q[j+32]>>4<<2|q[j+64]>>4<<4|q[j+96]>>4<<6)
		}
	}
	dst = append(dst, rounded[:]...)
	return append(dst, scale...)
}
