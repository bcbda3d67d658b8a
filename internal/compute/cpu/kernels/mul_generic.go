package kernels

import "cria/internal/half"

// mulGo is Mul in Go.
func (p *Panels) mulGo(c []float32, ldc int, a *Operand, ka, m0, m1, n0, n1 int, accumulate bool) {
	for m := m0; m < m1; m++ {
		x := a.row(m)[ka:][:p.k]
		for n := n0; n < n1; n += PanelWidth {
			var sum [PanelWidth]float32
			out := c[m*ldc+n : m*ldc+min(n+PanelWidth, n1)]
			if accumulate {
				copy(sum[:], out)
			}
			if p.bf16 {
				panel := p.h[n/PanelWidth*p.size():]
				for k, x := range x {
					b := panel[k/2*2*PanelWidth+k%2:][:2*PanelWidth-1]
					for j := range sum {
						sum[j] += x * half.BFloat16(b[2*j])
					}
				}
			} else {
				panel := p.f[n/PanelWidth*p.size():]
				for k, x := range x {
					b := panel[k*PanelWidth:][:PanelWidth]
					for j := range sum {
						sum[j] += x * b[j]
					}
				}
			}
			copy(out, sum[:])
		}
	}
}

// row is row r as float32.
func (o *Operand) row(r int) []float32 {
	if !o.arith.pairs() {
		return o.f[r*o.stride:][:o.k]
	}
	x := make([]float32, o.k)
	for i, b := range o.h[r*o.stride:][:o.k] {
		x[i] = half.BFloat16(b)
	}
	return x
}
