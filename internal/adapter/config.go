package adapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"cria/internal/disk"
)

// maxRank keeps a damaged file from asking for absurd amounts of memory.
const maxRank = 1 << 16

// Config is what adapter_config.json says: the fields of peft.LoraConfig that cria supports.
type Config struct {
	BaseModelNameOrPath string // "" is written as null
	Revision            string // of the base model on its hub; "" is written as null
	TaskType            string // "CAUSAL_LM"; "" is written as null

	R                 int     // lora_A has r rows
	LoraAlpha         float64 // scale is lora_alpha / r
	LoraDropout       float64 // in [0, 1)
	UseRSLoRA         bool    // scale is lora_alpha / sqrt(r)
	TargetModules     Targets
	LayersToTransform []int    // only these layers; empty: all. Not with a regular expression in TargetModules
	LayersPattern     []string // the module list that LayersToTransform counts in; empty: any
	ExcludeModules    Targets  // modules that TargetModules would select and that have no adapter; New and Load put it into TargetModules
	RankPattern       Pattern  // r of the modules that a key matches
	AlphaPattern      Pattern  // lora_alpha of the modules that a key matches

	laterPEFT bool // read from a file of PEFT 0.14 or newer, whose patterns match by another rule
	mlx       bool // read from MLX's files
}

// Targets says which modules get an adapter: a list of names or ends of names (q_proj, mlp.up_proj), or a regular expression
// in Python's syntax that a whole name must match, or "all-linear". At most one is set; neither means PEFT's default for
// Llama, q_proj and v_proj.
type Targets struct {
	List []string
	Expr string // a regular expression, or all-linear in any case
}

// Pattern maps names or regular expressions to a rank or an alpha. The first key that matches counts, so order matters.
type Pattern []PatternEntry

// PatternEntry is one key of a Pattern.
type PatternEntry struct {
	Key   string
	Value float64 // in a RankPattern a whole number
}

// Keys of adapter_config.json up to PEFT 0.20 that do not change what a finished adapter computes. The configurations of
// initialisations are among them: init_lora_weights says whether one was used.
var ignored = []string{"auto_mapping", "inference_mode", "megatron_core", "runtime_config", "peft_version", "qalora_group_size",
	"ensure_weight_tying", "loftq_config", "eva_config", "corda_config", "lora_ga_config"}

// A key that every file of PEFT from 0.14 on has, set or not, and none before.
const laterKey = "exclude_modules"

// Keys that are refused if they are set, and why. Keys that nobody knows are refused too.
var refused = map[string]string{
	"use_dora":                "DoRA adapters also scale the columns of the weights",
	"use_qalora":              "QA-LoRA adapters pool their input",
	"use_bdlora":              "BD-LoRA adapters are block-diagonal",
	"lora_bias":               "lora_B has a bias",
	"fan_in_fan_out":          "the base model would have transposed weights, Llama has not",
	"modules_to_save":         "whole modules were trained beside the adapter",
	"layer_replication":       "layers of the base model are repeated",
	"trainable_token_indices": "embeddings of single tokens were trained beside the adapter",
	"target_parameters":       "parameters outside linear layers were trained",
	"alora_invocation_tokens": "activated LoRA adapts only a part of the tokens",
	"arrow_config":            "Arrow routes between several adapters",
	"kasa_config":             "KaSA changes the base weights",
	"monteclora_config":       "MonteCLoRA samples its weights",
	"velora_config":           "VeLoRA has another backward pass",
	"megatron_config":         "Megatron's layers are not supported",
}

// PEFTKeys are the keys that LoraConfig of PEFT 0.11.1 knows, which are those that Write writes. Versions before 0.14 fail at
// any other key, later ones warn.
var PEFTKeys = []string{"alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode",
	"init_lora_weights", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout",
	"megatron_config", "megatron_core", "modules_to_save", "peft_type", "r", "rank_pattern", "revision", "target_modules", "task_type",
	"use_dora", "use_rslora"}

// Changes says what a key of adapter_config.json, where it is set, makes an adapter compute that plain LoRA does not; "" for
// other keys.
func Changes(key string) string { return refused[key] }

// ParseConfig reads an adapter_config.json of PEFT up to 0.20; MLX's is read with its tensors, by ReadConfig. Keys that are null, false or empty are ignored; a key that is
// set and changes what the adapter computes is refused by name, and so are unknown keys.
func ParseConfig(text []byte) (*Config, error) {
	var keys map[string]json.RawMessage
	if err := disk.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if err := checkType(keys); err != nil {
		return nil, err
	}
	c := &Config{R: 8, LoraAlpha: 8} // LoraConfig's defaults
	_, c.laterPEFT = keys[laterKey]
	bias := "none"
	init := json.RawMessage("true")
	fields := map[string]any{
		"base_model_name_or_path": &c.BaseModelNameOrPath, "revision": &c.Revision, "task_type": &c.TaskType, "bias": &bias,
		"r": &c.R, "lora_alpha": &c.LoraAlpha, "lora_dropout": &c.LoraDropout, "use_rslora": &c.UseRSLoRA,
		"target_modules": &c.TargetModules, "layers_to_transform": (*intList)(&c.LayersToTransform),
		"layers_pattern": (*stringList)(&c.LayersPattern), "exclude_modules": &c.ExcludeModules, "rank_pattern": &c.RankPattern, "alpha_pattern": &c.AlphaPattern,
		"init_lora_weights": &init,
	}
	var errs []error
	for _, key := range sortedKeys(keys) {
		raw := keys[key]
		field, known := fields[key]
		switch {
		case known && isNull(raw):
		case known:
			if err := disk.Unmarshal(raw, field); err != nil {
				errs = append(errs, fmt.Errorf("%s is %.60s: %w", key, raw, err))
			}
		case key == "peft_type", slices.Contains(ignored, key), IsUnset(raw):
		case refused[key] != "":
			errs = append(errs, fmt.Errorf("%s is %.60s, which cria does not support: %s", key, raw, refused[key]))
		default:
			errs = append(errs, fmt.Errorf("%s is %.60s: cria does not know this key and cannot tell what it changes", key, raw))
		}
	}
	if bias != "none" {
		errs = append(errs, fmt.Errorf("bias is %q, which cria does not support: biases were trained beside the adapter", bias))
	}
	errs = append(errs, checkInit(init))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, c.check()
}

