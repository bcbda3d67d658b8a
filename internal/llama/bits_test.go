package llama_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"cria/internal/compute"
	"cria/internal/pack"
)

// gradients runs one optimizer step and returns its losses and all LoRA gradients.
func gradients(t *testing.T, be compute.Backend, rows [][]pack.Row, share, recompute bool, limit int, p float64) (out []float32, step *pack.Step) {
	t.Helper()
	m := tiny(t, be, true)
	step = pack.NewStep(rows, pack.MicrobatchMean, len(rows), share)
	runs, n, err := step.Plan(limit)
	if err != nil {
		t.Fatal(err)
	}
	loss := be.Alloc(1, len(step.Targets))
	m.RunStep(m.NewState(n, recompute), runs, compute.NewDropout(p, 42, 7), loss)
	out = read(m, loss)
	if !share { // canonical order differs, and with it the order of losses
		out = nil
	}
	for i := range m.Layers {
		for _, l := range m.Layers[i].Linears() {
			out = append(append(out, read(m, l.LoRA.DA)...), read(m, l.LoRA.DB)...)
		}
	}
	return out, step
}

// Pass boundaries and recomputation change no bit of losses and gradients; sharing of prefixes changes them by rounding
// errors only. Dropout included.
func TestSameBits(t *testing.T) {
	forEachBackend(t, func(t *testing.T, be compute.Backend) {
		rng := rand.New(rand.NewPCG(1, 2))
		all := rows(t)
		n := len(all[1].IDs) - 2
		prefix := pack.Row{IDs: all[1].IDs[:n], Labels: all[1].Labels[:n]} // its node has targets and children
		mbs := [][]pack.Row{all[:2], all[2:4], {all[4%len(all)], all[0]}, {prefix}}
		want, step := gradients(t, be, mbs, true, false, 0, 0.1)
		for range 4 {
			limit := step.MinRows() + rng.IntN(len(step.IDs)-step.MinRows()+1)
			recompute := rng.IntN(2) == 0
			if got, _ := gradients(t, be, mbs, true, recompute, limit, 0.1); !slices.Equal(got, want) {
				t.Errorf("passes of %d rows (recompute %v): other bits, relative difference %g", limit, recompute, relative(got, want))
			}
		}
		unshared, _ := gradients(t, be, mbs, false, false, 0, 0.1)
		if e := relative(unshared, want[len(step.Targets):]); e > 1e-5 {
			t.Errorf("without sharing: relative difference %g", e)
		}
	})
}
