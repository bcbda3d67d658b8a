package foreign

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"
)

// axolotl has the keys of axolotl's train command (src/axolotl/utils/schemas: config.py, model.py, peft.py, training.py,
// deprecated.py; what they come to in src/axolotl/core/builders/base.py and causal.py).
var axolotl = &tool{
	name: "axolotl",
	keys: tableOf(
		sharedKeys,
		map[string]rule{
			"base_model":        text("model"),
			"revision_of_model": later,
			"adapter":           later,
			"lora_model_dir":    text("adapter"),

			"lora_r":                      whole("lora.r"),
			"lora_alpha":                  whole("lora.lora_alpha"),
			"lora_dropout":                number("lora.lora_dropout"),
			"lora_target_modules":         later,
			"lora_target_linear":          later,
			"lora_rank_pattern":           modulePattern("lora.rank_pattern"),
			"lora_alpha_pattern":          modulePattern("lora.alpha_pattern"),
			"peft_layers_to_transform":    layerList,
			"peft_use_rslora":             flag("lora.use_rslora"),
			"peft_init_lora_weights":      lost("A is drawn at random and B is zero", "true"),
			"peft_autocast_adapter_dtype": castAdapter,
			"peft_use_dora":               lost("LoRA is trained in its plain form"),

			"datasets":                later,
			"test_datasets":           later,
			"val_set_size":            heldOut,
			"chat_template":           axolotlTemplate,
			"default_system_message":  text("system"),
			"special_tokens":          specialTokens,
			"train_on_inputs":         trainOn("all"),
			"sequence_len":            whole("max_length"),
			"excess_length_strategy":  tooLong,
			"sample_packing":          lost(packed),
			"max_packed_sequence_len": lost(packed),
			"plugins":                 plugins,

			"micro_batch_size":    whole("per_device_train_batch_size"),
			"batch_size":          later,
			"num_epochs":          number("num_train_epochs"),
			"lr_scheduler":        scheduler,
			"cosine_min_lr_ratio": later,
			"optimizer":           optimizer,
			"bfloat16":            half,
			"float16":             half,

			"saves_per_epoch":              later,
			"evals_per_epoch":              later,
			"early_stopping_patience":      later,
			"auto_resume_from_checkpoints": flag("resume_from_checkpoint"),
			"use_tensorboard":              tensorboard,
			"noisy_embedding_alpha":        sharedKeys["neftune_noise_alpha"],
		},
		each(refuse("cria trains supervised only"), "rl reward_model process_reward_model"),
		each(lost("the adapter belongs to the linear layers; nothing else is trained"), `lora_modules_to_save lora_target_parameters
			peft_trainable_token_indices unfrozen_parameters embedding_lr embedding_lr_scale`),
		each(lost("LoRA is trained in its plain form"), `loraplus_lr_ratio relora lisa_n_layers lisa_step_interval peft
			peft_layer_replication peft_layers_pattern lora_fan_in_fan_out peft_ensure_weight_tying lr_groups`),
		each(lost("cria trains on the weights as they are, in 16 or 32 bits, which the result differs by"),
			"load_in_8bit load_in_4bit gptq fp8 qat quantization model_quantization_config use_onebitllms"),
		each(lost("the vocabulary and the model are taken as they are"), `tokens added_tokens_overrides
			resize_token_embeddings_to_32x shrink_embeddings reinit_weights overrides_of_model_config overrides_of_model_kwargs
			fix_untrained_tokens rope_scaling s2_attention use_pose scaling_softmax tokenizer_config base_model_config`),
		each(lost("the model's own chat template decides"), "chat_template_jinja chat_template_kwargs eot_tokens"),
		each(lost("the learning rate has no such part"), "cosine_constant_lr_ratio lr_quadratic_warmup lr_div_factor jagged_restart_steps"),
		each(lost("cria draws the rows of a step at random from all"), "curriculum_sampling sample_packing_sequentially streaming"),
		each(lost("cria trains rows as they are, with their duplicates"), "dataset_exact_deduplication min_sample_len dataset_shard_num"),
		each(lost("cria trains rows of text one by one: name them under dataset"), "pretraining_dataset"),
		each(lost("the loss is plain cross-entropy"), "use_eaft"),
		each(lost("cria stops at a value that is not finite"), "loss_watchdog_threshold loss_watchdog_patience"),
		each(lost("cria's own training loop is used"), "trainer_cls"),
		each(idle(setting), `jagged_restart_warmup_steps jagged_restart_anneal_steps lisa_layers_attribute loraplus_lr_embedding
			adam_beta3 adam_epsilon2 bnb_config_kwargs model_quantization_config_kwargs scaling_softmax_factor scaling_softmax_bias
			center_rewards_coefficient num_labels precompute_ref_log_probs orpo_alpha simpo_gamma cpo_alpha rl_beta trl vllm ebft
			eaft_alpha eaft_k dataset_shard_idx mean_resizing_embeddings torchdistx_path rpo_alpha freeze_mm_modules`),
		each(idle(preparing), `dataset_prepared_path dataset_processes dataset_num_proc dataset_keep_in_memory skip_prepare_dataset
			num_dataset_shards_to_save push_dataset_to_hub shuffle_merged_datasets shuffle_before_merging_datasets
			eval_sample_packing sample_packing_group_size sample_packing_bin_size sample_packing_mp_start_method
			sample_packing_eff_est pad_to_sequence_len pad_to_multiple_of multipack_real_batches batch_flattening
			eval_sequence_len max_prompt_len streaming_multipack_buffer_size total_num_tokens total_supervised_tokens
			is_preprocess preprocess_iterable remove_unused_columns`),
		each(idle(hardware), `gradient_checkpointing gradient_checkpointing_kwargs selective_checkpointing activation_offloading
			layer_offloading flash_attention flash_attn_cross_entropy flash_attn_fuse_mlp flash_optimum flash_attn_rms_norm
			sdp_attention xformers_attention flex_attention flex_attn_compile_kwargs sage_attention eager_attention
			attn_implementation deepspeed deepcompile fsdp fsdp_config fsdp_version fsdp_final_state_dict_type ddp local_rank
			world_size device device_map max_memory gpu_memory_limit lora_on_cpu lora_mlp_kernel lora_qkv_kernel lora_o_kernel
			lora_embedding_kernel chunked_cross_entropy chunked_cross_entropy_num_chunks tiled_mlp tiled_mlp_num_shards
			tiled_mlp_use_original_mlp torch_compile torch_compile_backend torch_compile_mode torch_compile_options tf32 float32
			dataloader_pin_memory dataloader_num_workers dataloader_prefetch_factor accelerator_config gc_steps gc_collect_steps
			torch_empty_cache_steps dp_shard_size dp_replicate_size sequence_parallel_degree context_parallel_size heads_k_stride
			ring_attn_func tensor_parallel_size cut_cross_entropy use_kernels low_cpu_mem_usage qlora_sharded_model_loading
			fp32_norms fp32_norm_classes embeddings_skip_upcast use_ray resources_per_worker profiler_steps profiler_steps_start
			experimental_skip_move_to_device dynamic_checkpoint flash_attn_d512 sdpa_varlen fused_attn_kernel
			large_head_attention gemma4_hybrid_attn_impl experts_implementation quantize_moe_experts llama4_linearized_experts
			fp8_enable_fsdp_float8_all_gather`),
		each(idle(loading), `model_type tokenizer_type tokenizer_use_fast tokenizer_legacy type_of_model processor_type trust_remote_code
			is_llama_derived_model is_mistral_derived_model is_falcon_derived_model is_qwen_derived_model cls_model_config
			hf_use_auth_token tokenizer_use_mistral_common tokenizer_save_jinja_files save_safetensors axolotl_config_path
			processor_kwargs torch_dtype`),
		each(idle(logging), "include_tokens_per_second include_tkps use_wandb use_mlflow use_comet use_trackio use_swanlab use_otel_metrics strict debug"),
		each(idle(checkable), `eval_batch_size eval_table_size eval_max_new_tokens do_causal_lm_eval eval_causal_lm_metrics do_bench_eval
			bench_dataset bench_split`),
		each(idle(after), "generate_samples num_generation_samples merge_lora merge_method"),
		each(idle(uploads), "hub_model_id hub_strategy hub_revision"),
		each(idle("checkpoints of cria always hold what is needed to go on"), "save_only_model save_first_step"),
	),
	prefixes: []prefix{
		{"wandb_", idle(logging)}, {"mlflow_", idle(logging)}, {"swanlab_", idle(logging)}, {"gptq_", idle(setting)}, {"hf_mlflow_", idle(logging)}, {"comet_", idle(logging)},
		{"trackio_", idle(logging)}, {"otel_", idle(logging)}, {"gradio_", idle(after)}, {"generation_", idle(after)},
		{"ray_", idle(hardware)}, {"ddp_", idle(hardware)}, {"liger_", idle(hardware)}, {"relora_", idle(setting)},
		{"pose_", idle(setting)}, {"pretrain", idle(setting)}, {"dpo_", idle(setting)}, {"kto_", idle(setting)},
		{"dion_", idle(setting)}, {"qgalore_", idle(setting)}, {"image_", idle(pictures)},
	},
	presets: []preset{
		{"per_device_train_batch_size", int64(1), "micro_batch_size 1"}, // training.py
		{"num_train_epochs", 1.0, "num_epochs 1"},                       // training.py
		{"lr_scheduler_type", "cosine", "lr_scheduler cosine"},          // training.py
		{"max_length", int64(512), "sequence_len 512"},                  // config.py
		{"too_long", "drop", "excess_length_strategy drop"},             // utils/data/utils.py
		{"output_dir", "./model-out", "output_dir"},                     // model.py
		{"save_total_limit", int64(4), "save_total_limit 4"},            // builders/base.py
		{"logging_steps", 0.005, "logging_steps, at most 10"},           // builders/base.py
	},
	finish: finishAxolotl,
}

