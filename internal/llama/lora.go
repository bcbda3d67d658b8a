package llama

import (
	"fmt"
	"slices"

	"cria/internal/compute"
)

// Attach puts a LoRA beside one projection: a is (r, in), b is (out, r), as PEFT's lora_A and lora_B; nil is zero. With
// train set its gradients are kept.
func (m *Model) Attach(layer int, kind string, r int, a, b []float32, scale float64, train bool) (*compute.LoRA, error) {
	k := slices.Index(LinearNames[:], kind)
	if layer < 0 || layer >= len(m.Layers) || k < 0 {
		return nil, fmt.Errorf("the model has no projection %s in layer %d", kind, layer)
	}
	lin := m.Layers[layer].Linears()[k]
	in, out := lin.W.In(), lin.W.Out()
	if a != nil && len(a) != r*in || b != nil && len(b) != out*r {
		return nil, fmt.Errorf("LoRA of %s in layer %d does not fit a (%d, %d) matrix at rank %d", kind, layer, out, in, r)
	}
	l := &compute.LoRA{A: m.be.Alloc(r, in), Bt: m.be.Alloc(r, out), Scale: float32(scale), Module: uint32(layer*len(LinearNames) + k)}
	if a != nil {
		m.be.Write(l.A, 0, a)
	}
	if b != nil {
		m.be.Write(l.Bt, 0, Transpose(b, out, r))
	}
	if train {
		l.DA, l.DB = m.be.Alloc(r, in), m.be.Alloc(r, out)
	}
	lin.LoRA = l
	return l, nil
}

// Detach removes all LoRAs.
func (m *Model) Detach() {
	for i := range m.Layers {
		for _, l := range m.Layers[i].Linears() {
			l.LoRA = nil
		}
	}
}

// Transpose returns the (cols, rows) transpose of a (rows, cols) matrix: between lora_B and LoRA.Bt.
func Transpose(x []float32, rows, cols int) []float32 {
	y := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			y[j*rows+i] = x[i*cols+j]
		}
	}
	return y
}
