package compat

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"cria/internal/adapter"
)

const (
	doMerge = "merge it with the program that trained it (peft: merge_and_unload), and use the merged model"
	doPEFT  = "write it as PEFT's: --fix OUT"
)

// askPEFT follows peft 0.11.1, as its source says and trying it showed: PeftModel.from_pretrained (peft_model.py) makes
// LoraConfig(**adapter_config.json) (config.py, from_peft_type; tuners/lora/config.py), puts layers into the model
// (tuners/tuners_utils.py; tuners/lora/model.py, _create_and_replace; layer.py, update_layer) and loads tensors with
// strict=False (utils/save_and_load.py, set_peft_model_state_dict).
func askPEFT(f *facts) *Verdict {
	v := &Verdict{Program: peft, Answer: Takes}
	if f.mlx {
		v.refuse("it is in MLX's layout: adapter_config.json has no peft_type (KeyError), and there is no "+adapter.TensorsName, doPEFT)
		return v
	}
	var unknown, needed []string
	for _, key := range sorted(f.keys) {
		if slices.Contains(adapter.PEFTKeys, key) {
			continue
		}
		unknown = append(unknown, key)
		if f.set(key) && adapter.Changes(key) != "" {
			needed = append(needed, key)
		}
	}
	switch {
	case len(needed) > 0:
		v.refuse(fmt.Sprintf("it does not know %s (TypeError), which the adapter needs", list(needed)), "use the version of peft that wrote it, or "+doMerge)
	case len(unknown) > 0:
		v.refuse(fmt.Sprintf("it does not know %s (TypeError: unexpected keyword argument)", list(unknown)), doFix+"; peft 0.14 and newer read it")
	}
	// Values of which it does not expect that they are null.
	for _, key := range []string{"r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "bias", "loftq_config"} {
		if f.null(key) {
			v.refuse(key+" is null, where it expects a value", doFix)
		}
	}
	switch init := strings.ToLower(f.text("init_lora_weights")); {
	case strings.HasPrefix(init, "pissa"), init == "loftq":
		v.note(fmt.Sprintf("init_lora_weights is %q: it computes that again from the base's weights when it opens the adapter, and changes them", init),
			"open it with exactly the base weights of training, or convert it: save_pretrained with path_initial_model_for_weight_conversion")
	case init != "" && init != "gaussian":
		v.refuse(fmt.Sprintf("it does not know init_lora_weights %q (ValueError), which says nothing about a finished adapter", init), "write it with true: --fix OUT")
	}
	if targets, ok := f.keys["target_modules"]; ok && string(targets) == "[]" {
		v.refuse("target_modules is empty, so it finds no module (ValueError)", "write the names of the modules: --fix OUT")
	} else if ok && strings.HasPrefix(string(targets), `"`) {
		for _, key := range []string{"layers_to_transform", "layers_pattern"} {
			if _, ok := f.keys[key]; ok && !f.null(key) {
				v.refuse(fmt.Sprintf("%s is %s beside target_modules that is an expression (ValueError)", key, f.value(key)), doFix)
			}
		}
	}
	if f.set("bias") && !slices.Contains([]string{"none", "all", "lora_only"}, f.text("bias")) {
		v.refuse(fmt.Sprintf("bias is %s, want none, all or lora_only", f.value("bias")), doMerge)
	}
	if f.set("megatron_config") {
		v.refuse("megatron_config is set, and it looks for Megatron", "set it to null in a copy, if the base is no model of Megatron")
	}
	if odd := f.odd(true); len(odd) > 0 {
		v.refuse(fmt.Sprintf("it passes over %s in silence, as the name is not base_model.model.<module>.lora_A.weight: the adapter has no effect", list(odd)),
			"write them under their right names: --fix OUT")
	}
	if task := f.text("task_type"); task != "" && task != "CAUSAL_LM" {
		v.note(fmt.Sprintf("task_type is %s: it opens the model for that task, not to write text", task), "")
	}
	return v
}

// vLLMRanks are the values of --max-lora-rank (vllm/config/lora.py, MaxLoRARanks); a rank fits where one is not below it. 16 is
// the default.
var vLLMRanks = []int{8, 16, 32, 64, 128, 256, 320, 512}

