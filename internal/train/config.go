package train

import (
	"context"
	"path/filepath"
	"slices"

	"cria/internal/adapter"
	"cria/internal/compute"
	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/safetensors"
)

// Config is everything that a Loop needs. Prepare makes it from a recipe.
type Config struct {
	Model   *llama.Model
	Adapter *adapter.Adapter // starts as the initial one; saves write the trained weights into it

	Rows  data.Rows
	Steps *data.Steps
	Eval  data.Rows // rows of evaluation; nil: none

	BatchSize    int // per_device_train_batch_size
	Accumulation int // gradient_accumulation_steps
	Reduction    pack.Reduction
	Share        bool
	Dropout      float64
	Seed         uint64

	Schedule    Schedule
	Optimizer   compute.AdamW // the scalars that do not change from step to step
	MaxGradNorm float64       // 0: no clipping

	MaxRows int           // rows of activations that a pass may use; 0: no bound
	Levels  []llama.Level // what each layer computes again in the backward pass; nil: nothing

	FS             disk.FS
	OutputDir      string
	LoggingSteps   int
	SaveSteps      int
	ReportTo       []string // log files: jsonl, csv, tensorboard
	SaveTotalLimit int      // checkpoints that are kept, the best and the newest always; 0: all
	EvalSteps      int      // steps between evaluations, where there are rows for it
	LoadBest       bool     // the final adapter is that of the best checkpoint
	Patience       int      // evaluations without a better one that end the run; 0: none do
	Threshold      float64
	SaveDType      safetensors.DType // of the adapter's tensors
	Recipe         []byte            // resolved, written beside every adapter
	TokenizerFiles []string          // copied beside every adapter
	Identity       func() map[string]string
	BaseHash       func() string    // of the frozen weights; nil: not recorded
	Record         func() RunRecord // what the run is made of; nil: not recorded

	OnProgress func(Progress)

	prompts      []prompt // that are answered after training
	maxNewTokens int      // of an answer
}

// pack turns a step of the plan into its trie.
func (c *Config) pack(plan data.Step) *pack.Step {
	mbs := make([][]pack.Row, len(plan.MicroBatches))
	for i, mb := range plan.MicroBatches {
		mbs[i] = make([]pack.Row, len(mb))
		for k, r := range mb {
			mbs[i][k] = c.Rows.Row(r)
		}
	}
	return pack.NewStep(mbs, c.Reduction, c.Accumulation, c.Share)
}

// Recomputes says whether layers compute activations again in the backward pass.
func (c *Config) Recomputes() bool {
	return slices.ContainsFunc(c.Levels, func(l llama.Level) bool { return l != llama.KeepAll })
}

// New allocates the run's memory and attaches the adapter to the model.
func New(c Config) (*Loop, error) {
	s, err := c.survey(context.Background())
	if err != nil {
		return nil, err
	}
	need, _, err := c.demands(context.Background(), &s, c.MaxRows)
	if err != nil {
		return nil, err
	}
	return newLoop(c, need, &s)
}

// newLoop allocates for the steps and the evaluation that s has seen, none of which needs a larger stack.
func newLoop(c Config, need pack.Stack, s *survey) (*Loop, error) {
	l, targets := &Loop{Config: c, groups: s.groups}, s.targets
	be := c.Model.Backend()
	for _, m := range c.Adapter.Modules {
		if c.Optimizer.BFloat16 {
			roundBFloat16(m.A)
			roundBFloat16(m.B)
		}
		lo, err := c.Model.Attach(m.Layer, m.Kind, m.R, m.A, m.B, m.Scale, true)
		if err != nil {
			return nil, err
		}
		l.loras = append(l.loras, lo)
		for _, t := range []struct {
			suffix string
			w, g   compute.Buffer
		}{{".lora_A.weight", lo.A, lo.DA}, {".lora_B.weight", lo.Bt, lo.DB}} {
			p := compute.Param{W: t.w, G: t.g, M: be.Alloc(t.w.Rows(), t.w.Cols()), V: be.Alloc(t.w.Rows(), t.w.Cols())}
			l.params, l.grads, l.names = append(l.params, p), append(l.grads, p.G), append(l.names, "base_model.model."+m.Name+t.suffix)
		}
	}
	need.Rows = max(need.Rows, 1)
	l.state = c.Model.NewState(llama.Shape{Stack: need, Levels: c.Levels})
	l.loss, l.nll = be.Alloc(1, max(targets, 1)), make([]float32, targets)
	l.sums = make([]float64, len(l.grads))
	return l, nil
}

// roundBFloat16 does what peft does to an adapter beside a bfloat16 model.
func roundBFloat16(x []float32) {
	for i := range x {
		x[i] = compute.RoundBFloat16(x[i])
	}
}

// Checkpoint is the directory in which the step that was made last is saved.
func (l *Loop) Checkpoint() string { return filepath.Join(l.OutputDir, checkpointName(l.step)) }

// Step is the number of optimizer steps made so far.
func (l *Loop) Step() int { return l.step }
