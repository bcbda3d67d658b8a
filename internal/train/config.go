package train

import (
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

	Rows  []pack.Row
	Where func(row int) string // where a row comes from, for messages
	Steps *data.Steps

	BatchSize    int // per_device_train_batch_size
	Accumulation int // gradient_accumulation_steps
	Reduction    pack.Reduction
	Share        bool
	Dropout      float64
	Seed         uint64

	Schedule    Schedule
	Optimizer   compute.AdamW // the scalars that do not change from step to step
	MaxGradNorm float64       // 0: no clipping

	MaxRows   int  // rows of activations that a pass may use; 0: no bound
	Recompute bool // gradient_checkpointing

	FS             disk.FS
	OutputDir      string
	LoggingSteps   int
	SaveSteps      int
	SaveTotalLimit int
	SaveDType      safetensors.DType // of the adapter's tensors
	Recipe         []byte            // resolved, written beside every adapter
	TokenizerFiles []string          // copied beside every adapter
	Identity       func() map[string]string
	BaseHash       func() string // of the frozen weights; nil: not recorded

	OnProgress func(Progress)
}

// New allocates the run's memory and attaches the adapter to the model.
func New(c Config) (*Loop, error) {
	l := &Loop{Config: c}
	be := c.Model.Backend()
	for _, m := range c.Adapter.Modules {
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
			l.params = append(l.params, trained{"base_model.model." + m.Name + t.suffix, p})
		}
	}
	// The largest step decides what is allocated, once.
	rows, targets := 0, 0
	for i := range c.Steps.Len() {
		step, _, need, err := l.pack(c.Steps.At(i))
		if err != nil {
			return nil, err
		}
		rows, targets = max(rows, need), max(targets, len(step.Targets))
	}
	l.state = c.Model.NewState(max(rows, 1), c.Recompute)
	l.loss = be.Alloc(1, max(targets, 1))
	return l, nil
}

// Step is the number of optimizer steps made so far.
func (l *Loop) Step() int { return l.step }
