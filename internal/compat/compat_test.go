package compat

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/adapter"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

const (
	golden = "../../testdata/golden/"
	base   = golden + "tiny-llama"
	prefix = "base_model.model."
)

type tensors map[string]safetensors.Tensor

// variant writes the reference's adapter with changed keys (null removes none, "-" removes one) and tensors.
func variant(t *testing.T, keys string, change func(all tensors)) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(golden + "tiny/adapter/" + adapter.ConfigName)
	if err != nil {
		t.Fatal(err)
	}
	config, changed := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for from, to := range map[string]*map[string]json.RawMessage{string(text): &config, "{" + keys + "}": &changed} {
		if err := json.Unmarshal([]byte(from), to); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range changed {
		if config[k] = v; string(v) == `"-"` {
			delete(config, k)
		}
	}
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, adapter.ConfigName), text, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(golden + "tiny/adapter/" + adapter.TensorsName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := tensors{}
	for _, name := range f.Names() {
		all[name], _ = f.Tensor(name)
	}
	if change != nil {
		change(all)
	}
	write(t, filepath.Join(dir, adapter.TensorsName), all)
	return dir
}

func write(t *testing.T, path string, all tensors) {
	t.Helper()
	var list []safetensors.Tensor
	for name, x := range all {
		x.Name = name
		list = append(list, x)
	}
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := safetensors.Write(w, list, nil); err != nil {
		t.Fatal(err)
	}
}

// rename changes all names.
func rename(old, new string) func(all tensors) {
	return func(all tensors) {
		for name, x := range maps.Clone(all) {
			delete(all, name)
			all[strings.ReplaceAll(name, old, new)] = x
		}
	}
}

func add(name string, shape ...int) func(all tensors) {
	return func(all tensors) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		all[name] = safetensors.FromFloat32s(name, shape, make([]float32, n))
	}
}

// resize makes the tensors of a kind of module of another rank.
func resize(t *testing.T, kind string, rank int) func(all tensors) {
	return func(all tensors) {
		for name, x := range maps.Clone(all) {
			if !strings.Contains(name, kind) {
				continue
			}
			old, err := x.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			shape := slices.Clone(x.Shape)
			axis := 0
			if strings.Contains(name, "lora_B") {
				axis = 1
			}
			shape[axis] = rank
			v := make([]float32, shape[0]*shape[1])
			for i := range v {
				v[i] = old[i%len(old)]
			}
			all[name] = safetensors.FromFloat32s(name, shape, v)
		}
	}
}