// askVLLM follows vllm/lora: peft_helper.py (PEFTHelper.from_dict: required keys, unknown ones ignored; __post_init__: one scale
// for all modules; validate_legal), lora_model.py (from_local_checkpoint, check_unexpected_modules), utils.py
// (parse_fine_tuned_lora_name, is_base_embedding_weights, get_supported_lora_modules: all linear layers, and for Llama
// embed_tokens and lm_head). Where a release would load an adapter and compute something else, that is refusing here.
func askVLLM(f *facts) *Verdict {
	v := &Verdict{Program: vllm, Answer: Takes}
	if f.mlx {
		v.refuse("it is in MLX's layout: adapter_config.json has no r, lora_alpha and target_modules, and there is no "+adapter.TensorsName, doPEFT)
		return v
	}
	for _, key := range []string{"r", "lora_alpha", "target_modules"} {
		if _, ok := f.keys[key]; !ok || f.null(key) && key != "target_modules" {
			v.refuse("adapter_config.json does not say "+key+", which it requires", "write it: --fix OUT")
		}
	}
	if f.set("bias") && f.text("bias") != "none" {
		v.refuse(fmt.Sprintf("bias is %s: it supports no biases", f.value("bias")), doMerge)
	}
	keys := f.trained()
	slices.Sort(keys)
	for _, key := range keys {
		switch key {
		case "fan_in_fan_out", "megatron_config":
		case "modules_to_save", "use_dora":
			v.refuse(fmt.Sprintf("%s is %s, which it refuses: %s", key, f.value(key), adapter.Changes(key)), doMerge)
		default:
			v.refuse(fmt.Sprintf("%s is %s, which it does not support or passes over: %s", key, f.value(key), adapter.Changes(key)), doMerge)
		}
	}
	if init := strings.ToLower(f.text("init_lora_weights")); f.changesBase() {
		v.refuse(fmt.Sprintf("init_lora_weights is %q: the adapter belongs to changed base weights, which it does not make", init),
			"convert it: peft's save_pretrained with path_initial_model_for_weight_conversion")
	}
	if odd := f.odd(false); len(odd) > 0 {
		v.refuse(fmt.Sprintf("it cannot read the name of %s (unsupported LoRA weight)", list(odd)), "write them under their right names: --fix OUT")
	}
	var whole []string
	for _, name := range f.whole() {
		if !strings.HasSuffix(name, ".embed_tokens.base_layer.weight") && !strings.HasSuffix(name, ".lm_head.base_layer.weight") {
			whole = append(whole, name)
		}
	}
	if len(whole) > 0 {
		v.refuse(fmt.Sprintf("it takes no whole weights beside the adapter: %s (unsupported LoRA weight)", list(whole)), doMerge)
	}
	supported := []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head"}
	for _, name := range f.modules() {
		if last := name[strings.LastIndex(name, ".")+1:]; !slices.Contains(supported, last) {
			v.refuse(fmt.Sprintf("module %s is not among those of a Llama that it adapts", name), doMerge)
			break
		}
	}
	if f.adapter != nil {
		scale := f.adapter.Config.LoraAlpha / float64(f.adapter.Config.R)
		if f.adapter.Config.UseRSLoRA {
			scale = f.adapter.Config.LoraAlpha / math.Sqrt(float64(f.adapter.Config.R))
		}
		if f.unscaled(func(*adapter.Module) float64 { return scale }) {
			v.refuse("its releases pass over rank_pattern and alpha_pattern and scale every module by lora_alpha and r: it would compute something else",
				"write one rank and one scale for all modules: --fix OUT")
		}
	}
	switch r := f.rank(); {
	case r > slices.Max(vLLMRanks):
		v.refuse(fmt.Sprintf("its rank %d is above %d, the most that it computes", r, slices.Max(vLLMRanks)), doMerge)
	case r > 16:
		least := vLLMRanks[slices.IndexFunc(vLLMRanks, func(n int) bool { return n >= r })]
		v.note(fmt.Sprintf("its rank %d is above 16, the default of --max-lora-rank", r), fmt.Sprintf("start it with --enable-lora --max-lora-rank %d", least))
	}
	return v
}

