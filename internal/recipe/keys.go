package recipe

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// Key describes one key of a recipe.
type Key struct {
	Name      string // dotted: lora.r
	Section   string
	Kind      string // what a value is: "a whole number of at least 1"
	Default   string // as it would be written in YAML; "required" where there is none
	Reference string // name in TrainingArguments or LoraConfig, "" where it is cria's own
	Meaning   string // one sentence, without a full stop

	value    func(*Recipe) value
	optional bool // null stands for the default
	required bool
	noEffect bool // checked, noted and otherwise left alone
}

const (
	trainingArguments = "TrainingArguments"
	loraConfig        = "LoraConfig"

	sectionData    = "Model and data"
	sectionLoRA    = "Adapter"
	sectionSteps   = "Steps"
	sectionOptim   = "Optimizer"
	sectionLog     = "Logs, checkpoints, evaluation"
	sectionEngine  = "Engine"
	sectionIgnored = "Taken without effect"
)

// table lists all keys, in the order of the documentation and of resolved recipes.
var table = []Key{
	{Name: "model", Section: sectionData, required: true,
		Meaning: "The base model: a directory in Hugging Face's layout, or a name on a hub",
		value:   func(r *Recipe) value { return text{&r.Model} }},
	{Name: "source", Section: sectionData,
		Meaning: "The hub of names without prefix (`org/name`, perhaps with `@revision`): `hf` (Hugging Face, also `hf:org/name`) or `ms` (ModelScope, also `ms:org/name`); `auto` goes by the environment, see `cria pull --help`",
		value:   func(r *Recipe) value { return choice{&r.Source, []string{"auto", "hf", "ms"}} }},
	{Name: "dataset", Section: sectionData, required: true,
		Meaning: "Files of rows (JSON, JSON Lines, CSV, TSV, Parquet; .gz and .zst too), globs or directories of them, or datasets on a hub (`hf:org/name`, `ms:org/name`), read in this order; `#500` behind one draws 500 of its rows by `seed`",
		value:   func(r *Recipe) value { return texts{&r.Dataset, "a path or a list of paths"} }},
	{Name: "format", Section: sectionData,
		Meaning: "What a row is; `auto` goes by the columns of each file's first row. `alpaca`: instruction, input, output, system, history; `sharegpt`: conversations of {from, value}; `messages`: the OpenAI API's; `prompt_completion`; `text`: trained whole, special tokens in it recognised",
		value:   func(r *Recipe) value { return choice{&r.Format, formats} }},
	{Name: "columns", Section: sectionData,
		Meaning: "Names of columns, where they are not the usual ones: `{instruction: question, output: answer}`, `{messages: dialog}`",
		value:   func(r *Recipe) value { return columns{&r.Columns} }},
	{Name: "max_samples", Section: sectionData, optional: true,
		Meaning: "Read at most so many rows, the first ones",
		value:   func(r *Recipe) value { return integer{&r.MaxSamples, 1, math.MaxInt32} }},
	{Name: "template", Section: sectionData,
		Meaning: "How a row becomes text: `chat` uses the model's own chat template; `prompt` uses the two templates below, for alpaca and prompt_completion rows",
		value:   func(r *Recipe) value { return choice{&r.Template, []string{TemplateChat, TemplatePrompt}} }},
	{Name: "train_on", Section: sectionData,
		Meaning: "What is trained: all `replies` of the assistant, the `last` one, or `all` tokens; `loss`, `train` or `weight` of a message (true, false, 1, 0) goes before it",
		value:   func(r *Recipe) value { return choice{&r.TrainOn, []string{"replies", "last", "all"}} }},
	{Name: "system", Section: sectionData, optional: true,
		Meaning: "System prompt of rows that have none of their own, with `template: chat`",
		value:   func(r *Recipe) value { return text{&r.System} }},
	{Name: "prompt_template", Section: sectionData, optional: true,
		Meaning: "Text before the response, not trained: `{instruction}`, `{input}` and `{system}` stand for the row's columns, `{{` and `}}` for braces",
		value:   func(r *Recipe) value { return text{&r.PromptTemplate} }},
	{Name: "response_template", Section: sectionData, optional: true,
		Meaning: "Text that is trained: `{output}` stands for the row's column",
		value:   func(r *Recipe) value { return text{&r.ResponseTemplate} }},
	{Name: "append_pad_token", Section: sectionData,
		Meaning: "With `template: prompt`, train the tokenizer's pad token (without one, its end token) after every response",
		value:   func(r *Recipe) value { return boolean{&r.AppendPadToken} }},
	{Name: "max_length", Section: sectionData, optional: true,
		Meaning: "Longest row, in tokens; without it only the model sets a limit",
		value:   func(r *Recipe) value { return integer{&r.MaxLength, 1, math.MaxInt32} }},
	{Name: "too_long", Section: sectionData,
		Meaning: "What happens to longer rows: `cut` at max_length, `drop`, or refuse the dataset with `error`",
		value:   func(r *Recipe) value { return choice{&r.TooLong, []string{"cut", "drop", "error"}} }},
	{Name: "max_cut_share", Section: sectionData,
		Meaning: "Share of the rows that may be cut at max_length, and so lose their end, without `allow`",
		value:   func(r *Recipe) value { return number{&r.MaxCutShare, 0, 1, closed} }},
	{Name: "allow", Section: sectionData,
		Meaning: "Checks of the data that may fail: rows without a trained token, rows that are cut, rows that do not train an end of turn, a doubled BOS at the start, a template whose markers the tokenizer does not know",
		value:   func(r *Recipe) value { return choices{&r.Allow, checks} }},

	{Name: "adapter", Section: sectionLoRA, optional: true,
		Meaning: "Directory of an adapter to start from, in PEFT's format; its rank, alpha, targets and patterns hold, and keys of `lora` must agree with them where they are given",
		value:   func(r *Recipe) value { return text{&r.Adapter} }},
	{Name: "lora.r", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Rank",
		value:   func(r *Recipe) value { return integer{&r.LoRA.R, 1, 1 << 16} }},
	{Name: "lora.lora_alpha", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Scale: the update is multiplied by lora_alpha / r",
		value:   func(r *Recipe) value { return integer{&r.LoRA.LoraAlpha, 1, math.MaxInt32} }},
	{Name: "lora.lora_dropout", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Probability with which an input of the adapter is set to zero in training",
		value:   func(r *Recipe) value { return number{&r.LoRA.LoraDropout, 0, 1, halfOpen} }},
	{Name: "lora.target_modules", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Layers that get an adapter: names, a regular expression for whole module names, or `all-linear`",
		value:   func(r *Recipe) value { return targets{&r.LoRA.TargetModules} }},
	{Name: "lora.use_rslora", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Multiply the update by lora_alpha / sqrt(r) instead",
		value:   func(r *Recipe) value { return boolean{&r.LoRA.UseRSLoRA} }},
	{Name: "lora.layers_to_transform", Section: sectionLoRA, Reference: loraConfig, optional: true,
		Meaning: "Numbers of the layers that get an adapter, from 0; without it all do",
		value:   func(r *Recipe) value { return integers{&r.LoRA.LayersToTransform} }},
	{Name: "lora.rank_pattern", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Other ranks for some modules, by name or regular expression",
		value:   func(r *Recipe) value { return pattern{&r.LoRA.RankPattern, 1 << 16} }},
	{Name: "lora.alpha_pattern", Section: sectionLoRA, Reference: loraConfig,
		Meaning: "Other values of lora_alpha for some modules, by name or regular expression",
		value:   func(r *Recipe) value { return pattern{&r.LoRA.AlphaPattern, math.MaxInt32} }},
	{Name: "adapter_dtype", Section: sectionLoRA,
		Meaning: "Type of the adapter and of the optimizer's moments; `bfloat16` is what peft 0.11.1 uses on a bfloat16 model",
		value:   func(r *Recipe) value { return choice{&r.AdapterDtype, []string{"float32", "bfloat16"}} }},

	{Name: "per_device_train_batch_size", Section: sectionSteps, Reference: trainingArguments,
		Meaning: "Rows of a micro-batch",
		value:   func(r *Recipe) value { return integer{&r.PerDeviceTrainBatchSize, 1, 1 << 20} }},
	{Name: "gradient_accumulation_steps", Section: sectionSteps, Reference: trainingArguments,
		Meaning: "Micro-batches of an optimizer step",
		value:   func(r *Recipe) value { return integer{&r.GradientAccumulationSteps, 1, 1 << 20} }},
	{Name: "num_train_epochs", Section: sectionSteps, Reference: trainingArguments,
		Meaning: "Passes over the dataset, also a fraction",
		value:   func(r *Recipe) value { return number{&r.NumTrainEpochs, 0, 1e6, open} }},
	{Name: "max_steps", Section: sectionSteps, Reference: trainingArguments,
		Meaning: "Number of optimizer steps instead of num_train_epochs; -1 leaves it to that",
		value:   func(r *Recipe) value { return maxSteps{&r.MaxSteps} }},
	{Name: "loss_reduction", Section: sectionSteps,
		Meaning: "What a step averages: `token_mean` all its trained tokens, as transformers 4.46 and newer; `microbatch_mean` the means of its micro-batches, as 4.43",
		value:   func(r *Recipe) value { return choice{&r.LossReduction, []string{"token_mean", "microbatch_mean"}} }},
	{Name: "seed", Section: sectionSteps, Reference: trainingArguments,
		Meaning: "Decides the order of rows, the first adapter and dropout, the first two as PyTorch does",
		value:   func(r *Recipe) value { return seed{&r.Seed} }},

	{Name: "learning_rate", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Largest learning rate of AdamW",
		value:   func(r *Recipe) value { return number{&r.LearningRate, 0, math.MaxFloat32, open} }},
	{Name: "lr_scheduler_type", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "How the learning rate falls",
		value:   func(r *Recipe) value { return choice{&r.LRSchedulerType, schedulerNames()} }},
	{Name: "lr_scheduler_kwargs", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "More numbers for the scheduler: num_cycles (cosine, cosine_with_min_lr), min_lr or min_lr_rate (cosine_with_min_lr), lr_end and power (polynomial)",
		value:   func(r *Recipe) value { return numbers{&r.LRSchedulerKwargs} }},
	{Name: "warmup_steps", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Steps in which the learning rate rises from 0",
		value:   func(r *Recipe) value { return integer{&r.WarmupSteps, 0, math.MaxInt32} }},
	{Name: "warmup_ratio", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "The same as a share of all steps, where warmup_steps is 0",
		value:   func(r *Recipe) value { return number{&r.WarmupRatio, 0, 1, closed} }},
	{Name: "weight_decay", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Decoupled weight decay of AdamW",
		value:   func(r *Recipe) value { return number{&r.WeightDecay, 0, math.MaxFloat32, closed} }},
	{Name: "adam_beta1", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Decay of AdamW's first moment",
		value:   func(r *Recipe) value { return number{&r.AdamBeta1, 0, 1, halfOpen} }},
	{Name: "adam_beta2", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Decay of AdamW's second moment",
		value:   func(r *Recipe) value { return number{&r.AdamBeta2, 0, 1, halfOpen} }},
	{Name: "adam_epsilon", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Keeps AdamW from dividing by zero",
		value:   func(r *Recipe) value { return number{&r.AdamEpsilon, 0, math.MaxFloat32, open} }},
	{Name: "max_grad_norm", Section: sectionOptim, Reference: trainingArguments,
		Meaning: "Norm to which larger gradients are scaled down; 0 leaves them as they are",
		value:   func(r *Recipe) value { return number{&r.MaxGradNorm, 0, math.MaxFloat32, closed} }},

	{Name: "output_dir", Section: sectionLog, Reference: trainingArguments,
		Meaning: "Directory for checkpoints and the final adapter",
		value:   func(r *Recipe) value { return text{&r.OutputDir} }},
	{Name: "resume_from_checkpoint", Section: sectionLog, Reference: trainingArguments,
		Meaning: "`true` goes on from the newest whole checkpoint in output_dir, or starts where there is none; a directory names the checkpoint",
		value:   func(r *Recipe) value { return resume{&r.ResumeFromCheckpoint} }},
	{Name: "logging_steps", Section: sectionLog, Reference: trainingArguments,
		Meaning: "Steps from one log entry to the next; below 1, a share of all steps",
		value:   func(r *Recipe) value { return interval{&r.LoggingSteps, false} }},
	{Name: "save_steps", Section: sectionLog, Reference: trainingArguments,
		Meaning: "Steps from one checkpoint to the next; below 1, a share of all steps; 0 saves only at the end",
		value:   func(r *Recipe) value { return interval{&r.SaveSteps, true} }},
	{Name: "save_total_limit", Section: sectionLog, Reference: trainingArguments, optional: true,
		Meaning: "Number of checkpoints that are kept; 0 keeps all",
		value:   func(r *Recipe) value { return integer{&r.SaveTotalLimit, 0, math.MaxInt32} }},
	{Name: "eval_dataset", Section: sectionLog, optional: true,
		Meaning: "Rows for evaluation, named and read as `dataset` is",
		value:   func(r *Recipe) value { return texts{&r.EvalDataset, "a path or a list of paths"} }},
	{Name: "eval_fraction", Section: sectionLog, optional: true,
		Meaning: "Share of the dataset's rows, drawn by `seed`, that is set aside for evaluation and not trained",
		value:   func(r *Recipe) value { return number{&r.EvalFraction, 0, 1, open} }},
	{Name: "eval_steps", Section: sectionLog, Reference: trainingArguments, optional: true,
		Meaning: "Steps from one evaluation to the next, without it as logging_steps; below 1, a share of all steps. The last step is always evaluated",
		value:   func(r *Recipe) value { return interval{&r.EvalSteps, false} }},
	{Name: "load_best_model_at_end", Section: sectionLog, Reference: trainingArguments,
		Meaning: "Make the checkpoint with the smallest eval_loss the final adapter; save_steps must be a multiple of eval_steps",
		value:   func(r *Recipe) value { return boolean{&r.LoadBestModelAtEnd} }},
	{Name: "early_stopping_patience", Section: sectionLog, Reference: "EarlyStoppingCallback", optional: true,
		Meaning: "End the run after so many evaluations without a better one than the best checkpoint's; needs load_best_model_at_end",
		value:   func(r *Recipe) value { return integer{&r.EarlyStoppingPatience, 1, math.MaxInt32} }},
	{Name: "early_stopping_threshold", Section: sectionLog, Reference: "EarlyStoppingCallback",
		Meaning: "By how much eval_loss must be smaller to count as better for early_stopping_patience",
		value:   func(r *Recipe) value { return number{&r.EarlyStoppingThreshold, 0, math.MaxFloat32, closed} }},
	{Name: "report_to", Section: sectionLog, Reference: trainingArguments,
		Meaning: "Logs in output_dir: `jsonl` writes LLaMA-Factory's trainer_log.jsonl, `csv` log.csv, `tensorboard` an event file in runs; `none`",
		value:   func(r *Recipe) value { return choices{&r.ReportTo, reports} }},
	{Name: "sample_prompts", Section: sectionLog, optional: true,
		Meaning: "Instructions that the model answers before and after training, for report.html; without it the prompts of up to three rows, of the evaluation's if there is one, else of the training data's",
		value:   func(r *Recipe) value { return texts{&r.SamplePrompts, "a text or a list of texts"} }},
	{Name: "sample_max_new_tokens", Section: sectionLog,
		Meaning: "Most tokens of such an answer; 0 makes none",
		value:   func(r *Recipe) value { return integer{&r.SampleMaxNewTokens, 0, math.MaxInt32} }},

	{Name: "compute_dtype", Section: sectionEngine,
		Meaning: "Type of the numbers that enter matrix products; `auto` takes the faster one",
		value:   func(r *Recipe) value { return choice{&r.ComputeDtype, []string{"auto", "float32", "bfloat16"}} }},
	{Name: "share_prefix", Section: sectionEngine,
		Meaning: "Compute what the rows of a step have in common once",
		value:   func(r *Recipe) value { return autoFlag{&r.SharePrefix} }},
	{Name: "gradient_checkpointing", Section: sectionEngine, Reference: trainingArguments,
		Meaning: "Compute activations again instead of keeping them; `auto` does so where memory does not suffice",
		value:   func(r *Recipe) value { return autoFlag{&r.GradientCheckpointing} }},
	{Name: "max_memory", Section: sectionEngine, optional: true,
		Meaning: "Most memory that the process may hold of its own; pages of the model's files, which the system can take back, come on top (`cria plan` shows both)",
		value:   func(r *Recipe) value { return size{&r.MaxMemory} }},
	{Name: "threads", Section: sectionEngine,
		Meaning: "Processor threads",
		value:   func(r *Recipe) value { return threads{&r.Threads} }},
	{Name: "device", Section: sectionEngine,
		Meaning: "Where to compute",
		value:   func(r *Recipe) value { return choice{&r.Device, []string{"auto", "cpu", "cuda"}} }},

	{Name: "bf16", Section: sectionIgnored, Reference: trainingArguments, noEffect: true,
		Meaning: "`true` stands for `compute_dtype: bfloat16`",
		value:   func(r *Recipe) value { return boolean{&r.bf16} }},
	{Name: "fp16", Section: sectionIgnored, Reference: trainingArguments, noEffect: true,
		Meaning: "`true` stands for `compute_dtype: bfloat16`",
		value:   func(r *Recipe) value { return boolean{&r.fp16} }},
	ignoredFlag("save_on_each_node", trainingArguments, "There is one output_dir"),
	ignoredText("optim", trainingArguments, "AdamW is the only optimizer", "adamw_torch", "adamw_torch_fused"),
	ignoredText("metric_for_best_model", trainingArguments, "The best checkpoint has the smallest eval_loss", "loss", "eval_loss"),
	{Name: "greater_is_better", Section: sectionIgnored, Reference: trainingArguments, noEffect: true,
		Meaning: "The best checkpoint has the smallest eval_loss",
		value:   func(r *Recipe) value { return boolean{&r.greater} }},
	ignoredWhole("per_device_eval_batch_size", trainingArguments, "eval_loss is the mean of all labelled tokens, whatever they are computed with"),
	ignoredText("task_type", loraConfig, "Every model here is a causal language model", "CAUSAL_LM"),
	ignoredFlag("inference_mode", loraConfig, "The command decides"),
	ignoredText("lora.task_type", loraConfig, "Every model here is a causal language model", "CAUSAL_LM"),
	ignoredFlag("lora.inference_mode", loraConfig, "The command decides"),
	ignoredText("lora.bias", loraConfig, "No bias is trained", "none"),
	ignoredText("device_map", "from_pretrained", "See device", "auto"),
	ignoredFlag("trust_remote_code", "from_pretrained", "No code of a model is ever run"),
}

