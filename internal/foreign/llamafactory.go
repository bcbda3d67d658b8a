package foreign

import (
	"fmt"
	"slices"
	"strings"
)

// llamaFactory has the keys of LLaMA-Factory's train command (src/llamafactory/hparams: model_args.py, data_args.py,
// finetuning_args.py, training_args.py, generating_args.py), which are transformers' Seq2SeqTrainingArguments too.
var llamaFactory = &tool{
	name: "LLaMA-Factory",
	keys: tableOf(trainerKeys,
		map[string]rule{
			"model_name_or_path":   text("model"),
			"model_revision":       later,
			"adapter_name_or_path": later,
			"create_new_adapter":   lost("LLaMA-Factory merges the adapter and trains a new one; cria goes on with it"),

			"template":        lfTemplate,
			"dataset":         later,
			"eval_dataset":    later,
			"dataset_dir":     later,
			"cutoff_len":      cutoffLen,
			"train_on_prompt": trainOn("all"),
			"mask_history":    trainOn("last"),
			"max_samples":     later,
			"val_size":        heldOut,
			"default_system":  text("system"),
			"packing":         lost(packed),
			"neat_packing":    lost(packed),
			"mix_strategy":    lost("cria joins its datasets and draws from all rows", "concat"),
			"streaming":       lost("cria knows all rows and draws from all of them"),
			"tool_format":     lost("the model's own chat template writes tools"),
			"enable_thinking": lost("the model's own chat template decides", "true"),

			"stage":           stage,
			"finetuning_type": onlyLoRA,
			"lora_rank":       whole("lora.r"),
			"lora_alpha":      whole("lora.lora_alpha"),
			"lora_dropout":    number("lora.lora_dropout"),
			"lora_target":     lfTarget,
			"use_rslora":      flag("lora.use_rslora"),
			"pure_bf16":       pureBF16,

			"disable_shuffling":    lost("cria draws rows at random"),
			"early_stopping_steps": later,
			"compute_dtype":        half,
		},
		each(lost("only LoRA's matrices are trained"), "additional_target"),
		each(lost("LoRA is trained in its plain form"), `use_dora pissa_init loraplus_lr_ratio use_llama_pro freeze_extra_modules`),
		each(lost("AdamW is the only optimizer"), `use_galore use_apollo use_badam use_adam_mini use_muon`),
		each(lost("the loss is plain cross-entropy"), `use_dft_loss use_asft_loss use_eaft_loss`),
		each(lost("cria trains on the weights as they are, in 16 or 32 bits, which the result differs by"), "quantization_bit fp8"),
		each(lost("the model is taken as it is"), `rope_scaling shift_attn mixture_of_depths resize_vocab add_tokens add_special_tokens
			new_special_tokens_config train_from_scratch block_diag_attn`),
		each(lost("the model's own chat template decides"), "preserve_thinking"),
		each(lost("special tokens in the text of a row are never taken for special tokens"), "split_special_tokens"),
		each(lost("cria joins its datasets and draws from all rows"), "interleave_probs"),
		each(idle(setting), `loraplus_lr_embedding pissa_iter pissa_convert freeze_trainable_layers freeze_trainable_modules
			module_dropout dpo_label_smoothing simpo_gamma ld_alpha asft_alpha eaft_alpha quantization_method quantization_type
			double_quantization quantization_device_map moe_aux_loss_coef init_special_tokens buffer_size
			freeze_vision_tower freeze_multi_modal_projector freeze_language_model`),
		each(idle(preparing), `preprocessing_batch_size preprocessing_num_workers overwrite_cache tokenized_path
			data_shared_file_system ignore_pad_token_for_loss media_dir`),
		each(idle(hardware), `flash_attn use_unsloth use_unsloth_gc enable_liger_kernel disable_gradient_checkpointing use_reentrant_gc
			upcast_layernorm upcast_lmhead_output low_cpu_mem_usage offload_folder use_v1_kernels device_map use_mca
			use_megatron_bridge megatron_bridge_args use_hyper_parallel hyper_parallel_args hyper_parallel_cp_size
			master_addr master_port enable_torch_profiler profile_modules include_effective_tokens_per_second model_max_length`),
		each(idle(loading), "cache_dir use_fast_tokenizer adapter_folder hf_hub_token ms_hub_token om_hub_token trust_remote_code use_kv_cache"),
		each(idle(checkable), "compute_accuracy eval_on_each_dataset eval_num_beams predict_with_generate generation_max_length generation_num_beams"),
		each(idle(after), `infer_backend infer_dtype do_sample temperature top_p top_k num_beams max_length max_new_tokens
			repetition_penalty length_penalty skip_special_tokens generation_config sortish_sampler`),
		each(idle("cria writes loss.svg and report.html at the end"), "plot_loss"),
		each(idle(logging), "use_swanlab print_param_status"),
	),
	prefixes: []prefix{
		{"image_", idle(pictures)}, {"video_", idle(pictures)}, {"audio_", idle(pictures)}, {"crop_to_", idle(pictures)}, {"use_audio_", idle(pictures)},
		{"export_", idle(after)}, {"vllm_", idle(after)}, {"sglang_", idle(after)},
		{"swanlab_", idle(logging)}, {"ray_", idle(hardware)}, {"fp8_", idle(setting)}, {"kt_", idle(hardware)}, {"use_kt", idle(hardware)},
		{"profiler_", idle(hardware)}, {"galore_", idle(setting)}, {"apollo_", idle(setting)}, {"badam_", idle(setting)}, {"oft_", idle(setting)},
		{"pref_", idle(setting)}, {"kto_", idle(setting)}, {"ppo_", idle(setting)}, {"ref_model", idle(setting)}, {"reward_model", idle(setting)},
	},
	presets: append([]preset{
		{"lora.target_modules", "all-linear", "lora_target all"}, // finetuning_args.py
		{"max_length", int64(2048), "cutoff_len 2048"},           // data_args.py
	}, trainerPresets...),
	finish: finishLLaMAFactory,
}

