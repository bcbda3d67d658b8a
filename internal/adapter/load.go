package adapter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// The files of an adapter directory.
const (
	ConfigName  = "adapter_config.json"
	TensorsName = "adapter_model.safetensors"

	pickleName = "adapter_model.bin"
	maxConfig  = 8 << 20 // bytes of adapter_config.json
)

// baseKey is where the tensor file's metadata names the base weights.
const baseKey = "cria.base_sha256"

const tensorPrefix = "base_model.model."

// parts are a module's tensors: A (r, in) and B (out, r).
var parts = [2]string{"lora_A", "lora_B"}

// tensorName is the name under which PEFT saves part 0 (A) or 1 (B) of a module.
func tensorName(module string, part int) string {
	return tensorPrefix + module + "." + parts[part] + ".weight"
}

// layout is how a program lays out the tensors of an adapter.
type layout struct {
	file       string
	name       func(module string, part int) string
	transposed bool // A is (in, r), B is (r, out)
}

// plain undoes what some tools do to the names of PEFT: they leave the adapter's name in, lora_A.default.weight, or the prefix
// out.
func (l layout) plain(name string) string {
	if l.file != TensorsName {
		return name
	}
	name = strings.Replace(name, ".default.weight", ".weight", 1)
	if !strings.HasPrefix(name, tensorPrefix) {
		name = tensorPrefix + name
	}
	return name
}

func (c *Config) layout() layout {
	if !c.mlx {
		return layout{file: TensorsName, name: tensorName}
	}
	return layout{file: MLXTensorsName, transposed: true, name: func(module string, part int) string {
		return module + "." + strings.ToLower(parts[part])
	}}
}

// ReadConfig reads dir/adapter_config.json, PEFT's or MLX's. What it refuses see ParseConfig and parseMLX.
func ReadConfig(dir string) (*Config, error) {
	path := filepath.Join(dir, ConfigName)
	text, err := disk.ReadFile(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not an adapter directory%s: %w", dir, hint(dir), err)
	}
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if disk.Unmarshal(text, &keys) == nil && WrittenByMLX(keys) {
		return readMLX(dir, keys)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// hint looks for what the user may have meant.
func hint(dir string) string {
	if exists(filepath.Join(dir, MLXTensorsName)) {
		return fmt.Sprintf(": it holds MLX's %s without %s, which says its scale", MLXTensorsName, ConfigName)
	}
	found := slices.DeleteFunc(disk.Match(dir, "checkpoint-*"), func(c string) bool { return !exists(filepath.Join(c, ConfigName)) })
	if len(found) > 0 {
		return fmt.Sprintf(", but %s is one", found[len(found)-1])
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Load reads an adapter directory as PEFT 0.11.1 or newer or mlx-lm writes it, for the model m. Tensors may be float32, bfloat16 or
// float16; all become float32. Every tensor that the configuration asks for must be there with the shape that the model
// gives, and no other.
func Load(dir string, m *llama.Config) (*Adapter, error) {
	c, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	modules, err := c.modules(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ConfigName), err)
	}
	if err := c.settle(modules, m); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ConfigName), err)
	}
	layout := c.layout()
	path := filepath.Join(dir, layout.file)
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if exists(filepath.Join(dir, pickleName)) {
			return nil, fmt.Errorf("%s is a pickle file, which can run code when it is read, so cria does not read it; "+
				"save the adapter with safe_serialization=True", filepath.Join(dir, pickleName))
		}
		return nil, fmt.Errorf("the adapter has no tensors: %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.mlx = false // from here on it is written as PEFT's
	a := &Adapter{Config: *c, Modules: modules, BaseSHA256: f.Metadata()[baseKey]}
	if err := a.readTensors(f, layout, m); err != nil {
		return nil, &TensorError{fmt.Errorf("%s: %w%s", path, err, c.madeFor())}
	}
	if err := a.checkFinite(); err != nil {
		return nil, &TensorError{fmt.Errorf("%s: %w; the training run that wrote it failed", path, err)}
	}
	return a, nil
}

// TensorError is Load's where it understands the configuration and the tensors do not go with it or with the model.
type TensorError struct{ error }

func (e *TensorError) Unwrap() error { return e.error }

// madeFor says for which base model the adapter was made, if it says so itself.
func (c *Config) madeFor() string {
	if c.BaseModelNameOrPath == "" {
		return ""
	}
	return fmt.Sprintf("; the adapter was made for %s", c.BaseModelNameOrPath)
}

// readTensors fills A and B of every module.
func (a *Adapter) readTensors(f *safetensors.File, layout layout, m *llama.Config) error {
	byName := map[string]safetensors.Tensor{}
	expected := map[string]bool{}
	for _, mod := range a.Modules {
		expected[layout.name(mod.Name, 0)], expected[layout.name(mod.Name, 1)] = true, true
	}
	var unknown []string
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		plain := layout.plain(name)
		if _, twice := byName[plain]; twice {
			return fmt.Errorf("tensors %s and %s are the same part of a module", plain, name)
		}
		byName[plain] = t
		if !expected[plain] {
			unknown = append(unknown, name)
		}
	}
	var missing []string
	for i := range a.Modules {
		mod := &a.Modules[i]
		shapes := [2][]int{{mod.R, mod.In}, {mod.Out, mod.R}}
		for part, to := range []*[]float32{&mod.A, &mod.B} {
			if layout.transposed {
				slices.Reverse(shapes[part])
			}
			name := layout.name(mod.Name, part)
			t, ok := byName[name]
			if !ok {
				missing = append(missing, name)
				continue
			}
			if !slices.Equal(t.Shape, shapes[part]) {
				return fmt.Errorf("tensor %s has shape %v, want %v: %s", t.Name, t.Shape, shapes[part], why(t.Shape, shapes[part], layout.rankAxis(part), mod))
			}
			v, err := t.Float32s()
			if err != nil {
				return err
			}
			if layout.transposed {
				v = llama.Transpose(v, t.Shape[0], t.Shape[1])
			}
			*to = v
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%s not among the modules that %s selects in this model of %d layers",
			listed(unknown, "tensor %s is", "%d tensors, first %s, are"), ConfigName, m.NumHiddenLayers)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s missing that %s asks for in this model of %d layers",
			listed(missing, "tensor %s is", "%d tensors, first %s, are"), ConfigName, m.NumHiddenLayers)
	}
	return nil
}

// rankAxis is where the rank is in the shape of a part: A is (r, in), B is (out, r).
func (l layout) rankAxis(part int) int {
	if l.transposed {
		return 1 - part
	}
	return part
}

// why tells a wrong rank from a wrong model.
func why(got, want []int, rank int, mod *Module) string {
	if len(got) == 2 && got[1-rank] == want[1-rank] {
		return fmt.Sprintf("its rank is %d, and %s gives the module r %d", got[rank], ConfigName, mod.R)
	}
	return fmt.Sprintf("the model's %s is a (%d, %d) matrix, so the adapter belongs to another model", mod.Kind, mod.Out, mod.In)
}

// listed names one thing, or the number of things and the first.
func listed(names []string, one, many string) string {
	if len(names) == 1 {
		return fmt.Sprintf(one, names[0])
	}
	return fmt.Sprintf(many, len(names), names[0])
}
