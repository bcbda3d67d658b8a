package recipe

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

type scheduler struct {
	name   string
	kwargs []string
}

// schedulers are the learning rate schedules and the lr_scheduler_kwargs that each takes (transformers/optimization.py).
var schedulers = []scheduler{
	{"linear", nil},
	{"cosine", []string{"num_cycles"}},
	{"constant", nil},
	{"constant_with_warmup", nil},
	{"polynomial", []string{"lr_end", "power"}},
	{"cosine_with_min_lr", []string{"num_cycles", "min_lr", "min_lr_rate"}},
}

func schedulerNames() []string {
	var list []string
	for _, s := range schedulers {
		list = append(list, s.name)
	}
	return list
}

// check adds the faults that lie between keys. A key that is faulty itself has its default here, which makes no new ones.
func (l *loader) check() {
	r := l.recipe
	for i := range table {
		if k := &table[i]; k.required && !l.faulty(k.Name) && isUnset(k.value(r)) {
			l.errs = append(l.errs, &Error{File: r.file, Key: k.Name, place: r.places[k.Name],
				Reason: "is required: " + lowerFirst(k.Meaning)})
		}
	}
	if r.OutputDir == "" && !l.faulty("output_dir") {
		l.failKey("output_dir", "must not be empty")
	}
	l.checkPaths()
	l.checkTemplate()
	l.checkSchedule()
	l.checkEngine()

	if float32(r.AdamEpsilon) == 0 && !l.faulty("adam_epsilon") {
		l.failKey("adam_epsilon", "%v is 0 in float32: AdamW would divide by zero", r.AdamEpsilon)
	}
	if r.LoRA.LayersToTransform != nil && r.LoRA.TargetModules.Pattern != "" {
		l.failKey("lora.layers_to_transform", "needs target_modules as a list of names: a text already says which layers")
	}
	if r.EvalDataset != nil && r.EvalFraction > 0 {
		l.failKey("eval_fraction", "cannot be used with eval_dataset: one of them says what is evaluated")
	}
	if r.EvalSteps > 0 && r.EvalDataset == nil && r.EvalFraction == 0 && !l.faulty("eval_dataset") && !l.faulty("eval_fraction") {
		l.failKey("eval_steps", "needs eval_dataset or eval_fraction")
	}
	if r.LoadBestModelAtEnd && r.EvalDataset == nil && r.EvalFraction == 0 && !l.faulty("eval_dataset") && !l.faulty("eval_fraction") {
		l.failKey("load_best_model_at_end", "needs eval_dataset or eval_fraction")
	}
	if r.EarlyStoppingPatience > 0 && !r.LoadBestModelAtEnd && !l.faulty("load_best_model_at_end") {
		l.failKey("early_stopping_patience", "needs load_best_model_at_end: true, or the final adapter would be one that is not better")
	}
	if r.greater {
		l.failKey("greater_is_better", "must be false: eval_loss is what is compared, and less of it is better")
	}
	if slices.Contains(r.ReportTo, "none") && len(r.ReportTo) > 1 {
		l.failKey("report_to", "cannot name logs beside none")
	}
}

// checkPaths refuses a home directory's ~, which only shells replace: output_dir would be a directory of that name.
func (l *loader) checkPaths() {
	r := l.recipe
	for key, paths := range map[string][]string{"model": {r.Model}, "dataset": r.Dataset, "adapter": {r.Adapter}, "output_dir": {r.OutputDir},
		"resume_from_checkpoint": {r.ResumeFromCheckpoint.Dir}, "eval_dataset": r.EvalDataset} {
		for _, p := range paths {
			if p == "~" || strings.HasPrefix(p, "~/") {
				l.failKey(key, "%s begins with ~, which is not replaced here: write the whole path", clip(p))
			}
		}
	}
}

func (l *loader) checkTemplate() {
	r := l.recipe
	if l.faulty("template") {
		return
	}
	templates := []string{"prompt_template", "response_template"}
	switch r.Template {
	case TemplatePrompt:
		for _, key := range templates {
			if isUnset(findKey(key).value(r)) && !l.faulty(key) {
				l.failKey(key, "is required with template: prompt")
			}
		}
		if r.System != "" {
			l.failKey("system", "cannot be used with template: prompt: write it into prompt_template")
		}
	case TemplateChat:
		for _, key := range templates {
			if !isUnset(findKey(key).value(r)) {
				l.failKey(key, "needs template: prompt, with template: chat the model's own template is used")
			}
		}
		if r.AppendPadToken {
			l.failKey("append_pad_token", "needs template: prompt, a chat template ends its replies itself")
		}
	}
}