func ignoredFlag(name, reference, meaning string) Key {
	return Key{Name: name, Section: sectionIgnored, Reference: reference, Meaning: meaning, noEffect: true,
		value: func(*Recipe) value { return boolean{new(bool)} }}
}

func ignoredWhole(name, reference, meaning string) Key {
	return Key{Name: name, Section: sectionIgnored, Reference: reference, Meaning: meaning, noEffect: true,
		value: func(*Recipe) value { return integer{new(int), 1, math.MaxInt32} }}
}

func ignoredText(name, reference, meaning string, accepted ...string) Key {
	return Key{Name: name, Section: sectionIgnored, Reference: reference, Meaning: meaning, noEffect: true,
		value: func(*Recipe) value { p := accepted[0]; return choice{&p, accepted} }}
}

// groups are the keys whose values are mappings of keys.
var groups = []string{"lora"}

// Keys returns the description of every key, in the order of the documentation.
func Keys() []Key {
	r := defaults()
	keys := make([]Key, len(table))
	for i, k := range table {
		v := k.value(r)
		k.Kind = v.kind()
		switch {
		case k.required:
			k.Default = "required"
		case k.noEffect:
			k.Default = ""
		case k.optional && isUnset(v):
			k.Default = "none"
		default:
			k.Default = v.encode()
		}
		if k.Reference != "" {
			k.Reference += "." + k.Name[strings.LastIndex(k.Name, ".")+1:]
		}
		keys[i] = k
	}
	return keys
}

// Help returns the keys as text for --help: name, default and meaning, by section.
func Help() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	section := ""
	for _, k := range Keys() {
		if k.Section != section {
			if section != "" {
				fmt.Fprintln(w)
			}
			section = k.Section
			fmt.Fprintf(w, "%s:\n", section)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", k.Name, k.Default, strings.ReplaceAll(k.Meaning, "`", ""))
	}
	w.Flush()
	return b.String()
}

func findKey(name string) *Key {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}
