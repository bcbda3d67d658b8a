package foreign

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Reasons that many keys share.
const (
	hardware  = "how the work is spread over memory and devices"
	logging   = "logs and services"
	uploads   = "uploads to a hub"
	preparing = "how rows are prepared, not what they are"
	pictures  = "pictures, video and sound, which cria's models do not take"
	after     = "generation and export after training"
	setting   = "a setting of a method that cria does not have"
	checkable = "cria measures eval_loss only"
	loading   = "how the model is loaded"
)

// sharedKeys are those that axolotl takes too, under the same names and with the same meaning.
var sharedKeys = tableOf(
	map[string]rule{
		"gradient_accumulation_steps": whole("gradient_accumulation_steps"),
		"max_steps":                   maxSteps,
		"learning_rate":               number("learning_rate"),
		"lr_scheduler_kwargs":         later, // needs lr_scheduler_type
		"warmup_steps":                warmup,
		"warmup_ratio":                warmup,
		"weight_decay":                number("weight_decay"),
		"adam_beta1":                  number("adam_beta1"),
		"adam_beta2":                  number("adam_beta2"),
		"adam_epsilon":                number("adam_epsilon"),
		"max_grad_norm":               number("max_grad_norm"),
		"output_dir":                  text("output_dir"),
		"logging_steps":               number("logging_steps"),
		"save_steps":                  later,
		"save_strategy":               later,
		"save_total_limit":            whole("save_total_limit"),
		"eval_steps":                  later,
		"eval_strategy":               later,
		"evaluation_strategy":         later,
		"load_best_model_at_end":      later,
		"seed":                        whole("seed"),
		"bf16":                        half,
		"fp16":                        half,
		"resume_from_checkpoint":      lost("another tool's checkpoint cannot be gone on from; its adapter can be started from with adapter: DIR"),
		"metric_for_best_model":       lost("the best checkpoint of cria is the one with the smallest eval_loss", "loss", "eval_loss"),
		"greater_is_better":           lost("the best checkpoint of cria is the one with the smallest eval_loss"),
	},
	each(lost("no noise is added to embeddings"), "neftune_noise_alpha"),
	each(lost("AdamW is the only optimizer"), "optim_args optim_target_modules"),
	each(lost("cria draws the rows of a step at random from all"), "group_by_length"),
	each(lost("the last, smaller step of an epoch is trained too"), "dataloader_drop_last"),
	each(lost("the batch size is what the recipe says"), "auto_find_batch_size"),
)

// trainerKeys are keys of transformers' TrainingArguments (src/transformers/training_args.py), which LLaMA-Factory and TRL take
// under their own names, as cria does.
var trainerKeys = tableOf(
	sharedKeys,
	map[string]rule{
		"per_device_train_batch_size": whole("per_device_train_batch_size"),
		"num_train_epochs":            number("num_train_epochs"),
		"lr_scheduler_type":           scheduler,
		"optim":                       optimizer,
		"report_to":                   reportTo,
		"train_sampling_strategy":     lost("cria draws the rows of a step at random from all", "random"),
		"data_seed":                   lost("the order of rows is drawn by seed"),
		"eval_delay":                  lost("cria evaluates from the first eval_steps on"),
	},
	each(lost("the loss is plain cross-entropy"), "label_smoothing_factor"),
	each(idle("cria computes activations again where memory does not suffice (gradient_checkpointing: auto)"),
		"gradient_checkpointing gradient_checkpointing_kwargs"),
	each(idle(hardware), `tf32 bf16_full_eval fp16_full_eval torch_compile torch_compile_backend torch_compile_mode use_liger_kernel
		liger_kernel_config use_cache torch_empty_cache_steps average_tokens_across_devices full_determinism use_cpu no_cuda
		accelerator_config parallelism_config dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
		dataloader_prefetch_factor remove_unused_columns label_names length_column_name ddp_find_unused_parameters
		ddp_bucket_cap_mb ddp_broadcast_buffers ddp_backend ddp_timeout fsdp fsdp_config deepspeed debug skip_memory_metrics
		local_rank save_on_each_node fp16_backend fp16_opt_level half_precision_backend jit_mode_eval tpu_num_cores
		past_index use_ipex use_mps_device ray_scope split_batches mp_parameters`),
	each(idle(logging), `logging_strategy logging_first_step logging_dir log_on_each_node logging_nan_inf_filter log_level
		log_level_replica include_num_input_tokens_seen include_tokens_per_second disable_tqdm run_name project
		trackio_space_id`),
	each(idle(checkable), `per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches
		eval_use_gather_object eval_accumulation_steps include_for_metrics include_inputs_for_metrics batch_eval_metrics`),
	each(idle(uploads), `push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
		push_to_hub_model_id push_to_hub_organization push_to_hub_token`),
	each(idle("checkpoints of cria always hold what is needed to go on"), "save_only_model save_safetensors enable_jit_checkpoint"),
	each(idle("cria goes on exactly where a checkpoint ends"), "ignore_data_skip restore_callback_states_from_checkpoint"),
	each(idle("cria train trains; the command decides"), "do_train do_eval do_predict overwrite_output_dir"),
)

