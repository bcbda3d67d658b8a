package foreign

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// trl has the keys of trl sft (trl/trainer/sft_config.py, base_config.py, model_config.py, trl/scripts/utils.py), which are
// transformers' TrainingArguments too, also as trainer code writes them to JSON.
var trl = &tool{
	name: "TRL",
	keys: tableOf(trainerKeys,
		map[string]rule{
			"model_name_or_path": text("model"),
			"model_revision":     later,

			"dataset_name":         later,
			"dataset_config":       lost("a part of a repository; " + wholeHub),
			"dataset_train_split":  lost(wholeHub, "train"),
			"dataset_test_split":   later,
			"datasets":             later,
			"test_split_size":      heldOut,
			"dataset_text_field":   textField,
			"max_length":           whole("max_length"),
			"max_seq_length":       whole("max_length"), // before TRL 0.20
			"truncation_mode":      lost("cria cuts the end of a row", "keep_start"),
			"packing":              lost(packed),
			"completion_only_loss": later,
			"assistant_only_loss":  later,
			"loss_type":            lost("the loss is plain cross-entropy", "nll", "chunked_nll"),
			"chat_template_path":   lost("the model's own chat template is used"),
			"eos_token":            lost("the tokenizer's end token, or that of the chat template, ends a row"),
			"pad_token":            idle("cria pads nothing"),

			"use_peft":            later,
			"lora_r":              whole("lora.r"),
			"lora_alpha":          whole("lora.lora_alpha"),
			"lora_dropout":        number("lora.lora_dropout"),
			"lora_target_modules": targets,
			"use_rslora":          flag("lora.use_rslora"),
			"lora_task_type":      lost("every model is a causal language model", "causal_lm"),
			"dtype":               idle(loading),
			"torch_dtype":         idle(loading),
		},
		each(lost("the adapter belongs to the linear layers; nothing else is trained"), "lora_modules_to_save lora_target_parameters"),
		each(lost("LoRA is trained in its plain form"), "use_dora"),
		each(lost("cria trains on the weights as they are, in 16 or 32 bits, which the result differs by"), "load_in_8bit load_in_4bit"),
		each(lost("cria knows all rows and draws from all of them"), "streaming dataset_streaming"),
		each(idle(setting), "bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage router_aux_loss_coef packing_strategy eval_packing"),
		each(idle(preparing), "dataset_kwargs dataset_num_proc dataset_batch_size pad_to_multiple_of padding_free shuffle_dataset"),
		each(idle(hardware), "attn_implementation activation_offloading ignore_bias_buffers env"),
		each(idle(loading), "model_init_kwargs trust_remote_code"),
	),
	prefixes: []prefix{{"fsdp_", idle(hardware)}, {"hub_", idle(uploads)}},
	presets: append([]preset{
		{"lora.r", int64(16), "lora_r 16"},               // model_config.py
		{"lora.lora_alpha", int64(32), "lora_alpha 32"},  // model_config.py
		{"lora.lora_dropout", 0.05, "lora_dropout 0.05"}, // model_config.py
		{"learning_rate", 2e-5, "learning_rate 2e-5"},    // sft_config.py
		{"logging_steps", int64(10), "logging_steps 10"}, // base_config.py
	}, trainerPresets...),
	finish: finishTRL,
}

// textField is the column of texts; with its default cria finds the columns of any format by itself.
func textField(t *translation, e entry) {
	s, ok := textOf(e.node)
	switch {
	case !ok:
		t.mustBe(e, "text")
	case s == "text":
		t.note(Idle, "cria looks for a column text by itself", e.name)
	default:
		t.set("columns", pairs{{"text", s}}, e)
	}
}