func modulePattern(key string) rule {
	return func(t *translation, e entry) {
		if e.node.Kind != yaml.MappingNode {
			t.mustBe(e, "a mapping of module names to whole numbers")
			return
		}
		var list pairs
		for _, p := range pairsOf("", e.node) {
			if v, ok := wholeOf(p.node); ok {
				list = append(list, pair{p.name, v})
			} else {
				t.mustBe(entry{e.name, p.key, p.node}, "a whole number")
			}
		}
		if len(list) > 0 {
			t.set(key, list, e)
		}
	}
}

func layerList(t *translation, e entry) {
	if e.node.Kind != yaml.SequenceNode {
		whole("lora.layers_to_transform")(t, e)
		return
	}
	var list []int64
	for _, n := range e.node.Content {
		v, ok := wholeOf(n)
		if !ok {
			t.mustBe(entry{e.name, e.key, n}, "a layer number")
		}
		list = append(list, v)
	}
	if len(list) > 0 {
		t.set("lora.layers_to_transform", list, e)
	}
}

func castAdapter(t *translation, e entry) {
	if !t.flagGiven(e.name, true) {
		t.set("adapter_dtype", "bfloat16", e)
	}
}

func axolotlTemplate(t *translation, e entry) {
	name, ok := textOf(e.node)
	switch {
	case !ok:
		t.mustBe(e, "text")
	case name == "tokenizer_default":
		t.set("template", "chat", e)
	default:
		t.set("template", "chat", e)
		t.note(Changed, templateNote(name, []string{"alpaca", "metharme", "jinja"}), e.name)
	}
}

