package recipe

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// read parses text as recipe.yaml.
func read(text string, overrides ...string) (*Recipe, error) {
	return parse("recipe.yaml", []byte(text), overrides)
}

// bareOf returns a copy without what differs by origin alone.
func bareOf(r *Recipe) Recipe {
	c := *r
	c.Notes, c.origin = nil, origin{}
	return c
}

const least = "model: m\ndataset: d.json\n"

func TestTutorial(t *testing.T) {
	r, err := Load("testdata/tutorial.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := *defaults()
	want.Model = "LLM-Research/Meta-Llama-3.1-8B-Instruct"
	want.Dataset = []string{"huanhuan.json"}
	want.Template = TemplatePrompt
	want.PromptTemplate = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n" +
		"Today Date: 26 Jul 2024\n\n现在你要扮演皇帝身边的女人--甄嬛<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n" +
		"{instruction}{input}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
	want.ResponseTemplate = "{output}<|eot_id|>"
	want.AppendPadToken = true
	want.MaxLength = 384
	want.OutputDir = "output/llama3_1_instruct_lora"
	want.LoRA = LoRA{R: 8, LoraAlpha: 32, LoraDropout: 0.1,
		TargetModules: TargetModules{List: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}}
	want.PerDeviceTrainBatchSize, want.GradientAccumulationSteps = 4, 4
	want.LearningRate, want.LoggingSteps, want.SaveSteps = 1e-4, 10, 100
	want.LossReduction = "microbatch_mean"
	if got := bareOf(r); !reflect.DeepEqual(got, bareOf(&want)) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if len(r.Notes) > 0 {
		t.Errorf("notes %q", r.Notes)
	}
	if !r.IsSet("lora.r") || r.IsSet("lora.use_rslora") || r.IsSet("max_steps") {
		t.Error("IsSet")
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		text string
		get  func(*Recipe) any
		want any
	}{
		{"learning_rate: 2e-5", func(r *Recipe) any { return r.LearningRate }, 2e-5},
		{"learning_rate: 1E-4", func(r *Recipe) any { return r.LearningRate }, 1e-4},
		{"learning_rate: .5", func(r *Recipe) any { return r.LearningRate }, 0.5},
		{"learning_rate: 1", func(r *Recipe) any { return r.LearningRate }, 1.0},
		{"dataset: [a.json, b.json]", func(r *Recipe) any { return r.Dataset }, []string{"a.json", "b.json"}},
		{"output_dir: 2026-11-24", func(r *Recipe) any { return r.OutputDir }, "2026-11-24"},
		{"model: no", func(r *Recipe) any { return r.Model }, "no"},
		{"model: &x abc\noutput_dir: *x", func(r *Recipe) any { return r.OutputDir }, "abc"},
		{"system: |\n  a\n  b\n", func(r *Recipe) any { return r.System }, "a\nb\n"},
		{"lora: {target_modules: all-linear}", func(r *Recipe) any { return r.LoRA.TargetModules }, TargetModules{Pattern: "all-linear"}},
		{"lora: {target_modules: '.*self_attn\\.(q|v)_proj'}", func(r *Recipe) any { return r.LoRA.TargetModules }, TargetModules{Pattern: `.*self_attn\.(q|v)_proj`}},
		{"lora: {layers_to_transform: 3}", func(r *Recipe) any { return r.LoRA.LayersToTransform }, []int{3}},
		{"lora: {layers_to_transform: [0, 2, 0]}", func(r *Recipe) any { return r.LoRA.LayersToTransform }, []int{0, 2}},
		{"lora: {rank_pattern: {q_proj: 4, '^a.*b$': 2}}", func(r *Recipe) any { return r.LoRA.RankPattern }, Pattern{{"q_proj", 4}, {"^a.*b$", 2}}},
		{"lora:", func(r *Recipe) any { return r.LoRA.R }, 8},
		{"max_steps: -1", func(r *Recipe) any { return r.MaxSteps }, -1},
		{"seed: 4294967295", func(r *Recipe) any { return r.Seed }, uint64(4294967295)},
		{"max_memory: 16GiB", func(r *Recipe) any { return r.MaxMemory }, int64(16 << 30)},
		{"max_memory: 1.5 gb", func(r *Recipe) any { return r.MaxMemory }, int64(1.5e9)},
		{"max_memory: 123456", func(r *Recipe) any { return r.MaxMemory }, int64(123456)},
		{"threads: all", func(r *Recipe) any { return r.Threads }, 0},
		{"threads: 3", func(r *Recipe) any { return r.Threads }, 3},
		{"resume_from_checkpoint: true", func(r *Recipe) any { return r.ResumeFromCheckpoint }, Resume{Enabled: true}},
		{"resume_from_checkpoint: out/checkpoint-10", func(r *Recipe) any { return r.ResumeFromCheckpoint }, Resume{true, "out/checkpoint-10"}},
		{"resume_from_checkpoint: null", func(r *Recipe) any { return r.ResumeFromCheckpoint }, Resume{}},
		{"gradient_checkpointing: true", func(r *Recipe) any { return r.GradientCheckpointing }, "true"},
		{"share_prefix: auto", func(r *Recipe) any { return r.SharePrefix }, "auto"},
		{"logging_steps: 0.1", func(r *Recipe) any { return r.LoggingSteps.Steps(24) }, 3},
		{"save_steps: 0", func(r *Recipe) any { return r.SaveSteps.Steps(24) }, 0},
		{"save_steps: 1.0", func(r *Recipe) any { return r.SaveSteps.Steps(24) }, 1},
		{"allow: [cut_rows, cut_rows]", func(r *Recipe) any { return r.Allow }, []string{"cut_rows"}},
		{"allow: double_bos", func(r *Recipe) any { return r.Allow }, []string{"double_bos"}},
		{"bf16: true", func(r *Recipe) any { return r.ComputeDtype }, "bfloat16"},
		{"lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-6}", func(r *Recipe) any { return r.LRSchedulerKwargs }, map[string]float64{"min_lr": 1e-6}},
	} {
		text := c.text
		for _, key := range []string{"model", "dataset"} {
			if !strings.Contains("\n"+text, "\n"+key+":") {
				text += "\n" + key + ": x\n"
			}
		}
		r, err := read(text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if got := c.get(r); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, want %#v", c.text, got, c.want)
		}
	}
}

// Faults of one line each, added to a recipe that is otherwise right.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		// Names.
		{"modle: x", `3:1: modle: unknown key (did you mean model?)`},
		{"learning_rat: 1", `3:1: learning_rat: unknown key (did you mean learning_rate?)`},
		{"zzz: 1", `3:1: zzz: unknown key`},
		{"lora: {alhpa: 16}", `3:8: lora.alhpa: unknown key (did you mean lora_alpha?)`},
		{"lora: {lora_alpah: 16}", `3:8: lora.lora_alpah: unknown key (did you mean lora_alpha?)`},
		{"lora_alpha: 16", `3:1: lora_alpha: unknown key: it belongs at lora_alpha, under lora`},
		{"lora: {seed: 1}", `3:8: lora.seed: unknown key: it belongs at seed`},
		{"lora_rank: 8", `3:1: lora_rank: unknown key: here it is called r, under lora`},
		{"lora_r: 8", `3:1: lora_r: unknown key: here it is called r, under lora`},
		{"lora: {rank: 8}", `3:8: lora.rank: unknown key: here it is called r, under lora`},
		{"cutoff_len: 8", `3:1: cutoff_len: unknown key: here it is called max_length`},
		{"max_seq_length: 8", `3:1: max_seq_length: unknown key: here it is called max_length`},
		{"model_name_or_path: x", `3:1: model_name_or_path: unknown key: here it is called model`},
		{"micro_batch_size: 8", `3:1: micro_batch_size: unknown key: here it is called per_device_train_batch_size`},
		{"val_set_size: 0.1", `3:1: val_set_size: unknown key: here it is called eval_fraction`},
		{"train_on_inputs: false", `3:1: train_on_inputs: is not a key: remove it: prompts are never trained, only responses`},
		{"lora: {use_dora: true}", `3:8: lora.use_dora: is not a key: remove it: DoRA is not implemented`},
		{"neftune_noise_alpha: 5", `3:1: neftune_noise_alpha: is not implemented: remove it`},
		{"lora.r: 8", `3:1: lora.r: in a file, write r under lora`},
		{"model: again", `3:1: model: appears twice, first in line 1`},
		{"lora: {r: 8, r: 9}", `3:14: lora.r: appears twice, first in line 3`},
		{"[a]: b", `3:1: a key must be a name, not a list`},
		{"<<: {seed: 1}", `3:1: merge keys (<<) are not taken: write the keys out`},
		// Types.
		{"lora: {r: eight}", `3:11: lora.r: must be a whole number from 1 to 65536, not eight`},
		{"lora: {r: 8.5}", `3:11: lora.r: must be a whole number from 1 to 65536, not 8.5`},
		{"lora: {r: '8'}", `3:11: lora.r: must be a whole number from 1 to 65536, not "8": remove the quotes`},
		{"lora: {r: 010}", `3:11: lora.r: must be a whole number from 1 to 65536, not 010: YAML may read a leading zero as octal, leave it out`},
		{"lora: {r: 0x10}", `3:11: lora.r: must be a whole number from 1 to 65536, not 0x10`},
		{"lora: {r: 1_000}", `3:11: lora.r: must be a whole number from 1 to 65536, not 1_000`},
		{"lora: {r: 99999999999999999999}", `3:11: lora.r: must be a whole number from 1 to 65536, not 99999999999999999999`},
		{"lora: {r: !!int 8}", `3:11: lora.r: remove the tag !!int: types are known`},
		{"lora: 8", `3:7: lora: must be a mapping of keys to values, not 8`},
		{"seed: 0o17", `3:7: seed: must be a whole number from 0 to 4294967295, not 0o17`},
		{"seed: -1", `3:7: seed: must be a whole number from 0 to 4294967295, not -1`},
		{"seed:", `3:6: seed: must be a whole number from 0 to 4294967295, not nothing`},
		{"seed: [1]", `3:7: seed: must be a whole number from 0 to 4294967295, not a list`},
		{"append_pad_token: yes", `3:19: append_pad_token: must be true or false, not yes: in YAML 1.2 that is text`},
		{"append_pad_token: 1", `3:19: append_pad_token: must be true or false, not 1`},
		{"gradient_checkpointing: on", `3:25: gradient_checkpointing: must be auto, true or false, not on: in YAML 1.2 that is text`},
		{"resume_from_checkpoint: yes", `3:25: resume_from_checkpoint: must be true, false or a directory, not yes: in YAML 1.2 that is text`},
		{"output_dir: 12", `3:13: output_dir: must be text, not 12: put it in quotes`},
		{"output_dir: ''", `3:13: output_dir: must not be empty`},
		{"output_dir: {}", `3:13: output_dir: must be text, not a mapping`},
		{"learning_rate: fast", `3:16: learning_rate: must be a number above 0, not fast`},
		{"learning_rate: .inf", `3:16: learning_rate: must be a number above 0, not .inf`},
		{"learning_rate: 1e999", `3:16: learning_rate: must be a number above 0, not 1e999`},
		{"lora: {target_modules: q_proj}", `3:24: lora.target_modules: must be a list of module names, a regular expression, or all-linear, not q_proj: ` +
			`a text is a regular expression for whole module names, write a list [q_proj]`},
		{"lora: {target_modules: []}", `3:24: lora.target_modules: must be a list of module names, a regular expression, or all-linear, not an empty list`},
		{"lora: {target_modules: [q_proj, 3]}", `3:33: lora.target_modules[1]: must be a module name, not 3`},
		{"lora: {rank_pattern: {q_proj: 0}}", `3:31: lora.rank_pattern.q_proj: must be a whole number from 1 to 65536, not 0`},
		{"lora: {layers_to_transform: [-1]}", `3:30: lora.layers_to_transform[0]: must be a layer number or a list of layer numbers, from 0, not -1`},
		{"allow: [all]", `3:9: allow[0]: must be a list out of unlabelled_rows, cut_rows, untrained_end, double_bos, template_mismatch, not all`},
		{"allow: cut_row", `3:8: allow: must be a list out of unlabelled_rows, cut_rows, untrained_end, double_bos, template_mismatch, not cut_row (did you mean cut_rows?)`},
		{"max_memory: 16G", `3:13: max_memory: must be a size such as 16GiB (units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), not 16G`},
		{"threads: 0", `3:10: threads: must be all or a whole number from 1 to 4096, not 0`},
		// Ranges.
		{"learning_rate: 0", `3:16: learning_rate: must be a number above 0, not 0`},
		{"learning_rate: -1e-4", `3:16: learning_rate: must be a number above 0, not -1e-4`},
		{"lora: {lora_dropout: 1}", `3:22: lora.lora_dropout: must be a number of at least 0 and below 1, not 1`},
		{"lora: {r: 0}", `3:11: lora.r: must be a whole number from 1 to 65536, not 0`},
		{"lora: {lora_alpha: 0}", `3:20: lora.lora_alpha: must be a whole number of at least 1, not 0`},
		{"adam_beta1: 1", `3:13: adam_beta1: must be a number of at least 0 and below 1, not 1`},
		{"adam_epsilon: 0", `3:15: adam_epsilon: must be a number above 0, not 0`},
		{"warmup_ratio: 1.1", `3:15: warmup_ratio: must be a number from 0 to 1, not 1.1`},
		{"eval_fraction: 1", `3:16: eval_fraction: must be a number above 0 and below 1, not 1`},
		{"max_steps: 0", `3:12: max_steps: must be -1 or a whole number of at least 1, not 0`},
		{"num_train_epochs: 0", `3:19: num_train_epochs: must be a number above 0 and below 1000000, not 0`},
		{"logging_steps: 0", `3:16: logging_steps: must be a whole number of steps, or a share above 0 and below 1, not 0`},
		{"logging_steps: 1.5", `3:16: logging_steps: must be a whole number of steps, or a share above 0 and below 1, not 1.5`},
		{"max_grad_norm: null", `3:16: max_grad_norm: must be a number of at least 0, not nothing`},
		// Words.
		{"lr_scheduler_type: Cosine", `3:20: lr_scheduler_type: must be one of linear, cosine, constant, constant_with_warmup, polynomial, cosine_with_min_lr, not Cosine (did you mean cosine?)`},
		{"template: alpaca", `3:11: template: must be one of chat, prompt, not alpaca`},
		{"optim: adafactor", `3:8: optim: must be one of adamw_torch, adamw_torch_fused, not adafactor`},
		{"report_to: wandb", `3:12: report_to: must be a list out of jsonl, csv, tensorboard, none, not wandb`},
		// Between keys.
		{"template: prompt\nprompt_template: a\nresponse_template: b\nsystem: x", `6:9: system: cannot be used with template: prompt: write it into prompt_template`},
		{"prompt_template: a", `3:18: prompt_template: needs template: prompt, with template: chat the model's own template is used`},
		{"append_pad_token: true", `3:19: append_pad_token: needs template: prompt, a chat template ends its replies itself`},
		{"lora: {target_modules: all-linear, layers_to_transform: 1}", `3:57: lora.layers_to_transform: needs target_modules as a list of names: a text already says which layers`},
		{"lr_scheduler_kwargs: {power: 2}", `3:22: lr_scheduler_kwargs: power is not known to lr_scheduler_type: linear, which takes none`},
		{"lr_scheduler_type: cosine_with_min_lr", `lr_scheduler_kwargs: needs one of min_lr and min_lr_rate with lr_scheduler_type: cosine_with_min_lr`},
		{"lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1, num_cycles: 0.5}", `4:22: lr_scheduler_kwargs: min_lr must be from 0 to learning_rate 5e-05, not 1`},
		{"lr_scheduler_type: polynomial\nlr_scheduler_kwargs: {lr_end: 1e-3}", `4:22: lr_scheduler_kwargs: lr_end 0.001 must be from 0 to below learning_rate 5e-05`},
		{"lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 1e300}", `4:22: lr_scheduler_kwargs: num_cycles must be a number of turns, not 1e+300`},
		{"adam_epsilon: 1e-320", `3:15: adam_epsilon: 1e-320 is 0 in float32: AdamW would divide by zero`},
		{"output_dir: ~/out", `3:13: output_dir: ~/out begins with ~, which is not replaced here: write the whole path`},
		{"eval_dataset: e\neval_fraction: 0.1", `4:16: eval_fraction: cannot be used with eval_dataset: one of them says what is evaluated`},
		{"load_best_model_at_end: true", `3:25: load_best_model_at_end: needs eval_dataset or eval_fraction`},
		{"early_stopping_patience: 2", `3:26: early_stopping_patience: needs load_best_model_at_end: true, or the final adapter would be one that is not better`},
		{"report_to: [none, csv]", `3:12: report_to: cannot name logs beside none`},
		{"greater_is_better: true", `3:20: greater_is_better: must be false: eval_loss is what is compared, and less of it is better`},
		{"eval_steps: 10", `3:13: eval_steps: needs eval_dataset or eval_fraction`},
		{"fp16: true\nbf16: true", `3:7: fp16: cannot be used with bf16`},
		{"bf16: true\ncompute_dtype: float32", `3:7: bf16: is at odds with compute_dtype: float32`},
	} {
		want := "recipe.yaml:" + c.want
		if c.want[0] > '9' {
			want = "recipe.yaml: " + c.want
		}
		if _, err := read(least + c.text + "\n"); err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, want)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "recipe.yaml: model: is required: the base model: a directory in Hugging Face's layout, or a name on a hub\n" +
			"recipe.yaml: dataset: is required: files of rows (JSON, JSON Lines, CSV, TSV, Parquet; .gz and .zst too), globs or directories of them, or datasets on a hub (`hf:org/name`, `ms:org/name`), read in this order; `#500` behind one draws 500 of its rows by `seed`"},
		{"# nothing\n", "recipe.yaml: model: is required"},
		{"- a\n", "recipe.yaml:1:1: a recipe is a mapping of keys to values, not a list"},
		{"hello\n", "recipe.yaml:1:1: a recipe is a mapping of keys to values, not hello"},
		{least + "---\nmodel: b\n", "recipe.yaml:3:1: a second document begins here: a recipe is one"},
		{"lora:\n\tr: 8\n", "recipe.yaml:2:1: not YAML: found character that cannot start any token, while scanning for the next token (indent with spaces"},
		{"a: b: c\n", "recipe.yaml:1:5: not YAML: mapping values are not allowed in this context"},
		{"a: [1, 2\n", "recipe.yaml:2:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence that begins at 1:4"},
		{"model: \xff\n", "recipe.yaml:1:8: byte 0xff is not UTF-8: save the recipe as UTF-8"},
		{"model: 甲\x01\n", "recipe.yaml:1:9: control character U+0001"},
		{"\xff\xfem\x00", "recipe.yaml:1:1: byte 0xff is not UTF-8: save the recipe as UTF-8"},
		{strings.Repeat("#", maxFile+1), "recipe.yaml: is larger than 1 MiB: this is no recipe"},
		{"model: &x [*x]\n", "recipe.yaml:1:8: model: must be text, not a list"},
		{least + "lora: &x {rank_pattern: *x}\n", "recipe.yaml:3:25: lora.rank_pattern.rank_pattern: must be"},
	} {
		_, err := read(c.text)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.60q\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := read("modle: a\nlora:\n  r: eight\n  x: 1\ndataset:\n  - path: [a]\n  - 3\n", "seed=-1", "lora.zz=1", "nonsense")
	want := `recipe.yaml:1:1: modle: unknown key (did you mean model?)
recipe.yaml:3:6: lora.r: must be a whole number from 1 to 65536, not eight
recipe.yaml:4:3: lora.x: unknown key
recipe.yaml:6:5: dataset[0]: must be text, not a mapping
recipe.yaml:7:5: dataset[1]: must be text, not 3: put it in quotes
command line: seed: must be a whole number from 0 to 4294967295, not -1
command line: lora.zz: unknown key
command line: "nonsense" is no override: write key=value, such as learning_rate=1e-4
recipe.yaml: model: is required: the base model: a directory in Hugging Face's layout, or a name on a hub`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var one *Error
	if !errors.As(err, &one) {
		t.Error("Errors does not unwrap to *Error")
	}
}

