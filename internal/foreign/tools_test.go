package foreign

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeys: what single keys become, in the recipe or in the notes.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		tool       Tool
		add        string
		want, note string // lines of the recipe and a part of the notes; a want that begins with ! must not be there
	}{
		{LLaMAFactory, "lora_rank: 4", "lora_alpha: 8", ""},
		{LLaMAFactory, "lora_target: q_proj, v_proj", "target_modules: [q_proj, v_proj]", ""},
		{LLaMAFactory, "lora_target: [q_proj]", "target_modules: [q_proj]", ""},
		{LLaMAFactory, "val_size: 100", "!eval_fraction", "val_size: sets aside 100 rows, cria takes a share"},
		{LLaMAFactory, "val_size: 0.1", "eval_steps: 0.9999", ""},
		{LLaMAFactory, "val_size: 0.1\neval_strategy: epoch\nnum_train_epochs: 4", "eval_steps: 0.25", ""},
		{LLaMAFactory, "eval_strategy: steps\neval_steps: 10", "!eval_steps", "nothing to evaluate is named"},
		{LLaMAFactory, "eval_strategy: no", "!eval_steps", "eval_strategy: off"},
		{LLaMAFactory, "mask_history: true", "train_on: last", ""},
		{LLaMAFactory, "train_on_prompt: true", `train_on: "all"`, ""},
		{LLaMAFactory, "pure_bf16: true", "adapter_dtype: bfloat16", ""},
		{LLaMAFactory, "fp16: true", "compute_dtype: bfloat16", "fp16: cria computes in bfloat16"},
		{LLaMAFactory, "quantization_bit: 4", "", "so the run differs:\n  quantization_bit"},
		{LLaMAFactory, "neat_packing: true", "", "neat_packing: cria pads nothing"},
		{LLaMAFactory, "packing: false", "", "stays the same:"},
		{LLaMAFactory, "template: default", "template: chat", "default is text of the tool's own"},
		{LLaMAFactory, "adapter_name_or_path: old\nlora_rank: 16", "!  r:", "lora_rank: the adapter to start from decides it"},
		{LLaMAFactory, "model_revision: v1.0", `model: "org/llama@v1.0"`, ""},
		{LLaMAFactory, "save_strategy: epoch\nnum_train_epochs: 4", "save_steps: 0.25", ""},
		{LLaMAFactory, "save_strategy: no", "save_steps: 0 ", ""},
		{LLaMAFactory, "save_strategy: epoch\nmax_steps: 4", "max_steps: 4", "an epoch has none"},
		{LLaMAFactory, "lr_scheduler_type: inverse_sqrt", "lr_scheduler_type: linear", "cria has no inverse_sqrt"},
		{LLaMAFactory, "lr_scheduler_type: polynomial\nlr_scheduler_kwargs: {power: 2, x: 1}", "lr_scheduler_kwargs: {power: 2}", "lr_scheduler_kwargs.x"},
		{LLaMAFactory, "optim: adafactor", "", "cria has AdamW only, not adafactor"},
		{LLaMAFactory, "dataset_dir: ONLINE", `dataset: rows`, "names on Hugging Face's hub"},
		{LLaMAFactory, "warmup_steps: 0.1", "warmup_ratio: 0.1  # warmup_steps", ""},
		{LLaMAFactory, "warmup_steps: 20", "warmup_steps: 20", ""},
		{LLaMAFactory, "learning_rate: '5e-5'", "learning_rate: 5e-05", ""},
		{LLaMAFactory, "early_stopping_steps: 3", "!early", "only with load_best_model_at_end"},
		{LLaMAFactory, "val_size: 0.1\neval_strategy: steps\neval_steps: 50\nsave_steps: 100\nload_best_model_at_end: true\nearly_stopping_steps: 3", "early_stopping_patience: 3", ""},
		{LLaMAFactory, "swanlab_mode: local\nfuture_key: 1", "", "unknown, not translated:\n  future_key"},
		{LLaMAFactory, `default_system: "Sag: \"ja\" 🙂\n# nein"`, `system: "Sag: \"ja\" 🙂\n# nein"  # default_system`, ""},

		{Axolotl, "lora_target_modules: [q_proj, embed_tokens]", "target_modules: all-linear", "embed_tokens] beside all linear layers"},
		{Axolotl, "sequence_len: 1024\nexcess_length_strategy: raise", "too_long: error", ""},
		{Axolotl, "warmup_ratio: 0.1", "warmup_ratio: 0.1", ""},
		{Axolotl, "train_on_inputs: yes", `train_on: "all"`, ""},
		{Axolotl, "batch_size: 16\nmicro_batch_size: 4", "gradient_accumulation_steps: 4", ""},
		{Axolotl, "saves_per_epoch: 2\nnum_epochs: 5", "save_steps: 0.1", ""},
		{Axolotl, "evals_per_epoch: 2", "!eval_steps", "evals_per_epoch: nothing is evaluated"},
		{Axolotl, "val_set_size: 0.1\nevals_per_epoch: 1", "eval_steps: 0.9999", ""},
		{Axolotl, "lora_rank_pattern: {q_proj: 4}\nlora_alpha_pattern: {q_proj: 8}", "rank_pattern: {q_proj: 4}", ""},
		{Axolotl, "peft_autocast_adapter_dtype: false", "adapter_dtype: bfloat16", ""},
		{Axolotl, "auto_resume_from_checkpoints: true", "resume_from_checkpoint: true", ""},
		{Axolotl, "special_tokens: {eos_token: '<|x|>'}", "", "special_tokens.eos_token: the tokenizer is taken as it is"},
		{Axolotl, "chat_template: tokenizer_default", "template: chat", ""},
		{Axolotl, "plugins: [some.Plugin]", "", "some.Plugin may change the training"},
		{Axolotl, "wandb_anything: 1", "", "wandb_anything: logs and services"},

		{MLX, "num_layers: 4", "layers_to_transform: [12, 13, 14, 15]", "the last 4 of 16 layers"},
		{MLX, "num_layers: 16", "!layers_to", "all 16 layers"},
		{MLX, "num_layers: -1", "!layers_to", ""},
		{MLX, "lora_layers: 2", "layers_to_transform: [14, 15]", ""},
		{MLX, "lora_parameters: {rank: 4, scale: 10}", "lora_alpha: 40", ""},
		{MLX, "lora_parameters: {rank: 4, alpha: 16}", "lora_alpha: 16", ""},
		{MLX, "lora_parameters: {keys: [self_attn.q_proj, mlp.down_proj]}\nnum_layers: -1", "target_modules: [q_proj, down_proj]", ""},
		{MLX, "mask_prompt: true", "train_on: last", ""},
		{MLX, "mask_prompt: false", `train_on: "all"`, "all tokens are trained"},
		{MLX, "iters: 100\ngrad_accumulation_steps: 3", "max_steps: 33", "the last iterations make no whole step"},
		{MLX, "optimizer: adamw", "weight_decay: 0.01", "does not correct the bias"},
		{MLX, "optimizer: sgd", "", "cria has AdamW only"},
		{MLX, "optimizer_config: {adam: {bias_correction: true}}", "", "optimizer_config.adam.bias_correction"},
		{MLX, "lr_schedule: {name: cosine_decay, arguments: [1e-4, 1000]}", "lr_scheduler_type: cosine ", ""},
		{MLX, "lr_schedule: {name: linear_schedule, arguments: [1e-4, 0, 1000]}", "lr_scheduler_type: linear ", ""},
		{MLX, "lr_schedule: {name: linear_schedule, arguments: [1e-4, 1e-5, 1000]}", "lr_end: 1e-05, power: 1", ""},
		{MLX, "lr_schedule: {name: step_decay, warmup: 5, arguments: [1e-4, 0.9, 10]}", "lr_scheduler_type: constant_with_warmup", "cria has no step_decay"},
		{MLX, "lr_schedule: {name: cosine_decay, warmup: 10, arguments: [1e-4, 990]}", "warmup_steps: 10", ""},
		{MLX, "hf_dataset: {path: billsum, train_split: 'train[:1000]', prompt_feature: text}", "dataset: billsum", "hf_dataset.train_split: cria reads"},
		{MLX, "fine_tune_type: dora", "", "not DoRA"},

		{TRL, "completion_only_loss: true", "train_on: replies", ""},
		{TRL, "assistant_only_loss: true", "train_on: replies", ""},
		{TRL, "max_length: null", "!max_length", ""},
		{TRL, "max_seq_length: 512", "max_length: 512", ""},
		{TRL, "lora_target_modules: [all-linear]", "target_modules: all-linear", ""},
		{TRL, "lora_target_modules: [q_proj]", "target_modules: [q_proj]", ""},
		{TRL, "datasets: [{path: json, data_files: a.json}, {path: org/b, name: sub, fraction: 0.5}]", `dataset: [a.json, "hf:org/b"]`, "datasets.fraction"},
		{TRL, "datasets: [{path: org/b}]\ntest_split_size: 0.1\neval_strategy: steps\neval_steps: 7", "eval_steps: 7", ""},
		{TRL, "dataset_text_field: body", "columns: {text: body}", ""},
		{TRL, "resume_from_checkpoint: out/checkpoint-5", "", "another tool's checkpoint"},
		{TRL, "load_in_4bit: true", "", "load_in_4bit: cria trains on the weights as they are"},
		{TRL, "bf16: false", "!compute_dtype", ""},
	} {
		base := bases[c.tool]
		for _, line := range strings.SplitAfter(base, "\n") {
			if name, _, _ := strings.Cut(line, ":"); line != "" && strings.Contains("\n"+c.add, "\n"+name+":") {
				base = strings.Replace(base, line, "", 1)
			}
		}
		r := translate(t, base+c.add+"\n", Options{From: c.tool, Layers: sixteen})
		load(t, r)
		without, not := strings.CutPrefix(c.want, "!")
		if got := strings.Contains(string(r.Recipe)+" ", without); without != "" && got == not {
			t.Errorf("%s, %q: want %s in\n%s", c.tool, c.add, c.want, r.Recipe)
		}
		if !strings.Contains(r.Text(), c.note) {
			t.Errorf("%s, %q: want %q in\n%s", c.tool, c.add, c.note, r.Text())
		}
	}
}

