package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/llama"
	"cria/internal/recipe"
	"cria/internal/safetensors"
	"cria/internal/train"
)

// Options say what is measured: the job of a recipe, or synthetic rows on a model directory or on a built-in shape.
type Options struct {
	Recipe string   // file, or ""
	Model  string   // directory, or ""
	Shape  string   // see ShapeNames; counts where Recipe and Model are ""
	Layers int      // of Shape; 0: as it has
	Rows   Rows     // of a synthetic job
	Steps  int      // that are timed, at least 1
	Keys   []string // "key=value", keys of a recipe

	Progress func(string) // is told what is being done

	// Find, if not nil, makes train.Options.Find for the recipe.
	Find func(*recipe.Recipe) func(ctx context.Context, name, kind string) (string, error)
}

// Report is what was measured. Counts and times of operations are those of an average step.
type Report struct {
	Version string `json:"version"` // of cria
	Go      string `json:"go"`
	System  string `json:"system"`
	CPU     string `json:"cpu"`
	Kernels string `json:"kernels"`
	Threads int    `json:"threads"`

	Peaks     []Peak  `json:"peaks"`
	Bandwidth float64 `json:"read_gbps"` // of all threads, GB/s; 0: not measured

	Model ModelInfo     `json:"model"`
	DType compute.DType `json:"compute_dtype"`
	LoRA  LoRAInfo      `json:"lora"`
	Step  *StepReport   `json:"step,omitempty"`

	Growth *Growth `json:"growth,omitempty"`
}

// ModelInfo is what was trained.
type ModelInfo struct {
	Name       string `json:"name"`
	Random     bool   `json:"random"` // weights
	Layers     int    `json:"num_hidden_layers"`
	Hidden     int    `json:"hidden_size"`
	FFN        int    `json:"intermediate_size"`
	Heads      int    `json:"num_attention_heads"`
	KVHeads    int    `json:"num_key_value_heads"`
	Vocab      int    `json:"vocab_size"`
	Parameters int    `json:"parameters"`
}

// LoRAInfo is the adapter.
type LoRAInfo struct {
	R         int     `json:"r"`
	Dropout   float64 `json:"lora_dropout"`
	Modules   int     `json:"modules"`
	Trainable int     `json:"trainable"`
}

// StepReport is the time of optimizer steps and of their parts.
type StepReport struct {
	Method     string    `json:"method"`
	First      float64   `json:"first_seconds"`   // of the step that is not counted
	Each       []float64 `json:"each_seconds"`    // of the steps that are
	Losses     []float64 `json:"losses"`          // of all steps
	Rows       float64   `json:"rows"`            // a step
	Tokens     float64   `json:"tokens"`          // a step, of all rows, shared or not
	Computed   float64   `json:"computed_tokens"` // a step, less than Tokens where rows share a prefix
	Labelled   float64   `json:"labelled_tokens"` // a step
	Passes     float64   `json:"passes"`          // a step
	Recomputed float64   `json:"recomputed"`      // layers of a pass, wholly or in part, before their backward pass

	Seconds         float64 `json:"seconds"` // a step, mean
	TokensPerSecond float64 `json:"tokens_per_second"`
	FLOP            FLOP    `json:"flop"` // a step
	GFLOPS          float64 `json:"gflops"`
	OfPeak          float64 `json:"of_peak"`

	Operations []Operation `json:"operations"`
}

// Operation is one kind of operation of a step.
type Operation struct {
	Name    string  `json:"name"`
	Pass    string  `json:"pass"` // forward, backward or both
	Calls   float64 `json:"calls"`
	Seconds float64 `json:"seconds"`
	Share   float64 `json:"share"` // of the step's time
	FLOP    FLOP    `json:"flop"`
	GFLOPS  float64 `json:"gflops"`
	// OfPeak is the share of the time that the machine would need at its peak: products at that of the compute type,
	// attention at that of float32. 0 where nothing is counted or no peak was measured.
	OfPeak float64 `json:"of_peak"`
}

const method = "each step after the first, which packs the weights, was timed from its beginning to its end, and every operation in it"

// tutorialKeys are what the tutorial's recipe says of a job, and keys that a recipe must have.
var tutorialKeys = []string{"dataset=synthetic", "lora={r: 8, lora_alpha: 32, lora_dropout: 0.1, target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]}",
	"per_device_train_batch_size=4", "gradient_accumulation_steps=4", "learning_rate=1e-4", "loss_reduction=microbatch_mean", "seed=42"}

