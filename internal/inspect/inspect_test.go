package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/adapter"
	"cria/internal/disk"
	"cria/internal/safetensors"
)

const golden = "../../testdata/golden/"

func look(t testing.TB, path string) *Report {
	t.Helper()
	r, err := Path(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every kind of path, told by what is in it.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	in := func(name, content string) string { return write(t, filepath.Join(dir, name), content) }
	for _, c := range []struct {
		path    string
		kind    Kind
		problem string // a part of one; "": none
	}{
		{golden + "tiny-llama", KindModel, ""},
		{golden + "tiny-llama/tokenizer.json", KindModel, ""},
		{golden + "tiny-llama/model-00001-of-00003.safetensors", KindSafetensors, ""},
		{golden + "tiny/adapter", KindAdapter, ""},
		{golden + "tiny/adapter/adapter_config.json", KindAdapter, ""},
		{golden + "checkpoint-example", KindCheckpoint, ""},
		{golden + "smollm2-train/data.json", KindDataset, ""},
		{golden + "tiny", KindUnknown, "generate.json"},
		{"../gguf/testdata/small.gguf", KindGGUF, "block_count"},
		{"../../examples/huanhuan/llama3_1.yaml", KindRecipe, ""},
		{in("empty.txt", ""), KindUnknown, "not known"},
		{in("model.bin", "PK"), KindUnknown, "pickle"},
		{in("empty.json", ""), KindDataset, "empty.json:1:1"},
		{in("text.jsonl", "hello"), KindDataset, "text.jsonl:1:1"},
		{in("rows", "\ufeff\n [{\"instruction\":\"a\",\"output\":\"b\"}]"), KindDataset, ""},
		{in("bad.yaml", "model: [\n"), KindRecipe, "bad.yaml"},
		{in("empty.gguf", ""), KindGGUF, "not a GGUF file"},
		{in("cut", "GGUF\x03\x00"), KindGGUF, "cut off"},
		{in("short.safetensors", "abc"), KindSafetensors, "short.safetensors"},
		{in("huge.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}"), KindSafetensors, "huge.safetensors"},
		{in("a/checkpoint-7/x", ""), KindCheckpoint, "trainer_state.json"},
		{in("b/adapter_model.bin", "PK"), KindUnknown, "pickle"},
		{filepath.Join(dir, "b"), KindAdapter, "adapter_config.json"},
		{in("c/pytorch_model.bin", "PK"), KindUnknown, "pickle"},
		{in("c/config.json", "{}"), KindModel, "pytorch_model"},
		{in("d/config.json", "{"), KindModel, "config.json"},
		{in("e/MANIFEST.json", "{"), KindUnknown, "MANIFEST.json"},
		{filepath.Dir(in("f/.cria.lock", "{}")), KindRun, ""},
	} {
		if filepath.Base(c.path) == "x" {
			c.path = filepath.Dir(c.path)
		}
		r := look(t, c.path)
		problems := strings.Join(r.Problems, "\n")
		if r.Kind != c.kind || !strings.Contains(problems, c.problem) || (c.problem == "") != (problems == "") {
			t.Errorf("%s is %s with problems %q, want %s with %q", c.path, r.Kind, problems, c.kind, c.problem)
		}
	}
	if _, err := Path(context.Background(), filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if r := look(t, dir); r.Kind != KindUnknown || !strings.Contains(r.Problems[0], "and ") {
		t.Errorf("%+v", r)
	}
}

// The keys that peft 0.11.1 wrote into the golden file are those in adapter.PEFTKeys.
func TestPEFTKeys(t *testing.T) {
	var keys map[string]any
	if err := readJSON(golden+"tiny/adapter/"+adapter.ConfigName, &keys); err != nil {
		t.Fatal(err)
	}
	if len(keys) != len(adapter.PEFTKeys) {
		t.Errorf("%d keys, want %d", len(keys), len(adapter.PEFTKeys))
	}
	for k := range keys {
		if !slices.Contains(adapter.PEFTKeys, k) {
			t.Errorf("%s is not in adapter.PEFTKeys", k)
		}
	}
}

func TestAdapter(t *testing.T) {
	a := look(t, golden+"tiny/adapter").Adapter
	want := []string{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}
	if a.R != 8 || a.Scale != 4 || a.Modules != 28 || a.Parameters != 72704 || a.DTypes["F32"] != 56 || a.PEFT != "0.11.1 and newer" || !slices.Equal(a.TargetModules.List, want) {
		t.Errorf("%+v", a)
	}

	// One that a newer peft wrote, with rsLoRA, and the base model beside it.
	base, err := filepath.Abs(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copyDir(t, dir, golden+"tiny/adapter")
	edit(t, filepath.Join(dir, adapter.ConfigName), func(c map[string]any) {
		c["exclude_modules"], c["use_rslora"], c["r"], c["base_model_name_or_path"] = nil, true, 4, base
	})
	r := look(t, dir)
	if a := r.Adapter; a.PEFT != "0.14 and newer" || a.Scale != 16 || a.BaseChecked || !strings.Contains(strings.Join(r.Problems, ""), "does not go with its base model") {
		t.Errorf("%+v %q", a, r.Problems)
	}
	edit(t, filepath.Join(dir, adapter.ConfigName), func(c map[string]any) { c["r"] = 8 })
	if r := look(t, dir); !r.Adapter.BaseChecked || len(r.Problems) > 0 {
		t.Errorf("%+v %q", r.Adapter, r.Problems)
	}

	// Tensors that do not belong together.
	one := safetensors.FromFloat32s("m.lora_A.weight", []int{2, 3}, make([]float32, 6))
	for problem, tensors := range map[string][]safetensors.Tensor{
		"has no m.lora_B.weight": {one},
		"do not fit together":    {one, safetensors.FromFloat32s("m.lora_B.weight", []int{3, 3}, make([]float32, 9))},
		"neither":                {safetensors.FromFloat32s("m.weight", []int{1}, []float32{1})},
		"no tensors":             nil,
	} {
		var b bytes.Buffer
		if err := safetensors.Write(&b, tensors, nil); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, adapter.TensorsName), b.String())
		if r := look(t, dir); !strings.Contains(strings.Join(r.Problems, "\n"), problem) {
			t.Errorf("problems %q, want %q", r.Problems, problem)
		}
	}
}

// checkpoint publishes the golden checkpoint as cria would have written it.
func checkpoint(t testing.TB, dir string) string {
	t.Helper()
	recipe, err := os.ReadFile("../../examples/huanhuan/smollm2.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{criaState: []byte(`{"format": 1, "step": 10, "identity": {"compute_dtype": "bfloat16"}}`), recipeName: recipe, "optimizer.safetensors": {1, 2, 3}}
	for _, name := range []string{adapter.ConfigName, adapter.TensorsName, trainerState} {
		if files[name], err = os.ReadFile(golden + "checkpoint-example/" + name); err != nil {
			t.Fatal(err)
		}
	}
	err = disk.PublishDir(disk.OS{}, dir, func(w *disk.DirWriter) error {
		for name, content := range files {
			f, err := w.Create(name)
			if err != nil {
				return err
			}
			if _, err := f.Write(content); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheckpoint(t *testing.T) {
	dir := checkpoint(t, filepath.Join(t.TempDir(), "checkpoint-10"))
	r := look(t, dir)
	c := r.Checkpoint
	if r.Kind != KindCheckpoint || c.State != Whole || !c.Resumable || c.Step != 10 || c.MaxSteps != 24 || c.Epochs != 3 || c.ComputeDType != "bfloat16" || len(r.Problems) > 0 {
		t.Errorf("%+v %+v", r, c)
	}
	if want := "cria train " + filepath.Join(dir, "recipe.yaml") + " resume_from_checkpoint=" + dir; c.Resume != want {
		t.Errorf("resume with %q, want %q", c.Resume, want)
	}
	if l := r.Log; len(l.Losses) != 10 || l.First != (Loss{1, 6.0824}) || l.Lowest != (Loss{7, 3.7096}) || l.Last != (Loss{10, 4.7713}) {
		t.Errorf("%+v", r.Log)
	}
	if r.Recipe == nil || r.Recipe.RowsPerStep != 16 || r.Adapter.Modules != 28 {
		t.Errorf("%+v %+v", r.Recipe, r.Adapter)
	}

	// However one file is damaged, the report says so, names the file, and does not offer to resume.
	for _, name := range []string{criaState, trainerState, adapter.ConfigName, adapter.TensorsName, "optimizer.safetensors", recipeName, disk.ManifestName} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(whole)
		flipped[len(flipped)/2] ^= 0x40
		for how, content := range map[string][]byte{"removed": nil, "emptied": {}, "cut": whole[:len(whole)/2], "altered": flipped} {
			if content == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, content, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			r := look(t, dir)
			if c := r.Checkpoint; r.Kind != KindCheckpoint || c.State != Damaged || c.Resumable || c.Resume != "" || !strings.Contains(strings.Join(r.Problems, "\n"), name) {
				t.Errorf("%s %s: %s, %+v, problems %q", name, how, r.Kind, r.Checkpoint, r.Problems)
			}
		}
		write(t, path, string(whole))
	}
}

func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"5", "10", "100"} {
		checkpoint(t, filepath.Join(dir, "checkpoint-"+step))
	}
	if err := os.Remove(filepath.Join(dir, "checkpoint-100", "optimizer.safetensors")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "checkpoint-5", "extra"), "x")
	write(t, filepath.Join(dir, "checkpoint-200.tmp-0123456789ab", "x"), "x")
	write(t, filepath.Join(dir, "checkpoint-x", "x"), "x")
	r := look(t, dir)
	u := r.Run
	if r.Kind != KindRun || u.Finished || u.InUse != nil || u.Newest != filepath.Join(dir, "checkpoint-10") || len(u.Leftovers) != 1 || r.Adapter == nil || len(r.Problems) != 2 {
		t.Fatalf("%+v %+v", r, u)
	}
	var states []State
	for _, c := range u.Checkpoints {
		states = append(states, c.State)
	}
	if !slices.Equal(states, []State{Damaged, Whole, Damaged}) || u.Checkpoints[2].Step != 100 || !strings.Contains(u.Checkpoints[2].Reason, "optimizer.safetensors") {
		t.Errorf("%+v", u.Checkpoints)
	}
	if !strings.HasPrefix(u.Resume, "cria train "+filepath.Join(dir, "checkpoint-10", "recipe.yaml")) || !strings.HasSuffix(u.Resume, " resume_from_checkpoint=true") {
		t.Errorf("%q", u.Resume)
	}
	lock, err := disk.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if u := look(t, dir).Run; u.InUse == nil || u.InUse.PID != os.Getpid() || u.Resume != "" || len(u.Leftovers) != 0 {
		t.Errorf("%+v", u)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Path(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestQuoted(t *testing.T) {
	for s, want := range map[string]string{"a/b-1.yaml": "a/b-1.yaml", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "": "''", "字": "'字'"} {
		if got := quoted(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
}

// A file of any content is described, whatever its name says.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	names := []string{"x", "x.json", "x.jsonl", "x.yaml", "x.gguf", "x.safetensors", "d/config.json", "d/adapter_config.json", "d/trainer_state.json", "d/cria_state.json",
		"d/tokenizer.json", "d/model.safetensors", "d/model.safetensors.index.json", "d/checkpoint-1/trainer_state.json", "d/.cria.lock"}
	f.Add(uint8(0), []byte("GGUF\x03\x00\x00\x00"))
	f.Add(uint8(5), append(binary.LittleEndian.AppendUint64(nil, 2), "{}"...))
	f.Add(uint8(1), []byte(`[{"instruction": "a", "output": "b"}]`))
	f.Add(uint8(3), []byte("model: m\ndataset: d\n"))
	f.Add(uint8(8), []byte(`{"log_history": [{"loss": 1e400, "step": -1}], "epoch": 1}`))
	f.Add(uint8(7), []byte(`{"peft_type": "LORA", "r": 0, "target_modules": null}`))
	f.Fuzz(func(t *testing.T, name uint8, content []byte) {
		path := filepath.Join(dir, names[int(name)%len(names)])
		if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
			t.Fatal(err)
		}
		write(t, path, string(content))
		look(t, path)
		look(t, filepath.Dir(path))
		look(t, dir)
	})
}

func copyDir(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// edit changes a JSON object in a file.
func edit(t testing.TB, path string, f func(map[string]any)) {
	t.Helper()
	var c map[string]any
	if err := readJSON(path, &c); err != nil {
		t.Fatal(err)
	}
	f(c)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(b))
}
