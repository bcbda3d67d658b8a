package kernels

import "math"

// chunk bounds the elements of one assembly call: the garbage collector waits for it. A multiple of 8.
const chunk = 1 << 14

// Add is y += x.
func (l Level) Add(y, x []float32) {
	x = x[:len(y)]
	if !l.asm() {
		addGo(y, x)
		return
	}
	for i := 0; i < len(y); i += chunk {
		add(&y[i], &x[i], min(chunk, len(y)-i))
	}
}

// Scale is y *= a.
func (l Level) Scale(y []float32, a float32) {
	if !l.asm() {
		scaleGo(y, a)
		return
	}
	for i := 0; i < len(y); i += chunk {
		scale(&y[i], a, min(chunk, len(y)-i))
	}
}

// Axpy is y += a·x.
func (l Level) Axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	if !l.asm() {
		axpyGo(y, a, x)
		return
	}
	for i := 0; i < len(y); i += chunk {
		axpy(&y[i], a, &x[i], min(chunk, len(y)-i))
	}
}

// RMSNorm sets the row y = x·inv·w with inv = 1/sqrt(mean(x²) + eps), which it returns. y may be x.
func (l Level) RMSNorm(y, x, w []float32, eps float32) (inv float32) {
	y, w = y[:len(x)], w[:len(x)]
	inv = float32(1 / math.Sqrt(l.SumSquares(x)/float64(len(x))+float64(eps)))
	if !l.asm() {
		normalizeGo(y, x, w, inv)
		return inv
	}
	for i := 0; i < len(x); i += chunk {
		normalize(&y[i], &x[i], &w[i], inv, min(chunk, len(x)-i))
	}
	return inv
}

// RMSNormBackward adds the gradient of RMSNorm's row x to dx, given that of its result:
// with g = dy·w, dx += inv·g - x·inv³·mean(g·x).
func (l Level) RMSNormBackward(dx, dy, x, w []float32, inv float32) {
	dx, dy, w = dx[:len(x)], dy[:len(x)], w[:len(x)]
	if !l.asm() {
		c := inv * inv * inv * float32(dot3Go(dy, w, x)/float64(len(x)))
		normalizeBackwardGo(dx, dy, x, w, inv, c)
		return
	}
	sum := 0.0
	for i := 0; i < len(x); i += chunk {
		sum += dot3(&dy[i], &w[i], &x[i], min(chunk, len(x)-i))
	}
	c := inv * inv * inv * float32(sum/float64(len(x)))
	for i := 0; i < len(x); i += chunk {
		normalizeBackward(&dx[i], &dy[i], &x[i], &w[i], inv, c, min(chunk, len(x)-i))
	}
}

// SwiGLU is act = silu(gate)·up with silu(x) = x/(1+exp(-x)). act may be gate or up.
func (l Level) SwiGLU(act, gate, up []float32) {
	gate, up = gate[:len(act)], up[:len(act)]
	if !l.asm() {
		swigluGo(act, gate, up)
		return
	}
	for i := 0; i < len(act); i += chunk {
		swiglu(&act[i], &gate[i], &up[i], min(chunk, len(act)-i))
	}
}

// SwiGLUBackward sets the gradients of gate and up from that of act; they may be any of the inputs. With
// s = 1/(1+exp(-gate)): dup = dact·gate·s, dgate = dact·up·s·(1 + gate·(1-s)).
func (l Level) SwiGLUBackward(dgate, dup, dact, gate, up []float32) {
	n := len(dgate)
	dup, dact, gate, up = dup[:n], dact[:n], gate[:n], up[:n]
	if !l.asm() {
		swigluBackwardGo(dgate, dup, dact, gate, up)
		return
	}
	for i := 0; i < n; i += chunk {
		swigluBackward(&dgate[i], &dup[i], &dact[i], &gate[i], &up[i], min(chunk, n-i))
	}
}

// RoPE rotates the pairs (i, i+D/2) of one head x (D) by the angles whose cosines and sines are given (D/2): Su et al.,
// arXiv 2104.09864, in the half-split form of transformers' rotate_half.
func (l Level) RoPE(x, cos, sin []float32) {
	h := len(x) / 2
	a, b, cos, sin := x[:h], x[h:2*h], cos[:h], sin[:h]
	if l.asm() && h > 0 {
		rope(&a[0], &b[0], &cos[0], &sin[0], h)
		return
	}
	ropeGo(a, b, cos, sin)
}

// RoPEInverse is the transpose of RoPE, the rotation by the negative angles.
func (l Level) RoPEInverse(x, cos, sin []float32) {
	h := len(x) / 2
	a, b, cos, sin := x[:h], x[h:2*h], cos[:h], sin[:h]
	if l.asm() && h > 0 {
		ropeInverse(&a[0], &b[0], &cos[0], &sin[0], h)
		return
	}
	ropeInverseGo(a, b, cos, sin)
}

// SoftmaxBackward is ds = p·(dp - delta)·scale: the gradient of scores of which p = softmax(scale·s), with
// delta = Σ p·dp. ds may be p or dp.
func (l Level) SoftmaxBackward(ds, p, dp []float32, delta, scale float32) {
	p, dp = p[:len(ds)], dp[:len(ds)]
	if !l.asm() {
		softmaxBackwardGo(ds, p, dp, delta, scale)
		return
	}
	for i := 0; i < len(ds); i += chunk {
		softmaxBackward(&ds[i], &p[i], &dp[i], delta, scale, min(chunk, len(ds)-i))
	}
}

// Exp is y = mul·exp(scale·x - shift); y may be x. The error of exp is below 2 units in the last place.
func (l Level) Exp(y, x []float32, scale, shift, mul float32) {
	x = x[:len(y)]
	if !l.asm() {
		expScaleGo(y, x, scale, shift, mul)
		return
	}
	for i := 0; i < len(y); i += chunk {
		expScale(&y[i], &x[i], scale, shift, mul, min(chunk, len(y)-i))
	}
}

// ExpSum sets y = exp(scale·x - shift) and returns the sum of y; y may be x, or nil where only the sum is wanted.
func (l Level) ExpSum(y, x []float32, scale, shift float32) float64 {
	if y != nil {
		y = y[:len(x)]
	}
	const chunk = 1 << 11 // lanes of 256 elements in float32, then float64
	sum := 0.0
	for i := 0; i < len(x); i += chunk {
		n := min(chunk, len(x)-i)
		switch {
		case !l.asm():
			sum += expSumGo(y, x, i, n, scale, shift)
		case y == nil:
			sum += float64(expSumOnly(&x[i], scale, shift, n))
		default:
			sum += float64(expSum(&y[i], &x[i], scale, shift, n))
		}
	}
	return sum
}
