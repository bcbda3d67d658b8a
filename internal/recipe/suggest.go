package recipe

import (
	"slices"
	"strings"
)

// synonyms are names that other tools use, with cria's.
var synonyms = map[string]string{
	"model_name_or_path": "model", "base_model": "model", "model_id": "model", "model_name": "model", "model_path": "model",
	"pretrained_model_name_or_path": "model",

	"data": "dataset", "datasets": "dataset", "data_path": "dataset", "dataset_path": "dataset", "dataset_name": "dataset",
	"train_file": "dataset", "train_data": "dataset",
	"chat_template": "template", "system_prompt": "system", "default_system": "system", "system_message": "system",
	"cutoff_len": "max_length", "max_seq_length": "max_length", "max_seq_len": "max_length", "sequence_len": "max_length",
	"model_max_length": "max_length", "block_size": "max_length", "max_source_length": "max_length",

	"output": "output_dir", "out_dir": "output_dir", "save_dir": "output_dir", "adapter_path": "adapter",
	"adapter_name_or_path": "adapter", "lora_model_dir": "adapter", "resume_adapter_file": "adapter",
	"resume": "resume_from_checkpoint", "auto_resume_from_checkpoints": "resume_from_checkpoint",

	"lora_rank": "lora.r", "lora_r": "lora.r", "rank": "lora.r", "alpha": "lora.lora_alpha", "dropout": "lora.lora_dropout",
	"lora_target": "lora.target_modules", "lora_target_modules": "lora.target_modules", "targets": "lora.target_modules",
	"rslora": "lora.use_rslora", "use_rs_lora": "lora.use_rslora", "lora_config": "lora", "lora_parameters": "lora",
	"lora_layers_to_transform": "lora.layers_to_transform", "peft_config": "lora",

	"micro_batch_size": "per_device_train_batch_size", "batch_size": "per_device_train_batch_size",
	"train_batch_size": "per_device_train_batch_size", "per_gpu_train_batch_size": "per_device_train_batch_size",
	"gradient_accumulation": "gradient_accumulation_steps", "accumulation_steps": "gradient_accumulation_steps",
	"grad_accumulation_steps": "gradient_accumulation_steps",
	"epochs":                  "num_train_epochs", "num_epochs": "num_train_epochs", "n_epochs": "num_train_epochs",
	"iters": "max_steps", "max_iters": "max_steps", "num_steps": "max_steps", "random_seed": "seed",

	"lr": "learning_rate", "lr_scheduler": "lr_scheduler_type", "lr_schedule": "lr_scheduler_type", "scheduler": "lr_scheduler_type",
	"num_warmup_steps": "warmup_steps", "warmup": "warmup_steps", "optimizer": "optim",
	"gradient_clipping": "max_grad_norm", "clip_grad_norm": "max_grad_norm", "beta1": "adam_beta1", "beta2": "adam_beta2",

	"log_steps": "logging_steps", "steps_per_report": "logging_steps", "save_every": "save_steps", "checkpoint_steps": "save_steps",
	"val_set_size": "eval_fraction", "val_size": "eval_fraction", "split_dataset_ratio": "eval_fraction",
	"validation_file": "eval_dataset", "val_dataset": "eval_dataset", "test_datasets": "eval_dataset", "steps_per_eval": "eval_steps",

	"dtype": "compute_dtype", "torch_dtype": "compute_dtype", "precision": "compute_dtype",
	"num_threads": "threads", "n_threads": "threads", "grad_checkpoint": "gradient_checkpointing",
}

