package adapter

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

const mlxConfig = `{"adapter_path": "adapters", "fine_tune_type": "lora", "iters": 600, "model": "g/tiny-llama", "num_layers": 16,
	"lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 4.0}, "seed": 0, "train": true}`

// asMLX writes the reference's adapter as mlx-lm would, with the tensors that keep says.
func asMLX(t *testing.T, config string, keep func(name string) bool) string {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(golden, "tiny/adapter", TensorsName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []safetensors.Tensor
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		v, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		name = strings.NewReplacer(tensorPrefix, "", ".lora_A.weight", ".lora_a", ".lora_B.weight", ".lora_b").Replace(name)
		if keep(name) {
			list = append(list, safetensors.FromFloat32s(name, []int{x.Shape[1], x.Shape[0]}, llama.Transpose(v, x.Shape[0], x.Shape[1])))
		}
	}
	out := files{ConfigName: []byte(config)}
	w, _ := out.create(MLXTensorsName)
	if err := safetensors.Write(w, list, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	dir := t.TempDir()
	out.put(t, dir)
	return dir
}

func all(string) bool { return true }

// TestLoadMLX: the adapter that mlx-lm would have written is PEFT's, value for value, and is written as that.
func TestLoadMLX(t *testing.T) {
	shape := tiny(t)
	want, err := Load(filepath.Join(golden, "tiny/adapter"), shape)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(asMLX(t, mlxConfig, all), shape)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Modules, want.Modules) {
		t.Error("modules differ")
	}
	slices.Sort(want.Config.TargetModules.List)
	if !reflect.DeepEqual(got.Config, want.Config) {
		t.Errorf("%+v\nwant %+v", got.Config, want.Config)
	}
}

func TestLoadMLXModules(t *testing.T) {
	shape := tiny(t)
	config := strings.Replace(mlxConfig, "4.0", "0.3", 1)
	for name, c := range map[string]struct {
		keep    func(string) bool
		targets []string
		layers  []int
		modules int
	}{
		"last layers": {func(n string) bool { return strings.Contains(n, "layers.2.") || strings.Contains(n, "layers.3.") },
			[]string{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}, []int{2, 3}, 14},
		"keys": {func(n string) bool { return strings.Contains(n, "v_proj") || strings.Contains(n, "q_proj") }, []string{"q_proj", "v_proj"}, nil, 8},
		"uneven": {func(n string) bool {
			return strings.Contains(n, "2.self_attn.v_proj") || strings.Contains(n, "3.mlp.up_proj")
		},
			[]string{"model.layers.2.self_attn.v_proj", "model.layers.3.mlp.up_proj"}, nil, 2},
	} {
		a, err := Load(asMLX(t, config, c.keep), shape)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(a.Config.TargetModules.List, c.targets) || !slices.Equal(a.Config.LayersToTransform, c.layers) || len(a.Modules) != c.modules {
			t.Errorf("%s: %v, layers %v, %d modules", name, a.Config.TargetModules, a.Config.LayersToTransform, len(a.Modules))
		}
		if s := a.Modules[0].Scale; math.Abs(s-0.3) > 1e-15 {
			t.Errorf("%s: scale %v", name, s)
		}
		// What is written is PEFT's and selects the same.
		written, dir := files{}, t.TempDir()
		if err := a.Write(safetensors.F32, written.create); err != nil {
			t.Fatal(err)
		}
		written.put(t, dir)
		again, err := Load(dir, shape)
		if err != nil || !reflect.DeepEqual(again.Modules, a.Modules) {
			t.Errorf("%s: written and read again: %v", name, err)
		}
	}
}

