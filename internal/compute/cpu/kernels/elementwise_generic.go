package kernels

import "math"

func addGo(y, x []float32) {
	for i := range y {
		y[i] += x[i]
	}
}

func scaleGo(y []float32, a float32) {
	for i := range y {
		y[i] *= a
	}
}

func axpyGo(y []float32, a float32, x []float32) {
	for i := range y {
		y[i] += a * x[i]
	}
}

func normalizeGo(y, x, w []float32, inv float32) {
	for i := range x {
		y[i] = x[i] * inv * w[i]
	}
}

func normalizeBackwardGo(dx, dy, x, w []float32, inv, c float32) {
	for i := range x {
		dx[i] += inv*(dy[i]*w[i]) - x[i]*c
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

func swigluGo(act, gate, up []float32) {
	for i := range act {
		act[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
	}
}

func swigluBackwardGo(dgate, dup, dact, gate, up []float32) {
	for i := range dgate {
		d, g, u, s := dact[i], gate[i], up[i], sigmoid(gate[i])
		dup[i] = d * (g * s)
		dgate[i] = d * u * (s * (1 + g*(1-s)))
	}
}

func ropeGo(a, b, cos, sin []float32) {
	for i := range a {
		a[i], b[i] = a[i]*cos[i]-b[i]*sin[i], b[i]*cos[i]+a[i]*sin[i]
	}
}

func ropeInverseGo(a, b, cos, sin []float32) {
	for i := range a {
		a[i], b[i] = a[i]*cos[i]+b[i]*sin[i], b[i]*cos[i]-a[i]*sin[i]
	}
}

func softmaxBackwardGo(ds, p, dp []float32, delta, scale float32) {
	for i := range ds {
		ds[i] = p[i] * (dp[i] - delta) * scale
	}
}

func expScaleGo(y, x []float32, scale, shift, mul float32) {
	for i := range y {
		y[i] = mul * exp(scale*x[i]-shift)
	}
}

// expSumGo works on the elements i to i+n-1; y may be nil.
func expSumGo(y, x []float32, i, n int, scale, shift float32) float64 {
	sum := 0.0
	for j := i; j < i+n; j++ {
		e := exp(scale*x[j] - shift)
		sum += float64(e)
		if y != nil {
			y[j] = e
		}
	}
	return sum
}

func dotGo(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		sum += float64(x[i]) * float64(y[i])
	}
	return sum
}

func dot3Go(x, y, z []float32) float64 {
	sum := 0.0
	for i := range x {
		sum += float64(x[i]*y[i]) * float64(z[i])
	}
	return sum
}

func maximumGo(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

func maxAbsGo(x []float32) float32 {
	m := float32(0)
	for _, v := range x {
		if a := max(v, -v); a > m {
			m = a
		}
	}
	return m
}

func firstNonFiniteGo(x []float32) int {
	for i, v := range x {
		if v-v != 0 {
			return i
		}
	}
	return -1
}