func TestOverrides(t *testing.T) {
	r, err := Load("", []string{"model=m", "dataset=[a.json, \"b c.json\"]", "lora.r=4", "lora={r: 16, lora_alpha: 3}", "learning_rate=1e-4",
		"system=  you are: a [cat] # really\n", "lora.target_modules=[q_proj, v_proj]", "output_dir=7", "seed=1", "seed=2", "max_memory=2GiB", "gradient_checkpointing=true"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Model != "m" || !reflect.DeepEqual(r.Dataset, []string{"a.json", "b c.json"}) || r.LoRA.R != 16 || r.LoRA.LoraAlpha != 3 ||
		r.LearningRate != 1e-4 || r.System != "  you are: a [cat] # really\n" || len(r.LoRA.TargetModules.List) != 2 ||
		r.OutputDir != "7" || r.Seed != 2 || r.MaxMemory != 2<<30 || r.GradientCheckpointing != "true" {
		t.Errorf("%+v", r)
	}
	r, err = read(least+"system: x\nmax_length: 3\n", `system="a\nb"`, "max_length=null", "dataset=z.json")
	if err != nil {
		t.Fatal(err)
	}
	if r.System != "a\nb" || r.MaxLength != 0 || r.IsSet("max_length") || r.Dataset[0] != "z.json" {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct{ override, want string }{
		{"lora.r", `command line: "lora.r" is no override: write key=value, such as learning_rate=1e-4`},
		{"=3", `command line: "=3" is no override: write key=value, such as learning_rate=1e-4`},
		{"seed=", `command line: seed: must be a whole number from 0 to 4294967295, not ""`},
		{"lora_r=3", `command line: lora_r: unknown key: here it is called r, under lora`},
		{"lora=8", `command line: lora: must be a mapping of keys to values, not 8`},
		{"dataset=[a", `command line: dataset: [a: not YAML: did not find expected ',' or ']', while parsing a flow sequence that begins at 1:1`},
		{"lr_scheduler_kwargs.min_lr=1", `command line: lr_scheduler_kwargs.min_lr: is not a key: write lr_scheduler_kwargs={min_lr: …}`},
		{"append_pad_token=yes", `command line: append_pad_token: must be true or false, not yes: in YAML 1.2 that is text`},
		{"system=\xff", `command line: "system=\xff" is not UTF-8`},
		{"model=", `command line: model: is required: the base model: a directory in Hugging Face's layout, or a name on a hub`},
	} {
		if _, err := read(least, c.override); err == nil || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.override, err, c.want)
		}
	}
}

func TestNotes(t *testing.T) {
	r, err := read(least + `
fp16: true
bf16: false
save_on_each_node: true
optim: adamw_torch
report_to: none
device_map: auto
trust_remote_code: true
lora: {task_type: CAUSAL_LM, inference_mode: false, bias: none}
lr_scheduler_type: constant
warmup_steps: 3
warmup_ratio: 0.1
`)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(r.Notes, "\n")
	want := `lr_scheduler_type: constant has no warm-up, so warmup_steps and warmup_ratio have no effect; constant_with_warmup has one
warmup_steps is given, so warmup_ratio has no effect
fp16: true sets compute_dtype: bfloat16
save_on_each_node has no effect: there is one output_dir
optim has no effect: AdamW is the only optimizer
lora.task_type has no effect: every model here is a causal language model
lora.inference_mode has no effect: the command decides
lora.bias has no effect: no bias is trained
device_map has no effect: see device
trust_remote_code has no effect: no code of a model is ever run`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLoadFiles(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none.yaml")} {
		var faults Errors
		if _, err := Load(path, nil); !errors.As(err, &faults) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	path := filepath.Join(dir, "r.yaml")
	if err := os.WriteFile(path, []byte("\ufeff"+least), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path, []string{"seed=7"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Errorf("dataset", "no such file").Error(), path+":2:10: dataset: no such file"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := r.Errorf("seed", "odd").Error(), "command line: seed: odd"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r2, err := read(least + "lora: {r: 3}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r2.Errorf("lora", "does not fit").Error(), "recipe.yaml:3:7: lora: does not fit"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := r.Errorf("device", "no GPU").Error(), path+": device: no GPU"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestKeys(t *testing.T) {
	help := Help()
	seen := map[string]bool{}
	for _, k := range Keys() {
		if seen[k.Name] || k.Meaning == "" || strings.HasSuffix(k.Meaning, ".") || k.Kind == "" || k.Default == "" && !k.noEffect {
			t.Errorf("%+v", k)
		}
		seen[k.Name] = true
		if !strings.Contains(help, "  "+k.Name+" ") {
			t.Errorf("%s is not in Help", k.Name)
		}
	}
	for name, right := range synonyms {
		if seen[name] {
			t.Errorf("synonym %s is a key", name)
		}
		if !seen[right] && right != "lora" {
			t.Errorf("synonym %s leads to %s, which is no key", name, right)
		}
	}
	for name := range refused {
		if seen[name] {
			t.Errorf("refused name %s is a key", name)
		}
	}
	for _, name := range unimplemented {
		if seen[name] {
			t.Errorf("unimplemented name %s is a key", name)
		}
	}
}