// LoadRecipe reads the recipe of the job. Its errors are those of package recipe.
func (o *Options) LoadRecipe() (*recipe.Recipe, error) {
	steps := fmt.Sprint("max_steps=", o.Steps+1)
	if o.Recipe != "" {
		return recipe.Load(o.Recipe, append(slices.Clone(o.Keys), steps))
	}
	keys := append(slices.Clone(tutorialKeys), "model="+o.name())
	if o.Rows.Number > 0 {
		keys = append(keys, fmt.Sprint("per_device_train_batch_size=", o.Rows.Number), "gradient_accumulation_steps=1")
	}
	return recipe.Load("", append(append(keys, o.Keys...), steps))
}

func (o *Options) name() string {
	if o.Model != "" {
		return o.Model
	}
	return o.Shape
}

// model returns the configuration and the weights of a synthetic job, of at most so many layers and, if the weights are
// random, tokens; 0 for all.
func (o *Options) model(ctx context.Context, layers, vocab int) (*llama.Config, *safetensors.File, error) {
	if o.Model != "" {
		cfg, err := llama.ReadConfig(o.Model)
		if err != nil {
			return nil, nil, err
		}
		if layers > 0 {
			cfg.NumHiddenLayers = min(layers, cfg.NumHiddenLayers)
		}
		if o.Rows.Length > cfg.MaxPositionEmbeddings {
			return nil, nil, fmt.Errorf("rows of %d tokens are longer than the %d that %s can hold (max_position_embeddings)", o.Rows.Length, cfg.MaxPositionEmbeddings, o.Model)
		}
		f, err := safetensors.OpenDir(o.Model)
		return cfg, f, err
	}
	cfg, ok := Shape(o.Shape)
	if !ok {
		return nil, nil, fmt.Errorf("no built-in shape is called %q; there are %s", o.Shape, ShapeNames())
	}
	if layers > 0 {
		cfg.NumHiddenLayers = layers
	}
	if vocab > 0 {
		cfg.VocabSize = vocab
	}
	bytes := 2 * cfg.Parameters() // in bfloat16
	if _, available, _ := cpu.Memory(); available > 0 && bytes > available*8/10 {
		return nil, nil, fmt.Errorf("the random weights of %s with %d layers take %.1f GiB, %.1f GiB are available; take fewer layers", o.Shape, cfg.NumHiddenLayers,
			float64(bytes)/(1<<30), float64(available)/(1<<30))
	}
	o.Progress("making random weights ...")
	f, err := randomWeights(ctx, cfg)
	return cfg, f, err
}

