package starter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/recipe"
)

const tiny = "../../testdata/golden/tiny-llama"

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// baseModel is the tiny model without a chat template.
func baseModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tokenizer_config.json"), `{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "tokenizer_class": "PreTrainedTokenizerFast"}`)
	return dir
}

// rows are n rows of alpaca, the first of them with an answer of long words.
func rows(n, long int) string {
	var b strings.Builder
	for i := range n {
		answer := fmt.Sprintf("answer %d", i)
		if i == 0 {
			answer = strings.Repeat("word ", long)
		}
		fmt.Fprintf(&b, `{"instruction": "question %d", "output": %q}`+"\n", i, answer)
	}
	return b.String()
}

// start makes a draft, publishes it and loads it.
func start(t *testing.T, model, system string, data ...string) (*Draft, *recipe.Recipe) {
	t.Helper()
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	t.Setenv("MODELSCOPE_CACHE", t.TempDir())
	m, err := LookAtModel(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	r, err := LookAtRows(t.Context(), data...)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(t.Context(), Answers{Model: m, Rows: r, System: system, OutputDir: "out"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := d.Publish(path, false); err != nil {
		t.Fatal(err)
	}
	loaded, err := recipe.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	above := ""
	for line := range strings.Lines(string(d.Text)) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, ": "); ok && line[0] != '#' && value != "" && !strings.HasPrefix(above, "# ") {
			t.Errorf("no comment above %s", key)
		}
		above = line
	}
	return d, loaded
}

func TestChoices(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		return write(t, filepath.Join(dir, fmt.Sprintf("%x.jsonl", len(content))), content)
	}
	texts := func(n, long int) string {
		s := fmt.Sprintf(`{"text": %q}`+"\n", strings.Repeat("word ", long))
		return s + strings.Repeat(`{"text": "short"}`+"\n", n-1)
	}
	base := baseModel(t)
	for _, c := range []struct {
		name   string
		model  string
		system string
		data   string
		steps  int
		holds  func(r *recipe.Recipe) bool
	}{
		{"few rows", tiny, "Be Ada.", file(rows(3, 5)), 10, func(r *recipe.Recipe) bool {
			return r.Format == "alpaca" && r.Template == "chat" && r.System == "Be Ada." && r.PerDeviceTrainBatchSize == 3 && r.MaxLength%16 == 0 && r.MaxLength < 96 && r.EvalFraction == 0 &&
				r.LoggingSteps == 1 && r.SaveSteps == 10 && r.OutputDir == "out" && r.LoRA.R == 8 && r.LoRA.LoraAlpha == 32 && len(r.LoRA.TargetModules.List) == 7 && r.LearningRate == 5e-4
		}},
		{"some hundred rows", tiny, "", file(rows(300, 5)), 185, func(r *recipe.Recipe) bool { // ceil(294/4) = 74, 37 steps an epoch
			return r.EvalFraction == 0.02 && r.EvalSteps == r.SaveSteps && r.SaveSteps == 20 && r.LoggingSteps == 5 && !r.IsSet("system") && r.TooLong == "cut"
		}},
		{"one row that is far too long", tiny, "", file(rows(301, 8000)), 185, func(r *recipe.Recipe) bool {
			return r.TooLong == "drop" && r.MaxLength < 64
		}},
		{"one row that is longer than the context", tiny, "", file(rows(30, 3000)), 80, func(r *recipe.Recipe) bool { // 29 rows
			return r.TooLong == "drop" && r.MaxLength <= 2048
		}},
		{"texts, one of them longer than the context", tiny, "Be Ada.", file(texts(10, 3000)), 30, func(r *recipe.Recipe) bool {
			return r.Format == "text" && !r.IsSet("system") && !r.IsSet("template") && r.TooLong == "cut" && r.MaxLength <= 2048 && r.MaxCutShare >= 0.1 && r.MaxCutShare < 0.2
		}},
		{"a model without a chat template", base, "Be {Ada}.", file(rows(10, 4)), 30, func(r *recipe.Recipe) bool {
			return r.Template == "prompt" && strings.Contains(r.PromptTemplate, "Be {{Ada}}.\n\n### Instruction:\n{instruction}\n\n### Response:\n") && !strings.Contains(r.PromptTemplate, "{input}") &&
				r.ResponseTemplate == "{output}<|eot_id|>" && !r.AppendPadToken && !r.IsSet("system")
		}},
		{"a model without a chat template, rows with inputs", base, "", file(rows(10, 4) + `{"instruction": "a", "input": "b", "output": "c"}`), 30, func(r *recipe.Recipe) bool {
			return strings.Contains(r.PromptTemplate, "{instruction}\n{input}\n\n###")
		}},
		{"a model that is not here", "hf:org/name@v1", "Be \"Ada\": #1\n", file(rows(300, 5)), 185, func(r *recipe.Recipe) bool {
			return r.Model == "hf:org/name@v1" && r.Template == "chat" && r.System == "Be \"Ada\": #1\n" && !r.IsSet("max_length") && r.LearningRate == 1e-4
		}},
		{"rows that are not here", tiny, "", "ms:org/rows#100", 0, func(r *recipe.Recipe) bool {
			return r.Dataset[0] == "ms:org/rows#100" && r.Format == "auto" && !r.IsSet("max_length") && r.NumTrainEpochs == 3
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, r := start(t, c.model, c.system, c.data)
			if d.Steps != c.steps {
				t.Errorf("%d steps, want %d", d.Steps, c.steps)
			}
			if !c.holds(r) {
				t.Errorf("%s", d.Text)
			}
			if len(d.Refused) > 0 {
				t.Errorf("refused: %+v", d.Refused)
			}
		})
	}
}