// TestDatasetInfo: names of LLaMA-Factory become what dataset_info.json says, found beside the recipe.
func TestDatasetInfo(t *testing.T) {
	const file = "testdata/llamafactory/x.yaml"
	for _, c := range []struct{ names, want, note string }{
		{"talks", `dataset: "testdata/llamafactory/data/talks.jsonl#20"`, "20 rows of talks"},
		{"talks", "format: messages", ""},
		{"odd", "dataset: testdata/llamafactory/data/odd.json", "odd has names of its own"},
		{"pairs", "data/pairs.json", "pairs is for preferences"},
		{"broken", "dataset: broken", "cannot be read"},
		{"nobody", "dataset: nobody", "nobody is not in"},
		{"[notes_en, talks]", "columns: {instruction: question, output: answer}", "datasets of several kinds"},
	} {
		r, err := Translate(file, []byte("model_name_or_path: m\nstage: sft\ndataset: "+c.names+"\n"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		load(t, r)
		if !strings.Contains(string(r.Recipe), c.want) || !strings.Contains(r.Text(), c.note) {
			t.Errorf("%s: want %s and %q in\n%s%s", c.names, c.want, c.note, r.Recipe, r.Text())
		}
	}
}

// TestDatasetInfoFromTheWorkingDirectory: LLaMA-Factory itself looks there.
func TestDatasetInfoFromTheWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "data/dataset_info.json", `{"rows": {"file_name": "rows.json"}}`)
	r := translate(t, bases[LLaMAFactory], Options{})
	if !strings.Contains(string(r.Recipe), "dataset: data/rows.json") {
		t.Errorf("%s", r.Recipe)
	}
	write(t, "data/dataset_info.json", `{"rows": `)
	r = translate(t, bases[LLaMAFactory], Options{})
	if !strings.Contains(r.Text(), "dataset_info.json cannot be read") {
		t.Errorf("%s", r.Text())
	}
}