func finishTRL(t *translation) {
	t.revision("model_revision")
	switch e, ok := t.given["use_peft"]; {
	case ok && !t.flagGiven("use_peft", true):
		t.fail(e, "without it TRL trains all weights; cria trains LoRA adapters only")
	case ok:
		t.note(Idle, "LoRA is what cria trains", "use_peft")
	default:
		t.note(Lost, "is not in the file, and without it TRL trains all weights; cria trains a LoRA adapter. Where the adapter's LoraConfig is set in code, set r, lora_alpha, lora_dropout and target_modules by it", "use_peft")
	}
	if !slices.Contains(t.nulls, "max_length") { // null is no limit
		t.preset("max_length", int64(1024), "max_length 1024") // sft_config.py
	}
	if t.given["bf16"].node == nil {
		t.preset("compute_dtype", "bfloat16", "bf16 true where fp16 is not true") // base_config.py
	}
	schedulerNumbers(t)
	t.trlData()
	t.trlLoss()
	t.saving("steps")
	t.evaluating()
}

// trlLoss takes what is trained (sft_config.py): for rows of prompt and completion the completion, else everything.
func (t *translation) trlLoss() {
	only, hasOnly := t.given["completion_only_loss"]
	assistant, hasAssistant := t.given["assistant_only_loss"]
	switch {
	case t.flagGiven("assistant_only_loss", false):
		t.set("train_on", "replies", assistant)
	case hasOnly && t.flagGiven("completion_only_loss", false):
		t.set("train_on", "replies", only)
	case hasOnly:
		t.set("train_on", "all", only)
	default:
		t.values["train_on"] = value{v: "all", comment: "TRL trains all tokens of messages and text; for rows of prompt and completion write replies"}
		if hasAssistant {
			t.set("train_on", "all", assistant)
		}
		t.note(Changed, "TRL trains all tokens of messages and text, prompts too, but of rows of prompt and completion the completion: for these write train_on: replies", "assistant_only_loss")
	}
}

func (t *translation) trlData() {
	var list []source
	if e, ok := t.given["datasets"]; ok && !isOff(e.node) {
		if e.node.Kind != yaml.SequenceNode {
			t.mustBe(e, "a list of datasets")
			return
		}
		for _, n := range e.node.Content {
			if n.Kind != yaml.MappingNode {
				t.mustBe(entry{e.name, e.key, n}, "a mapping with a path")
				continue
			}
			list = append(list, t.trlSource(entry{e.name, e.key, n})...)
		}
		if d, ok := t.given["dataset_name"]; ok {
			t.note(Idle, "datasets goes before it", d.name)
		}
	} else if e, ok := t.given["dataset_name"]; ok {
		s, _ := textOf(e.node)
		list = []source{{path: place(s), from: []entry{e}}}
	}
	t.datasets("dataset", list)
	if e, ok := t.given["dataset_test_split"]; ok && t.given["eval_strategy"].node != nil {
		t.note(Lost, "cria evaluates what eval_dataset or eval_fraction names", e.name)
	}
}

// trlSource reads one dataset of a mixture (trl/scripts/utils.py, DatasetConfig).
func (t *translation) trlSource(e entry) []source {
	var s source
	var files []string
	for _, p := range t.nested(e) {
		name := strings.TrimPrefix(p.name, e.name+".")
		v, isText := textOf(p.node)
		switch {
		case name == "path" && isText:
			s.path = place(v)
			s.from = append(s.from, p)
		case name == "data_files" && p.node.Kind != yaml.MappingNode:
			files = t.list(p)
			s.from = append(s.from, p)
		case name == "split" && v == "train":
			t.note(Idle, "the rows for training are read", p.name)
		case name == "columns":
			t.note(Idle, "cria reads the columns that it needs", p.name)
		case slices.Contains([]string{"name", "data_dir", "data_files", "split"}, name):
			t.note(Lost, wholeHub, p.name)
		case name == "fraction":
			t.note(Lost, "cria takes all rows of each dataset; path#500 draws 500 of them", p.name)
		default:
			t.note(Unknown, "", p.name)
		}
	}
	switch {
	case s.path == "":
		t.fail(e, "a dataset needs a path")
		return nil
	case len(files) > 0 && onHub(s.path):
		t.note(Lost, wholeHub, e.name+".data_files")
		return []source{s}
	case len(files) > 0 && slices.Contains([]string{"json", "csv", "parquet", "text"}, s.path):
		return s.files("", files)
	case len(files) > 0:
		return s.files(s.path, files)
	}
	return []source{s}
}
