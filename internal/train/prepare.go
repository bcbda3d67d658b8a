package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"

	"cria/internal/adapter"
	"cria/internal/chat"
	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/safetensors"
	"cria/internal/tokenizer"
)

// Options of Prepare.
type Options struct {
	Info       func(string) // remarks for the user
	OnProgress func(Progress)
	FS         disk.FS // nil: the operating system's

	// Measure makes the job one for measuring: operations go through the backend that it returns, and output_dir is neither
	// read nor taken, so that nothing can be saved. Its steps are made by Advance.
	Measure func(compute.Backend) compute.Backend
}

// Job is a recipe made ready to run.
type Job struct {
	*Loop
	Recipe   *recipe.Recipe
	Report   data.Report
	DType    compute.DType
	Threads  int
	Plan     *Plan
	Resumed  string // checkpoint that the run goes on from, or ""
	closers  []func() error
	baseHash func() string
	damaged  []string // newer checkpoints that are not whole
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
	rows    []pack.Row
	where   func(row int) string
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
	j := &Job{Recipe: r, baseHash: sync.OnceValue(func() string { return hashBase(r.Model) })}
	defer func() {
		if err != nil {
			j.Close()
		}
	}()
	if err := supported(r); err != nil {
		return nil, err
	}
	if info, err := os.Stat(r.Model); err != nil || !info.IsDir() {
		return nil, r.Errorf("model", "%q is not a directory here; name the directory of a model in Hugging Face's format (cria import makes one of a GGUF file)", r.Model)
	}
	var m material
	if m.cfg, err = llama.ReadConfig(r.Model); err != nil {
		return nil, err
	}
	gen, err := llama.ReadGenerationConfig(r.Model)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(r.Model)
	if err != nil {
		return nil, err
	}
	if tok.VocabSize() > m.cfg.VocabSize {
		last, _ := tok.Token(int32(tok.VocabSize() - 1))
		return nil, fmt.Errorf("%s: the tokenizer has %d tokens (the last is %q), the model's vocab_size is %d; tokenizer.json or a token that tokenizer_config.json adds belongs to another model",
			r.Model, tok.VocabSize(), last, m.cfg.VocabSize)
	}
	if m.rows, m.where, err = j.readRows(ctx, tok, m.cfg, gen); err != nil {
		return nil, err
	}
	if m.weights, err = safetensors.OpenDir(r.Model); err != nil {
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
	steps, err := data.NewSteps(data.Plan{Rows: len(m.rows), Batch: r.PerDeviceTrainBatchSize, Accumulation: r.GradientAccumulationSteps,
		Epochs: r.NumTrainEpochs, MaxSteps: r.MaxSteps, Seed: r.Seed})
	if err != nil {
		return nil, err
	}
	ad, err := j.initialAdapter(m.cfg, checkpoint)
	if err != nil {
		return nil, err
	}
	if j.DType, err = chooseDType(r, checkpoint); err != nil {
		return nil, err
	}
	c := &Config{Adapter: ad, Rows: m.rows, Where: m.where, Steps: steps,
		BatchSize: r.PerDeviceTrainBatchSize, Accumulation: r.GradientAccumulationSteps, Reduction: pack.Reduction(r.LossReduction),
		Share: r.SharePrefix != "false", Dropout: r.LoRA.LoraDropout, Seed: r.Seed,
		Schedule:    schedule(r, steps.Len()),
		Optimizer:   compute.AdamW{Beta1: r.AdamBeta1, Beta2: r.AdamBeta2, Eps: r.AdamEpsilon, WeightDecay: r.WeightDecay, BFloat16: r.AdapterDtype == "bfloat16"},
		MaxGradNorm: r.MaxGradNorm, FS: o.FS, OutputDir: r.OutputDir, LoggingSteps: r.LoggingSteps.Steps(steps.Len()), SaveSteps: r.SaveSteps.Steps(steps.Len()),
		SaveTotalLimit: r.SaveTotalLimit, SaveDType: safetensors.F32, Recipe: r.Resolved(), TokenizerFiles: tokenizerFiles(r.Model), OnProgress: o.OnProgress}
	if r.AdapterDtype == "bfloat16" {
		c.SaveDType = safetensors.BF16
	}
	c.BaseHash = j.baseHash
	rowsHash := hashRows(m.rows)
	c.Identity = func() map[string]string { return identity(r, j.DType, rowsHash, j.baseHash()) }
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
	release := bound(j.Plan)
	j.closers = append(j.closers, func() error { release(); return nil })
	defer debug.FreeOSMemory() // what planning left
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
		if err := setAside(o.FS, j.damaged); err != nil {
			return err
		}
		go j.baseHash() // beside the first steps
	}
	if j.Loop, err = newLoop(*c, j.Plan.need, j.Plan.targets); err != nil {
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
	case r.EvalDataset != "" || r.EvalFraction != 0 || r.EvalSteps != 0:
		return r.Errorf("eval_steps", "evaluation during training is not there yet; remove eval_dataset, eval_fraction and eval_steps")
	case r.Device != "auto" && r.Device != "cpu":
		return r.Errorf("device", "%q is not available; this build computes on the CPU (device: auto or cpu)", r.Device)
	}
	return nil
}

