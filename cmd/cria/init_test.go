package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cria/internal/recipe"
	"cria/internal/train"
)

// emptyCaches keeps what this machine has fetched out of a test.
func emptyCaches(t *testing.T) {
	t.Setenv("CRIA_CACHE", t.TempDir())
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	t.Setenv("MODELSCOPE_CACHE", t.TempDir())
}

// What init writes can be looked at, planned and trained, whatever the rows are.
func TestInitTrains(t *testing.T) {
	emptyCaches(t)
	for name, c := range map[string]struct{ file, rows, format string }{
		"alpaca":            {"a.json", rows, "alpaca"},
		"sharegpt":          {"s.jsonl", strings.Repeat(`{"conversations": [{"from": "human", "value": "四郎。"}, {"from": "gpt", "value": "你让朕心痛。"}]}`+"\n", 5), "sharegpt"},
		"messages":          {"m.jsonl", strings.Repeat(`{"messages": [{"role": "user", "content": "四郎。"}, {"role": "assistant", "content": "你让朕心痛。"}]}`+"\n", 5), "messages"},
		"prompt_completion": {"p.csv", "question,answer\n四郎。,你让朕心痛。\n多谢。,坐下喝杯茶吧。\n", "prompt_completion"},
		"text":              {"t.jsonl", strings.Repeat(`{"text": "起来吧，坐下喝杯茶吧。"}`+"\n", 5), "text"},
		"without template":  {"a.json", rows, "alpaca"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			model := tiny
			if name == "without template" {
				model = withoutTemplate(t)
			}
			data, path, out := write(t, filepath.Join(dir, c.file), c.rows), filepath.Join(dir, "recipe.yaml"), filepath.Join(dir, "out")
			r := cria(t, "init", path, "--model", model, "--dataset", data, "--output-dir", out, "--system", "你是甄嬛").ok(t)
			for _, want := range []string{"LlamaForCausalLM, 1,229,952 parameters", c.format, "wrote " + path, "cria data " + path, "cria plan " + path, "cria train " + path} {
				if !strings.Contains(r.err, want) {
					t.Errorf("standard error lacks %q:\n%s", want, r.err)
				}
			}
			if strings.Contains(r.err, "refuse") || r.out != "" {
				t.Errorf("%s%s", r.out, r.err)
			}
			if loaded, err := recipe.Load(path, nil); err != nil || loaded.Format != c.format || len(loaded.Notes) > 0 {
				t.Errorf("%+v %v", loaded, err)
			}
			cria(t, "data", path, "--rows", "0").ok(t)
			cria(t, "train", path, "num_train_epochs=2", "compute_dtype=float32").ok(t)
			if _, err := os.Stat(filepath.Join(out, "adapter_model.safetensors")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInitRefuses(t *testing.T) {
	emptyCaches(t)
	dir := t.TempDir()
	data := write(t, filepath.Join(dir, "rows.json"), rows)
	old := write(t, filepath.Join(dir, "old.yaml"), "model: m\n")
	fresh := filepath.Join(dir, "new.yaml")
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{fresh}, exitUsage, []string{"--model is missing"}},
		{[]string{fresh, "--yes"}, exitUsage, []string{"--model is missing"}},
		{[]string{fresh, "--model", tiny}, exitUsage, []string{"--dataset is missing"}},
		{[]string{fresh, "--model", tiny, "--dataset", data}, exitUsage, []string{"--system is missing"}},
		{[]string{fresh, "--model", dir, "--dataset", data, "--yes"}, exitUsage, []string{"--model: " + dir, "no model"}},
		{[]string{fresh, "--model", tiny, "--dataset", filepath.Join(dir, "none"), "--yes"}, exitUsage, []string{"--dataset: ", "none"}},
		{[]string{fresh, "--model", tiny, "--dataset", data, "--system", "\xff"}, exitError, []string{"not UTF-8"}},
		{[]string{fresh, fresh}, exitUsage, []string{"one recipe"}},
		{[]string{old, "--model", tiny, "--dataset", data, "--yes"}, exitUsage, []string{"old.yaml exists", "--force"}},
		{[]string{filepath.Join(dir, "none", "r.yaml"), "--model", tiny, "--dataset", data, "--yes"}, exitUsage, []string{"no directory"}},
	} {
		before := tree(t, dir)
		cria(t, append([]string{"init"}, c.args...)...).fails(t, c.code, c.want...)
		sameTree(t, dir, before)
	}
	cria(t, "init", old, "--model", tiny, "--dataset", data, "--yes", "--force").ok(t)
	if r, err := recipe.Load(old, nil); err != nil || r.System != "" || r.Model != filepath.FromSlash(tiny) {
		t.Errorf("%+v %v", r, err)
	}
	// Of what is not here, the next steps say how it is had.
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--model", "org/name", "--dataset", data}, []string{"cria pull org/name"}},
		{[]string{"--model", tiny, "--dataset", "hf:org/rows"}, []string{"hf:org/rows: not here yet"}},
	} {
		r := cria(t, append([]string{"init", old, "--yes", "--force"}, c.args...)...).ok(t)
		for _, want := range c.want {
			if !strings.Contains(r.err, want) {
				t.Errorf("standard error lacks %q:\n%s", want, r.err)
			}
		}
	}
}

// plainRope is the tiny model without the scaling of positions that GGUF files cannot say.
func plainRope(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	loadJSON(t, filepath.Join(tiny, "config.json"), &config)
	delete(config, "rope_scaling")
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(b))
	return dir
}