// specialTokens takes padding for what it is: nothing in cria.
func specialTokens(t *translation, e entry) {
	if e.node.Kind != yaml.MappingNode {
		lost("the tokenizer is taken as it is")(t, e)
		return
	}
	for _, p := range t.nested(e) {
		if p.name == "special_tokens.pad_token" {
			t.note(Idle, "cria pads nothing", p.name)
		} else {
			t.note(Lost, "the tokenizer is taken as it is; special tokens of the chat template should be in it", p.name)
		}
	}
}

func tooLong(t *translation, e entry) {
	words := map[string]string{"drop": "drop", "truncate": "cut", "raise": "error"}
	s, _ := textOf(e.node)
	word, ok := words[s]
	if !ok {
		t.mustBe(e, "drop, truncate or raise")
		return
	}
	t.set("too_long", word, e)
	if word == "cut" {
		t.note(Changed, "cria asks before it cuts rows (max_cut_share, allow: [cut_rows])", e.name)
	}
}

func plugins(t *translation, e entry) {
	for _, p := range t.list(e) {
		switch p {
		case "axolotl.integrations.liger.LigerPlugin", "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin":
			t.note(Idle, hardware, e.name)
		default:
			t.note(Lost, fmt.Sprintf("%s may change the training", clip(p)), e.name)
		}
	}
}

func tensorboard(t *translation, e entry) {
	if t.flagGiven(e.name, false) {
		t.set("report_to", []string{"jsonl", "tensorboard"}, e)
	}
}

func finishAxolotl(t *translation) {
	t.axolotlAdapter()
	t.revision("revision_of_model")
	t.axolotlBatch()
	t.axolotlSchedule()
	t.axolotlDatasets()
	t.perEpoch("saves_per_epoch", "save_steps")
	t.saving("epoch")
	t.perEpoch("evals_per_epoch", "eval_steps")
	t.evaluating()
	t.earlyStopping("early_stopping_patience")
}