// TestRules has a case for every rule. peft's and llama.cpp's answers to these are what the programs did.
func TestRules(t *testing.T) {
	const q = prefix + "model.layers.0.self_attn.q_proj."
	for name, c := range map[string]struct {
		keys   string
		change func(all tensors)
		peft   string // words of the reason, "" takes it, "note: " before words
		vllm   string
		llama  string
		cria   string
	}{
		"plain":           {},
		"newer keys":      {keys: `"eva_config": null, "lora_bias": false`, peft: "does not know eva_config, lora_bias (TypeError"},
		"set newer":       {keys: `"lora_bias": true`, peft: "lora_bias (TypeError), which the adapter needs", vllm: "lora_bias is true", llama: "lora_bias is true", cria: "lora_bias"},
		"excluded":        {keys: `"exclude_modules": ["lm_head"]`, peft: "exclude_modules"},
		"null pattern":    {keys: `"rank_pattern": null`, peft: "rank_pattern is null"},
		"null bias":       {keys: `"bias": null`, peft: "bias is null"},
		"eva":             {keys: `"init_lora_weights": "eva"`, peft: `init_lora_weights "eva" (ValueError)`},
		"pissa":           {keys: `"init_lora_weights": "pissa"`, peft: "note: computes that again", vllm: "changed base weights", llama: "changed base weights", cria: "init_lora_weights"},
		"gaussian":        {keys: `"init_lora_weights": "gaussian"`},
		"expression":      {keys: `"target_modules": ".*_proj"`},
		"with layers":     {keys: `"target_modules": ".*_proj", "layers_pattern": []`, peft: "layers_pattern is [] beside"},
		"bias":            {keys: `"bias": "all"`, vllm: "no biases", cria: "bias"},
		"task":            {keys: `"task_type": "SEQ_CLS"`, peft: "note: task_type is SEQ_CLS"},
		"dora":            {keys: `"use_dora": true`, change: add(q+"lora_magnitude_vector", 128), vllm: "use_dora", llama: "use_dora", cria: "use_dora"},
		"modules_to_save": {keys: `"modules_to_save": ["lm_head"]`, change: add(prefix+"lm_head.weight", 2048, 128), vllm: "modules_to_save", llama: "modules_to_save", cria: "modules_to_save"},
		"embeddings":      {change: add(prefix+"model.embed_tokens.weight", 2048, 128), vllm: "no whole weights", llama: "no whole weights", cria: "not among"},
		"replicated":      {keys: `"layer_replication": [[0, 4]]`, vllm: "layer_replication", llama: "layer_replication", cria: "layer_replication"},
		"tokens":          {keys: `"trainable_token_indices": [1]`, peft: "trainable_token_indices (TypeError), which the adapter needs", vllm: "trainable_token_indices", llama: "trainable_token_indices", cria: "trainable"},
		"alora":           {keys: `"alora_invocation_tokens": [1]`, peft: "alora", vllm: "alora", cria: "alora"},
		"adapter's name":  {change: rename(".weight", ".default.weight"), peft: "in silence", vllm: "unsupported LoRA weight", llama: "does not know the name"},
		"no prefix":       {change: rename(prefix, ""), peft: "in silence"},
		"rslora":          {keys: `"use_rslora": true`, llama: "passes over use_rslora"},
		"alpha_pattern":   {keys: `"alpha_pattern": {"q_proj": 8}`, vllm: "pass over rank_pattern and alpha_pattern", llama: "alpha_pattern"},
		"rank_pattern":    {keys: `"rank_pattern": {"q_proj": 4}`, change: resize(t, "q_proj", 4), vllm: "pass over rank_pattern"},
		"ratio kept":      {keys: `"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 16}`, change: resize(t, "q_proj", 4), llama: "alpha_pattern"},
		"rank 20":         {keys: `"r": 20`, change: resize(t, "_proj", 20), vllm: "note: its rank 20 is above 16"},
		"alpha 0":         {keys: `"lora_alpha": 0`, llama: "lora_alpha is 0"},
		"no alpha":        {keys: `"lora_alpha": "-"`, vllm: "lora_alpha", llama: "lora_alpha"},
		"no base":         {keys: `"base_model_name_or_path": null`, llama: "note: names no base"},
		"lost base":       {keys: `"base_model_name_or_path": "/models/gone"`, llama: "note: which is not here"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := variant(t, c.keys, c.change)
			r, err := Check(dir, base)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{c.peft, c.vllm, c.llama, c.cria} {
				v := r.Verdicts[i]
				answer := Refuses
				if want == "" {
					answer = Takes
				} else if words, note := strings.CutPrefix(want, "note: "); note {
					answer, want = Note, words
				}
				if v.Answer != answer || !strings.Contains(all(v.Remarks), want) {
					t.Errorf("%s %s: %s\nwant %s: %s", v.Program, v.Answer, all(v.Remarks), answer, want)
				}
			}
			if r.Fixable != (c.cria == "") {
				t.Errorf("fixable: %v", r.Fixable)
			}
			for _, v := range r.Verdicts {
				for _, x := range v.Remarks {
					if !r.Fixable && strings.Contains(x.Do, "--fix OUT") {
						t.Errorf("%s: it cannot be fixed, and the advice is %s", v.Program, x.Do)
					}
				}
			}
			if len(r.Faults) > 0 {
				t.Errorf("faults: %v", r.Faults)
			}
			fixed(t, dir, r)
		})
	}
}

func all(remarks []Remark) string {
	var s []string
	for _, r := range remarks {
		s = append(s, r.What)
	}
	return strings.Join(s, "; ")
}

