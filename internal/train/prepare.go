package train

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"cria/internal/adapter"
	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// Options of Prepare.
type Options struct {
	Info       func(string)       // remarks for the user
	OnRead     func(examples int) // called now and then while rows are tokenised, with how many were read
	OnProgress func(Progress)
	OnAnswer   func(done, all int) // called before each answer that is made after training (Job.Answer)
	CPU        string              // the processor's name, for the report; "": not known
	FS         disk.FS             // nil: the operating system's
	Cache      string              // directory of tokenised rows; "": the user's, none where there is no place for one

	// Find turns the name of a model, an adapter ("model") or a dataset ("dataset") that is no path into a directory; nil:
	// all are paths.
	Find func(ctx context.Context, name, kind string) (string, error)

	// Measure makes the job one for measuring: operations go through the backend that it returns, and output_dir is neither
	// read nor taken, so that nothing can be saved. Its steps are made by Advance.
	Measure func(compute.Backend) compute.Backend
}

// Job is a recipe made ready to run.
type Job struct {
	*Loop
	Recipe   *recipe.Recipe
	Data     *Data // nil in a Synthetic job
	Report   data.Report
	DType    compute.DType
	Threads  int
	Plan     *Plan
	Resumed  string // checkpoint that the run goes on from, or ""
	closers  []func() error
	baseHash func() string
	damaged  []string // newer checkpoints that are not whole
	initial  string   // SHA-256 of the adapter's weights that the recipe starts from
	cpu      string   // name

	answers
}

// Parameters counts as peft's get_nb_trainable_parameters: the adapter's elements, and all of the model's with them.
func (j *Job) Parameters() (trainable, all int) { return j.Plan.Trainable, j.Plan.Parameters }

// Close gives back the model's files and the lock on output_dir.
func (j *Job) Close() {
	for i := len(j.closers) - 1; i >= 0; i-- {
		j.closers[i]()
	}
}

// Prepare checks the whole recipe with its model, data, adapter and memory before anything is written, then takes
// output_dir for this run and, where asked to, the state of a checkpoint.
func Prepare(ctx context.Context, r *recipe.Recipe, o Options) (*Job, error) {
	return prepare(ctx, r, o, (*Job).assemble)
}

