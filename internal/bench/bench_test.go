package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/llama"
	"cria/internal/safetensors"
	"cria/internal/train"
)

const tiny = "../../testdata/golden/tiny-llama"

// tinyJob is two rows of 21 tokens a step, 9 of them shared and the last three trained: 9 + 2·11 tokens to compute, since
// a row's last token is only predicted.
func tinyJob(keys ...string) Options {
	return Options{Model: tiny, Rows: Rows{Number: 2, Length: 21, Prefix: 9}, Steps: 2, Progress: func(string) {}, Keys: append([]string{"lora.r=4"}, keys...)}
}

// The operations of a step of the tiny model (C 128, F 352, H 8, KV 2, D 16, V 2048, 4 layers), counted by hand.
func TestFLOP(t *testing.T) {
	const (
		tokens = 9 + 11 + 11
		rest   = 3*tokens + 6 // of the layers after attention: in the last one only rows with targets
		pairs  = 9*10/2 + 2*(11*9+11*12/2)

		// elements of the matrices, and in + out, before attention and after it
		qkv, ogud         = 128*128 + 2*32*128, 128*128 + 3*352*128
		qkvLoRA, ogudLoRA = 256 + 2*160, 256 + 3*480
		layer, lora       = qkv + ogud, qkvLoRA + ogudLoRA
	)
	want := FLOP{
		Frozen:    2*qkv*tokens*(4+3) + 2*ogud*rest*(1+1), // the first layer's input is not trained, so it needs no dx
		LoRA:      2*4*qkvLoRA*tokens*(4+2*3+1) + 2*4*(128+2*32)*tokens + 2*4*ogudLoRA*rest*(1+2),
		Attention: 4 * (2 + 5) * 2 * pairs * 8 * 16,
		Head:      4 * 6 * 2048 * 128,
	}
	r, err := Run(context.Background(), tinyJob())
	if err != nil {
		t.Fatal(err)
	}
	s := r.Step
	if s.FLOP != want {
		t.Errorf("counted %+v, want %+v", s.FLOP, want)
	}
	if s.Rows != 2 || s.Tokens != 42 || s.Computed != tokens || s.Labelled != 6 || len(s.Each) != 2 || len(s.Losses) != 3 {
		t.Errorf("step %+v", s)
	}
	if r.Model.Parameters != 4*layer+2*2048*128+9*128 || r.LoRA.Trainable != 4*4*lora || r.LoRA.Modules != 28 {
		t.Errorf("model %+v, LoRA %+v", r.Model, r.LoRA)
	}
	at := func(name, pass string) *Operation {
		i := slices.IndexFunc(s.Operations, func(o Operation) bool { return o.Name == name && o.Pass == pass })
		return &s.Operations[i]
	}
	if o := at("down", "backward"); o.Calls != 4 || o.FLOP != (FLOP{Frozen: 2 * rest * 352 * 128, LoRA: 4 * rest * 4 * 480}) {
		t.Errorf("down, backward: %+v", o)
	}
	sum := s.Rest()
	for _, o := range s.Operations {
		sum += o.Seconds
		if o.Seconds <= 0 || o.Share < 0 || o.Share > 1 {
			t.Errorf("%+v", o)
		}
	}
	if math.Abs(sum-s.Seconds) > 1e-9 || s.Rest() < 0 {
		t.Errorf("the parts take %v s, the step %v", sum, s.Seconds)
	}
	if kernels.Best() != kernels.Generic && (s.OfPeak <= 0 || s.OfPeak > 1.5 || at("attention", "forward").OfPeak <= 0) {
		t.Errorf("share of the peak %v", s.OfPeak)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}

	// Without sharing every row is computed whole; with recomputation all layers but the last one run forward twice.
	if r, err = Run(context.Background(), tinyJob("share_prefix=false", "gradient_checkpointing=true")); err != nil {
		t.Fatal(err)
	}
	s = r.Step
	if f := at("attention", "forward").FLOP; f != (FLOP{Attention: (4 + 3) * 2 * 2 * 2 * (20 * 21 / 2) * 8 * 16}) || at("qkv", "forward").Calls != 7 || s.Computed != 40 || s.Recomputed != 3 || s.Passes != 1 {
		t.Errorf("attention %+v, step %+v", f, s)
	}
}

// Timing changes no bit, and the steps of a synthetic job are those of a run.
func TestTimedComputesTheSame(t *testing.T) {
	ctx, o := context.Background(), tinyJob("threads=2")
	r, err := o.LoadRecipe()
	if err != nil {
		t.Fatal(err)
	}
	cfg, f, err := o.model(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := o.Rows.make(6, cfg.VocabSize, r.Seed)
	if err != nil {
		t.Fatal(err)
	}
	var losses [2][]float64
	for i, wrap := range []func(compute.Backend) compute.Backend{
		func(be compute.Backend) compute.Backend { return be },
		func(be compute.Backend) compute.Backend { return NewTimed(ctx, be) },
	} {
		j, err := train.Synthetic(ctx, r, cfg, f, rows, train.Options{Measure: wrap})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p, err := j.Advance()
			if err != nil {
				t.Fatal(err)
			}
			losses[i] = append(losses[i], p.Loss, p.GradNorm)
		}
		j.Close()
	}
	if !slices.Equal(losses[0], losses[1]) {
		t.Errorf("losses and norms %v, timed %v", losses[0], losses[1])
	}
}

// An ending context stops between two operations.
func TestInterrupt(t *testing.T) {
	for _, run := range []func(context.Context, Options) (*Report, error){Run, RunGrowth} {
		ctx, cancel := context.WithCancel(context.Background())
		o := tinyJob()
		o.Progress = func(s string) {
			if strings.HasPrefix(s, "step 2") || strings.Contains(s, "run 2") {
				cancel()
			}
		}
		if r, err := run(ctx, o); !errors.Is(err, context.Canceled) || r != nil {
			t.Errorf("%v, %v", r, err)
		}
		cancel()
	}
}

// Published sizes: all parameters of SmolLM2-135M, Llama-3.2-1B and Llama-3.1-8B.
func TestShapes(t *testing.T) {
	for name, want := range map[string]int64{"smollm2-135m": 134515008, "llama-3.2-1b": 1235814400, "llama-3.1-8b-slice": 8030261248} {
		c, ok := Shape(name)
		if !ok {
			t.Fatalf("no shape %s", name)
		}
		if name == "llama-3.1-8b-slice" {
			c.NumHiddenLayers = 32
		}
		if got := c.Parameters(); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
}

// Random weights make a model that loads, of elements that are neither tiny nor huge.
func TestRandomWeights(t *testing.T) {
	c := &llama.Config{VocabSize: 31, HiddenSize: 6, IntermediateSize: 10, NumHiddenLayers: 2, NumAttentionHeads: 3, NumKeyValueHeads: 1, HeadDim: 2, RMSNormEps: 1e-5, RopeTheta: 1e4}
	f, err := randomWeights(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := llama.Load(&compute.Plain[float32]{}, c, f); err != nil {
		t.Fatal(err)
	}
	signs := map[bool]int{}
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		v, err := x.Float32s()
		if err != nil || x.DType != safetensors.BF16 {
			t.Fatal(err)
		}
		for _, e := range v {
			if a := math.Abs(float64(e)); e != 1 && (a < 1.0/64 || a >= 1.0/32) {
				t.Fatalf("%s has an element %v", name, e)
			}
			signs[e < 0]++
		}
	}
	if signs[true] < 300 || signs[false] < 300 {
		t.Errorf("signs %v", signs)
	}
}
