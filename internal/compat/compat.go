// Package compat says whether other programs take a LoRA adapter, by the rules in their sources, and writes one that they take.
package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/adapter"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// Answer is what a program does with an adapter.
type Answer string

// The answers. A program that opens an adapter and computes something else than it was trained to counts as refusing.
const (
	Takes   Answer = "takes it"
	Note    Answer = "takes it with a note"
	Refuses Answer = "refuses"
)

// Remark is something about an adapter, and what to do about it ("" where nothing needs to be done).
type Remark struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// Verdict is one program's answer, with the reasons.
type Verdict struct {
	Program string   `json:"program"`
	Answer  Answer   `json:"answer"`
	Remarks []Remark `json:"remarks"`
}

func (v *Verdict) note(what, do string) {
	if v.Answer == Takes {
		v.Answer = Note
	}
	v.Remarks = append(v.Remarks, Remark{what, do})
}

func (v *Verdict) refuse(what, do string) {
	v.Answer = Refuses
	v.Remarks = append(v.Remarks, Remark{what, do})
}

// Report is what Check finds.
type Report struct {
	Path      string         `json:"path"`
	Layout    string         `json:"layout"` // "peft" or "mlx"
	BaseModel string         `json:"base_model_name_or_path"`
	BaseDir   string         `json:"base_dir"` // the model that the shapes were compared with; "" none was found
	R         int            `json:"r"`        // 0 where cria does not read the configuration, and so below
	LoraAlpha float64        `json:"lora_alpha"`
	Modules   int            `json:"modules"`
	DTypes    map[string]int `json:"dtypes"`        // number of tensors of each element type
	Tokenizer string         `json:"tokenizer"`     // where a reader finds it: "adapter", "base" or ""
	Template  string         `json:"chat_template"` // the same

	Faults   []Remark  `json:"faults"`   // damage, which is every program's reason to refuse
	Notes    []Remark  `json:"notes"`    // worth knowing
	Verdicts []Verdict `json:"verdicts"` // of peft 0.11.1, vLLM, llama.cpp and cria
	Fixable  bool      `json:"fixable"`  // Fix can write one that all take, as far as its rank and base allow
}

// Taken reports that peft 0.11.1, vLLM and llama.cpp take the adapter.
func (r *Report) Taken() bool {
	return !slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return v.Answer == Refuses && v.Program != cria })
}

// The programs.
const (
	peft     = "peft 0.11.1"
	vllm     = "vLLM"
	llamacpp = "llama.cpp"
	cria     = "cria"
)

const doFix = "write one without it: --fix OUT"

// facts is what the rules look at.
type facts struct {
	dir     string
	keys    map[string]json.RawMessage // of adapter_config.json
	mlx     bool
	file    *safetensors.File
	shape   *llama.Config    // the base's, or as much of it as the tensors say
	adapter *adapter.Adapter // nil where cria refuses it
	err     error            // why
}

// open reads an adapter directory. The shapes are those of the model in base, "" for none. An adapter whose tensors or
// configuration cannot be read at all is an error.
func open(dir, base string) (*facts, error) {
	f := &facts{dir: dir}
	path := filepath.Join(dir, adapter.ConfigName)
	if err := disk.ReadJSON(path, 8<<20, &f.keys); errors.Is(err, fs.ErrNotExist) {
		if _, err := adapter.ReadConfig(dir); err != nil {
			return nil, err // it says what the directory is instead
		}
		return nil, err
	} else if err != nil {
		return nil, err
	}
	f.mlx = adapter.WrittenByMLX(f.keys)
	if kind := f.text("peft_type"); !f.mlx && kind != "LORA" {
		return nil, fmt.Errorf("%s: peft_type is %q; cria looks at LORA adapters", path, kind)
	}
	name := filepath.Join(dir, adapter.TensorsName)
	if f.mlx {
		name = filepath.Join(dir, adapter.MLXTensorsName)
	}
	var err error
	if f.file, err = safetensors.Open(name); err != nil {
		if !f.mlx && exists(filepath.Join(dir, "adapter_model.bin")) {
			return nil, fmt.Errorf("%s is a pickle file, which can run code when it is read, so cria does not read it; save the adapter with "+
				"safe_serialization=True", filepath.Join(dir, "adapter_model.bin"))
		}
		return nil, err
	}
	if base == "" {
		f.shape = f.infer()
	} else if f.shape, err = llama.ReadConfig(base); err != nil {
		f.file.Close()
		return nil, err
	}
	f.adapter, f.err = adapter.Load(dir, f.shape)
	return f, nil
}

func (f *facts) close() { f.file.Close() }

// text is the value of a key that is a string.
func (f *facts) text(key string) string {
	var s string
	json.Unmarshal(f.keys[key], &s)
	return s
}

// set reports that a key has a value that means something.
func (f *facts) set(key string) bool {
	raw, ok := f.keys[key]
	return ok && !adapter.IsUnset(raw)
}

// value is a key's value as a message shows it.
func (f *facts) value(key string) string { return fmt.Sprintf("%.60s", f.keys[key]) }

// null reports a key that is there without a value.
func (f *facts) null(key string) bool {
	raw, ok := f.keys[key]
	return ok && string(raw) == "null"
}

// unscaled reports that a program which multiplies a module's product by scale(module) computes something else than the adapter
// says.
func (f *facts) unscaled(scale func(m *adapter.Module) float64) bool {
	if f.adapter == nil {
		return false
	}
	return slices.ContainsFunc(f.adapter.Modules, func(m adapter.Module) bool {
		return math.Abs(scale(&m)-m.Scale) > 1e-6*math.Abs(m.Scale)
	})
}