// changesBase reports an initialisation after which the adapter belongs to other base weights.
func (f *facts) changesBase() bool {
	init := strings.ToLower(f.text("init_lora_weights"))
	return init != "" && !slices.Contains([]string{"gaussian", "eva", "orthogonal", "mica"}, init)
}

// askLlamaCPP follows convert_lora_to_gguf.py of llama.cpp (LoraModel.get_tensors, set_gguf_parameters, and __main__) and
// llama_adapter_lora_weight::get_scale (src/llama-adapter.h): a module is scaled by lora_alpha over its own rank, whatever
// adapter_config.json says besides, and by 1 where lora_alpha is 0.
func askLlamaCPP(f *facts) *Verdict {
	v := &Verdict{Program: llamacpp, Answer: Takes}
	const self = "write it for llama.cpp: cria export --format gguf-adapter, or write one that the script reads: --fix OUT"
	if f.mlx {
		v.refuse("it is in MLX's layout: convert_lora_to_gguf.py finds no "+adapter.TensorsName, self)
		return v
	}
	if _, ok := f.keys["lora_alpha"]; !ok || f.null("lora_alpha") {
		v.refuse("adapter_config.json does not say lora_alpha, which convert_lora_to_gguf.py requires", "write it: --fix OUT")
	} else if f.adapter != nil && float32(f.adapter.Config.LoraAlpha) == 0 {
		v.refuse("lora_alpha is 0, and it scales by 1 then: it would compute something else", "write it with zeros in lora_B: --fix OUT")
	} else if alpha := f.alpha(); f.unscaled(func(m *adapter.Module) float64 { return alpha / float64(m.R) }) || f.adapter == nil && (f.set("use_rslora") || f.set("alpha_pattern")) {
		v.refuse("convert_lora_to_gguf.py passes over use_rslora and alpha_pattern: it would compute something else", self)
	}
	keys := f.trained()
	slices.Sort(keys)
	for _, key := range keys {
		switch key {
		case "fan_in_fan_out", "megatron_config", "alora_invocation_tokens":
		default:
			v.refuse(fmt.Sprintf("%s is %s, which it does not support or passes over: %s", key, f.value(key), adapter.Changes(key)), doMerge)
		}
	}
	if f.changesBase() {
		v.refuse(fmt.Sprintf("init_lora_weights is %q: the adapter belongs to changed base weights, which it does not make", f.text("init_lora_weights")),
			"convert it: peft's save_pretrained with path_initial_model_for_weight_conversion")
	}
	if odd := f.odd(false); len(odd) > 0 {
		v.refuse(fmt.Sprintf("convert_lora_to_gguf.py does not know the name of %s", list(odd)), "write them under their right names: --fix OUT")
	}
	var whole []string
	for _, name := range f.whole() {
		if !strings.Contains(name, ".base_layer.weight") && !strings.Contains(name, "_layernorm") && !strings.Contains(name, ".norm") {
			whole = append(whole, name)
		}
	}
	if len(whole) > 0 {
		v.refuse(fmt.Sprintf("convert_lora_to_gguf.py takes no whole weights beside the adapter: %s", list(whole)), doMerge)
	}
	switch base := f.text("base_model_name_or_path"); {
	case base == "":
		v.note("the adapter names no base, whose config.json convert_lora_to_gguf.py needs", "give it --base DIR")
	case !exists(base) && (strings.HasPrefix(base, "/") || strings.HasPrefix(base, ".") || strings.Count(base, "/") != 1):
		v.note(fmt.Sprintf("the adapter names %s as its base, which is not here; convert_lora_to_gguf.py needs its config.json", base), "give it --base DIR")
	}
	return v
}

func (f *facts) alpha() float64 {
	if f.adapter == nil {
		return 0
	}
	return f.adapter.Config.LoraAlpha
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// list names the first few of many.
func list(names []string) string {
	const most = 6
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most-1], ", "), len(names)-most+1)
	}
	return strings.Join(names, ", ")
}
