package llama_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/llama"
	"cria/internal/pack"
)

// gradients runs one optimizer step and returns its losses and all LoRA gradients.
func gradients(t *testing.T, be compute.Backend, rows [][]pack.Row, share bool, levels []llama.Level, limit int, p float64) (out []float32, step *pack.Step) {
	t.Helper()
	m := tiny(t, be, true)
	step = pack.NewStep(rows, pack.MicrobatchMean, len(rows), share)
	runs, need, err := step.Plan(limit)
	if err != nil {
		t.Fatal(err)
	}
	loss := be.Alloc(1, len(step.Targets))
	m.RunStep(m.NewState(llama.Shape{Stack: need, Levels: levels}), runs, compute.NewDropout(p, 42, 7), loss)
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
		want, step := gradients(t, be, mbs, true, nil, 0, 0.1)
		layers := tiny(t, be, false).NumHiddenLayers
		for range 6 {
			limit := step.MinRows() + rng.IntN(len(step.IDs)-step.MinRows()+1)
			levels := make([]llama.Level, layers)
			for i := range levels {
				levels[i] = llama.Level(rng.IntN(int(llama.DropAll) + 1))
			}
			if got, _ := gradients(t, be, mbs, true, levels, limit, 0.1); !slices.Equal(got, want) {
				t.Errorf("passes of %d rows, layers recomputed by %v: other bits, relative difference %g", limit, levels, relative(got, want))
			}
		}
		unshared, _ := gradients(t, be, mbs, false, nil, 0, 0.1)
		if e := relative(unshared, want[len(step.Targets):]); e > 1e-5 {
			t.Errorf("without sharing: relative difference %g", e)
		}
	})
}

// A State is as large as Activations says, and a dry run takes what a real one takes.
func TestActivationsAreWhatIsAllocated(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	step := pack.NewStep([][]pack.Row{rows(t)}, pack.TokenMean, 1, true)
	for range 10 {
		limit := step.MinRows() + rng.IntN(len(step.IDs)-step.MinRows()+1)
		runs, need, err := step.Plan(limit)
		if err != nil {
			t.Fatal(err)
		}
		var used [2]cpu.Usage
		for i, dry := range []bool{true, false} {
			be := cpu.New(cpu.Options{Threads: 2, DryRun: dry})
			m := tiny(t, be, true)
			sh := llama.Shape{Stack: need, Levels: make([]llama.Level, m.NumHiddenLayers)}
			for i := range sh.Levels {
				sh.Levels[i] = llama.Level(i * limit % 3)
			}
			before := be.Usage().Buffers
			s := m.NewState(sh)
			if got, want := be.Usage().Buffers-before, m.Activations(sh).Sum(); got != want {
				t.Errorf("%+v: %d bytes, %d expected", sh, got, want)
			}
			m.RunStep(s, runs, nil, be.Alloc(1, len(step.Targets)))
			used[i] = be.Usage()
			be.Close()
		}
		if used[0] != used[1] {
			t.Errorf("passes of %d rows take %+v, the dry run says %+v", limit, used[1], used[0])
		}
	}
}

// Once memory was taken and weights were packed, a step computes without allocating anything: less than one object a step, since
// the runtime may make one of its own.
func TestStepAllocatesNothing(t *testing.T) {
	step := pack.NewStep([][]pack.Row{rows(t)}, pack.TokenMean, 1, true)
	runs, need, err := step.Plan(step.MinRows() + len(step.IDs)/2)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []cpu.Options{{Threads: 1}, {Threads: 3}, {Threads: 2, DType: compute.BFloat16}, {Threads: 2, MapWeights: true}} {
		be := cpu.New(o)
		m := tiny(t, be, true)
		levels := make([]llama.Level, m.NumHiddenLayers)
		for i := range levels {
			levels[i] = llama.Level(i % 3)
		}
		s, loss, drop := m.NewState(llama.Shape{Stack: need, Levels: levels}), be.Alloc(1, len(step.Targets)), compute.NewDropout(0.1, 42, 7)
		var params []compute.Param
		var grads []compute.Buffer
		for i := range m.Layers {
			for _, l := range m.Layers[i].Linears() {
				moment := func() compute.Buffer { return be.Alloc(l.LoRA.A.Rows(), l.LoRA.A.Cols()) }
				params, grads = append(params, compute.Param{W: l.LoRA.A, G: l.LoRA.DA, M: moment(), V: moment()}), append(grads, l.LoRA.DA)
			}
		}
		sums := make([]float64, len(grads))
		if n := testing.AllocsPerRun(5, func() {
			m.RunStep(s, runs, drop, loss)
			be.SumSquares(sums, grads)
			be.Update(params, compute.AdamW{LR: 1e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Step: 1, GradScale: 1})
		}); n > 0 {
			t.Errorf("%+v: a step allocates %g objects", o, n)
		}
		be.Close()
	}
}
