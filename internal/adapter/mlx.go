package adapter

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// MLXTensorsName is the tensor file of an adapter of mlx-lm: <module>.lora_a (in, r) and <module>.lora_b (r, out). Its
// adapter_config.json is every argument of the training command. LoRALinear (mlx_lm/tuner/lora.py, __call__ and fuse) computes
// y = W x + scale · (dropout(x) lora_a) lora_b, so A is lora_a transposed, B is lora_b transposed, and PEFT's lora_alpha / r is
// scale. Which modules are adapted the tensors say: num_layers and keys select those of a model (mlx_lm/tuner/utils.py,
// linear_to_lora_layers), and a module without tensors stays as it was.
const MLXTensorsName = "adapters.safetensors"

// WrittenByMLX tells an adapter_config.json of mlx-lm, by its keys, from PEFT's.
func WrittenByMLX(keys map[string]json.RawMessage) bool {
	if _, ok := keys["peft_type"]; ok {
		return false
	}
	for _, key := range []string{"lora_parameters", "fine_tune_type", "lora_layers"} {
		if _, ok := keys[key]; ok {
			return true
		}
	}
	return false
}

// readMLX makes a configuration of the keys of dir/adapter_config.json and of the names in dir/adapters.safetensors.
func readMLX(dir string, keys map[string]json.RawMessage) (*Config, error) {
	c, err := parseMLX(keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ConfigName), err)
	}
	f, err := safetensors.Open(filepath.Join(dir, MLXTensorsName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := c.takeMLXNames(f.Names()); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, MLXTensorsName), err)
	}
	return c, nil
}

// parseMLX reads everything but the target modules. Arguments of the training command that do not change what a finished
// adapter computes are ignored; what changes it is refused by name.
func parseMLX(keys map[string]json.RawMessage) (*Config, error) {
	var (
		kind, model string
		dora        bool
		params      map[string]json.RawMessage
		errs        []error
	)
	read := func(from map[string]json.RawMessage, what, key string, to any) bool {
		raw, ok := from[key]
		if !ok || isNull(raw) {
			return false
		}
		if err := disk.Unmarshal(raw, to); err != nil {
			errs = append(errs, fmt.Errorf("%s%s is %.60s: %w", what, key, raw, err))
		}
		return true
	}
	read(keys, "", "model", &model)
	if read(keys, "", "fine_tune_type", &kind) && kind != "lora" {
		why := "whole weights were trained, there is no adapter; convert them with mlx_lm.fuse, and use the model"
		if kind == "dora" {
			why = refused["use_dora"] + "; merge it with mlx_lm.fuse, and use the model"
		}
		errs = append(errs, fmt.Errorf("fine_tune_type is %.60q, which cria does not support: %s", kind, why))
	}
	if read(keys, "", "use_dora", &dora) && dora {
		errs = append(errs, fmt.Errorf("use_dora is true, which cria does not support: %s; merge it with mlx_lm.fuse, and use the model", refused["use_dora"]))
	}
	c := &Config{BaseModelNameOrPath: model, TaskType: "CAUSAL_LM", mlx: true}
	if !read(keys, "", "lora_parameters", &params) && errs == nil {
		return nil, errors.New("it was written by MLX without lora_parameters, so the adapter's scale is not known: " +
			`write "lora_parameters": {"rank": R, "scale": S} into it, with the values of the training run`)
	}
	const what = "lora_parameters."
	var scale, alpha float64
	var names []string
	for _, key := range sortedKeys(params) {
		if raw := params[key]; !slices.Contains([]string{"rank", "scale", "dropout", "keys", "alpha"}, key) && !IsUnset(raw) {
			errs = append(errs, fmt.Errorf("%s%s is %.60s: cria does not know this key and cannot tell what it changes", what, key, raw))
		}
	}
	read(params, what, "keys", &names)
	read(params, what, "dropout", &c.LoraDropout)
	for key, to := range map[string]any{"rank": &c.R, "scale": &scale} {
		if params != nil && !read(params, what, key, to) {
			errs = append(errs, fmt.Errorf("%s%s is missing; it was given to the training run", what, key))
		}
	}
	// Until the middle of 2024 a module's scale was scale · alpha / rank, now alpha is not looked at.
	if read(params, what, "alpha", &alpha) && alpha != float64(c.R) {
		errs = append(errs, fmt.Errorf("%salpha is %v, which early versions of mlx-lm multiply the scale by and later ones ignore: "+
			"remove alpha, and for an adapter of an early version make scale %v", what, alpha, scale*alpha/float64(c.R)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.LoraAlpha = scale * float64(c.R)
	return c, c.check()
}

var mlxLayer = regexp.MustCompile(`^model\.layers\.(\d{1,6})\.[a-z_]+\.([a-z_]+)$`)

// takeMLXNames sets the target modules: names of layers, and their numbers, where every layer has the same, else whole names.
func (c *Config) takeMLXNames(tensors []string) error {
	byLayer := map[int][]string{}
	var whole []string
	same := true
	for _, name := range tensors {
		module, isA := strings.CutSuffix(name, ".lora_a")
		if !isA {
			var isB bool
			if module, isB = strings.CutSuffix(name, ".lora_b"); !isB {
				return fmt.Errorf("tensor %s is neither a lora_a nor a lora_b: cria reads LoRA adapters only; merge this one with mlx_lm.fuse, and use the model", name)
			}
		}
		if slices.Contains(whole, module) {
			continue
		}
		whole = append(whole, module)
		m := mlxLayer.FindStringSubmatch(module)
		if m == nil || !slices.Contains(llama.LinearNames[:], m[2]) {
			same = false
			continue
		}
		layer, _ := strconv.Atoi(m[1])
		byLayer[layer] = append(byLayer[layer], m[2])
	}
	if len(whole) == 0 {
		return errors.New("it holds no tensors")
	}
	slices.Sort(whole)
	layers := slices.Sorted(maps.Keys(byLayer))
	for _, l := range layers {
		slices.Sort(byLayer[l])
		same = same && slices.Equal(byLayer[l], byLayer[layers[0]])
	}
	if !same {
		c.TargetModules.List = whole
		return nil
	}
	c.TargetModules.List, c.LayersToTransform = byLayer[layers[0]], layers
	return nil
}
