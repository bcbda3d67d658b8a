package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/adapter"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// Adapter is a directory in PEFT's or MLX's layout.
type Adapter struct {
	BaseModel   string `json:"base_model_name_or_path"`
	BaseSHA256  string `json:"base_sha256"`  // of the weights that it was trained on, where cria recorded it
	BaseChecked bool   `json:"base_checked"` // the base model lies here, and the adapter's shapes fit it

	R                 int                `json:"r"`
	LoraAlpha         float64            `json:"lora_alpha"`
	Scale             float64            `json:"scale"` // lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora
	LoraDropout       float64            `json:"lora_dropout"`
	UseRSLoRA         bool               `json:"use_rslora"`
	TargetModules     adapter.Targets    `json:"target_modules"`
	LayersToTransform []int              `json:"layers_to_transform,omitempty"`
	RankPattern       map[string]float64 `json:"rank_pattern,omitempty"`
	AlphaPattern      map[string]float64 `json:"alpha_pattern,omitempty"`

	Modules    int            `json:"modules"`    // linear layers that it adapts
	Parameters int64          `json:"parameters"` // elements of all tensors
	Bytes      int64          `json:"bytes"`      // of all tensors
	DTypes     map[string]int `json:"dtypes"`     // number of tensors of each element type
	PEFT       string         `json:"peft"`       // the versions that read it
}

// adapter describes the adapter in dir, which is the report's path or a part of it.
func (r *Report) adapter(dir string) {
	a := &Adapter{DTypes: map[string]int{}}
	r.Adapter = a
	c, err := adapter.ReadConfig(dir)
	if err != nil {
		r.problem("%v", err)
	} else {
		a.take(c)
		a.PEFT = versions(dir)
	}
	if err := a.tensors(dir); err != nil {
		r.problem("%v", err)
		return
	}
	if c == nil || c.BaseModelNameOrPath == "" || !exists(filepath.Join(c.BaseModelNameOrPath, configName)) {
		return
	}
	cfg, err := llama.ReadConfig(c.BaseModelNameOrPath)
	if err == nil {
		_, err = adapter.Load(dir, cfg)
	}
	if err != nil {
		r.problem("it does not go with its base model %s: %v", c.BaseModelNameOrPath, err)
		return
	}
	a.BaseChecked = true
}

func (a *Adapter) take(c *adapter.Config) {
	a.BaseModel, a.R, a.LoraAlpha, a.LoraDropout, a.UseRSLoRA = c.BaseModelNameOrPath, c.R, c.LoraAlpha, c.LoraDropout, c.UseRSLoRA
	a.Scale = c.LoraAlpha / float64(c.R)
	if c.UseRSLoRA {
		a.Scale = c.LoraAlpha / math.Sqrt(float64(c.R))
	}
	a.TargetModules, a.LayersToTransform = c.TargetModules, c.LayersToTransform
	if slices.Sort(a.TargetModules.List); len(c.TargetModules.List) == 0 && c.TargetModules.Expr == "" {
		a.TargetModules.List = []string{"q_proj", "v_proj"}
	}
	a.RankPattern, a.AlphaPattern = pattern(c.RankPattern), pattern(c.AlphaPattern)
}

func pattern(p adapter.Pattern) map[string]float64 {
	m := map[string]float64{}
	for _, e := range p {
		m[e.Key] = e.Value
	}
	return m
}

// tensors counts, and tests that every lora_A has its lora_B.
func (a *Adapter) tensors(dir string) error {
	file, partA, partB, rank := adapter.TensorsName, ".lora_A.", ".lora_B.", 0
	if !exists(filepath.Join(dir, file)) && exists(filepath.Join(dir, adapter.MLXTensorsName)) {
		file, partA, partB, rank = adapter.MLXTensorsName, ".lora_a", ".lora_b", 1
	}
	file = filepath.Join(dir, file)
	f, err := safetensors.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && exists(filepath.Join(dir, "adapter_model.bin")):
		return errors.New("adapter_model.bin is a pickle file, which can run code when it is read, so cria does not read it; save the adapter with safe_serialization=True")
	case err != nil:
		return err
	}
	defer f.Close()
	a.BaseSHA256 = f.Metadata()["cria.base_sha256"]
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		a.Parameters += int64(t.NumElements())
		a.Bytes += int64(len(t.Data))
		a.DTypes[string(t.DType)]++
		twin := strings.Replace(name, partA, partB, 1)
		if twin == name {
			twin = strings.Replace(name, partB, partA, 1)
		} else {
			a.Modules++
		}
		b, ok := f.Tensor(twin)
		switch {
		case twin == name:
			return fmt.Errorf("%s: tensor %s is neither a lora_A nor a lora_B", file, name)
		case !ok:
			return fmt.Errorf("%s: tensor %s has no %s", file, name, twin)
		case strings.Contains(name, partA) && (len(t.Shape) != 2 || len(b.Shape) != 2 || t.Shape[rank] != b.Shape[1-rank]):
			return fmt.Errorf("%s: %s %v and %s %v do not fit together", file, name, t.Shape, twin, b.Shape)
		}
	}
	if a.Modules == 0 {
		return fmt.Errorf("%s has no tensors", file)
	}
	return nil
}

// versions says which peft versions read the configuration in dir.
func versions(dir string) string {
	var keys map[string]json.RawMessage
	if readJSON(filepath.Join(dir, adapter.ConfigName), &keys) != nil {
		return ""
	}
	if adapter.WrittenByMLX(keys) {
		return "only after cria doctor adapter --fix, it is MLX's"
	}
	for key := range keys {
		if !slices.Contains(adapter.PEFTKeys, key) {
			return "0.14 and newer"
		}
	}
	return "0.11.1 and newer"
}
