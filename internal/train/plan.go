package train

import (
	"context"
	"fmt"
	"math"

	"cria/internal/adapter"
	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// Plan says how a run uses memory, how much it takes at most, and how much there is to compute. No choice in it changes a
// bit of what is trained.
type Plan struct {
	Trainable  int           `json:"trainable_parameters"`
	Parameters int           `json:"all_parameters"` // with the trainable ones
	Steps      int           `json:"steps"`
	Surveyed   int           `json:"surveyed_steps"` // that Tokens, Computed and Labelled are counts of
	Tokens     Count         `json:"tokens"`         // of all rows of a step
	Computed   Count         `json:"computed_tokens"`
	Labelled   Count         `json:"labelled_tokens"`
	DType      compute.DType `json:"compute_dtype"`
	Kernels    string        `json:"kernels"`
	Threads    int           `json:"threads"`

	PassRows   int     `json:"pass_rows"` // rows of activations that a pass may have
	Passes     float64 `json:"passes"`    // of a step, forward and backward counted apart
	DropGateUp int     `json:"layers_recomputing_gate_up"`
	DropAll    int     `json:"layers_recomputing_all"`
	MapWeights bool    `json:"map_weights"` // packed anew in every operation

	EvalRows    int `json:"eval_rows"`   // of an evaluation
	Evaluations int `json:"evaluations"` // of a run that goes to its last step

	Memory Memory `json:"memory"`
	FLOP   FLOP   `json:"flop"`

	unanswered string // why no answers are made after training, or ""

	levels  []llama.Level
	collect int        // garbage collector's percentage
	need    pack.Stack // of any step
	survey  *survey
	steps   []*pack.Step // that need most memory
}

// Memory is what a run takes, in bytes.
type Memory struct {
	Weights     int64             `json:"weights"` // packed and converted copies
	Activations llama.Activations `json:"activations"`
	Scratch     int64             `json:"scratch"`
	Adapter     int64             `json:"adapter"` // with gradients and the optimizer's moments
	Runtime     int64             `json:"runtime"` // program, data, writing a checkpoint, garbage; what answering takes more
	Own         int64             `json:"own"`     // all of these, or what preparing took if that is more
	Mapped      int64             `json:"mapped"`  // the model's files, whose pages the system can take back
	Limit       int64             `json:"limit"`   // for Own; 0: none is known
}

// FLOP counts floating-point operations, recomputed ones included.
type FLOP struct {
	Mean       float64 `json:"mean_step"`
	Largest    float64 `json:"largest_step"`
	Evaluation float64 `json:"evaluation"` // of all rows, once; 0: there is none
	Job        float64 `json:"job"`        // all steps and evaluations
}

// setting is what is chosen.
type setting struct {
	rows   int
	levels []llama.Level
	mapped bool
}

// planner makes a Plan by running steps on a backend that only counts.
type planner struct {
	survey
	c       *Config // without a model
	r       *recipe.Recipe
	cfg     *llama.Config
	weights *safetensors.File
	dtype   compute.DType

	base, peak       int64 // own memory now, and at most so far
	limit, available int64 // for own memory, and of the machine for everything new
	mapped           int64 // bytes of the model's files
	sampled          []*pack.Step
	sampledTokens    int
	shape            *llama.Model
	gateUp, rest     float64 // FLOP of a token for computing again a layer's gate and up, and what else is dropped
}

// newPlan plans the run of c, whose model is that of cfg and weights.
func newPlan(ctx context.Context, c Config, r *recipe.Recipe, cfg *llama.Config, weights *safetensors.File, dtype compute.DType) (*Plan, error) {
	hollow := *c.Adapter
	hollow.Modules = append([]adapter.Module{}, hollow.Modules...)
	for i := range hollow.Modules {
		hollow.Modules[i].A, hollow.Modules[i].B = nil, nil
	}
	c.Adapter = &hollow
	p := &planner{c: &c, r: r, cfg: cfg, weights: weights, dtype: dtype}
	var err error
	if p.survey, err = c.survey(ctx); err != nil {
		return nil, err
	}
	p.base, p.peak = ownMemory()
	p.available = math.MaxInt64 / 4 // no limit
	if available := freeMemory(); available > 0 {
		p.available = available * 9 / 10
	}
	if p.limit = r.MaxMemory; p.limit == 0 {
		p.limit = p.base + p.available
	}
	for _, name := range weights.Names() {
		t, _ := weights.Tensor(name)
		p.mapped += int64(len(t.Data))
	}
	p.sampled = c.sample(&p.survey, 16)
	for _, s := range p.sampled {
		p.sampledTokens += len(s.IDs)
	}
	return p.plan(ctx)
}

// plan chooses, and checks the choice by all steps.
func (p *planner) plan(ctx context.Context) (*Plan, error) {
	if p.r.MaxMemory > 0 && p.peak > p.limit {
		return nil, p.r.Errorf("max_memory", "%s are not enough to read the tokenizer and the dataset, which took %s; set max_memory to %s or more", size(p.limit), size(p.peak), upMiB(p.peak))
	}
	trials, err := p.trials(ctx)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		best := choose(trials)
		if best == nil {
			return nil, p.refuse(trials)
		}
		plan, err := p.settle(ctx, best)
		if err != nil {
			return nil, err
		}
		over := plan.Memory.Own - best.limit
		if over <= 0 || plan.Memory.Own == p.peak {
			return plan, nil
		}
		best.tooLarge += over
		p.fit(best)
	}
}

