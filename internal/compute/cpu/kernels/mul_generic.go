package kernels

import "cria/internal/half"

// inGo is run in Go.
func (g *product) inGo(m0, m1, n0, n1 int, accumulate bool) {
	p := g.p
	for m := m0; m < m1; m++ {
		x := g.a.row(m)[g.ka:][:p.k]
		for n, next := n0, 0; n < n1; n = next {
			panel, column := n/PanelWidth*p.size(), n%PanelWidth
			next = min(n-column+PanelWidth, n1)
			var sums [PanelWidth]float32
			sum, out := sums[:next-n], g.at(m, n)[:next-n]
			if accumulate {
				copy(sum, out)
			}
			for k, x := range x {
				if p.bf16 {
					b := p.h[panel+k/2*2*PanelWidth+2*column+k%2:][:2*len(sum)-1]
					for j := range sum {
						sum[j] += x * half.BFloat16(b[2*j])
					}
				} else {
					b := p.f[panel+k*PanelWidth+column:][:len(sum)]
					for j := range sum {
						sum[j] += x * b[j]
					}
				}
			}
			copy(out, sum)
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