// refused are names that other tools know and that have no counterpart, with what to do.
var refused = map[string]string{
	"min_lr":                        "write lr_scheduler_type: cosine_with_min_lr and lr_scheduler_kwargs: {min_lr: …}",
	"train_on_inputs":               "remove it: prompts are never trained, only responses",
	"train_on_prompt":               "remove it: prompts are never trained, only responses",
	"finetuning_type":               "remove it: training is always LoRA",
	"use_lora":                      "remove it: training is always LoRA",
	"stage":                         "remove it: training is always supervised fine-tuning",
	"do_train":                      "remove it: the command decides",
	"do_eval":                       "remove it: eval_dataset or eval_fraction decides",
	"load_in_4bit":                  "remove it: the base model is used in bfloat16",
	"load_in_8bit":                  "remove it: the base model is used in bfloat16",
	"quantization_bit":              "remove it: the base model is used in bfloat16",
	"packing":                       "remove it: rows are always packed, and never see each other",
	"sample_packing":                "remove it: rows are always packed, and never see each other",
	"group_by_length":               "remove it: nothing is padded, so there is nothing to gain",
	"overwrite_output_dir":          "remove it: a run is never overwritten; choose another output_dir, or set resume_from_checkpoint",
	"overwrite_cache":               "remove it: there is no cache",
	"logging_strategy":              "remove it: logging_steps decides",
	"save_strategy":                 "remove it: save_steps decides",
	"eval_strategy":                 "remove it: eval_steps decides",
	"evaluation_strategy":           "remove it: eval_steps decides",
	"data_seed":                     "remove it: seed decides the order",
	"dataloader_num_workers":        "remove it: the rows are in memory",
	"remove_unused_columns":         "remove it: rows hold nothing unused",
	"deepspeed":                     "remove it: there is no DeepSpeed here",
	"fsdp":                          "remove it: there is no FSDP here",
	"push_to_hub":                   "remove it: nothing is uploaded",
	"lora.use_dora":                 "remove it: DoRA is not implemented",
	"lora.modules_to_save":          "remove it: only LoRA weights are trained",
	"lora.init_lora_weights":        "remove it: adapters start as LoraConfig's default does",
	"lora.fan_in_fan_out":           "remove it: a Llama has no such layer",
	"lora.peft_type":                "remove it: the adapter is always LORA",
	"lora.layers_pattern":           "remove it: a Llama's layers are known",
	"lora.loftq_config":             "remove it: LoftQ is not implemented",
	"gradient_checkpointing_kwargs": "remove it: gradient_checkpointing is all there is",
}

// unimplemented are the further names of TrainingArguments; a near miss among cria's own keys would only mislead.
var unimplemented = strings.Fields(`
	prediction_loss_only per_gpu_eval_batch_size eval_accumulation_steps eval_delay
	torch_empty_cache_steps log_level log_level_replica log_on_each_node logging_dir logging_first_step logging_nan_inf_filter
	save_safetensors save_only_model no_cuda use_cpu use_mps_device bf16_full_eval fp16_full_eval tf32 local_rank ddp_backend
	dataloader_drop_last dataloader_prefetch_factor dataloader_pin_memory run_name disable_tqdm label_names
	ignore_data_skip fsdp_config accelerator_config
	label_smoothing_factor optim_args adafactor length_column_name ddp_find_unused_parameters ddp_timeout
	full_determinism torch_compile neftune_noise_alpha eval_on_start auto_find_batch_size include_tokens_per_second
	include_num_input_tokens_seen hub_model_id hub_strategy hub_token hub_private_repo`)

// unknown is the reason for a key (dotted) that does not exist.
func unknown(name string) string {
	group, last, nested := strings.Cut(name, ".")
	if !nested {
		group, last = "", name
	}
	if why, ok := refused[name]; ok {
		return "is not a key: " + why
	}
	if why, ok := refused["lora."+name]; ok {
		return "is not a key: " + why
	}
	if slices.Contains(unimplemented, name) {
		return "is not implemented: remove it"
	}
	if k := findKey(group); k != nil {
		return "is not a key: write " + group + "={" + last + ": …}"
	}
	for _, n := range []string{name, last} {
		if right, ok := synonyms[n]; ok {
			return "unknown key: here it is called " + written(right)
		}
	}
	for _, k := range table {
		if g, l, ok := strings.Cut(k.Name, "."); !ok && g == last || ok && l == last {
			return "unknown key: it belongs at " + written(k.Name)
		}
	}
	if !slices.Contains(groups, group) {
		return "unknown key" + meant(name, topLevel())
	}
	return "unknown key" + meant(last, groupKeys(group))
}

// written shows where a dotted key stands in a file.
func written(name string) string {
	group, last, nested := strings.Cut(name, ".")
	if !nested {
		return name
	}
	return last + ", under " + group
}

// topLevel returns the names that can stand at the top of a recipe.
func topLevel() []string {
	list := slices.Clone(groups)
	for _, k := range table {
		if !strings.Contains(k.Name, ".") {
			list = append(list, k.Name)
		}
	}
	return list
}

// groupKeys returns the names that can stand in a group.
func groupKeys(group string) []string {
	var list []string
	for _, k := range table {
		if name, ok := strings.CutPrefix(k.Name, group+"."); ok {
			list = append(list, name)
		}
	}
	return list
}

// meant proposes the nearest of candidates, if one is near, as a whole or in one of its words.
func meant(name string, candidates []string) string {
	name = strings.ToLower(name)
	best, distance := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		d := editDistance(name, strings.ToLower(c))
		for _, part := range strings.Split(c, "_") {
			if len(part) > 3 && len(name) > 3 {
				d = min(d, editDistance(name, part)+1)
			}
		}
		if d < distance {
			best, distance = c, d
		}
	}
	if best == "" || name == "" || distance >= max(len(name), len(best)) {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// editDistance counts the insertions, deletions, changes and swaps of neighbours that turn a into b (optimal string
// alignment). Long names are not compared: no key is that long.
func editDistance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, last, row [longest + 1]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