// settle makes the plan of a trial.
func (p *planner) settle(ctx context.Context, t *trial) (*Plan, error) {
	need, most, err := p.c.demands(ctx, &p.survey, t.rows)
	if err != nil {
		return nil, err
	}
	d, err := p.dry(t.setting, need, most)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Trainable: p.c.Adapter.NumParameters(), Steps: p.c.Steps.Len(), Surveyed: p.survey.steps, Tokens: p.tokens, Computed: p.computed, Labelled: p.labelled,
		DType: p.dtype, Kernels: d.kernels, Threads: d.threads, PassRows: t.rows, Passes: t.passes / float64(len(p.sampled)), MapWeights: t.mapped,
		levels: t.levels, need: need, survey: &p.survey, steps: most}
	plan.Parameters = int(p.cfg.Parameters()) + plan.Trainable
	for _, l := range t.levels {
		switch l {
		case llama.DropGateUp:
			plan.DropGateUp++
		case llama.DropAll:
			plan.DropAll++
		}
	}
	m := &plan.Memory
	*m = Memory{Weights: d.use.Packed + d.use.Weights, Activations: d.activations, Scratch: d.use.Scratch, Adapter: d.use.Buffers - d.activations.Sum(), Mapped: p.mapped}
	if p.limit < math.MaxInt64/4 {
		m.Limit = p.limit
	}
	m.Own, plan.collect = p.own(d)
	if err := p.answering(ctx, plan, d, t.limit); err != nil {
		return nil, err
	}
	m.Own = max(m.Own, p.peak)
	m.Runtime = m.Own - m.Weights - m.Activations.Sum() - m.Scratch - m.Adapter

	mean, err := p.dry(t.setting, need, p.sampled)
	if err != nil {
		return nil, err
	}
	plan.FLOP.Mean = mean.use.FLOP / float64(p.sampledTokens) * p.computed.Mean
	if err := p.evaluating(plan, t.setting, need); err != nil {
		return nil, err
	}
	plan.FLOP.Job = plan.FLOP.Mean*float64(plan.Steps) + plan.FLOP.Evaluation*float64(plan.Evaluations)
	largest, err := p.dry(t.setting, need, []*pack.Step{p.c.pack(p.c.Steps.At(p.survey.largest))})
	if err != nil {
		return nil, err
	}
	plan.FLOP.Largest = largest.use.FLOP
	return plan, nil
}

// own is the most own memory of a run that takes what a dry run did, and the collector's percentage for it.
func (p *planner) own(d *dryRun) (bytes int64, percent int) {
	live := p.base + d.use.Bytes()
	live += 8 * int64(p.targets)                                                  // losses as they are read
	live += 4 * int64(d.need.Split) * int64(p.cfg.NumKeyValueHeads*p.cfg.HeadDim) // of keys and values of split nodes on their way
	live += 4 * int64(p.c.Adapter.NumParameters())                                // the adapter's file, while it is written
	room, percent := heapRoom(live)
	return live + room, percent
}

// dryRun is what some steps would take.
type dryRun struct {
	use         cpu.Usage
	activations llama.Activations
	need        pack.Stack
	kernels     string
	threads     int
	backend     *cpu.Backend
	loop        *Loop
}

// dry runs steps of the run without touching memory.
func (p *planner) dry(s setting, need pack.Stack, steps []*pack.Step) (*dryRun, error) {
	be := cpu.New(cpu.Options{Threads: p.r.Threads, DType: p.dtype, MapWeights: s.mapped, DryRun: true}) // there is nothing to close
	m, err := llama.Load(be, p.cfg, p.weights)
	if err != nil {
		return nil, err
	}
	p.shape = m
	c := *p.c
	c.Model, c.MaxRows, c.Levels = m, s.rows, s.levels
	l, err := newLoop(c, need, &p.survey)
	if err != nil {
		return nil, err
	}
	if err := l.rehearse(steps); err != nil {
		return nil, err
	}
	be.SumSquares(l.sums, l.grads)
	be.Update(l.params, c.Optimizer)
	return &dryRun{use: be.Usage(), activations: m.Activations(l.state.Shape), need: need, kernels: be.Name(), threads: be.Threads(), backend: be, loop: l}, nil
}

// rehearse computes steps without an update, for a backend that only takes or counts memory.
func (l *Loop) rehearse(steps []*pack.Step) error {
	drop := compute.NewDropout(l.Dropout, l.Seed, 1)
	for _, s := range steps {
		runs, _, err := s.Plan(l.MaxRows)
		if err != nil {
			return err
		}
		l.Model.RunStep(l.state, runs, drop, l.loss)
	}
	return nil
}

// Again says which activations are computed again in the backward pass.
func (p *Plan) Again() string {
	layers := func(n int, what string) string {
		if n == 1 {
			return "1 layer's " + what
		}
		return fmt.Sprintf("%d layers' %s", n, what)
	}
	switch {
	case p.DropAll > 0 && p.DropGateUp > 0:
		return layers(p.DropAll, "activations but x, k and v") + ", " + layers(p.DropGateUp, "gate and up")
	case p.DropAll > 0:
		return layers(p.DropAll, "activations but x, k and v")
	case p.DropGateUp > 0:
		return layers(p.DropGateUp, "gate and up")
	}
	return "nothing"
}
