package foreign

import (
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// mlx has the keys of mlx_lm.lora's configuration (mlx_lm/lora.py, CONFIG_DEFAULTS; tuner/trainer.py, tuner/utils.py,
// tuner/datasets.py; the optimizers in mlx's python/mlx/optimizers).
var mlx = &tool{
	name: "mlx-lm",
	keys: tableOf(
		map[string]rule{
			"model":          text("model"),
			"data":           later,
			"hf_dataset":     later,
			"fine_tune_type": fineTuneType,

			"lora_parameters": later,
			"num_layers":      later,
			"lora_layers":     later, // num_layers, before mlx-lm 0.20
			"mask_prompt":     later,
			"max_seq_length":  whole("max_length"),

			"batch_size":              whole("per_device_train_batch_size"),
			"grad_accumulation_steps": later,
			"iters":                   later,
			"seed":                    whole("seed"),
			"learning_rate":           number("learning_rate"),
			"lr_schedule":             later,
			"optimizer":               mlxOptimizer,
			"optimizer_config":        later,

			"adapter_path":        text("output_dir"),
			"steps_per_report":    later,
			"steps_per_eval":      later,
			"save_every":          later,
			"resume_adapter_file": lost("not gone on from; an adapter to start from is named by its directory, adapter: DIR"),
			"train":               idle("cria train trains; the command decides"),
			"config":              lost("another file of the recipe"),
		},
		each(later, "prompt_feature completion_feature chat_feature text_feature"),
		each(idle("eval_loss is that of all rows for evaluation"), "val_batches"),
		each(idle("cria has no rows for a test; name them as eval_dataset"), "test test_batches"),
		each(idle(hardware), "grad_checkpoint clear_cache_threshold"),
		each(idle(logging), "report_to project_name wandb"),
		each(idle(loading), "trust_remote_code"),
	),
	presets: []preset{
		{"per_device_train_batch_size", int64(4), "batch_size 4"},
		{"learning_rate", 1e-5, "learning_rate 1e-5"},
		{"lr_scheduler_type", "constant", "no lr_schedule"},
		{"seed", int64(0), "seed 0"},
		{"max_length", int64(2048), "max_seq_length 2048"},
		{"output_dir", "adapters", "adapter_path adapters"},
	},
	finish: finishMLX,
}

func fineTuneType(t *translation, e entry) {
	switch s, _ := textOf(e.node); s {
	case "lora":
		t.note(Idle, "LoRA is what cria trains", e.name)
	case "dora":
		t.note(Lost, "LoRA is trained in its plain form, not DoRA", e.name)
	default:
		t.fail(e, "cria trains LoRA adapters only, not %s", show(e.node))
	}
}

func mlxOptimizer(t *translation, e entry) {
	switch s, _ := textOf(e.node); strings.ToLower(s) {
	case "adam":
		t.note(Idle, "without weight decay, AdamW is Adam", e.name)
	case "adamw":
		t.note(Idle, "AdamW is cria's optimizer", e.name)
	default:
		t.note(Lost, fmt.Sprintf("cria has AdamW only, not %s: learning_rate may not suit it", show(e.node)), e.name)
	}
}

func finishMLX(t *translation) {
	t.note(Changed, "mlx-lm makes steps of rows of about one length; cria draws them from all rows")
	t.mlxSteps()
	t.mlxAdapter()
	t.mlxOptimizer()
	t.mlxSchedule()
	t.mlxData()
	if t.flagGiven("mask_prompt", false) { // tuner/datasets.py: everything before the last message
		t.set("train_on", "last", t.given["mask_prompt"])
	} else if e, ok := t.given["mask_prompt"]; ok {
		t.set("train_on", "all", e)
	} else {
		t.preset("train_on", "all", "mask_prompt false")
	}
	if t.values["train_on"].v == "all" {
		t.note(Changed, "without it all tokens are trained, prompts too; cria's own default is train_on: replies", "mask_prompt")
	}
}

// mlxSteps takes what counts in iterations: one is a micro-batch, so grad_accumulation_steps of them are a step of cria.
func (t *translation) mlxSteps() {
	accumulate := int64(1)
	if e, ok := t.given["grad_accumulation_steps"]; ok {
		whole("gradient_accumulation_steps")(t, e)
		accumulate = max(int64(t.number("gradient_accumulation_steps", 1)), 1)
	}
	if accumulate > 1 { // tuner/trainer.py sums gradients of means
		t.values["loss_reduction"] = value{v: "microbatch_mean", comment: "mlx-lm averages the means of micro-batches"}
		t.note(Changed, "iterations are micro-batches there; here everything counts in steps of grad_accumulation_steps of them", "grad_accumulation_steps")
	}
	for _, k := range []struct {
		name, key string
		other     int64
	}{{"iters", "max_steps", 1000}, {"steps_per_report", "logging_steps", 10}, {"save_every", "save_steps", 100}} {
		n := k.other
		e, ok := t.given[k.name]
		if ok {
			var isWhole bool
			if n, isWhole = wholeOf(e.node); !isWhole || n < 1 {
				t.mustBe(e, "a whole number of at least 1")
				continue
			}
			t.set(k.key, max(n/accumulate, 1), e)
		} else {
			t.preset(k.key, max(n/accumulate, 1), fmt.Sprintf("%s %d", k.name, n))
		}
		if k.name == "iters" && n%accumulate != 0 {
			t.note(Changed, "the last iterations make no whole step and are left out, as in mlx-lm", k.name)
		}
	}
}

// mlxAdapter takes rank, scale and layers.
func (t *translation) mlxAdapter() {
	rank, scale, alpha := int64(8), 20.0, 0.0
	var fromRank, fromScale []entry
	targets := false
	if e, ok := t.given["lora_parameters"]; ok {
		if e.node.Kind != yaml.MappingNode {
			t.mustBe(e, "a mapping with rank, scale and dropout")
		}
		for _, p := range t.nested(e) {
			v, isNumber := numberOf(p.node)
			n, isWhole := wholeOf(p.node)
			name := strings.TrimPrefix(p.name, "lora_parameters.")
			switch {
			case name == "keys":
				var list []string
				for _, key := range t.list(p) { // self_attn.q_proj is q_proj to PEFT
					if last := key[strings.LastIndex(key, ".")+1:]; slices.Contains(linear, last) {
						key = last
					}
					list = append(list, key)
				}
				if targets = len(list) > 0; targets {
					t.set("lora.target_modules", list, p)
				}
			case name == "rank" && isWhole && n > 0 && n < 1<<20:
				rank, fromRank = n, []entry{p}
			case name == "scale" && isNumber:
				scale, fromScale = v, []entry{p}
			case name == "alpha" && isNumber: // before mlx-lm 0.21 the scale was alpha / rank
				alpha, fromScale = v, []entry{p}
			case name == "dropout" && isNumber:
				number("lora.lora_dropout")(t, p)
			case slices.Contains([]string{"rank", "scale", "alpha", "dropout"}, name):
				t.mustBe(p, "a number that suits it")
			default:
				t.note(Unknown, "", p.name)
			}
		}
	}
	if len(fromRank) > 0 {
		t.set("lora.r", rank, fromRank...)
	}
	if !targets {
		t.preset("lora.target_modules", "all-linear", "all linear layers of a block")
	}
	if alpha == 0 {
		alpha = scale * float64(rank)
	}
	whole := math.Round(alpha)
	if from := append(fromScale, fromRank...); len(from) > 0 {
		t.set("lora.lora_alpha", int64(min(max(whole, -1), 1e15)), from...)
		t.note(Changed, fmt.Sprintf("the update is multiplied by scale, in cria by lora_alpha / r: lora_alpha = scale * rank = %g", alpha), fromName(fromScale, "lora_parameters.scale"))
	} else {
		t.preset("lora.lora_alpha", int64(whole), "scale 20 * rank 8")
	}
	if whole != alpha {
		t.note(Changed, fmt.Sprintf("scale * rank = %g is rounded: lora_alpha is a whole number", alpha), fromName(fromScale, "lora_parameters.scale"))
	}
	t.lastLayers()
}

func fromName(from []entry, other string) string {
	if len(from) > 0 {
		return from[0].name
	}
	return other
}

// lastLayers takes num_layers, which counts from the last layer, while layers_to_transform has numbers from the first.
func (t *translation) lastLayers() {
	n, name := int64(16), "num_layers"
	e, ok := t.given[name]
	if !ok {
		if e, ok = t.given["lora_layers"]; ok {
			name = "lora_layers"
		}
	}
	if ok {
		var isWhole bool
		if n, isWhole = wholeOf(e.node); !isWhole {
			t.mustBe(e, "a whole number")
			return
		}
	}
	if n <= 0 { // layers[-max(n, 0):] are all
		return
	}
	model, _ := t.values["model"].v.(string)
	all := int64(0)
	if t.layers != nil && model != "" {
		all = int64(t.layers(model))
	}
	switch {
	case all == 0:
		t.note(Lost, fmt.Sprintf("only the last %d layers get an adapter, and how many the model has is not known here; all get one unless lora.layers_to_transform says their numbers, from 0", n), name)
		return
	case n >= all:
		t.note(Idle, fmt.Sprintf("all %d layers of the model", all), name)
		return
	}
	var list []int64
	for i := all - n; i < all; i++ {
		list = append(list, i)
	}
	if ok {
		t.set("lora.layers_to_transform", list, e)
	} else {
		t.preset("lora.layers_to_transform", list, "num_layers 16")
	}
	t.note(Changed, fmt.Sprintf("the last %d of %d layers, in cria by their numbers", n, all), name)
}

// mlxOptimizer takes optimizer_config's part for the optimizer in use. mlx leaves out the correction of Adam's bias unless
// it is asked for.
func (t *translation) mlxOptimizer() {
	name := strings.ToLower(t.textGiven("optimizer"))
	if name == "" {
		name = "adam"
	}
	corrected, correction := false, "optimizer"
	if name == "adamw" {
		defer t.preset("weight_decay", 0.01, "weight_decay of AdamW 0.01")
	}
	if e, ok := t.given["optimizer_config"]; ok {
		for _, p := range t.nested(e) {
			if p.name != "optimizer_config."+name {
				t.note(Idle, "for another optimizer", p.name)
				continue
			}
			for _, q := range t.nested(p) {
				switch strings.TrimPrefix(q.name, p.name+".") {
				case "betas":
					if len(q.node.Content) != 2 {
						t.mustBe(q, "a list of two numbers")
						continue
					}
					for i, key := range []string{"adam_beta1", "adam_beta2"} {
						number(key)(t, entry{q.name, q.key, q.node.Content[i]})
					}
				case "eps":
					number("adam_epsilon")(t, q)
				case "weight_decay":
					number("weight_decay")(t, q)
				case "bias_correction":
					corrected, correction = t.flagGiven(q.name, false), q.name
				default:
					t.note(Lost, "AdamW of cria does not have it", q.name)
				}
			}
		}
	}
	if !corrected && strings.HasPrefix(name, "adam") && name != "adamax" {
		t.note(Changed, "mlx's Adam does not correct the bias of its moments, unless bias_correction is true; cria's AdamW does, so its first steps differ", correction)
	}
	t.preset("max_grad_norm", 0.0, "no clipping of gradients")
}

// mlxSchedule takes lr_schedule (tuner/utils.py, build_schedule), which counts in steps of the optimizer.
func (t *translation) mlxSchedule() {
	e, ok := t.given["lr_schedule"]
	if !ok {
		return
	}
	if e.node.Kind != yaml.MappingNode {
		t.mustBe(e, "a mapping with name and arguments")
		return
	}
	name, warm := "", int64(0)
	var arguments []float64
	var at, named entry
	for _, p := range t.nested(e) {
		switch strings.TrimPrefix(p.name, "lr_schedule.") {
		case "name":
			name, _ = textOf(p.node)
			named = p
		case "warmup":
			whole("warmup_steps")(t, p)
			warm = int64(t.number("warmup_steps", 0))
		case "warmup_init":
			if !isOff(p.node) {
				t.note(Lost, "cria's warm-up begins at 0", p.name)
			}
		case "arguments":
			at = p
			for _, n := range p.node.Content {
				v, isNumber := numberOf(n)
				if !isNumber {
					t.mustBe(entry{p.name, p.key, n}, "a number")
				}
				arguments = append(arguments, v)
			}
		default:
			t.note(Unknown, "", p.name)
		}
	}
	if named.node == nil || len(arguments) == 0 {
		t.fail(e, "needs a name and a list of arguments, of which the first is the learning rate")
		return
	}
	t.set("learning_rate", arguments[0], at)
	if rate, ok := t.given["learning_rate"]; ok {
		t.note(Idle, "lr_schedule's first argument goes before it", rate.name)
	}
	argument := func(i int) float64 {
		if i < len(arguments) {
			return arguments[i]
		}
		return 0
	}
	steps, end := argument(1), 0.0
	switch name {
	case "cosine_decay": // init, steps, end
		if end = argument(2); end > 0 {
			t.set("lr_scheduler_type", "cosine_with_min_lr", named)
			t.set("lr_scheduler_kwargs", pairs{{"min_lr", end}}, at)
		} else {
			t.set("lr_scheduler_type", "cosine", named)
		}
	case "linear_schedule": // init, end, steps
		steps, end = argument(2), argument(1)
		switch {
		case end == 0:
			t.set("lr_scheduler_type", "linear", named)
		case end < arguments[0]:
			t.set("lr_scheduler_type", "polynomial", named)
			t.set("lr_scheduler_kwargs", pairs{{"lr_end", end}, {"power", 1.0}}, at)
		default:
			t.note(Lost, "a learning rate that rises: a constant one is written instead", named.name)
			return
		}
	default:
		instead := "constant"
		if warm > 0 {
			instead = "constant_with_warmup"
		}
		t.set("lr_scheduler_type", instead, named)
		t.note(Lost, fmt.Sprintf("cria has no %s: %s is written instead", clip(name), instead), named.name)
		return
	}
	if total := t.number("max_steps", 0); steps+float64(warm) != total {
		t.note(Changed, fmt.Sprintf("the learning rate falls for %g steps after a warm-up of %d; in cria it falls until the last of the %g steps", steps, warm, total), at.name)
	}
}

// mlxData takes the directory with train.jsonl and valid.jsonl, or the dataset of a hub.
func (t *translation) mlxData() {
	var list []source
	features := map[string]string{"prompt_feature": "prompt", "completion_feature": "completion", "chat_feature": "messages", "text_feature": "text"}
	take := func(s *source, e entry, name string) bool {
		role, ok := features[name]
		v, isText := textOf(e.node)
		if !ok || !isText {
			return false
		}
		s.column(role, v, e)
		return true
	}
	if e, ok := t.given["hf_dataset"]; ok {
		nodes := []*yaml.Node{e.node}
		if e.node.Kind == yaml.SequenceNode {
			nodes = e.node.Content
		}
		for _, n := range nodes {
			var s source
			for _, p := range t.nested(entry{e.name, e.key, n}) {
				name := strings.TrimPrefix(p.name, e.name+".")
				v, isText := textOf(p.node)
				switch {
				case name == "path" && isText:
					s.path = place(v)
					s.from = append(s.from, p)
				case take(&s, p, name):
				case name == "train_split" && v == "train":
					t.note(Idle, "the rows for training are read", p.name)
				default:
					t.note(Lost, wholeHub, p.name)
				}
			}
			if s.path == "" {
				t.fail(entry{e.name, e.key, n}, "needs a path")
				continue
			}
			if t.given["hf_dataset.train_split"].node == nil {
				t.note(Lost, "mlx-lm trains train[:80%]; "+wholeHub, e.name)
			}
			list = append(list, s)
		}
		if d, ok := t.given["data"]; ok {
			t.note(Idle, "hf_dataset goes before it", d.name)
		}
		t.datasets("dataset", list)
		return
	}
	e, ok := t.given["data"]
	if !ok {
		return
	}
	s := source{from: []entry{e}}
	for name := range features {
		if f, ok := t.given[name]; ok {
			take(&s, f, name)
		}
	}
	dir, _ := textOf(e.node)
	if s.path = place(dir); !onHub(s.path) {
		s.path = path.Join(dir, "train.jsonl")
		valid := path.Join(dir, "valid.jsonl")
		if _, err := os.Stat(valid); err == nil {
			t.set("eval_dataset", valid, e)
		} else {
			t.note(Changed, "cria reads train.jsonl; with valid.jsonl set eval_dataset: "+encode(valid), e.name)
		}
	} else {
		t.note(Changed, "cria reads the rows for training; rows for evaluation can be set aside with eval_fraction", e.name)
	}
	t.datasets("dataset", []source{s})
	if _, ok := t.values["eval_dataset"]; ok {
		t.mlxEvaluation()
	} else if e, ok := t.given["steps_per_eval"]; ok {
		t.note(Idle, "without eval_dataset or eval_fraction nothing is evaluated", e.name)
	}
}

func (t *translation) mlxEvaluation() {
	accumulate := max(int64(t.number("gradient_accumulation_steps", 1)), 1)
	e, ok := t.given["steps_per_eval"]
	if !ok {
		t.preset("eval_steps", max(200/accumulate, 1), "steps_per_eval 200")
		return
	}
	if n, ok := wholeOf(e.node); ok {
		t.set("eval_steps", max(n/accumulate, 1), e)
	} else {
		t.mustBe(e, "a whole number")
	}
}