// trainerPresets are defaults of TrainingArguments that are not cria's.
var trainerPresets = []preset{{"output_dir", "trainer_output", "output_dir"}}

func maxSteps(t *translation, e entry) {
	v, ok := wholeOf(e.node)
	switch {
	case !ok:
		t.mustBe(e, "a whole number")
	case v <= 0:
		t.note(Idle, "num_train_epochs decides", e.name)
	default:
		t.set("max_steps", v, e)
	}
}

// scheduler takes the names of transformers' SchedulerType.
func scheduler(t *translation, e entry) {
	name, ok := textOf(e.node)
	switch {
	case !ok:
		t.mustBe(e, "text")
	case slices.Contains([]string{"linear", "cosine", "constant", "constant_with_warmup", "polynomial", "cosine_with_min_lr"}, name):
		t.set("lr_scheduler_type", name, e)
	default:
		instead := "linear"
		if strings.HasPrefix(name, "cosine") {
			instead = "cosine"
		}
		t.set("lr_scheduler_type", instead, e)
		t.note(Lost, fmt.Sprintf("cria has no %s: %s is written instead", clip(name), instead), e.name)
	}
}

// schedulerNumbers takes lr_scheduler_kwargs.
func schedulerNumbers(t *translation) {
	e, ok := t.given["lr_scheduler_kwargs"]
	if !ok {
		return
	}
	if e.node.Kind != yaml.MappingNode {
		if !isOff(e.node) {
			t.mustBe(e, "a mapping of names to numbers")
		}
		return
	}
	known := map[string][]string{"cosine": {"num_cycles"}, "polynomial": {"lr_end", "power"}, "cosine_with_min_lr": {"num_cycles", "min_lr", "min_lr_rate"}}
	name, _ := t.values["lr_scheduler_type"].v.(string)
	if original := t.textGiven("lr_scheduler_type"); original != name {
		name = "" // another one was put in its place
	}
	var list pairs
	var from []entry
	for _, p := range t.nested(e) {
		key := strings.TrimPrefix(p.name, e.name+".")
		v, ok := numberOf(p.node)
		switch {
		case !slices.Contains(known[name], key):
			t.note(Lost, "cria's schedule does not take it", p.name)
		case !ok:
			t.mustBe(p, "a number")
		default:
			list, from = append(list, pair{key, v}), append(from, p)
		}
	}
	if len(list) > 0 {
		t.set("lr_scheduler_kwargs", list, from...)
	}
}

// nested lists the keys of a mapping with a value, and sees to it that none is forgotten.
func (t *translation) nested(e entry) (list []entry) {
	for _, p := range pairsOf(e.name+".", e.node) {
		if isNull(p.node) {
			t.note(Idle, "empty, so the default holds", p.name)
			continue
		}
		t.given[p.name] = p
		list = append(list, p)
	}
	return list
}