// A GGUF file is trained as the directory that cria import makes of it, and looked at as such once that is there.
func TestInitGGUF(t *testing.T) {
	emptyCaches(t)
	t.Chdir(plainRope(t))
	write(t, "rows.json", rows)
	cria(t, "export", "--model", ".", "--format", "gguf", "--type", "BF16", "--output", "it's tiny.gguf").ok(t)
	args := []string{"init", "--model", "it's tiny.gguf", "--dataset", "rows.json", "--yes", "--force"}
	if r := cria(t, args...).ok(t); !strings.Contains(r.err, `cria import 'it'\''s tiny.gguf' 'it'\''s tiny'`) || !strings.Contains(r.err, "with a chat template") {
		t.Error(r.err)
	}
	cria(t, "import", "it's tiny.gguf", "it's tiny").ok(t)
	cria(t, "data", "recipe.yaml", "--rows", "0").ok(t)
	if r := cria(t, args...).ok(t); strings.Contains(r.err, "cria import") {
		t.Error(r.err)
	}
	if r, err := recipe.Load("recipe.yaml", nil); err != nil || r.Model != "it's tiny" || r.MaxLength == 0 {
		t.Errorf("%+v %v", r, err)
	}
	write(t, "other.gguf", "GGUF")
	write(t, "other/file", "")
	cria(t, "init", "new.yaml", "--model", "other.gguf", "--dataset", "rows.json", "--yes").fails(t, exitUsage, "--model", "other.gguf")
}

// session answers the questions of cria init.
func session(t *testing.T, ctx context.Context, path string, in io.Reader) (string, error) {
	t.Helper()
	var errOut bytes.Buffer
	ui := newUI(in, io.Discard, &errOut)
	err := runInit(ctx, ui, path, initFlags{outputDir: "output"}, true)
	return errOut.String(), err
}

// A wrong answer is asked again; the end of input and Ctrl-C leave nothing.
func TestInitAsks(t *testing.T) {
	emptyCaches(t)
	dir := t.TempDir()
	data := write(t, filepath.Join(dir, "rows.json"), rows)
	path := filepath.Join(dir, "recipe.yaml")
	said, err := session(t, t.Context(), path, strings.NewReader(strings.Join([]string{"", dir, " " + tiny, "org/rows", data, "你是甄嬛", ""}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load(path, nil)
	if err != nil || r.Model != tiny || r.Dataset[0] != data || r.System != "你是甄嬛" {
		t.Errorf("%+v %v", r, err)
	}
	for _, want := range []string{"Which model?", "must be named", "is no model", "with a chat template", "Which data?", "write hf:org/rows", "5 rows", "What is the model to become?", "wrote "} {
		_, after, found := strings.Cut(said, want)
		if !found {
			t.Fatalf("%q does not come next in\n%s", want, said)
		}
		said = after
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	if _, err := session(t, t.Context(), path, strings.NewReader(tiny+"\n")); err == nil || !strings.Contains(err.Error(), "--dataset") || !errors.As(err, new(usageError)) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, answers := io.Pipe()
	defer in.Close()
	go func() {
		io.WriteString(answers, tiny+"\n"+data+"\n")
		time.Sleep(50 * time.Millisecond)
		cancel() // at the third question
	}()
	if said, err := session(t, ctx, path, in); !errors.Is(err, train.ErrInterrupted) || !strings.Contains(said, "nothing was written") {
		t.Errorf("%v\n%s", err, said)
	}
	sameTree(t, dir, before)
}
