package kernels

import "math"

// AdamW holds the float32 scalars of one update as torch.optim.AdamW computes them: in float64, rounded once.
type AdamW struct {
	GradScale float32 // multiplies the gradient first
	Decay     float32 // 1 - lr·weight_decay
	Lerp1     float32 // 1 - beta1
	Beta2     float32
	Square2   float32 // 1 - beta2
	Bias2Sqrt float32 // sqrt(1 - beta2^step)
	Eps       float32
	NegStep   float32 // -lr/(1 - beta1^step)
}

// NewAdamW prepares update number step, counted from 1.
func NewAdamW(lr, beta1, beta2, eps, weightDecay float64, step int, gradScale float32) AdamW {
	return AdamW{
		GradScale: gradScale,
		Decay:     float32(1 - lr*weightDecay),
		Lerp1:     float32(1 - beta1),
		Beta2:     float32(beta2),
		Square2:   float32(1 - beta2),
		Bias2Sqrt: float32(math.Sqrt(1 - math.Pow(beta2, float64(step)))),
		Eps:       float32(eps),
		NegStep:   float32(-(lr / (1 - math.Pow(beta1, float64(step))))),
	}
}

// AdamW updates parameters p and moments m, v with the gradient g (Loshchilov & Hutter, arXiv 1711.05101), in the order
// of operations of torch.optim.AdamW for one tensor, where m and v are made by fused multiply-adds:
//
//	p *= 1 - lr·weight_decay
//	m += (g - m)·(1 - beta1)
//	v = v·beta2 + ((1 - beta2)·g)·g
//	p -= lr/(1 - beta1^step) · m / (sqrt(v)/sqrt(1 - beta2^step) + eps)
func (l Level) AdamW(p, g, m, v []float32, o *AdamW) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	if !l.asm() {
		adamWGo(p, g, m, v, o)
		return
	}
	for i := 0; i < len(p); i += chunk {
		adamW(&p[i], &g[i], &m[i], &v[i], min(chunk, len(p)-i), o)
	}
}

// adamWGo is adamW in Go. Conversions keep the compiler from fusing where torch does not.
func adamWGo(p, g, m, v []float32, o *AdamW) {
	for i := range p {
		g := float32(o.GradScale * g[i])
		m[i] = float32(math.FMA(float64(o.Lerp1), float64(g-m[i]), float64(m[i])))
		v[i] = float32(math.FMA(float64(float32(o.Square2*g)), float64(g), float64(float32(v[i]*o.Beta2))))
		denom := float32(math.Sqrt(float64(v[i])))/o.Bias2Sqrt + o.Eps
		p[i] = float32(p[i]*o.Decay) + o.NegStep*m[i]/denom
	}
}