// warmup takes warmup_steps, below 1 a share of all steps as in transformers 5, and warmup_ratio.
func warmup(t *translation, e entry) {
	v, ok := numberOf(e.node)
	n, isWhole := wholeOf(e.node)
	switch {
	case !ok:
		t.mustBe(e, "a number")
	case v > 0 && v < 1, e.name == "warmup_ratio":
		t.set("warmup_ratio", v, e)
	case !isWhole:
		t.mustBe(e, "a whole number of steps, or a share below 1")
	default:
		t.set("warmup_steps", n, e)
	}
}

// optimizer takes the names of transformers' OptimizerNames.
func optimizer(t *translation, e entry) {
	name, ok := textOf(e.node)
	switch {
	case !ok:
		t.mustBe(e, "text")
	case slices.Contains([]string{"adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "adamw_torch_xla", "adamw_torch_npu_fused",
		"adamw_anyprecision", "paged_adamw", "paged_adamw_32bit", "optimi_adamw"}, name):
		t.note(Idle, "AdamW is cria's optimizer", e.name)
	case strings.Contains(name, "adamw") && strings.ContainsAny(name, "48") && !strings.Contains(name, "galore"):
		t.note(Changed, fmt.Sprintf("%s keeps AdamW's moments in few bits, cria in float32 (adapter_dtype)", clip(name)), e.name)
	default:
		t.note(Lost, fmt.Sprintf("cria has AdamW only, not %s: learning_rate and weight_decay may not suit it", clip(name)), e.name)
	}
}

// half takes bf16 and fp16 and the names that other tools have for them.
func half(t *translation, e entry) {
	on, ok := boolOf(e.node)
	switch {
	case !ok && (e.node.Value == "auto" || e.node.Value == "full"):
		t.note(Idle, "compute_dtype: auto, the default, takes the faster type", e.name)
	case !ok:
		t.mustBe(e, "true or false")
	case !on:
		t.note(Idle, "compute_dtype: auto, the default, takes the faster type", e.name)
	default:
		t.set("compute_dtype", "bfloat16", e)
		if strings.Contains(e.name, "16") && strings.Contains(e.name, "f") && !strings.HasPrefix(e.name, "bf") {
			t.note(Changed, "cria computes in bfloat16 where the tool does in float16", e.name)
		}
	}
}

// reportTo keeps the logs that cria has.
func reportTo(t *translation, e entry) {
	logs := []string{"jsonl"}
	for _, s := range t.list(e) {
		switch strings.ToLower(s) {
		case "tensorboard":
			logs = append(logs, "tensorboard")
		case "none":
		default:
			t.note(Idle, "cria writes jsonl, csv and tensorboard logs into output_dir", e.name)
		}
	}
	t.set("report_to", logs, e)
}

// epochShare is an epoch as a share of all steps, 1 where there is no more than one; not known where max_steps decides.
func (t *translation) epochShare() (float64, bool) {
	if t.number("max_steps", -1) > 0 {
		return 0, false
	}
	epochs := t.number("num_train_epochs", 3)
	if epochs <= 1 {
		return 1, true
	}
	return 1 / epochs, true
}

// atEnd is an interval that comes once, at the end.
const atEnd = 0.9999

