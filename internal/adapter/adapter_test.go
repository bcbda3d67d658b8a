package adapter

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/half"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

const golden = "../../testdata/golden"

// smolLM2 is the shape of SmolLM2-135M-Instruct, for which smollm2-train was made.
var smolLM2 = &llama.Config{HiddenSize: 576, IntermediateSize: 1536, NumHiddenLayers: 30, NumAttentionHeads: 9, NumKeyValueHeads: 3, HeadDim: 64}

func tiny(t *testing.T) *llama.Config {
	t.Helper()
	m, err := llama.ReadConfig(filepath.Join(golden, "tiny-llama"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// files collects what Write writes.
type files map[string][]byte

type memoryFile struct {
	bytes.Buffer
	name string
	to   files
}

func (f *memoryFile) Close() error { f.to[f.name] = f.Bytes(); return nil }

func (f files) create(name string) (io.WriteCloser, error) {
	return &memoryFile{name: name, to: f}, nil
}

// put writes the files into a directory.
func (f files) put(t *testing.T, dir string) {
	t.Helper()
	for name, b := range f {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{golden}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parameters is what print_trainable_parameters counted.
func parameters(t *testing.T, run string) int {
	t.Helper()
	var p struct{ Trainable int }
	if err := json.Unmarshal(read(t, run, "parameters.json"), &p); err != nil {
		t.Fatal(err)
	}
	return p.Trainable
}

// TestNewAsPyTorch: a fresh adapter, and both its files, are the reference's byte for byte.
func TestNewAsPyTorch(t *testing.T) {
	for _, c := range []struct {
		run   string
		shape *llama.Config
		seed  uint64
		dtype safetensors.DType
	}{
		{"train-fp32", tiny(t), 42, safetensors.F32},
		{"train-variant", tiny(t), 42, safetensors.F32},
		{"train-bf16", tiny(t), 42, safetensors.BF16},
		{"smollm2-train", smolLM2, 7, safetensors.F32},
	} {
		t.Run(c.run, func(t *testing.T) {
			cfg, err := ReadConfig(filepath.Join(golden, c.run, "init_adapter"))
			if err != nil {
				t.Fatal(err)
			}
			a, err := New(*cfg, c.shape, c.seed)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := a.NumParameters(), parameters(t, c.run); got != want {
				t.Errorf("%d trainable parameters, the reference has %d", got, want)
			}
			written := files{}
			if err := a.Write(c.dtype, written.create); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{ConfigName, TensorsName} {
				if want := read(t, c.run, "init_adapter", name); !bytes.Equal(written[name], want) {
					t.Errorf("%s differs from the reference's:\n%.1500s", name, written[name])
				}
			}
		})
	}
}

// TestLoadReference reads every adapter of the reference and writes it again, byte for byte.
func TestLoadReference(t *testing.T) {
	for run, shape := range map[string]*llama.Config{
		"tiny/adapter": tiny(t), "checkpoint-example": tiny(t), "train-fp32/final_adapter": tiny(t), "train-variant/final_adapter": tiny(t),
		"train-bf16/final_adapter": tiny(t), "smollm2-train/final_adapter": smolLM2,
	} {
		t.Run(run, func(t *testing.T) {
			a, err := Load(filepath.Join(golden, run), shape)
			if err != nil {
				t.Fatal(err)
			}
			dtype := safetensors.F32
			if strings.Contains(run, "bf16") {
				dtype = safetensors.BF16
			}
			written := files{}
			if err := a.Write(dtype, written.create); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{ConfigName, TensorsName} {
				if !bytes.Equal(written[name], read(t, run, name)) {
					t.Errorf("%s changed", name)
				}
			}
		})
	}
}

func TestScale(t *testing.T) {
	a, err := Load(filepath.Join(golden, "train-variant/final_adapter"), tiny(t))
	if err != nil {
		t.Fatal(err)
	}
	m := a.Modules[1]
	if len(a.Modules) != 8 || m.Name != "model.layers.0.self_attn.v_proj" || m.Layer != 0 || m.Kind != "v_proj" ||
		m.In != 128 || m.Out != 32 || m.R != 4 || m.Alpha != 8 || m.Scale != 4 {
		t.Errorf("second of %d modules: %s %s %d -> %d, r %d, alpha %v, scale %v", len(a.Modules), m.Name, m.Kind, m.In, m.Out, m.R, m.Alpha, m.Scale)
	}
}

// TestWriteRoundTrip writes everything a configuration can say, and reads it again.
func TestWriteRoundTrip(t *testing.T) {
	shape := tiny(t)
	cfg := Config{BaseModelNameOrPath: `模型/<a&b> "x" 😀` + "\u007f", Revision: "main", TaskType: "CAUSAL_LM", R: 3, LoraAlpha: 6.5, LoraDropout: 0.05,
		TargetModules: Targets{List: []string{"v_proj", "down_proj"}}, LayersToTransform: []int{3, 1}, LayersPattern: []string{"layers"},
		RankPattern: Pattern{{"v_proj", 5}}, AlphaPattern: Pattern{{"v_proj", 1e-05}}}
	a, err := New(cfg, shape, 1)
	if err != nil {
		t.Fatal(err)
	}
	a.BaseSHA256 = strings.Repeat("ab", 32)
	for i := range a.Modules[0].B {
		a.Modules[0].B[i] = float32(i) / 7
	}
	for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.BF16} {
		written := files{}
		if err := a.Write(dtype, written.create); err != nil {
			t.Fatal(err)
		}
		text := string(written[ConfigName])
		for _, want := range []string{`"\u6a21\u578b/<a&b> \"x\" \ud83d\ude00\u007f"`, `"lora_alpha": 6.5,`, `"lora_dropout": 0.05,`, `"v_proj": 1e-05`,
			"\"layers_to_transform\": [\n    3,\n    1\n  ],", `"inference_mode": true`} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
		dir := t.TempDir()
		written.put(t, dir)
		b, err := Load(dir, shape)
		if err != nil {
			t.Fatal(err)
		}
		if b.BaseSHA256 != a.BaseSHA256 || len(b.Modules) != len(a.Modules) || len(b.Modules) != 4 {
			t.Fatalf("base %q, %d modules", b.BaseSHA256, len(b.Modules))
		}
		for i, m := range b.Modules {
			want := a.Modules[i]
			round := func(v []float32) []float32 {
				r := slices.Clone(v)
				for i := range r {
					if dtype == safetensors.BF16 {
						r[i] = half.BFloat16(half.ToBFloat16(r[i]))
					}
				}
				return r
			}
			if m.Name != want.Name || m.Scale != want.Scale || m.R != want.R || !slices.Equal(m.A, round(want.A)) || !slices.Equal(m.B, round(want.B)) {
				t.Errorf("%s: %v %s changed", dtype, m.Name, want.Name)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	a, err := New(Config{R: 2, LoraAlpha: 2}, tiny(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(safetensors.F16, files{}.create); err == nil {
		t.Error("float16 was written")
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		a.Modules[3].B[5] = bad
		written := files{}
		err := a.Write(safetensors.F32, written.create)
		if err == nil || !strings.Contains(err.Error(), "model.layers.1.self_attn.v_proj.lora_B.weight is not finite: element 5") || len(written) > 0 {
			t.Errorf("%v: %v, %d files", bad, err, len(written))
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	shape := tiny(t)
	other := *shape
	other.HiddenSize, other.HeadDim = 64, 8
	shallow := *shape
	shallow.NumHiddenLayers = 3
	deep := *shape
	deep.NumHiddenLayers = 5
	source := filepath.Join(golden, "tiny/adapter")

	tensors := func(change func(map[string]safetensors.Tensor)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			f, err := safetensors.Open(filepath.Join(source, TensorsName))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			all := map[string]safetensors.Tensor{}
			for _, n := range f.Names() {
				all[n], _ = f.Tensor(n)
			}
			change(all)
			var list []safetensors.Tensor
			for _, n := range sortedKeys(all) {
				x := all[n]
				x.Name = n
				list = append(list, x)
			}
			out := files{}
			w, _ := out.create(TensorsName)
			if err := safetensors.Write(w, list, nil); err != nil {
				t.Fatal(err)
			}
			w.Close()
			out.put(t, dir)
		}
	}
	const up = "base_model.model.model.layers.2.mlp.up_proj.lora_A.weight"
	rename := func(to string) func(map[string]safetensors.Tensor) {
		return func(all map[string]safetensors.Tensor) {
			all[to] = all[up]
			delete(all, up)
		}
	}
	replace := func(v []float32, shape ...int) func(map[string]safetensors.Tensor) {
		return func(all map[string]safetensors.Tensor) { all[up] = safetensors.FromFloat32s(up, shape, v) }
	}
	nan := make([]float32, 8*128)
	nan[1000] = float32(math.NaN())

	for name, c := range map[string]struct {
		shape  *llama.Config
		change func(t *testing.T, dir string)
		want   string // "" if it must load
	}{
		"plain":        {shape, tensors(func(map[string]safetensors.Tensor) {}), ""},
		"named":        {shape, tensors(rename("base_model.model.model.layers.2.mlp.up_proj.lora_A.default.weight")), ""},
		"other model":  {&other, nil, "has shape [8 128], want [8 64]: the model's q_proj is a (64, 64) matrix, so the adapter belongs to another model; the adapter was made for g/tiny-llama"},
		"fewer layers": {&shallow, nil, "14 tensors, first base_model.model.model.layers.3.mlp.down_proj.lora_A.weight, are not among the modules that adapter_config.json selects in this model of 3 layers"},
		"more layers":  {&deep, nil, "14 tensors, first base_model.model.model.layers.4.self_attn.q_proj.lora_A.weight, are missing"},
		"missing":      {shape, tensors(func(all map[string]safetensors.Tensor) { delete(all, up) }), "tensor " + up + " is missing"},
		"extra": {shape, tensors(func(all map[string]safetensors.Tensor) {
			all["base_model.model.lm_head.lora_A.weight"] = safetensors.FromFloat32s("", []int{1}, []float32{1})
		}), "tensor base_model.model.lm_head.lora_A.weight is not among"},
		"magnitude": {shape, tensors(rename("base_model.model.model.layers.2.mlp.up_proj.lora_magnitude_vector.weight")), "lora_magnitude_vector.weight is not among"},
		"rank":      {shape, tensors(replace(make([]float32, 4*128), 4, 128)), "its rank is 4, and adapter_config.json gives the module r 8"},
		"flat":      {shape, tensors(replace(make([]float32, 8*128), 8*128)), "has shape [1024], want [8 128]"},
		"nan":       {shape, tensors(replace(nan, 8, 128)), "layers.2.mlp.up_proj.lora_A.weight is not finite: element 1000"},
		"integers": {shape, tensors(func(all map[string]safetensors.Tensor) {
			all[up] = safetensors.Tensor{DType: safetensors.I8, Shape: []int{8, 128}, Data: make([]byte, 8*128)}
		}), "I8"},
		"twice": {shape, tensors(func(all map[string]safetensors.Tensor) {
			all["base_model.model.model.layers.2.mlp.up_proj.lora_A.default.weight"] = all[up]
		}), "same part"},
		"torn": {shape, func(t *testing.T, dir string) {
			files{TensorsName: read(t, "tiny/adapter", TensorsName)[:1000]}.put(t, dir)
		}, TensorsName},
		"pickle": {shape, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, TensorsName))
			files{"adapter_model.bin": []byte("cos\nsystem\n(S'true'\ntR.")}.put(t, dir)
		}, "adapter_model.bin is a pickle file"},
		"no tensors": {shape, func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, TensorsName)) }, "no tensors"},
		"no config":  {shape, func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, ConfigName)) }, "is not an adapter directory"},
		"mlx tensors": {shape, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, ConfigName))
			files{"adapters.safetensors": nil}.put(t, dir)
		}, "MLX"},
		"run directory": {shape, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, ConfigName))
			os.Mkdir(filepath.Join(dir, "checkpoint-9"), 0o777)
			files{ConfigName: nil}.put(t, filepath.Join(dir, "checkpoint-9"))
		}, "checkpoint-9 is one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files{ConfigName: read(t, "tiny/adapter", ConfigName), TensorsName: read(t, "tiny/adapter", TensorsName)}.put(t, dir)
			if c.change != nil {
				c.change(t, dir)
			}
			_, err := Load(dir, c.shape)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir)) {
				t.Errorf("error %v\nwant %s", err, c.want)
			}
		})
	}
}