func (l *loader) checkSchedule() {
	r := l.recipe
	if l.faulty("lr_scheduler_type") || l.faulty("lr_scheduler_kwargs") || l.faulty("learning_rate") {
		return
	}
	i := slices.IndexFunc(schedulers, func(s scheduler) bool { return s.name == r.LRSchedulerType })
	known := schedulers[i].kwargs
	kwargs := r.LRSchedulerKwargs
	for _, name := range slices.Sorted(maps.Keys(kwargs)) {
		v := kwargs[name]
		switch {
		case !slices.Contains(known, name):
			takes := "none"
			if len(known) > 0 {
				takes = strings.Join(known, ", ")
			}
			l.failKey("lr_scheduler_kwargs", "%s is not known to lr_scheduler_type: %s, which takes %s", clip(name), r.LRSchedulerType, takes)
		case name == "num_cycles" && math.Abs(v) > 1e9:
			l.failKey("lr_scheduler_kwargs", "num_cycles must be a number of turns, not %v", v)
		case name == "power" && v <= 0:
			l.failKey("lr_scheduler_kwargs", "power must be above 0, not %v", v)
		case name == "min_lr_rate" && (v < 0 || v > 1):
			l.failKey("lr_scheduler_kwargs", "min_lr_rate must be from 0 to 1, not %v", v)
		case name == "min_lr" && (v < 0 || v > r.LearningRate):
			l.failKey("lr_scheduler_kwargs", "min_lr must be from 0 to learning_rate %v, not %v", r.LearningRate, v)
		}
	}
	_, minLR := kwargs["min_lr"]
	_, minRate := kwargs["min_lr_rate"]
	switch r.LRSchedulerType {
	case "cosine_with_min_lr":
		if minLR == minRate {
			l.failKey("lr_scheduler_kwargs", "needs one of min_lr and min_lr_rate with lr_scheduler_type: cosine_with_min_lr")
		}
	case "polynomial":
		end, ok := kwargs["lr_end"]
		if !ok {
			end = 1e-7 // get_polynomial_decay_schedule_with_warmup's default
		}
		if end < 0 || end >= r.LearningRate {
			l.failKey("lr_scheduler_kwargs", "lr_end %v must be from 0 to below learning_rate %v", end, r.LearningRate)
		}
	case "constant":
		if r.WarmupSteps > 0 || r.WarmupRatio > 0 {
			l.note("lr_scheduler_type: constant has no warm-up, so warmup_steps and warmup_ratio have no effect; constant_with_warmup has one")
		}
	}
	if r.WarmupSteps > 0 && r.WarmupRatio > 0 {
		l.note("warmup_steps is given, so warmup_ratio has no effect")
	}
}

// checkEngine resolves what stands for something else, and writes the notes on keys without effect.
func (l *loader) checkEngine() {
	r := l.recipe
	if r.bf16 && r.fp16 {
		l.failKey("fp16", "cannot be used with bf16")
	}
	half := "bf16"
	if r.fp16 {
		half = "fp16"
	}
	switch {
	case !r.bf16 && !r.fp16:
	case r.IsSet("compute_dtype") && r.ComputeDtype != "bfloat16":
		l.failKey(half, "is at odds with compute_dtype: %s", r.ComputeDtype)
	default:
		r.ComputeDtype = "bfloat16"
		l.note("%s: true sets compute_dtype: bfloat16", half)
	}
	for _, k := range table {
		if k.noEffect && k.Name != "bf16" && k.Name != "fp16" && r.IsSet(k.Name) {
			l.note("%s has no effect: %s", k.Name, lowerFirst(k.Meaning))
		}
	}
}

// lowerFirst makes a sentence the end of another one.
func lowerFirst(s string) string {
	if word, _, _ := strings.Cut(s, " "); word != strings.ToUpper(word[:1])+strings.ToLower(word[1:]) {
		return s // a name such as AdamW
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func (l *loader) note(format string, args ...any) {
	l.recipe.Notes = append(l.recipe.Notes, fmt.Sprintf(format, args...))
}

// failKey adds a fault at the place where key was set.
func (l *loader) failKey(key, format string, args ...any) {
	l.errs = append(l.errs, &Error{File: l.recipe.file, place: l.recipe.places[key], Key: key, Reason: fmt.Sprintf(format, args...)})
}

// faulty tells whether key already has a fault.
func (l *loader) faulty(key string) bool {
	return slices.ContainsFunc(l.errs, func(e *Error) bool {
		return e.Key == key || strings.HasPrefix(e.Key, key+"[") || strings.HasPrefix(e.Key, key+".")
	})
}
