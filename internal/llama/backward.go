package llama

import "cria/internal/compute"

// Backward ends the forward pass and is its mirror: it stores the losses of the targets, and adds the gradients of the
// LoRA tensors and of the keys and values of the tokens' ancestors. split says that the tokens' descendants went backward
// in runs before.
func (m *Model) Backward(s *State, p *compute.Pass, targets []compute.Target, loss compute.Buffer, split bool) {
	last := len(m.Layers) - 1
	for i := last; i >= 0; i-- {
		if i == last {
			m.lastLayer(s, p, targets, loss)
		} else {
			m.again(s, p, i)
			m.outBackward(s, p, i, s.Layers[i].Attn)
		}
		m.fetchKV(s, p, i, split)
		m.attentionBackward(s, p, i)
		m.storeKV(s, p, i)
	}
}

// outBackward takes the gradient of a layer's result, dX, back to that of its residual stream before the MLP, dX too, and
// of the heads' results, dAttn.
func (m *Model) outBackward(s *State, p *compute.Pass, i int, attn compute.Buffer) {
	be, l, a := m.be, &m.Layers[i], &s.Layers[i]
	_, _, _, o, gate, up, down := l.projs(a)
	o.DY, gate.DY, up.DY, down.DY = s.dX, a.Gate, a.Up, s.dX

	be.DownBackward(p, down, a.Gate, a.Up, a.Gate, a.Up)
	be.GateUpBackward(p, s.dX, a.H, l.PostNorm, gate, up)
	be.OutBackward(p, o, s.dAttn, attn)
}

func (m *Model) attentionBackward(s *State, p *compute.Pass, i int) {
	be, l, a := m.be, &m.Layers[i], &s.Layers[i]
	q, k, v, _, _, _, _ := l.projs(a)
	q.DY, k.DY, v.DY = s.dQ, s.dK, s.dV

	be.AttentionBackward(p, m.heads(), s.dQ, s.dK, s.dV, s.dAttn, a.Attn, a.LSE, a.Q, a.K, a.V)
	dx := s.dX
	if i == 0 { // embeddings are not trained
		dx = nil
	}
	be.QKVBackward(p, dx, a.X, l.InputNorm, q, k, v, m.rope)
}

// lastLayer computes what forwardKV left of the last layer, the loss, and the way back to dX and dAttn.
func (m *Model) lastLayer(s *State, p *compute.Pass, targets []compute.Target, loss compute.Buffer) {
	if m.lastForward(s, p, targets, s.dX, loss) {
		m.outBackward(s, &s.tail.pass, len(m.Layers)-1, s.dQ)
	}
	m.be.Spread(p, s.dX, s.tail.rows)
	m.be.Spread(p, s.dAttn, s.tail.rows)
}

// lastForward is lastLayer up to the loss and its gradient, dX unless that is nil, and says whether there are targets. All but attention works on
// the rows that have targets, moved together at the beginning of the pass's rows: other rows have no gradient.
func (m *Model) lastForward(s *State, p *compute.Pass, targets []compute.Target, dX, loss compute.Buffer) bool {
	i := len(m.Layers) - 1
	be, l, a, attn := m.be, &m.Layers[i], &s.Layers[i], s.dQ // dQ is free until AttentionBackward
	_, _, _, o, gate, up, down := l.projs(a)
	o.Y, down.Y = a.H, s.X

	be.AttentionForward(p, m.heads(), a.Attn, a.LSE, a.Q, a.K, a.V)
	t := &s.tail
	t.set(p, targets)
	if len(t.rows) == 0 {
		return false
	}
	be.Gather(p, attn, a.Attn, t.rows)
	be.Gather(p, s.X, a.X, t.rows)
	be.OutForward(&t.pass, o, attn, s.X)
	be.GateUpForward(&t.pass, a.H, l.PostNorm, gate, up)
	be.DownForward(&t.pass, down, a.Gate, a.Up, a.H)
	be.HeadLoss(&t.pass, dX, s.X, m.Norm, m.Head, t.targets, loss)
	return true
}