// Of very many rows only the first ones are looked at, so that others may be longer.
func TestLengthsOfSome(t *testing.T) {
	d := &draft{Answers: Answers{Model: &Model{Window: 4096}, Rows: &Rows{Here: true, Count: 3 * mostProbed, Formats: []string{"alpaca"}}}}
	lengths := make([]int, mostProbed)
	for i := range lengths {
		lengths[i] = 10
	}
	kept := d.lengthKeys(lengths)
	if len(d.settings) != 2 || d.settings[0].value != "16" || !strings.Contains(d.settings[0].comment, "the first 50,000 have 10 to 10") || d.settings[1].key != "too_long" || kept != d.Rows.Count {
		t.Errorf("%d %+v", kept, d.settings)
	}
	d.settings = nil
	lengths[mostProbed-1] = 10_000
	if kept := d.lengthKeys(lengths); d.settings[0].value != "16" || kept != d.Rows.Count-3 {
		t.Errorf("%d %+v", kept, d.settings)
	}
}

// Whatever names and system prompts are made of, the recipe says the same when it is read.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "yes", "- a: b # c\n", "'\"\\", "\u2028\u0085", "[a]", "{b", "\x00", "null", "~", "😀 한국", "# no"} {
		f.Add(s, s)
	}
	m := &Model{Name: "model", Template: no}
	f.Fuzz(func(t *testing.T, name, system string) {
		for _, m.Template = range []known{no, yes} {
			d, err := New(t.Context(), Answers{Model: m, Rows: &Rows{Names: []string{name}, Notes: []string{name}}, System: system, OutputDir: name}, nil)
			if err != nil {
				continue
			}
			path := filepath.Join(t.TempDir(), "recipe.yaml")
			if err := d.Publish(path, false); err != nil {
				t.Fatalf("%v\n%s", err, d.Text)
			}
			r, err := recipe.Load(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Dataset[0] != name || r.OutputDir != name || m.Template == yes && r.System != system {
				t.Errorf("%q %q\n%s", name, system, d.Text)
			}
		}
	})
}

func TestLookRefuses(t *testing.T) {
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	t.Setenv("MODELSCOPE_CACHE", t.TempDir())
	dir := t.TempDir()
	broken := t.TempDir()
	if err := os.CopyFS(broken, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(broken, "model-00002-of-00003.safetensors")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"", "must be named"},
		{"no such thing", "neither"},
		{"xx:org/name", "neither"},
		{dir, "no model"},
		{broken, "model-00002-of-00003"},
		{"../../testdata/golden/tiny/adapter", "is an adapter"},
		{write(t, filepath.Join(dir, "x.gguf"), "GGUF"), "x.gguf"},
	} {
		if _, err := LookAtModel(t.Context(), c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.name, err, c.want)
		}
	}
	for _, c := range []struct{ name, want string }{
		{"", "must be named"},
		{"org/name", "hf:org/name"},
		{"hf:name", "no name"},
		{filepath.Join(dir, "none.json"), "none.json"},
		{write(t, filepath.Join(dir, "empty.json"), "[]"), "no rows"},
		{write(t, filepath.Join(dir, "other.json"), `[{"a": 1}]`), "columns"},
		{write(t, filepath.Join(dir, "broken.json"), `[{"text": "a"}, {"text": }]`), "broken.json:1:"},
	} {
		if _, err := LookAtRows(t.Context(), c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.name, err, c.want)
		}
	}
	m, err := LookAtModel(t.Context(), baseModel(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := LookAtRows(t.Context(), write(t, filepath.Join(dir, "chat.json"), `[{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Answers{Model: m, Rows: r, OutputDir: "out"}, nil); err == nil || !strings.Contains(err.Error(), "no chat template") {
		t.Errorf("%v", err)
	}
}

// A config.json stands for its directory; a file that is there is not replaced.
func TestPublish(t *testing.T) {
	dir := t.TempDir()
	m, err := LookAtModel(t.Context(), filepath.Join(tiny, "config.json"))
	if err != nil || m.Name != filepath.FromSlash(tiny) || m.Architecture != "LlamaForCausalLM" || m.Window != 2048 || m.Template != yes || m.Parameters < 1_000_000 {
		t.Fatalf("%+v %v", m, err)
	}
	d, err := New(t.Context(), Answers{Model: m, Rows: &Rows{Names: []string{"hf:org/rows"}}, OutputDir: "out"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(dir, "recipe.yaml"), "mine")
	if err := d.Publish(path, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("%q %v", b, err)
	}
	if err := d.Publish(path, true); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v %v", entries, err)
	}
}