// Check looks at the adapter in dir. Its shapes are compared with those of the model in the directory base, "" for none. Damage
// is reported; a directory that is no LoRA adapter of PEFT or MLX, or a base that is no Llama model, is an error.
func Check(dir, base string) (*Report, error) {
	f, err := open(dir, base)
	if err != nil {
		return nil, err
	}
	defer f.close()
	r := &Report{Path: dir, Layout: "peft", BaseModel: f.text("base_model_name_or_path"), BaseDir: base, DTypes: map[string]int{},
		Faults: []Remark{}, Notes: []Remark{}, Fixable: f.adapter != nil}
	if f.mlx {
		r.Layout, r.BaseModel = "mlx", f.text("model")
	}
	for _, name := range f.file.Names() {
		t, _ := f.file.Tensor(name)
		r.DTypes[string(t.DType)]++
	}
	if a := f.adapter; a != nil {
		r.R, r.LoraAlpha, r.Modules = a.Config.R, a.Config.LoraAlpha, len(a.Modules)
	}
	r.damage(f)
	r.surroundings(f)
	for _, rules := range []func(f *facts) *Verdict{askPEFT, askVLLM, askLlamaCPP, askCria} {
		v := rules(f)
		if len(r.Faults) > 0 && v.Program != cria {
			v.refuse("it is damaged, see below", "")
		}
		if v.Remarks == nil {
			v.Remarks = []Remark{}
		}
		for i := range v.Remarks {
			if !r.Fixable && strings.Contains(v.Remarks[i].Do, "--fix") {
				v.Remarks[i].Do = "--fix cannot write it, for what cria says below"
			}
		}
		r.Verdicts = append(r.Verdicts, *v)
	}
	return r, nil
}

// damage looks for what no program can do anything with.
func (r *Report) damage(f *facts) {
	const again = "train it again, or take an earlier checkpoint"
	zero, parts := true, 0
	for _, name := range f.file.Names() {
		t, _ := f.file.Tensor(name)
		values, err := t.Float32s()
		if err != nil {
			r.Faults = append(r.Faults, Remark{err.Error(), "save the adapter in float32 or bfloat16"})
			return
		}
		for i, x := range values {
			if x-x != 0 {
				r.Faults = append(r.Faults, Remark{fmt.Sprintf("tensor %s is not finite: element %d is %v", name, i, x), again})
				return
			}
		}
		if strings.Contains(strings.ToLower(name), ".lora_b") {
			parts++
			zero = zero && !slices.ContainsFunc(values, func(x float32) bool { return x != 0 })
		}
	}
	var tensors *adapter.TensorError
	if errors.As(f.err, &tensors) && len(f.whole()) == 0 {
		r.Faults = append(r.Faults, Remark{f.err.Error(), "name the right base with --model DIR, or make adapter_config.json say what was trained"})
	}
	if zero && parts > 0 {
		r.Notes = append(r.Notes, Remark{"every lora_B is zero: it changes nothing, as an adapter before its first training step", "check that training moved it: cria inspect DIR"})
	}
}

// surroundings looks at the base and at what lies beside the adapter.
func (r *Report) surroundings(f *facts) {
	if r.BaseDir == "" {
		r.Notes = append(r.Notes, Remark{fmt.Sprintf("its base model (%s) was not found here, so shapes were not compared with it", orNone(r.BaseModel)), "name it: --model DIR"})
	}
	if strings.HasPrefix(r.BaseModel, "mlx-community/") {
		r.Notes = append(r.Notes, Remark{fmt.Sprintf("its base model %s is a conversion for MLX, which other programs do not open", r.BaseModel),
			"name the model that was converted: --model DIR, with --fix OUT"})
	}
	for _, place := range []struct{ dir, name string }{{r.Path, "adapter"}, {r.BaseDir, "base"}} {
		if place.dir == "" {
			continue
		}
		if r.Tokenizer == "" && exists(filepath.Join(place.dir, "tokenizer.json")) {
			r.Tokenizer = place.name
		}
		if r.Template == "" && hasTemplate(place.dir) {
			r.Template = place.name
		}
	}
	if r.BaseDir != "" && r.Tokenizer == "" {
		r.Notes = append(r.Notes, Remark{"there is no tokenizer.json, neither beside the adapter nor in its base", "copy the tokenizer's files of training beside it"})
	}
	if r.BaseDir != "" && r.Template == "" {
		r.Notes = append(r.Notes, Remark{"there is no chat template, neither beside the adapter nor in its base: a server has to be told how prompts are made",
			"copy the chat_template.jinja of training beside it"})
	}
}

func hasTemplate(dir string) bool {
	var config map[string]json.RawMessage
	if exists(filepath.Join(dir, "chat_template.jinja")) {
		return true
	}
	return disk.ReadJSON(filepath.Join(dir, "tokenizer_config.json"), 64<<20, &config) == nil && len(config["chat_template"]) > 0 &&
		!adapter.IsUnset(config["chat_template"])
}

func askCria(f *facts) *Verdict {
	v := &Verdict{Program: cria, Answer: Takes}
	if f.err != nil {
		v.refuse(strings.ReplaceAll(f.err.Error(), "\n", "; "), "")
	}
	return v
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func orNone(s string) string {
	if s == "" {
		return "none is named"
	}
	return s
}
