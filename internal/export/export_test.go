package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/adapter"
	"cria/internal/convert"
	"cria/internal/disk"
	"cria/internal/gguf"
	"cria/internal/half"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

const (
	tiny        = "../../testdata/golden/tiny-llama"
	tinyAdapter = "../../testdata/golden/tiny/adapter"
)

// copyDir copies a directory, with some files replaced (nil: left out).
func copyDir(t *testing.T, from string, changed map[string][]byte) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for name, b := range changed {
		var err error
		if b == nil {
			err = os.Remove(filepath.Join(to, name))
		} else {
			err = os.WriteFile(filepath.Join(to, name), b, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// edited is a JSON file of the tiny model with some keys changed.
func edited(t *testing.T, name string, changed map[string]any) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(tiny, name))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	for k, v := range changed {
		keys[k] = v
	}
	if b, err = json.Marshal(keys); err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t *testing.T, model, adapterDir string) *Source {
	t.Helper()
	s, err := Open(t.Context(), model, adapterDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// withHash writes the tiny adapter with a hash of its base, and a recipe.
func withHash(t *testing.T, hash, recipe string) string {
	t.Helper()
	cfg, err := llama.ReadConfig(tiny)
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Load(tinyAdapter, cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.BaseSHA256 = hash
	dir := t.TempDir()
	err = a.Write(safetensors.F32, func(name string) (io.WriteCloser, error) { return os.Create(filepath.Join(dir, name)) })
	if err == nil && recipe != "" {
		err = os.WriteFile(filepath.Join(dir, "recipe.yaml"), []byte(recipe), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBaseIsChecked(t *testing.T) {
	hash, err := adapter.HashBase(t.Context(), tiny, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := open(t, tiny, withHash(t, hash, "")); s.BaseUnknown {
		t.Error("the base's hash was not compared")
	}
	if s := open(t, tiny, tinyAdapter); !s.BaseUnknown {
		t.Error("an adapter without a hash counts as compared")
	}
	shard := "model-00002-of-00003.safetensors"
	b, err := os.ReadFile(filepath.Join(tiny, shard))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-2] ^= 1 // the last bit of one weight
	_, err = Open(t.Context(), copyDir(t, tiny, map[string][]byte{shard: b}), withHash(t, hash, ""), nil)
	if err == nil || !strings.Contains(err.Error(), "is not the model that") {
		t.Errorf("another base: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, tiny, withHash(t, hash, ""), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// wanted is a merged weight in float64, and what it may differ from that by before it is rounded.
func wanted(t *testing.T, s *Source, name string) (want, slack []float64) {
	t.Helper()
	w, _ := s.weights.Tensor(name)
	x, err := w.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	want, slack = make([]float64, len(x)), make([]float64, len(x))
	m := s.modules[name]
	for i, v := range x {
		want[i] = float64(v)
		if m == nil {
			continue
		}
		size := 0.0
		for r := range m.R {
			p := m.Scale * float64(m.B[i/m.In*m.R+r]) * float64(m.A[r*m.In+i%m.In])
			want[i] += p
			size += math.Abs(p)
		}
		slack[i] = (size*float64(m.R) + math.Abs(want[i])) * 0x1p-23
	}
	return want, slack
}

func TestMerge(t *testing.T) {
	s := open(t, tiny, tinyAdapter)
	defer func(n int64) { shardBytes = n }(shardBytes)
	for name, limit := range map[string]int64{"one file": 5e9, "shards": 600_000} {
		shardBytes = limit
		dir := filepath.Join(t.TempDir(), "merged")
		var last, all int64
		if err := s.Merge(t.Context(), dir, func(done, total int64) { last, all = done, total }); err != nil {
			t.Fatal(err)
		}
		if last != all || all == 0 {
			t.Errorf("%s: progress ended at %d of %d", name, last, all)
		}
		if _, err := disk.Verify(disk.OS{}, dir); err != nil {
			t.Error(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*.safetensors"))
		if many := len(files) > 1; many != (limit < 5e9) {
			t.Errorf("%s: %d files", name, len(files))
		}
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || len(files) > 1 && info.Size() > limit+8<<10 {
				t.Errorf("%s: %v, %v", file, info.Size(), err)
			}
		}
		f, err := safetensors.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !slices.Equal(f.Names(), s.weights.Names()) {
			t.Errorf("%s: tensors %v", name, f.Names())
		}
		for _, n := range f.Names() {
			got, _ := f.Tensor(n)
			base, _ := s.weights.Tensor(n)
			if got.DType != base.DType || !slices.Equal(got.Shape, base.Shape) {
				t.Errorf("%s: %v %v", n, got.DType, got.Shape)
			}
			if s.modules[n] == nil {
				if !bytes.Equal(got.Data, base.Data) {
					t.Errorf("%s changed", n)
				}
				continue
			}
			want, slack := wanted(t, s, n)
			x, _ := got.Float32s()
			for i, v := range x {
				low, high := half.BFloat16(half.ToBFloat16(float32(want[i]-slack[i]))), half.BFloat16(half.ToBFloat16(float32(want[i]+slack[i])))
				if v < low || v > high {
					t.Errorf("%s: element %d is %v, want %v", n, i, v, want[i])
					break
				}
			}
		}
		again := open(t, dir, "")
		if again.template != s.template || *again.Config.BOSTokenID != *s.Config.BOSTokenID {
			t.Error("the merged model's configuration differs")
		}
	}
}

// The GGUF file holds what is merged, and cria import makes the same model of it.
func TestGGUF(t *testing.T) {
	scaling := map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
	model := copyDir(t, tiny, map[string][]byte{"config.json": edited(t, "config.json", map[string]any{"rope_scaling": scaling})})
	s := open(t, model, tinyAdapter)
	path := filepath.Join(t.TempDir(), "new", "model.gguf")
	if err := s.GGUF(t.Context(), path, "a name", "F32", nil); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{"general.name": "a name", "general.file_type": uint32(0), "tokenizer.ggml.pre": "llama-bpe",
		"tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.eos_token_id": uint32(2047), "llama.rope.dimension_count": uint32(16)} {
		if got, _ := f.Value(key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for _, w := range s.tensors() {
		g, ok := f.Tensor(w.gguf)
		if !ok {
			t.Fatalf("no tensor %s", w.gguf)
		}
		got, err := g.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		want, slack := wanted(t, s, w.name)
		cols := g.RowLen()
		for i, v := range got {
			j := i
			if w.rotated {
				j = convert.RotatedRow(s.Config.HeadDim, i/cols)*cols + i%cols
			}
			if math.Abs(float64(v)-want[j]) > slack[j] {
				t.Errorf("%s: element %d is %v, want %v", w.gguf, i, v, want[j])
				break
			}
		}
	}

	bf16, imported, merged := filepath.Join(t.TempDir(), "bf16.gguf"), filepath.Join(t.TempDir(), "imported"), filepath.Join(t.TempDir(), "merged")
	err = errors.Join(s.GGUF(t.Context(), bf16, "x", "BF16", nil), convert.ImportGGUF(t.Context(), bf16, imported, nil), s.Merge(t.Context(), merged, nil))
	if err != nil {
		t.Fatal(err)
	}
	a, b := open(t, imported, ""), open(t, merged, "")
	for _, n := range b.weights.Names() {
		x, _ := a.weights.Tensor(n)
		y, _ := b.weights.Tensor(n)
		if !bytes.Equal(x.Data, y.Data) {
			t.Errorf("%s is not the same after cria export and cria import", n)
		}
	}
	if a.Config.RopeScaling != b.Config.RopeScaling {
		t.Errorf("rope_scaling %v became %v", b.Config.RopeScaling, a.Config.RopeScaling)
	}
}

func TestAdapterGGUF(t *testing.T) {
	s := open(t, tiny, tinyAdapter)
	for name, change := range map[string]func(m *adapter.Module){
		"lora_alpha / r": func(m *adapter.Module) {},
		"rslora":         func(m *adapter.Module) { m.Scale = s.Adapter.Config.LoraAlpha / math.Sqrt(float64(m.R)) },
	} {
		for i := range s.Adapter.Modules {
			change(&s.Adapter.Modules[i])
		}
		path := filepath.Join(t.TempDir(), "lora.gguf")
		if err := s.AdapterGGUF(path, "x"); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		alpha, err := f.Float("adapter.lora.alpha")
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := gguf.Get[string](f, "general.type"); kind != "adapter" || len(f.Tensors()) != 2*len(s.Adapter.Modules) {
			t.Errorf("%s: type %q, %d tensors", name, kind, len(f.Tensors()))
		}
		for _, w := range s.tensors() {
			m := s.modules[w.name]
			if m == nil {
				continue
			}
			ta, _ := f.Tensor(w.gguf + ".lora_a")
			tb, _ := f.Tensor(w.gguf + ".lora_b")
			a, errA := ta.Float32s()
			b, errB := tb.Float32s()
			if err := errors.Join(errA, errB); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ta.Shape, []int{m.R, m.In}) || !slices.Equal(tb.Shape, []int{m.Out, m.R}) || !slices.Equal(a, m.A) {
				t.Fatalf("%s: %v %v", w.gguf, ta.Shape, tb.Shape)
			}
			for i := range m.Out {
				row := i
				if w.rotated {
					row = convert.RotatedRow(s.Config.HeadDim, i)
				}
				for r := range m.R {
					got, want := float64(b[i*m.R+r])*alpha/float64(m.R), float64(m.B[row*m.R+r])*m.Scale
					if math.Abs(got-want) > 1e-6*math.Abs(want) {
						t.Fatalf("%s %s: row %d gives %v, want %v", name, w.gguf, i, got, want)
					}
				}
			}
		}
	}
}

// What llama-quantize chooses, written down from its output for models of these shapes.
func TestMixture(t *testing.T) {
	more30 := []int{0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29}
	more32 := []int{0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
	for what, c := range map[string]struct {
		layers, hidden, ffn int
		tied                bool
		more                []int
		kv                  int
		want                map[string][2]gguf.Type // without and with more bits
	}{
		"SmolLM2-135M": {30, 576, 1536, true, more30, 3, map[string][2]gguf.Type{"token_embd": {gguf.Q8_0, gguf.Q8_0}, "attn_q": {gguf.Q5_0, gguf.Q5_0},
			"attn_v": {gguf.Q5_0, gguf.Q8_0}, "ffn_down": {gguf.Q4_K, gguf.Q6_K}, "ffn_up": {gguf.Q5_0, gguf.Q5_0}, "attn_norm": {gguf.F32, gguf.F32}}},
		"Llama-3.1-8B": {32, 4096, 14336, false, more32, 8, map[string][2]gguf.Type{"token_embd": {gguf.Q4_K, gguf.Q4_K}, "output": {gguf.Q6_K, gguf.Q6_K},
			"attn_q": {gguf.Q4_K, gguf.Q4_K}, "attn_output": {gguf.Q4_K, gguf.Q4_K}, "attn_v": {gguf.Q4_K, gguf.Q6_K}, "ffn_down": {gguf.Q4_K, gguf.Q6_K}}},
		"rows of 80": {8, 80, 160, true, []int{0, 3, 6, 7}, 1, map[string][2]gguf.Type{"token_embd": {gguf.F16, gguf.F16}, "attn_q": {gguf.F16, gguf.F16},
			"ffn_down": {gguf.Q5_0, gguf.Q8_0}}},
	} {
		s := &Source{Config: &llama.Config{VocabSize: 1000, HiddenSize: c.hidden, IntermediateSize: c.ffn, NumHiddenLayers: c.layers, NumAttentionHeads: 4 * c.kv,
			NumKeyValueHeads: c.kv, HeadDim: 64, TieWordEmbeddings: c.tied}}
		for _, w := range s.tensors() {
			name := strings.TrimSuffix(w.gguf[strings.LastIndex(strings.TrimSuffix(w.gguf, ".weight"), ".")+1:], ".weight")
			want, ok := c.want[name]
			if !ok {
				continue
			}
			i := 0
			if slices.Contains(c.more, w.layer) {
				i = 1
			}
			if got := Type("Q4_K_M").of(w, s); got != want[i] {
				t.Errorf("%s: %s is stored as %v, want %v", what, w.gguf, got, want[i])
			}
		}
	}
}

func TestSizeLabel(t *testing.T) {
	for n, want := range map[float64]string{134515008: "135M", 1235814400: "1.2B", 8030261248: "8.0B", 70.6e9: "71B", 1234: "1.2K", 999e9: "999B", 2e12: "2.0T"} {
		if got := sizeLabel(n); got != want {
			t.Errorf("%v is %s, want %s", n, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := open(t, tiny, tinyAdapter)
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"gguf over a directory": s.GGUF(t.Context(), t.TempDir(), "x", "F16", nil),
		"merge":                 s.Merge(t.Context(), taken, nil), "gguf": s.GGUF(t.Context(), taken, "x", "F16", nil),
		"adapter": s.AdapterGGUF(taken, "x"), "ollama": s.Ollama(t.Context(), taken, "x", "F16", nil),
	} {
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s over a file: %v", what, err)
		}
	}
	late := filepath.Join(t.TempDir(), "late.gguf")
	err := s.GGUF(t.Context(), late, "x", "F16", func(int64, int64) { os.WriteFile(late, []byte("another's"), 0o666) })
	if b, _ := os.ReadFile(late); !errors.Is(err, fs.ErrExist) || string(b) != "another's" {
		t.Errorf("gguf over a file that came in the meantime: %v, %d bytes", err, len(b))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	parent := t.TempDir()
	for what, err := range map[string]error{
		"merge": s.Merge(ctx, filepath.Join(parent, "a"), nil), "gguf": s.GGUF(ctx, filepath.Join(parent, "b"), "x", "Q4_0", nil),
		"ollama": s.Ollama(ctx, filepath.Join(parent, "c"), "x", "Q8_0", nil),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted %s: %v", what, err)
		}
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("interrupted exports left %v", left)
	}
	if err := open(t, tiny, "").Merge(t.Context(), filepath.Join(parent, "d"), nil); err == nil {
		t.Error("a model without an adapter was merged")
	}
	added := edited(t, "tokenizer.json", nil)
	for what, c := range map[string]struct{ tokenizer, want string }{
		"token that strips":  {strings.Replace(string(added), `"lstrip":false`, `"lstrip":true`, 1), "strips spaces"},
		"ignore_merges":      {strings.Replace(string(added), `"ignore_merges":true`, `"ignore_merges":false`, 1), "pre_tokenizer"},
		"space before words": {strings.Replace(string(added), `"add_prefix_space":false`, `"add_prefix_space":true`, 1), "pre_tokenizer"},
	} {
		s := open(t, copyDir(t, tiny, map[string][]byte{"tokenizer.json": []byte(c.tokenizer)}), "")
		if err := s.GGUF(t.Context(), filepath.Join(parent, "e"), "x", "F16", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", what, err, c.want)
		}
	}
	larger := copyDir(t, tiny, map[string][]byte{"config.json": edited(t, "config.json", map[string]any{"intermediate_size": 384})})
	if _, err := Open(t.Context(), larger, "", nil); err == nil || !strings.Contains(err.Error(), "config.json asks for") {
		t.Errorf("weights of another size: %v", err)
	}
}