// Run measures the machine and training steps.
func Run(ctx context.Context, o Options) (*Report, error) {
	r, err := o.LoadRecipe()
	if err != nil {
		return nil, err
	}
	rep := newReport()
	var timed *Timed
	measure := train.Options{Measure: func(be compute.Backend) compute.Backend {
		timed = NewTimed(ctx, be)
		return timed
	}}
	var j *train.Job
	if o.Recipe != "" {
		if o.Find != nil {
			measure.Find = o.Find(r)
		}
		o.Progress("reading the model and the data ...")
		j, err = train.Prepare(ctx, r, measure)
	} else {
		cfg, weights, e := o.model(ctx, o.Layers, 0)
		if e != nil {
			return nil, e
		}
		defer weights.Close()
		rows, e := o.Rows.make((o.Steps+1)*r.PerDeviceTrainBatchSize*r.GradientAccumulationSteps, cfg.VocabSize, r.Seed)
		if e != nil {
			return nil, e
		}
		j, err = train.Synthetic(ctx, r, cfg, weights, rows, measure)
	}
	if err != nil {
		return nil, err
	}
	defer j.Close()
	o.Progress("measuring the machine ...")
	rep.machine(j.Threads)
	trainable, all := j.Parameters()
	rep.describe(j.Model.Config, r.Model, o.Recipe == "" && o.Model == "", all-trainable)
	rep.DType, rep.LoRA = j.DType, LoRAInfo{R: r.LoRA.R, Dropout: j.Dropout, Modules: len(j.Adapter.Modules), Trainable: trainable}
	if len(j.Adapter.Modules) > 0 {
		rep.LoRA.R = j.Adapter.Modules[0].R
	}
	err = guard(func() (err error) {
		rep.Step, err = steps(j, timed, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	rep.machineAgain()
	rep.rate()
	return rep, nil
}

func newReport() *Report {
	return &Report{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Kernels: kernels.Best().String()}
}

// machine measures the peaks. It is called once before the steps and its numbers are kept where machineAgain, after them,
// finds less: a peak is what the machine can reach.
func (r *Report) machine(threads int) {
	r.Threads = threads
	r.Peaks = Peaks(kernels.Best(), ThreadCounts(threads)...)
	r.Bandwidth = ReadBandwidth(kernels.Best(), threads)
}

func (r *Report) machineAgain() {
	for i, p := range Peaks(kernels.Best(), ThreadCounts(r.Threads)...) {
		q := &r.Peaks[i]
		q.Float32, q.BFloat16 = max(q.Float32, p.Float32), max(q.BFloat16, p.BFloat16)
	}
}

func (r *Report) describe(c *llama.Config, name string, random bool, parameters int) {
	r.Model = ModelInfo{Name: name, Random: random, Layers: c.NumHiddenLayers, Hidden: c.HiddenSize, FFN: c.IntermediateSize,
		Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, Vocab: c.VocabSize, Parameters: parameters}
}

// steps makes and times the steps of a job.
func steps(j *train.Job, timed *Timed, o Options) (*StepReport, error) {
	s := &StepReport{Method: method}
	n := float64(o.Steps)
	for i := range o.Steps + 1 {
		o.Progress(fmt.Sprintf("step %d of %d ...", i+1, o.Steps+1))
		if i == 1 {
			timed.reset()
		}
		start := time.Now()
		p, err := j.Advance()
		spent := time.Since(start).Seconds()
		if err != nil {
			return nil, err
		}
		s.Losses = append(s.Losses, p.Loss)
		if i == 0 {
			s.First = spent
			continue
		}
		s.Each = append(s.Each, spent)
		s.Seconds += spent / n
		for _, mb := range j.Steps.At(i).MicroBatches {
			for _, row := range mb {
				s.Rows += 1 / n
				s.Tokens += float64(j.Rows.Tokens(row)) / n
				s.Labelled += float64(j.Rows.Labelled(row)) / n
			}
		}
	}
	passes := float64(timed.tally[embed].calls)
	s.Computed, s.Passes = float64(timed.tokens)/n, passes/n
	s.Recomputed = max(0, float64(timed.tally[gateUpForward].calls)/passes-float64(j.Model.NumHiddenLayers))
	s.operations(&timed.tally, o.Steps)
	return s, nil
}

// operations divides what was counted in n steps.
func (s *StepReport) operations(tallies *[ops]tally, n int) {
	for i, t := range tallies {
		op := Operation{Name: names[i][0], Pass: names[i][1], Calls: float64(t.calls) / float64(n), Seconds: t.time.Seconds() / float64(n)}
		op.Share = op.Seconds / s.Seconds
		op.FLOP = FLOP{t.flop.Frozen / int64(n), t.flop.LoRA / int64(n), t.flop.Attention / int64(n), t.flop.Head / int64(n)}
		s.FLOP.add(op.FLOP)
		s.Operations = append(s.Operations, op)
	}
}

// rate compares times with counts and peaks.
func (r *Report) rate() {
	s, peak := r.Step, r.Peaks[len(r.Peaks)-1]
	ofPeak := func(f FLOP, seconds float64) float64 {
		if peak.Float32 == 0 || peak.of(r.DType) == 0 || seconds == 0 {
			return 0
		}
		return (float64(f.products())/peak.of(r.DType) + float64(f.Attention)/peak.Float32) / 1e9 / seconds
	}
	for i := range s.Operations {
		o := &s.Operations[i]
		o.OfPeak = ofPeak(o.FLOP, o.Seconds)
		if o.Seconds > 0 {
			o.GFLOPS = float64(o.FLOP.Total()) / 1e9 / o.Seconds
		}
	}
	s.OfPeak, s.GFLOPS = ofPeak(s.FLOP, s.Seconds), float64(s.FLOP.Total())/1e9/s.Seconds
	s.TokensPerSecond = s.Tokens / s.Seconds
}

// Rest is what a step spends outside its operations, in seconds: packing rows into a trie,
// planning, moving rows, reading the loss.
func (s *StepReport) Rest() float64 {
	rest := s.Seconds
	for _, o := range s.Operations {
		rest -= o.Seconds
	}
	return rest
}