// MakePlan checks a recipe as Prepare does and plans its run, without weights and without output_dir, which is not looked
// at.
func MakePlan(ctx context.Context, r *recipe.Recipe, o Options) (*Plan, *data.Report, error) {
	j, err := prepare(ctx, r, o, func(j *Job, ctx context.Context, m material, _ Options) error {
		_, err := j.configure(ctx, m, Options{FS: disk.OS{}}, "")
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	j.Close()
	return j.Plan, &j.Report, nil
}

// material is what a run is made of.
type material struct {
	cfg     *llama.Config
	weights *safetensors.File
	rows    data.Rows
	eval    data.Rows // nil: none

	tokenizer []string // files that make the tokenizer
}

// prepare reads what a recipe names and hands it to use.
func prepare(ctx context.Context, r *recipe.Recipe, o Options, use func(*Job, context.Context, material, Options) error) (_ *Job, err error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Info == nil {
		o.Info = func(string) {}
	}
	defer tight(r.MaxMemory)()
	j := &Job{Recipe: r, cpu: o.CPU}
	j.baseHash = sync.OnceValue(func() string { return hashBase(j.Data.ModelDir) })
	defer func() {
		if err != nil {
			j.Close()
		}
	}()
	if err := supported(r); err != nil {
		return nil, err
	}
	d, err := Rows(ctx, r, o)
	if err != nil {
		return nil, err
	}
	j.closers = append(j.closers, d.Close)
	if err := d.Check(); err != nil {
		return nil, err
	}
	j.Report, j.Data = d.Report, d
	m := material{cfg: d.Config, rows: d.Train, eval: d.Eval, tokenizer: tokenizerFiles(d.ModelDir)}
	if m.weights, err = safetensors.OpenDir(d.ModelDir); err != nil {
		return nil, err
	}
	j.closers = append(j.closers, m.weights.Close)
	if err := use(j, ctx, m, o); err != nil {
		return nil, err
	}
	return j, nil
}

// configure makes the configuration of a loop that lacks only the model, and plans its memory.
func (j *Job) configure(ctx context.Context, m material, o Options, checkpoint string) (*Config, error) {
	r := j.Recipe
	steps, err := data.NewSteps(data.Plan{Rows: m.rows.Len(), Batch: r.PerDeviceTrainBatchSize, Accumulation: r.GradientAccumulationSteps,
		Epochs: r.NumTrainEpochs, MaxSteps: r.MaxSteps, Seed: r.Seed})
	if err != nil {
		return nil, err
	}
	ad, err := j.initialAdapter(ctx, m.cfg, o, checkpoint)
	if err != nil {
		return nil, err
	}
	if j.DType, err = chooseDType(r, checkpoint); err != nil {
		return nil, err
	}
	c := &Config{Adapter: ad, Rows: m.rows, Steps: steps, Eval: m.eval,
		BatchSize: r.PerDeviceTrainBatchSize, Accumulation: r.GradientAccumulationSteps, Reduction: pack.Reduction(r.LossReduction),
		Share: r.SharePrefix != "false", Dropout: r.LoRA.LoraDropout, Seed: r.Seed,
		Schedule:    schedule(r, steps.Len()),
		Optimizer:   compute.AdamW{Beta1: r.AdamBeta1, Beta2: r.AdamBeta2, Eps: r.AdamEpsilon, WeightDecay: r.WeightDecay, BFloat16: r.AdapterDtype == "bfloat16"},
		MaxGradNorm: r.MaxGradNorm, FS: o.FS, OutputDir: r.OutputDir, ReportTo: r.ReportTo, LoggingSteps: r.LoggingSteps.Steps(steps.Len()), SaveSteps: r.SaveSteps.Steps(steps.Len()),
		SaveTotalLimit: r.SaveTotalLimit, SaveDType: safetensors.F32, Recipe: r.Resolved(), TokenizerFiles: m.tokenizer, OnProgress: o.OnProgress}
	if err := j.configureEval(c); err != nil {
		return nil, err
	}
	j.configureAnswers(c, o)
	if r.AdapterDtype == "bfloat16" {
		c.SaveDType = safetensors.BF16
	}
	c.BaseHash = j.baseHash
	rowsHash := sync.OnceValue(func() string { return hashRows(m.rows) })
	c.Identity = func() map[string]string { return identity(r, j.DType, rowsHash(), j.baseHash()) }
	c.Record = j.record(c)
	if j.Plan, err = newPlan(ctx, *c, r, m.cfg, m.weights, j.DType); err != nil {
		return nil, err
	}
	c.MaxRows, c.Levels = j.Plan.PassRows, j.Plan.levels
	return c, nil
}

// assemble makes the loop.
func (j *Job) assemble(ctx context.Context, m material, o Options) error {
	r, checkpoint := j.Recipe, ""
	var err error
	if o.Measure == nil {
		if checkpoint, err = j.checkpoint(o); err != nil {
			return err
		}
	}
	c, err := j.configure(ctx, m, o, checkpoint)
	if err != nil {
		return err
	}
	begin, release := bound(j.Plan)
	j.closers = append(j.closers, func() error { release(); return nil })
	defer begin()
	be := cpu.New(cpu.Options{Threads: r.Threads, DType: j.DType, MapWeights: j.Plan.MapWeights})
	j.closers = append(j.closers, func() error { be.Close(); return nil })
	j.Threads = be.Threads()
	var backend compute.Backend = be
	if o.Measure != nil {
		backend = o.Measure(be)
	}
	if c.Model, err = llama.Load(backend, m.cfg, m.weights); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.Measure == nil {
		if err := j.takeOutputDir(c.Adapter); err != nil {
			return err
		}
		if err := j.unused(); err != nil { // another run may have come and gone since it was asked first
			return err
		}
		if err := setAside(o.FS, j.damaged); err != nil {
			return err
		}
		go j.baseHash() // beside the first steps
	}
	if j.Loop, err = newLoop(*c, j.Plan.need, j.Plan.survey); err != nil {
		return err
	}
	if o.Measure == nil {
		be.Rehearse(func() { err = j.rehearse(j.Plan.steps) })
	}
	j.Plan.steps = nil
	if err != nil || checkpoint == "" {
		return err
	}
	j.Resumed = checkpoint
	return j.load(checkpoint)
}

// supported refuses by name what recipes can say and this version does not do yet.
func supported(r *recipe.Recipe) error {
	switch {
	case r.Device != "auto" && r.Device != "cpu":
		return r.Errorf("device", "%q is not available; this build computes on the CPU (device: auto or cpu)", r.Device)
	}
	return nil
}

// checkpoint finds what resume_from_checkpoint asks for, and refuses an output_dir with a run that is not to be resumed.
func (j *Job) checkpoint(o Options) (string, error) {
	r := j.Recipe
	if info, err := os.Stat(r.OutputDir); err == nil && !info.IsDir() {
		return "", r.Errorf("output_dir", "%s is a file, not a directory", r.OutputDir)
	}
	if err := j.unused(); err != nil || !r.ResumeFromCheckpoint.Enabled {
		return "", err
	}
	if dir := r.ResumeFromCheckpoint.Dir; dir != "" {
		if _, err := disk.Verify(o.FS, dir); err != nil && !errors.Is(err, disk.ErrExtra) {
			return "", r.Errorf("resume_from_checkpoint", "%v", err)
		}
		return dir, nil
	}
	if err := disk.CleanTemps(o.FS, r.OutputDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	whole, damaged, err := NewestCheckpoint(o.FS, r.OutputDir, o.Info)
	j.damaged = damaged
	return whole, err
}

// unused refuses an output_dir with a run that is not the one to be resumed.
func (j *Job) unused() error {
	r := j.Recipe
	if from := r.ResumeFromCheckpoint; from.Enabled {
		if from.Dir == "" {
			return nil
		}
		of, err := os.Stat(filepath.Dir(filepath.Clean(from.Dir)))
		out, none := os.Stat(r.OutputDir)
		if err != nil || none != nil || os.SameFile(of, out) {
			return nil
		}
	}
	for _, name := range []string{adapter.TensorsName, trainerStateFile, "checkpoint-*"} {
		if found := disk.Match(r.OutputDir, name); len(found) > 0 {
			return r.Errorf("output_dir", "%s already holds a run (%s); go on with it by resume_from_checkpoint=true, or choose another output_dir", r.OutputDir, filepath.Base(found[0]))
		}
	}
	return nil
}

// initialAdapter is the checkpoint's, the one that the recipe names, or a fresh one.
func (j *Job) initialAdapter(ctx context.Context, cfg *llama.Config, o Options, checkpoint string) (*adapter.Adapter, error) {
	r := j.Recipe
	switch {
	case checkpoint != "":
		j.noteInitial("", checkpoint)
		return adapter.Load(checkpoint, cfg)
	case r.Adapter != "":
		dir, err := o.find(ctx, r.Adapter, "model")
		if err != nil {
			return nil, r.Errorf("adapter", "%v", err)
		}
		a, err := adapter.Load(dir, cfg)
		if err != nil {
			return nil, r.Errorf("adapter", "%v", err)
		}
		if err := a.CheckRecipe(wanted(r), cfg); err != nil {
			return nil, r.Errorf("adapter", "%v", err)
		}
		if a.BaseSHA256 != "" && a.BaseSHA256 != j.baseHash() {
			return nil, r.Errorf("adapter", "%s was trained on other weights than those in %s (their SHA-256 differ)", r.Adapter, r.Model)
		}
		j.noteInitial(dir, "")
		a.Config.LoraDropout, a.Config.BaseModelNameOrPath = r.LoRA.LoraDropout, r.Model
		return a, nil
	}
	a, err := adapter.New(adapter.Config{BaseModelNameOrPath: r.Model, TaskType: "CAUSAL_LM", R: r.LoRA.R, LoraAlpha: float64(r.LoRA.LoraAlpha),
		LoraDropout: r.LoRA.LoraDropout, UseRSLoRA: r.LoRA.UseRSLoRA, TargetModules: targets(r), LayersToTransform: r.LoRA.LayersToTransform,
		RankPattern: pattern(r.LoRA.RankPattern), AlphaPattern: pattern(r.LoRA.AlphaPattern)}, cfg, r.Seed)
	if err != nil {
		return nil, r.Errorf("lora", "%v", err)
	}
	return a, nil
}

func targets(r *recipe.Recipe) adapter.Targets {
	return adapter.Targets{List: r.LoRA.TargetModules.List, Expr: r.LoRA.TargetModules.Pattern}
}

func pattern(p recipe.Pattern) (out adapter.Pattern) {
	for _, e := range p {
		out = append(out, adapter.PatternEntry{Key: e.Key, Value: float64(e.Value)})
	}
	return out
}

// wanted is what the recipe says itself about the adapter that it starts from.
func wanted(r *recipe.Recipe) (w adapter.Wanted) {
	if r.IsSet("lora.r") {
		w.R = &r.LoRA.R
	}
	if r.IsSet("lora.lora_alpha") {
		alpha := float64(r.LoRA.LoraAlpha)
		w.LoraAlpha = &alpha
	}
	if r.IsSet("lora.use_rslora") {
		w.UseRSLoRA = &r.LoRA.UseRSLoRA
	}
	if r.IsSet("lora.target_modules") {
		t := targets(r)
		w.TargetModules = &t
	}
	if r.IsSet("lora.layers_to_transform") {
		w.LayersToTransform = &r.LoRA.LayersToTransform
	}
	if r.IsSet("lora.rank_pattern") {
		p := pattern(r.LoRA.RankPattern)
		w.RankPattern = &p
	}
	if r.IsSet("lora.alpha_pattern") {
		p := pattern(r.LoRA.AlphaPattern)
		w.AlphaPattern = &p
	}
	return w
}

// chooseDType resolves compute_dtype: auto is what the checkpoint was trained with, else the faster one here.
func chooseDType(r *recipe.Recipe, checkpoint string) (compute.DType, error) {
	if r.ComputeDtype != "auto" {
		return compute.DType(r.ComputeDtype), nil
	}
	if checkpoint != "" {
		var st runState
		if err := readJSON(filepath.Join(checkpoint, stateFile), &st); err != nil {
			return "", err
		}
		if d := st.Identity["compute_dtype"]; d != "" {
			return compute.DType(d), nil
		}
	}
	return cpu.FasterDType(), nil
}

// schedule is the recipe's, with the defaults of transformers.
func schedule(r *recipe.Recipe, total int) Schedule {
	s := Schedule{Type: r.LRSchedulerType, LR: r.LearningRate, Total: total, Warmup: r.WarmupSteps, NumCycles: 0.5, LREnd: 1e-7, Power: 1}
	if s.Warmup <= 0 {
		s.Warmup = int(math.Ceil(float64(total) * r.WarmupRatio))
	}
	for k, v := range r.LRSchedulerKwargs {
		switch k {
		case "num_cycles":
			s.NumCycles = v
		case "lr_end":
			s.LREnd = v
		case "power":
			s.Power = v
		case "min_lr":
			s.MinLRRate = v / r.LearningRate
		case "min_lr_rate":
			s.MinLRRate = v
		}
	}
	return s
}

// tokenizerFiles are the files of a model directory that make a tokenizer, those that exist.
func tokenizerFiles(dir string) (out []string) {
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			out = append(out, filepath.Join(dir, name))
		}
	}
	return out
}

// takeOutputDir tests that checkpoints would fit, makes output_dir and locks it.
func (j *Job) takeOutputDir(a *adapter.Adapter) error {
	r := j.Recipe
	need := uint64(a.NumParameters())*12*2 + 64<<20
	if free, err := disk.FreeSpace(r.OutputDir); err == nil && free < need {
		return r.Errorf("output_dir", "%s has %d MB free, two checkpoints need %d MB; make room or choose another output_dir", r.OutputDir, free>>20, need>>20)
	}
	if err := disk.MkdirAll(disk.OS{}, r.OutputDir); err != nil {
		return r.Errorf("output_dir", "%v", err)
	}
	lock, err := disk.LockDir(r.OutputDir)
	if err != nil {
		return r.Errorf("output_dir", "%v", err)
	}
	j.closers = append(j.closers, lock.Release)
	return nil
}