// fixed writes the adapter and compares what it computes, and leaves dir alone.
func fixed(t *testing.T, dir string, r *Report) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "sub", "out")
	err := Fix(dir, base, "", out)
	if !r.Fixable {
		if _, stat := os.Stat(out); err == nil || stat == nil {
			t.Errorf("it was written: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := Check(out, base)
	if err != nil || !again.Taken() {
		t.Fatalf("written it is not taken: %v, %+v", err, again)
	}
	shape, err := llama.ReadConfig(base)
	if err != nil {
		t.Fatal(err)
	}
	before, err := adapter.Load(dir, shape)
	if err != nil {
		t.Fatal(err)
	}
	after, err := adapter.Load(out, shape)
	if err != nil {
		t.Fatal(err)
	}
	for i := range before.Modules {
		a, b := product(&before.Modules[i]), product(&after.Modules[i])
		for j := range a {
			if math.Abs(a[j]-b[j]) > 1e-6*(math.Abs(a[j])+1e-3) {
				t.Fatalf("%s: element %d of the product was %v and is %v", before.Modules[i].Name, j, a[j], b[j])
			}
		}
	}
}

// product is scale · B A, (out, in).
func product(m *adapter.Module) []float64 {
	p := make([]float64, m.Out*m.In)
	for o := range m.Out {
		for r := range m.R {
			f := m.Scale * float64(m.B[o*m.R+r])
			for i := range m.In {
				p[o*m.In+i] += f * float64(m.A[r*m.In+i])
			}
		}
	}
	return p
}

func TestMLX(t *testing.T) {
	dir := variant(t, "", nil)
	f, err := safetensors.Open(filepath.Join(dir, adapter.TensorsName))
	if err != nil {
		t.Fatal(err)
	}
	turned := tensors{}
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		v, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float32, len(v))
		for i, e := range v {
			out[i%x.Shape[1]*x.Shape[0]+i/x.Shape[1]] = e
		}
		turned[strings.NewReplacer(prefix, "", ".lora_A.weight", ".lora_a", ".lora_B.weight", ".lora_b").Replace(name)] =
			safetensors.FromFloat32s("", []int{x.Shape[1], x.Shape[0]}, out)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mlx := t.TempDir()
	write(t, filepath.Join(mlx, adapter.MLXTensorsName), turned)
	config := `{"model": "mlx-community/tiny-4bit", "fine_tune_type": "lora", "num_layers": -1, "lora_parameters": {"rank": 8, "scale": 4, "dropout": 0}}`
	for name, content := range map[string]string{adapter.ConfigName: config, "chat_template.jinja": "x", "0000100_adapters.safetensors": "y"} {
		if err := os.WriteFile(filepath.Join(mlx, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []string{base, ""} { // the shape is the base's, or the tensors'
		r, err := Check(mlx, b)
		if err != nil {
			t.Fatal(err)
		}
		if r.Taken() || r.Layout != "mlx" || !r.Fixable || r.Modules != 28 || !strings.Contains(all(r.Notes), "a conversion for MLX") || r.Template != "adapter" {
			t.Errorf("%+v", r)
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := Fix(mlx, b, "other/base", out); err != nil {
			t.Fatal(err)
		}
		if again, err := Check(out, base); err != nil || !again.Taken() || again.BaseModel != "other/base" {
			t.Errorf("%v, %+v", err, again)
		}
		for name, same := range map[string]string{adapter.TensorsName: filepath.Join(dir, adapter.TensorsName), "chat_template.jinja": filepath.Join(mlx, "chat_template.jinja")} {
			a, err := os.ReadFile(filepath.Join(out, name))
			want, err2 := os.ReadFile(same)
			if err != nil || err2 != nil || name != adapter.TensorsName && string(a) != string(want) || len(a) < len(want)-200 {
				t.Errorf("%s: %v, %v", name, err, err2)
			}
		}
		if _, err := os.Stat(filepath.Join(out, "0000100_adapters.safetensors")); err == nil {
			t.Error("an earlier checkpoint was copied")
		}
	}
}

// TestDamage: every program refuses, and the fault is named.
func TestDamage(t *testing.T) {
	const q = prefix + "model.layers.1.self_attn.q_proj.lora_A.weight"
	for name, c := range map[string]struct {
		keys   string
		change func(all tensors)
		want   string
	}{
		"nan": {"", func(all tensors) {
			v := make([]float32, 8*128)
			v[5] = float32(math.NaN())
			all[q] = safetensors.FromFloat32s("", []int{8, 128}, v)
		}, q + " is not finite: element 5"},
		"missing": {"", func(all tensors) { delete(all, q) }, "is missing"},
		"rank":    {`"r": 4`, nil, "its rank is 8, and adapter_config.json gives the module r 4"},
		"targets": {`"target_modules": ["q_proj"]`, nil, "not among the modules"},
		"no base": {"", func(all tensors) { add(q, 8, 64)(all) }, "belongs to another model"},
		"integers": {"", func(all tensors) {
			all[q] = safetensors.Tensor{DType: safetensors.I8, Shape: []int{8}, Data: make([]byte, 8)}
		}, "I8"},
	} {
		dir := variant(t, c.keys, c.change)
		r, err := Check(dir, base)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(all(r.Faults), c.want) || r.Taken() {
			t.Errorf("%s: %s\n%+v", name, all(r.Faults), r.Verdicts)
		}
		for _, v := range r.Verdicts[:3] {
			if v.Answer != Refuses {
				t.Errorf("%s: %s %s", name, v.Program, v.Answer)
			}
		}
		if err := Fix(dir, base, "", filepath.Join(t.TempDir(), "out")); err == nil {
			t.Errorf("%s: it was written", name)
		}
	}
	zeros := variant(t, "", func(all tensors) {
		for name, x := range all {
			if strings.Contains(name, "lora_B") {
				add(name, x.Shape...)(all)
			}
		}
	})
	if r, err := Check(zeros, base); err != nil || !r.Taken() || !strings.Contains(all(r.Notes), "every lora_B is zero") {
		t.Errorf("zeros: %v, %+v", err, r)
	}
}

func TestCheckRefuses(t *testing.T) {
	pickle := variant(t, "", nil)
	if err := os.Rename(filepath.Join(pickle, adapter.TensorsName), filepath.Join(pickle, "adapter_model.bin")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, base, want string }{
		{base, "", "is not an adapter directory"},
		{"nowhere", "", "is not an adapter directory"},
		{pickle, "", "pickle"},
		{variant(t, `"peft_type": "LOHA"`, nil), "", "LOHA"},
		{variant(t, "", nil), "nowhere", "model directory"},
	} {
		if _, err := Check(c.dir, c.base); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.dir, err, c.want)
		}
	}
}

func TestFixLeavesTheSourceAlone(t *testing.T) {
	dir := variant(t, "", nil)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{dir, filepath.Join(dir, "fixed"), filepath.Join(dir, "a", "b"), link, filepath.Join(link, "fixed")} {
		if err := Fix(dir, base, "", out); err == nil || !strings.Contains(err.Error(), "not altered") {
			t.Errorf("%s: %v", out, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Fix(dir, base, "", full); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a directory with something in it: %v", err)
	}
}