// saving takes save_strategy and save_steps. The default of save_strategy is steps for transformers, epoch for axolotl.
func (t *translation) saving(strategy string) {
	if _, ok := t.values["save_steps"]; ok {
		return // saves_per_epoch goes before it
	}
	strategyKey, hasStrategy := t.given["save_strategy"]
	steps, hasSteps := t.given["save_steps"]
	if hasStrategy {
		strategy = t.textGiven("save_strategy")
	}
	switch from := slices.DeleteFunc([]entry{strategyKey, steps}, func(e entry) bool { return e.node == nil }); {
	case hasSteps && (strategy == "steps" || !hasStrategy):
		number("save_steps")(t, steps)
		t.also("save_steps", strategyKey)
	case strategy == "no":
		t.set("save_steps", int64(0), from...)
	case strategy == "epoch" || strategy == "best":
		share, ok := t.epochShare()
		switch {
		case strategy == "best":
			t.note(Changed, "cria saves every save_steps and keeps the best of these", "save_strategy")
		case !ok:
			t.note(Changed, "cria counts in steps, and without the number of rows an epoch has none: save_steps keeps its default", "save_strategy")
		case share == 1:
			t.epochly("save_steps", int64(0), from)
		default:
			t.epochly("save_steps", share, from)
		}
	case strategy != "steps":
		t.fail(strategyKey, "must be no, steps, epoch or best, not %s", show(strategyKey.node))
	}
}

// also adds what a value was made of, if it is there.
func (t *translation) also(key string, e entry) {
	if v, ok := t.values[key]; ok && e.node != nil {
		v.from = append(v.from, e)
		t.values[key] = v
	}
}

// epochly sets an interval of an epoch, which may be the tool's default.
func (t *translation) epochly(key string, v any, from []entry) {
	if len(from) == 0 {
		t.preset(key, v, "every epoch")
		return
	}
	t.set(key, v, from...)
}

// evaluating takes eval_strategy and eval_steps, after the keys that say what is evaluated.
func (t *translation) evaluating() {
	_, dataset := t.values["eval_dataset"]
	_, fraction := t.values["eval_fraction"]
	strategyName := "eval_strategy"
	if _, ok := t.given[strategyName]; !ok {
		strategyName = "evaluation_strategy"
	}
	strategy := t.textGiven(strategyName)
	strategyKey := t.given[strategyName]
	steps, hasSteps := t.given["eval_steps"]
	off := strategy == "no" || strategy == "false" // what YAML 1.1 makes of a bare no
	if !dataset && !fraction {
		for _, e := range []entry{strategyKey, steps, t.given["load_best_model_at_end"]} {
			if e.node != nil && !off {
				t.note(Lost, "nothing to evaluate is named: set eval_dataset or eval_fraction", e.name)
			}
		}
		return
	}
	_, set := t.values["eval_steps"] // evals_per_epoch goes before it
	switch {
	case set:
	case hasSteps && !off && (strategy == "" || strategy == "steps"):
		if v, ok := numberOf(steps.node); !ok || v > 0 {
			number("eval_steps")(t, steps)
			t.also("eval_steps", strategyKey)
		}
	case strategy == "epoch":
		if share, ok := t.epochShare(); ok {
			t.set("eval_steps", min(share, atEnd), strategyKey)
		} else {
			t.note(Changed, "cria counts in steps, and without the number of rows an epoch has none: eval_steps is as logging_steps", strategyName)
		}
	case off || strategy == "":
		t.values["eval_steps"] = value{v: atEnd, comment: "the tool sets rows aside and does not evaluate them while it trains"}
	}
	if t.flagGiven("load_best_model_at_end", false) {
		t.set("load_best_model_at_end", true, t.given["load_best_model_at_end"])
	}
}

// heldOut takes val_size and its like: below 1 a share of the rows, else a number of rows.
func heldOut(t *translation, e entry) {
	switch v, ok := numberOf(e.node); {
	case !ok || v < 0:
		t.mustBe(e, "a share below 1 or a number of rows")
	case v == 0:
		t.note(Idle, "nothing is set aside", e.name)
	case v < 1:
		t.set("eval_fraction", v, e)
	default:
		t.note(Lost, fmt.Sprintf("sets aside %v rows, cria takes a share: set eval_fraction to %v divided by the number of rows", v, v), e.name)
	}
}

// packed is why blocks of several rows have no counterpart.
const packed = "cria pads nothing and joins no rows: the tool's batch is so many blocks full of rows, cria's so many rows; raise per_device_train_batch_size by the number of rows in a block"