func stage(t *translation, e entry) {
	switch s, _ := textOf(e.node); s {
	case "sft":
		t.note(Idle, "supervised fine-tuning is what cria does", e.name)
	case "pt":
		t.set("format", "text", e)
		t.note(Lost, "LLaMA-Factory joins all text and cuts it into blocks of cutoff_len; cria trains each row of text by itself", e.name)
	default:
		t.fail(e, "cria trains supervised only, not %s", show(e.node))
	}
}

func onlyLoRA(t *translation, e entry) {
	if s, _ := textOf(e.node); s != "lora" {
		t.fail(e, "cria trains LoRA adapters only, not %s", show(e.node))
		return
	}
	t.note(Idle, "LoRA is what cria trains", e.name)
}

// lfTemplate cannot take a template's name: cria renders with what the model brings.
func lfTemplate(t *translation, e entry) {
	name, ok := textOf(e.node)
	if !ok {
		t.mustBe(e, "text")
		return
	}
	t.set("template", "chat", e)
	t.note(Changed, templateNote(name, []string{"alpaca", "default", "empty", "fewshot", "vicuna"}), e.name)
}

// templateNote says how cria writes dialogues, for a template of the tool's that is some model's or, if it is in own, plain text.
func templateNote(name string, own []string) string {
	if slices.Contains(own, name) {
		return fmt.Sprintf("%s is text of the tool's own; cria uses the model's chat template (template: chat), or writes such text with template: prompt, prompt_template and response_template", clip(name))
	}
	return fmt.Sprintf("cria uses the model's own chat template (template: chat), which should be %s; compare a row with cria data RECIPE", clip(name))
}

func cutoffLen(t *translation, e entry) {
	whole("max_length")(t, e)
	t.note(Changed, "LLaMA-Factory shortens prompt and reply of a longer row in proportion; cria cuts its end, and asks first (max_cut_share, allow: [cut_rows])", e.name)
}

// trainOn is the rule of flags that say which tokens are trained.
func trainOn(what string) rule {
	return func(t *translation, e entry) {
		if t.flagGiven(e.name, false) {
			t.set("train_on", what, e)
		}
	}
}

func lfTarget(t *translation, e entry) {
	switch list := t.list(e); {
	case slices.Equal(list, []string{"all"}):
		t.set("lora.target_modules", "all-linear", e)
	case len(list) > 0:
		t.set("lora.target_modules", list, e)
	}
}

// pureBF16 keeps the adapter in bfloat16 too (model/adapter.py: cast_trainable_params_to_fp32).
func pureBF16(t *translation, e entry) {
	if t.flagGiven(e.name, false) {
		t.set("compute_dtype", "bfloat16", e)
		t.set("adapter_dtype", "bfloat16", e)
	}
}

func finishLLaMAFactory(t *translation) {
	t.revision("model_revision")
	if e, ok := t.given["adapter_name_or_path"]; ok {
		if list := t.list(e); len(list) == 1 {
			t.set("adapter", list[0], e)
		} else if len(list) > 1 {
			t.fail(e, "cria starts from one adapter: merge the first %d into the model with cria merge", len(list)-1)
		}
	}
	if _, ok := t.values["lora.lora_alpha"]; !ok { // parser.py: lora_alpha or lora_rank * 2
		t.preset("lora.lora_alpha", int64(2*t.number("lora.r", 8)), "lora_alpha 2 * lora_rank")
	}
	schedulerNumbers(t)
	t.lfDatasets()
	t.saving("steps")
	t.evaluating()
	t.earlyStopping("early_stopping_steps")
}

// revision puts a branch, tag or commit behind the model's name on a hub.
func (t *translation) revision(name string) {
	model, _ := t.values["model"].v.(string)
	e, ok := t.given[name]
	if !ok || model == "" {
		return
	}
	switch s := t.textGiven(name); {
	case s == "main":
		t.note(Idle, "main is the default", name)
	case onHub(place(model)):
		t.set("model", model+"@"+s, append(slices.Clone(t.values["model"].from), e)...)
	default:
		t.note(Idle, "the model is a directory", name)
	}
}

// earlyStopping takes a number of evaluations without improvement.
func (t *translation) earlyStopping(name string) {
	e, ok := t.given[name]
	if !ok || isOff(e.node) {
		return
	}
	if t.values["load_best_model_at_end"].v != true {
		t.note(Lost, "cria stops early only with load_best_model_at_end: true, eval_steps, and save_steps a multiple of these", name)
		return
	}
	whole("early_stopping_patience")(t, e)
}

func (t *translation) lfDatasets() {
	info := t.datasetInfo()
	train := t.lfSources("dataset", info)
	if e, ok := t.given["max_samples"]; ok {
		switch n, ok := wholeOf(e.node); {
		case !ok || n < 1:
			t.mustBe(e, "a whole number of at least 1")
		case len(train) < 2:
			t.set("max_samples", n, e)
		default: // LLaMA-Factory counts in each dataset, loader.py
			for i := range train {
				if !strings.Contains(train[i].path, "#") {
					train[i].path = fmt.Sprintf("%s#%d", train[i].path, n)
				}
			}
			train[0].from = append(train[0].from, e)
			t.note(Changed, "the first rows of each dataset; cria draws as many of each by seed", e.name)
		}
	}
	t.datasets("dataset", train)
	t.datasets("eval_dataset", t.lfSources("eval_dataset", info))
}
