package llama

import "cria/internal/compute"

// Forward computes the tokens of a pass through all layers; the result is the last layer's output, s.X.
func (m *Model) Forward(s *State, p *compute.Pass, ids []int32) {
	m.be.Embed(p, s.Layers[0].X, m.Embed, ids)
	for i := range m.Layers {
		m.layerForward(s, p, i)
	}
}

// forwardKV is Forward up to the keys, values and queries of the last layer: all that other tokens need. The rest of that
// layer is computed in Backward, and only for tokens that have targets.
func (m *Model) forwardKV(s *State, p *compute.Pass, ids []int32) {
	m.be.Embed(p, s.Layers[0].X, m.Embed, ids)
	last := len(m.Layers) - 1
	for i := range last {
		m.layerForward(s, p, i)
	}
	l, a := &m.Layers[last], &s.Layers[last]
	q, k, v, _, _, _, _ := l.projs(a)
	m.be.QKVForward(p, a.X, l.InputNorm, q, k, v, m.rope)
}

func (m *Model) layerForward(s *State, p *compute.Pass, i int) {
	be, l, a := m.be, &m.Layers[i], &s.Layers[i]
	q, k, v, o, gate, up, down := l.projs(a)
	o.Y, down.Y = a.H, s.output(i)

	be.QKVForward(p, a.X, l.InputNorm, q, k, v, m.rope)             // q, k, v = rope(norm(x) Wqkvᵀ)
	be.AttentionForward(p, m.heads(), a.Attn, a.LSE, a.Q, a.K, a.V) // attn = softmax(q kᵀ/√D) v
	be.OutForward(p, o, a.Attn, a.X)                                // h = x + attn Woᵀ
	be.GateUpForward(p, a.H, l.PostNorm, gate, up)                  // gate, up = norm(h) Wᵀ
	be.DownForward(p, down, a.Gate, a.Up, a.H)                      // x' = h + (silu(gate)·up) Wdᵀ
}

// output is where layer i's result stands: the next layer's input.
func (s *State) output(i int) compute.Buffer {
	if i+1 < len(s.Layers) {
		return s.Layers[i+1].X
	}
	return s.X
}

// projs binds the layer's projections to their activations, in module order.
func (l *Layer) projs(a *Acts) (q, k, v, o, gate, up, down compute.Proj) {
	q = compute.Proj{Linear: &l.Q, Y: a.Q, Low: a.Low[0]}
	k = compute.Proj{Linear: &l.K, Y: a.K, Low: a.Low[1]}
	v = compute.Proj{Linear: &l.V, Y: a.V, Low: a.Low[2]}
	o = compute.Proj{Linear: &l.O, Low: a.Low[3]}
	gate = compute.Proj{Linear: &l.Gate, Y: a.Gate, Low: a.Low[4]}
	up = compute.Proj{Linear: &l.Up, Y: a.Up, Low: a.Low[5]}
	down = compute.Proj{Linear: &l.Down, Low: a.Low[6]}
	return
}
