package llama

import "cria/internal/compute"

// Acts are the activations of one layer that its backward pass reads.
type Acts struct {
	X        compute.Buffer // (T, C) input
	Q        compute.Buffer // (T, H·D) rotated
	K, V     compute.Buffer // (T, KV·D) k rotated
	DK, DV   compute.Buffer // (T, KV·D) their gradients: descendants add to them before the own backward pass comes
	Attn     compute.Buffer // (T, H·D) heads' results
	LSE      compute.Buffer // (T, H)
	H        compute.Buffer // (T, C) after the first residual
	Gate, Up compute.Buffer // (T, F)
	Low      [7]compute.Buffer
}

// State is the memory of a training step: activations of a stack of rows (see pack.Run) and scratch gradients.
type State struct {
	Rows      int
	Recompute bool // keep only X, K and V of each layer; run a layer's forward pass again before its backward pass
	Layers    []Acts
	X         compute.Buffer // (T, C) output of the last layer

	dX         compute.Buffer // (T, C) gradient of the residual stream
	dQ, dAttn  compute.Buffer // (T, H·D)
	dGate, dUp compute.Buffer // (T, F)
}

// NewState allocates the activations of rows tokens.
func (m *Model) NewState(rows int, recompute bool) *State {
	s := &State{Rows: rows, Recompute: recompute, Layers: make([]Acts, len(m.Layers))}
	alloc := func(cols int) compute.Buffer { return m.be.Alloc(rows, cols) }
	hd, kvd := m.NumAttentionHeads*m.HeadDim, m.NumKeyValueHeads*m.HeadDim
	for i := range s.Layers {
		a := &s.Layers[i]
		a.X, a.K, a.V, a.DK, a.DV = alloc(m.HiddenSize), alloc(kvd), alloc(kvd), alloc(kvd), alloc(kvd)
		if recompute && i > 0 {
			b := &s.Layers[0]
			a.Q, a.Attn, a.LSE, a.H, a.Gate, a.Up = b.Q, b.Attn, b.LSE, b.H, b.Gate, b.Up
		} else {
			a.Q, a.Attn, a.LSE, a.H = alloc(hd), alloc(hd), alloc(m.NumAttentionHeads), alloc(m.HiddenSize)
			a.Gate, a.Up = alloc(m.IntermediateSize), alloc(m.IntermediateSize)
		}
		for j, l := range m.Layers[i].Linears() {
			if l.LoRA != nil {
				a.Low[j] = alloc(l.LoRA.A.Rows())
			}
		}
	}
	s.X, s.dX, s.dQ, s.dAttn = alloc(m.HiddenSize), alloc(m.HiddenSize), alloc(hd), alloc(hd)
	s.dGate, s.dUp = alloc(m.IntermediateSize), alloc(m.IntermediateSize)
	return s
}

// StateBytes is the size of NewState's buffers.
func (m *Model) StateBytes(rows int, recompute bool) int64 {
	hd, kvd, n := m.NumAttentionHeads*m.HeadDim, m.NumKeyValueHeads*m.HeadDim, len(m.Layers)
	kept := m.HiddenSize + 4*kvd
	more := 2*hd + m.NumAttentionHeads + m.HiddenSize + 2*m.IntermediateSize
	low := 0
	for i := range m.Layers {
		for _, l := range m.Layers[i].Linears() {
			if l.LoRA != nil {
				low += l.LoRA.A.Rows()
			}
		}
	}
	floats := n*kept + low + 2*m.HiddenSize + 2*hd + 2*m.IntermediateSize
	if recompute {
		n = 1
	}
	return 4 * int64(rows) * int64(floats+n*more)
}