// tail is a pass of those rows of another one that have targets.
type tail struct {
	rows    []int32 // of the other pass
	pass    compute.Pass
	targets []compute.Target
}

// set makes t the tail of p. Its segments are the blocks of p's segments, so that sums over tokens have the same order
// whatever is in the pass.
func (t *tail) set(p *compute.Pass, targets []compute.Target) {
	t.rows, t.targets = t.rows[:0], t.targets[:0]
	q := &t.pass
	*q = compute.Pass{KV: p.KV, Pos: q.Pos[:0], Node: q.Node[:0], Segments: q.Segments[:0], Dropout: p.Dropout}
	for _, s := range p.Segments {
		for from := s.From; from < s.To; from += compute.BlockRows {
			to, first := min(from+compute.BlockRows, s.To), len(t.rows)
			for ; len(targets) > 0 && int(targets[0].Row) < to; targets = targets[1:] {
				row := targets[0].Row
				if n := len(t.rows); n == 0 || t.rows[n-1] != row {
					t.rows, q.Pos = append(t.rows, row), append(q.Pos, p.Pos[row])
					if p.Node != nil {
						q.Node = append(q.Node, p.Node[row])
					}
				}
				label := targets[0]
				label.Row = int32(len(t.rows) - 1)
				t.targets = append(t.targets, label)
			}
			if first < len(t.rows) {
				q.Segments = append(q.Segments, compute.Segment{Span: compute.Span{From: first, To: len(t.rows)}})
			}
		}
	}
	q.Rows = compute.Span{From: p.Rows.From, To: p.Rows.From + len(t.rows)}
}

// again computes what layer i dropped since its forward pass.
func (m *Model) again(s *State, p *compute.Pass, i int) {
	be, l, a := m.be, &m.Layers[i], &s.Layers[i]
	q, k, v, o, gate, up, _ := l.projs(a)
	if s.lost(i, DropAll) {
		o.Y = a.H
		be.QKVForward(p, a.X, l.InputNorm, q, k, v, m.rope)
		be.AttentionForward(p, m.heads(), a.Attn, a.LSE, a.Q, a.K, a.V)
		be.OutForward(p, o, a.Attn, a.X)
	}
	if s.lost(i, DropGateUp) {
		be.GateUpForward(p, a.H, l.PostNorm, gate, up)
	}
}

// fetchKV makes dK and dV the gradients of layer i so far: of the split nodes below the pass, which it adds to, and of
// its own tokens.
func (m *Model) fetchKV(s *State, p *compute.Pass, i int, split bool) {
	below, own := compute.Span{To: p.KV}, compute.Span{From: p.KV, To: p.KV + p.Rows.Len()}
	if split {
		below.To = own.To
	} else {
		m.be.Zero(s.dK, own)
		m.be.Zero(s.dV, own)
	}
	m.move(s, s.dK, s.Layers[i].DK, below)
	m.move(s, s.dV, s.Layers[i].DV, below)
}

// storeKV is fetchKV's way back.
func (m *Model) storeKV(s *State, p *compute.Pass, i int) {
	below := compute.Span{To: p.KV}
	m.move(s, s.Layers[i].DK, s.dK, below)
	m.move(s, s.Layers[i].DV, s.dV, below)
}

func (m *Model) move(s *State, dst, src compute.Buffer, rows compute.Span) {
	if rows.Len() > 0 {
		x := s.moved[:rows.Len()*src.Cols()]
		m.be.Read(x, src, rows.From)
		m.be.Write(dst, rows.From, x)
	}
}

// clearKV sets the key and value gradients of a split node to zero, before any of its descendants add to them.
func (m *Model) clearKV(s *State, p *compute.Pass) {
	own := compute.Span{From: p.KV, To: p.KV + p.Rows.Len()}
	for i := range s.Layers {
		m.be.Zero(s.Layers[i].DK, own)
		m.be.Zero(s.Layers[i].DV, own)
	}
}