// axolotlAdapter refuses full fine-tuning, which is what an absent adapter means.
func (t *translation) axolotlAdapter() {
	switch e, ok := t.given["adapter"]; {
	case !ok:
		t.errs = append(t.errs, fault(t.file, nil, "adapter", "is not given, so axolotl trains all weights; cria trains LoRA adapters only: write adapter: lora"))
	case e.node.Value == "lora":
		t.note(Idle, "LoRA is what cria trains", e.name)
	case e.node.Value == "qlora":
		t.note(Lost, "cria trains on the weights as they are, in 16 or 32 bits, which the result differs by", e.name)
	default:
		t.fail(e, "cria trains LoRA adapters only, not %s", show(e.node))
	}
	modules, hasModules := t.given["lora_target_modules"]
	all := t.given["lora_target_linear"]
	linearToo := t.flagGiven("lora_target_linear", false)
	var list []string
	if hasModules && linearToo {
		list = t.list(modules)
	}
	switch others := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(linear, s) }); {
	case !linearToo && hasModules && !isOff(modules.node):
		targets(t, modules)
	case !linearToo:
		if _, ok := t.values["adapter"]; !ok {
			t.note(Lost, "neither lora_target_modules nor lora_target_linear is given: cria's default, q_proj and v_proj, holds")
		}
	default:
		t.set("lora.target_modules", "all-linear", all)
		if len(others) == 0 && hasModules {
			t.note(Idle, "lora_target_linear takes all linear layers", "lora_target_modules")
		} else if hasModules {
			t.note(Lost, fmt.Sprintf("%v beside all linear layers", others), "lora_target_modules")
		}
	}
	for _, key := range []string{"lora_r", "lora_alpha"} {
		if t.given[key].node == nil && t.given["lora_model_dir"].node == nil {
			t.note(Lost, "is not given, and axolotl has no default: that of cria, 8, holds", key)
		}
	}
}

// axolotlBatch takes batch_size, of which gradient_accumulation_steps follow (utils/config/__init__.py).
func (t *translation) axolotlBatch() {
	e, ok := t.given["batch_size"]
	if !ok {
		return
	}
	n, isWhole := wholeOf(e.node)
	micro := int64(t.number("per_device_train_batch_size", 1))
	switch {
	case !isWhole || micro < 1:
		t.mustBe(e, "a whole number")
	case t.given["gradient_accumulation_steps"].node != nil:
		t.note(Idle, "gradient_accumulation_steps is given", e.name)
	default:
		t.set("gradient_accumulation_steps", max(n/micro, 1), e)
	}
}

// axolotlSchedule takes what belongs to the learning rate.
func (t *translation) axolotlSchedule() {
	if t.given["learning_rate"].node == nil {
		t.note(Lost, "is not given, and axolotl has no default: that of cria, 5e-5, holds", "learning_rate")
	}
	schedulerNumbers(t)
	if e, ok := t.given["cosine_min_lr_ratio"]; ok {
		v, isNumber := numberOf(e.node)
		name, _ := t.values["lr_scheduler_type"].v.(string)
		switch {
		case !isNumber:
			t.mustBe(e, "a number")
		case name != "" && name != "cosine":
			t.note(Idle, "lr_scheduler is not cosine", e.name)
		default:
			t.set("lr_scheduler_type", "cosine_with_min_lr", append(slices.Clone(t.values["lr_scheduler_type"].from), e)...)
			t.set("lr_scheduler_kwargs", pairs{{"min_lr_rate", v}}, e)
		}
	}
	_, steps := t.values["warmup_steps"]
	_, ratio := t.values["warmup_ratio"]
	switch {
	case steps && ratio: // builders/base.py: warmup_steps goes first
		for _, e := range t.values["warmup_ratio"].from {
			t.note(Idle, "warmup_steps goes before it", e.name)
		}
		delete(t.values, "warmup_ratio")
	case !steps && !ratio:
		t.preset("warmup_ratio", 0.03, "warm-up of 3% of all steps, at most 100")
	}
	t.preset("num_train_epochs", 1.0, "num_epochs 1") // epochShare needs it
}

// perEpoch takes a number of times in an epoch as a share of all steps (utils/config/__init__.py).
func (t *translation) perEpoch(name, key string) {
	e, ok := t.given[name]
	if !ok || isOff(e.node) {
		return
	}
	n, isNumber := numberOf(e.node)
	share, known := t.epochShare()
	_, dataset := t.values["eval_dataset"]
	_, fraction := t.values["eval_fraction"]
	epochs := t.number("num_train_epochs", 1)
	switch {
	case !isNumber || n < 0:
		t.mustBe(e, "a number of times in an epoch")
		return
	case t.given[key].node != nil:
		t.note(Idle, key+" is given", name)
		return
	case key == "eval_steps" && !dataset && !fraction:
		t.note(Idle, "nothing is evaluated", name)
		return
	case !known:
		t.note(Changed, "cria counts in steps, and without the number of rows an epoch has none: "+key+" keeps its default", name)
	case n*epochs <= 1 || share == 1 && n == 1:
		t.set(key, atEnd, e)
	default:
		t.set(key, 1/(n*epochs), e)
	}
}
