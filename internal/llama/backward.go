package llama

import "cria/internal/compute"

// Backward is Forward's mirror: it stores the losses of the targets, and adds the gradients of the LoRA tensors and of
// the keys and values of the tokens' ancestors.
func (m *Model) Backward(s *State, p *compute.Pass, targets []compute.Target, loss compute.Buffer) {
	m.be.HeadLoss(p, s.dX, s.X, m.Norm, m.Head, targets, loss)
	for i := len(m.Layers) - 1; i >= 0; i-- {
		if s.Recompute && i < len(m.Layers)-1 {
			m.layerForward(s, p, i)
		}
		m.layerBackward(s, p, i)
	}
}

func (m *Model) layerBackward(s *State, p *compute.Pass, i int) {
	be, l, a := m.be, &m.Layers[i], &s.Layers[i]
	q, k, v, o, gate, up, down := l.projs(a)
	q.DY, o.DY, gate.DY, up.DY, down.DY = s.dQ, s.dX, s.dGate, s.dUp, s.dX

	be.DownBackward(p, down, s.dGate, s.dUp, a.Gate, a.Up)
	be.GateUpBackward(p, s.dX, a.H, l.PostNorm, gate, up)
	be.OutBackward(p, o, s.dAttn, a.Attn)
	be.AttentionBackward(p, m.heads(), s.dQ, a.DK, a.DV, s.dAttn, a.Attn, a.LSE, a.Q, a.K, a.V)
	be.QKVBackward(p, s.dX, a.X, l.InputNorm, q, k, v, m.rope)
}

// ClearKV sets the key and value gradients of a pass to zero, before any of its descendants add to them.
func (m *Model) ClearKV(s *State, p *compute.Pass) {
	rows := compute.Span{From: p.KV, To: p.KV + p.Rows.Len()}
	for i := range s.Layers {
		m.be.Zero(s.Layers[i].DK, rows)
		m.be.Zero(s.Layers[i].DV, rows)
	}
}
