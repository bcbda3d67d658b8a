package llama

import (
	"cria/internal/compute"
	"cria/internal/pack"
)

// RunStep computes the runs of one optimizer step: losses go to loss (1, targets), gradients are added to the LoRAs'.
func (m *Model) RunStep(s *State, runs []pack.Run, drop *compute.Dropout, loss compute.Buffer) {
	for i := range runs {
		r := &runs[i]
		r.Pass.Dropout = drop
		if r.Phase&pack.Forward != 0 {
			m.forwardKV(s, &r.Pass, r.IDs)
		}
		if r.Phase == pack.Forward {
			m.clearKV(s, &r.Pass)
		}
		if r.Phase&pack.Backward != 0 {
			m.Backward(s, &r.Pass, r.Targets, loss, r.Phase == pack.Backward)
		}
	}
}

// Evaluate computes the losses of runs as RunStep does, without dropout and without gradients. It uses the buffers that
// RunStep uses on the same runs, and no others.
func (m *Model) Evaluate(s *State, runs []pack.Run, loss compute.Buffer) {
	for i := range runs {
		r := &runs[i]
		r.Pass.Dropout = nil
		if r.Phase&pack.Forward != 0 {
			m.forwardKV(s, &r.Pass, r.IDs)
		}
		if r.Phase&pack.Backward != 0 {
			m.lastForward(s, &r.Pass, r.Targets, nil, loss)
		}
	}
}