// checkType tells PEFT's LoRA configuration from its others and from MLX's file of the same name.
func checkType(keys map[string]json.RawMessage) error {
	if raw, ok := keys["peft_type"]; ok {
		var t string
		if json.Unmarshal(raw, &t) != nil || t != "LORA" {
			return fmt.Errorf("peft_type is %.60s; cria reads LORA adapters", raw)
		}
		return nil
	}
	if WrittenByMLX(keys) {
		return errors.New("it was written by MLX, and says which modules are adapted only together with its tensors")
	}
	return errors.New("it has no peft_type, so it is not the configuration of a PEFT adapter")
}

// checkInit refuses the initialisations after which the adapter belongs to other base weights than the model's own.
func checkInit(raw json.RawMessage) error {
	var name string
	switch {
	case string(raw) == "true", string(raw) == "false":
		return nil
	case json.Unmarshal(raw, &name) != nil:
		return fmt.Errorf("init_lora_weights is %.60s, want true, false or a name", raw)
	case slices.Contains([]string{"gaussian", "eva", "orthogonal", "mica"}, strings.ToLower(name)):
		return nil
	}
	return fmt.Errorf("init_lora_weights is %.60q, which cria does not support: it changes the base weights; "+
		"convert the adapter to plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)", name)
}

// check tests everything that does not need a model.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.R < 1 || c.R > maxRank {
		bad("r is %d, want 1 to %d", c.R, maxRank)
	}
	if math.IsNaN(c.LoraAlpha) || math.IsInf(c.LoraAlpha, 0) {
		bad("lora_alpha is %v, want a finite number", c.LoraAlpha)
	}
	if !(c.LoraDropout >= 0 && c.LoraDropout < 1) {
		bad("lora_dropout is %v, want 0 <= lora_dropout < 1", c.LoraDropout)
	}
	if len(c.TargetModules.List) > 0 && c.TargetModules.Expr != "" {
		bad("target_modules is both a list and an expression")
	}
	if c.TargetModules.Expr != "" && len(c.LayersToTransform)+len(c.LayersPattern) > 0 {
		bad("layers_to_transform and layers_pattern cannot be used with target_modules %v; list the modules by name, "+
			"or put the layers into a regular expression", c.TargetModules)
	}
	for _, l := range c.LayersToTransform {
		if l < 0 {
			bad("layers_to_transform has %d, want layers from 0", l)
		}
	}
	for _, e := range c.RankPattern {
		if e.Value != math.Trunc(e.Value) || e.Value < 1 || e.Value > maxRank {
			bad("rank_pattern: %s is %v, want a whole number from 1 to %d", e.Key, e.Value, maxRank)
		}
	}
	for _, e := range c.AlphaPattern {
		if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
			bad("alpha_pattern: %s is %v, want a finite number", e.Key, e.Value)
		}
	}
	return errors.Join(errs...)
}

// allLinear reports the shorthand for every linear layer but the output head.
func (t Targets) allLinear() bool { return strings.EqualFold(t.Expr, "all-linear") }

func (t Targets) String() string {
	if t.Expr != "" {
		return fmt.Sprintf("%q", t.Expr)
	}
	return "[" + strings.Join(t.List, ", ") + "]"
}

func (t *Targets) UnmarshalJSON(raw []byte) error {
	*t = Targets{}
	if raw[0] == '"' {
		return json.Unmarshal(raw, &t.Expr)
	}
	if err := json.Unmarshal(raw, &t.List); err != nil {
		return errors.New("want a list of module names, or a string")
	}
	return nil
}

// UnmarshalJSON keeps the order of the keys.
func (p *Pattern) UnmarshalJSON(raw []byte) error {
	*p = nil
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("want an object of names and numbers")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		e := PatternEntry{Key: key}
		if err := d.Decode(&e.Value); err != nil {
			return fmt.Errorf("the value of %s is not a number", key)
		}
		if slices.ContainsFunc(*p, func(e PatternEntry) bool { return e.Key == key }) {
			return fmt.Errorf("key %s is there twice", key)
		}
		*p = append(*p, e)
	}
	_, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// sorted returns the entries in the order in which they are saved.
func (p Pattern) sorted() Pattern {
	s := slices.Clone(p)
	slices.SortFunc(s, func(a, b PatternEntry) int { return strings.Compare(a.Key, b.Key) })
	return s
}

// intList and stringList also take a single value, as PEFT does.
type (
	intList    []int
	stringList []string
)

func (l *intList) UnmarshalJSON(raw []byte) error    { return listOrOne(raw, (*[]int)(l)) }
func (l *stringList) UnmarshalJSON(raw []byte) error { return listOrOne(raw, (*[]string)(l)) }

func listOrOne[T any](raw []byte, list *[]T) error {
	if raw[0] == '[' {
		return json.Unmarshal(raw, list)
	}
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*list = []T{one}
	return nil
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// IsUnset reports a value that means that nobody asked for anything.
func IsUnset(raw json.RawMessage) bool {
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return false
	}
	return slices.Contains([]string{"null", "false", `""`, "[]", "{}", "0"}, compact.String())
}