// TestDirectories: what is on the disk is no repository, and mlx-lm's directories have rows for evaluation.
func TestDirectories(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "org/rows/train.jsonl", "{}")
	write(t, "rows/valid.jsonl", "{}")
	r := translate(t, bases[TRL], Options{})
	if !strings.Contains(string(r.Recipe), "dataset: org/rows ") {
		t.Errorf("%s", r.Recipe)
	}
	r = translate(t, bases[MLX]+"steps_per_eval: 50\n", Options{})
	for _, want := range []string{"dataset: rows/train.jsonl", "eval_dataset: rows/valid.jsonl", "eval_steps: 50"} {
		if !strings.Contains(string(r.Recipe), want) {
			t.Errorf("want %s in\n%s", want, r.Recipe)
		}
	}
	if !strings.Contains(r.Text(), "how many the model has is not known here") {
		t.Errorf("%s", r.Text())
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzTranslate: whatever a file holds, it is refused or becomes a recipe that cria train reads, and no key is forgotten.
func FuzzTranslate(f *testing.F) {
	for _, e := range examples {
		f.Add(read1(f, "testdata/"+e.file), uint8(0))
	}
	for i, tool := range Tools {
		f.Add([]byte(bases[tool]), uint8(i+1))
	}
	path := filepath.Join(f.TempDir(), "recipe.yaml")
	f.Fuzz(func(t *testing.T, content []byte, which uint8) {
		var opt Options
		if i := int(which) % (len(Tools) + 1); i > 0 {
			opt.From = Tools[i-1]
		}
		opt.Layers = sixteen
		r, err := Translate(path, content, opt)
		if err != nil {
			return
		}
		load(t, r)
		for _, name := range keysOf(t, content) {
			if !strings.ContainsAny(name, ".") && !mentioned(r, name) {
				t.Errorf("nothing is said of %q", name)
			}
		}
	})
}