func TestMLXRefuses(t *testing.T) {
	shape := tiny(t)
	with := func(old, new string) string { return strings.Replace(mlxConfig, old, new, 1) }
	for name, c := range map[string]struct {
		config, want string
		keep         func(string) bool
	}{
		"dora":          {with(`"lora",`, `"dora",`), `fine_tune_type is "dora"`, all},
		"full":          {with(`"lora",`, `"full",`), "mlx_lm.fuse", all},
		"early dora":    {with(`"seed": 0`, `"use_dora": true`), "use_dora is true", all},
		"early":         {`{"lora_layers": 16, "model": "m"}`, "without lora_parameters", all},
		"no scale":      {with(`, "scale": 4.0`, ""), "lora_parameters.scale is missing", all},
		"no rank":       {with(`"rank": 8, `, ""), "lora_parameters.rank is missing", all},
		"alpha":         {with(`"rank": 8`, `"rank": 8, "alpha": 16`), "lora_parameters.alpha is 16", all},
		"unknown":       {with(`"rank": 8`, `"rank": 8, "magic": 1`), "lora_parameters.magic is 1", all},
		"scale text":    {with("4.0", `"4"`), "lora_parameters.scale", all},
		"scale huge":    {with("4.0", "1e308"), "lora_alpha is +Inf", all},
		"rank 0":        {with(`"rank": 8`, `"rank": 0`), "r is 0", all},
		"other rank":    {with(`"rank": 8`, `"rank": 4`), "its rank is 8, and adapter_config.json gives the module r 4", all},
		"half a module": {mlxConfig, "model.layers.0.self_attn.q_proj.lora_b is missing", func(n string) bool { return n == "model.layers.0.self_attn.q_proj.lora_a" }},
		"no tensors":    {mlxConfig, "no tensors", func(string) bool { return false }},
	} {
		if _, err := Load(asMLX(t, c.config, c.keep), shape); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
	small := *shape
	small.NumHiddenLayers = 3
	if _, err := Load(asMLX(t, mlxConfig, all), &small); err == nil || !strings.Contains(err.Error(), "14 tensors, first model.layers.3.mlp.down_proj.lora_a, are not among") {
		t.Errorf("model with fewer layers: %v", err)
	}
	for _, names := range [][]string{{"model.layers.0.self_attn.q_proj.m"}, {"lm_head.weight"}} {
		if err := (&Config{}).takeMLXNames(names); err == nil || !strings.Contains(err.Error(), "neither") {
			t.Errorf("%v: %v", names, err)
		}
	}
	head := &Config{R: 8, mlx: true}
	if err := head.takeMLXNames([]string{"lm_head.lora_a", "lm_head.lora_b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := head.modules(shape); err == nil || !strings.Contains(err.Error(), "output head") {
		t.Errorf("lm_head: %v", err)
	}
}

func TestMLXWithoutItsFiles(t *testing.T) {
	dir := asMLX(t, mlxConfig, all)
	if err := os.Remove(filepath.Join(dir, MLXTensorsName)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(dir); err == nil || !strings.Contains(err.Error(), MLXTensorsName) {
		t.Errorf("without tensors: %v", err)
	}
	dir = asMLX(t, mlxConfig, all)
	if err := os.Remove(filepath.Join(dir, ConfigName)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(dir); err == nil || !strings.Contains(err.Error(), "which says its scale") {
		t.Errorf("without configuration: %v", err)
	}
	if _, err := ParseConfig([]byte(mlxConfig)); err == nil || !strings.Contains(err.Error(), "MLX") {
		t.Errorf("without a directory: %v", err)
	}
}

// TestExcludeModules: a file of PEFT 0.14 or newer, settled into target_modules, which every version reads.
func TestExcludeModules(t *testing.T) {
	_, shape := readReference(t)
	for name, c := range map[string]struct {
		keys    string
		modules int
		targets string
	}{
		"list":       {`"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]`, 12, ""},
		"whole name": {`"target_modules": ["q_proj"], "exclude_modules": ["model.layers.3.self_attn.q_proj"]`, 11, ""},
		"expression": {`"target_modules": ".*\\.q_proj", "exclude_modules": ".*layers\\.[01]\\..*"`, 10, ""},
		"layers":     {`"target_modules": ["q_proj"], "layers_to_transform": [1, 2], "exclude_modules": ["layers.2.self_attn.q_proj"]`, 1, ""},
		"the head":   {`"target_modules": ["q_proj"], "exclude_modules": ["lm_head"]`, 12, "[q_proj]"},
		"head again": {`"target_modules": ".*_proj|lm_head", "exclude_modules": "lm_head"`, 84, ""},
	} {
		conf, err := ParseConfig([]byte(`{"peft_type": "LORA", ` + c.keys + `}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		modules, err := conf.modules(shape)
		if err == nil {
			err = conf.settle(modules, shape)
		}
		if err != nil || len(modules) != c.modules || c.targets != "" && conf.TargetModules.String() != c.targets {
			t.Errorf("%s: %d modules, %v, %v", name, len(modules), conf.TargetModules, err)
			continue
		}
		text, err := conf.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := again.modules(shape); err != nil || !reflect.DeepEqual(same, modules) {
			t.Errorf("%s: settled it selects others: %v", name, err)
		}
	}
}

func FuzzParseMLX(f *testing.F) {
	f.Add([]byte(mlxConfig), "model.layers.0.self_attn.q_proj.lora_a")
	f.Add([]byte(`{"lora_parameters": {"rank": 8, "scale": 1e300, "alpha": 8, "keys": ["a"]}}`), "lm_head.lora_b")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		var keys map[string]json.RawMessage
		if disk.Unmarshal(text, &keys) != nil {
			return
		}
		c, err := parseMLX(keys)
		if err != nil || c.takeMLXNames([]string{name, name}) != nil {
			return
		}
		if _, err := c.encode(); err != nil {
			t.Fatal(err)
		}
	})
}