// readRows reads and tokenises the dataset, and refuses what the recipe does not allow.
func (j *Job) readRows(ctx context.Context, tok *tokenizer.Tokenizer, cfg *llama.Config, gen *llama.GenerationConfig) ([]pack.Row, func(int) string, error) {
	r := j.Recipe
	set, err := data.Read(r.Dataset...)
	if err != nil {
		return nil, nil, err
	}
	var end []int32
	if r.AppendPadToken {
		id, ok := tok.Pad()
		if !ok {
			id, ok = tok.EOS()
		}
		if !ok {
			return nil, nil, r.Errorf("append_pad_token", "the tokenizer has neither a pad_token nor an eos_token; set it to false and end response_template with the model's end of turn")
		}
		end = append(end, id)
	}
	encode, err := rowFunc(r, tok, end)
	if err != nil {
		return nil, nil, err
	}
	ends := slices.Concat(cfg.EOSTokenID, gen.EOSTokenID)
	if id, ok := tok.EOS(); ok {
		ends = append(ends, int(id))
	}
	opt := data.Options{MaxLength: r.MaxLength, TooLong: r.TooLong, End: end}
	for _, id := range ends {
		opt.End = append(opt.End, int32(id))
	}
	rows, report, err := data.Encode(ctx, set.Examples, encode, opt)
	if err != nil {
		return nil, nil, err
	}
	j.Report = report
	if err := checkReport(r, &report); err != nil {
		return nil, nil, err
	}
	if report.Labelled == 0 {
		return nil, nil, r.Errorf("max_length", "no row has a token that is trained, so there is nothing to learn; raise max_length")
	}
	out := make([]pack.Row, len(rows))
	for i, row := range rows {
		out[i] = row.Row
		if len(row.IDs) > cfg.MaxPositionEmbeddings {
			return nil, nil, r.Errorf("max_length", "a row has %d tokens, the model's context window (max_position_embeddings) holds %d; set max_length to that or less", len(row.IDs), cfg.MaxPositionEmbeddings)
		}
	}
	return out, func(i int) string { return set.Examples[rows[i].Example].Where() }, nil
}

// rowFunc makes rows as the recipe's template says.
func rowFunc(r *recipe.Recipe, tok *tokenizer.Tokenizer, end []int32) (data.RowFunc, error) {
	if r.Template == recipe.TemplateChat {
		tpl, err := chat.New(tok)
		if err != nil {
			return nil, r.Errorf("template", "%v", err)
		}
		return func(e data.Example) (pack.Row, error) {
			ids, labels, err := tpl.Row(chat.Alpaca(r.System, e.Instruction, e.Input, e.Output), chat.Options{})
			if err != nil {
				return pack.Row{}, fmt.Errorf("%s: %w", e.Where(), err)
			}
			return pack.Row{IDs: append(ids, end...), Labels: append(labels, end...)}, nil
		}, nil
	}
	tpl, err := data.ParseTemplate(r.PromptTemplate, r.ResponseTemplate)
	if te := new(data.TemplateError); errors.As(err, &te) {
		return nil, r.Errorf(te.Key, "at byte %d: %s", te.Offset, te.Reason)
	}
	if err != nil {
		return nil, err
	}
	return tpl.RowFunc(tok, end...), nil
}

// checkReport stops what would be trained wrongly without anybody noticing, unless the recipe allows it by name.
func checkReport(r *recipe.Recipe, p *data.Report) error {
	var bad []error
	for _, c := range []struct {
		name, what string
		tally      data.Tally
	}{
		{"unlabelled_rows", "have no token that is trained (max_length cuts off the whole reply)", p.Unlabelled},
		{"cut_rows", fmt.Sprintf("are cut to max_length %d (the longest has %d tokens)", r.MaxLength, p.Longest), p.Cut},
		{"untrained_end", "do not train an end of turn last, so the model does not learn to stop there", p.UntrainedEnd},
	} {
		if c.tally.Rows > 0 && !slices.Contains(r.Allow, c.name) {
			bad = append(bad, r.Errorf("allow", "%d of %d rows %s, the first at %s; raise max_length or mend them, or allow it: allow: [%s]", c.tally.Rows, p.Examples, c.what, c.tally.First, c.name))
		}
	}
	return errors.Join(bad...)
}

// checkpoint finds what resume_from_checkpoint asks for, and refuses an output_dir with a run that is not to be resumed.
func (j *Job) checkpoint(o Options) (string, error) {
	r := j.Recipe
	if info, err := os.Stat(r.OutputDir); err == nil && !info.IsDir() {
		return "", r.Errorf("output_dir", "%s is a file, not a directory", r.OutputDir)
	}
	if !r.ResumeFromCheckpoint.Enabled {
		for _, name := range []string{adapter.TensorsName, "trainer_state.json", "checkpoint-*"} {
			if found, _ := filepath.Glob(filepath.Join(r.OutputDir, name)); len(found) > 0 {
				return "", r.Errorf("output_dir", "%s already holds a run (%s); go on with it by resume_from_checkpoint=true, or choose another output_dir", r.OutputDir, filepath.Base(found[0]))
			}
		}
		return "", nil
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

// initialAdapter is the checkpoint's, the one that the recipe names, or a fresh one.
func (j *Job) initialAdapter(cfg *llama.Config, checkpoint string) (*adapter.Adapter, error) {
	r := j.Recipe
	switch {
	case checkpoint != "":
		return adapter.Load(checkpoint, cfg)
	case r.Adapter != "":
		a, err := adapter.Load(r.Adapter, cfg)
		if err != nil {
			return nil, r.Errorf("adapter", "%v", err)
		}
		if err := a.CheckRecipe(wanted(r), cfg); err != nil {
			return nil, r.Errorf("adapter", "%v", err)
		}
		if a.BaseSHA256 != "" && a.BaseSHA256 != j.baseHash() {
			return nil, r.Errorf("adapter", "%s was trained on other weights than those in %s (their SHA-256 differ)", r.Adapter, r.Model)
		}
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
