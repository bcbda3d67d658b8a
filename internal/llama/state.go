package llama

import (
	"cria/internal/compute"
	"cria/internal/pack"
)

// Level says how much of a layer's activations is computed again before its backward pass instead of being kept.
type Level uint8

const (
	KeepAll    Level = iota
	DropGateUp       // gate and up: over half of the bytes
	DropAll          // all but x, k, v and the low-rank parts
)

// Shape is the size of a training step's memory.
type Shape struct {
	pack.Stack
	Levels []Level // of each layer; nil: KeepAll
}

// Acts are the activations of one layer that its backward pass reads. Layers that compute a buffer again share it.
type Acts struct {
	X        compute.Buffer // (T, C) input
	Q        compute.Buffer // (T, H·D) rotated
	K, V     compute.Buffer // (T, KV·D) k rotated
	DK, DV   compute.Buffer // (Split, KV·D) what descendants in other runs have said of the keys and values; nil if Split is 0
	Attn     compute.Buffer // (T, H·D) heads' results
	LSE      compute.Buffer // (T, H)
	H        compute.Buffer // (T, C) after the first residual
	Gate, Up compute.Buffer // (T, F); in the backward pass their gradients take their place
	Low      [7]compute.Buffer
}

// State is the memory of a training step: activations of a stack of rows and the gradients of the layer at work.
type State struct {
	Shape
	Layers []Acts
	X      compute.Buffer // (T, C) output of the last layer

	dX        compute.Buffer // (T, C) gradient of the residual stream
	dQ, dAttn compute.Buffer // (T, H·D)
	dK, dV    compute.Buffer // (T, KV·D)

	tail  tail
	moved []float32 // rows between a layer's DK, DV and dK, dV
	last  [DropAll + 1]int
}

// Activations are the bytes of a State by what they hold.
type Activations struct {
	Residual  int64 `json:"residual"`  // x and h
	QKV       int64 `json:"qkv"`       // queries, keys, values
	Attention int64 `json:"attention"` // results of the heads
	GateUp    int64 `json:"gate_up"`
	LoRA      int64 `json:"lora"` // low-rank parts
	Gradients int64 `json:"gradients"`
}

// Sum is the bytes of all.
func (a Activations) Sum() int64 {
	return a.Residual + a.QKV + a.Attention + a.GateUp + a.LoRA + a.Gradients
}

// NewState allocates the memory of steps of up to sh.Rows rows.
func (m *Model) NewState(sh Shape) *State {
	s, _ := m.state(sh, m.be.Alloc)
	s.moved = make([]float32, sh.Split*m.NumKeyValueHeads*m.HeadDim)
	return s
}

// Activations is the size of NewState's buffers.
func (m *Model) Activations(sh Shape) Activations {
	_, a := m.state(sh, func(int, int) compute.Buffer { return nil })
	return a
}

func (m *Model) state(sh Shape, allocate func(rows, cols int) compute.Buffer) (*State, Activations) {
	s := &State{Shape: sh, Layers: make([]Acts, len(m.Layers))}
	if sh.Levels == nil {
		s.Levels = make([]Level, len(m.Layers))
	}
	c, f, h := m.HiddenSize, m.IntermediateSize, m.NumAttentionHeads
	hd, kvd := h*m.HeadDim, m.NumKeyValueHeads*m.HeadDim
	var sum Activations
	rows := func(kind *int64, n, cols int) compute.Buffer {
		*kind += 4 * int64(n) * int64(cols)
		return allocate(n, cols)
	}
	alloc := func(kind *int64, cols int) compute.Buffer { return rows(kind, sh.Rows, cols) }

	var shared [DropAll + 1]*Acts // buffers of layers that drop them
	for i := range s.Layers {
		a, level := &s.Layers[i], s.Levels[i]
		a.X, a.K, a.V = alloc(&sum.Residual, c), alloc(&sum.QKV, kvd), alloc(&sum.QKV, kvd)
		if sh.Split > 0 {
			a.DK, a.DV = rows(&sum.Gradients, sh.Split, kvd), rows(&sum.Gradients, sh.Split, kvd)
		}
		if b := shared[DropGateUp]; level >= DropGateUp && b != nil {
			a.Gate, a.Up = b.Gate, b.Up
		} else {
			a.Gate, a.Up = alloc(&sum.GateUp, f), alloc(&sum.GateUp, f)
		}
		if b := shared[DropAll]; level >= DropAll && b != nil {
			a.Q, a.Attn, a.LSE, a.H = b.Q, b.Attn, b.LSE, b.H
		} else {
			a.Q, a.Attn, a.LSE, a.H = alloc(&sum.QKV, hd), alloc(&sum.Attention, hd), alloc(&sum.Attention, h), alloc(&sum.Residual, c)
		}
		for d := range level + 1 {
			shared[d], s.last[d] = a, i
		}
		for j, l := range m.Layers[i].Linears() {
			if l.LoRA != nil {
				a.Low[j] = alloc(&sum.LoRA, l.LoRA.A.Rows())
			}
		}
	}
	s.X, s.dX = alloc(&sum.Residual, c), alloc(&sum.Gradients, c)
	s.dQ, s.dAttn, s.dK, s.dV = alloc(&sum.Gradients, hd), alloc(&sum.Gradients, hd), alloc(&sum.Gradients, kvd), alloc(&sum.Gradients, kvd)
	return s, sum
}

// lost says whether another layer has taken the place of what layer i drops at a level: of the layers that share a buffer
// the last one finds its own values.
func (s *State) lost(i int, level Level) bool { return s.Levels[i] >= level && i != s.last[level] }
