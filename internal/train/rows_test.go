package train

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/data"
	"cria/internal/pack"
	"cria/internal/recipe"
)

// chatData is what a recipe with the tiny model makes of a file of rows.
func chatData(t *testing.T, name, rows string, overrides ...string) (*Data, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("", append([]string{"model=" + golden + "tiny-llama", "dataset=" + path}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	d, err := Rows(context.Background(), r, Options{Cache: t.TempDir(), Info: func(s string) { notes = append(notes, strings.ReplaceAll(s, path, name)) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, notes
}

// text is a row as text, with its trained parts in brackets.
func (d *Data) text(r pack.Row) string {
	var b strings.Builder
	for i := 0; i < len(r.IDs); {
		from, trained := i, r.Labels[i] != pack.Ignore
		for i < len(r.IDs) && (r.Labels[i] != pack.Ignore) == trained {
			i++
		}
		s := d.Tokenizer.Decode(r.IDs[from:i], false)
		if trained {
			s = "[" + s + "]"
		}
		b.WriteString(s)
	}
	s := strings.NewReplacer("<|begin_of_text|>", "^", "<|start_header_id|>", "<", "<|end_header_id|>\n\n", ">", "<|eot_id|>", "$").Replace(b.String())
	return s
}

func TestRowsOfEveryFormat(t *testing.T) {
	for _, c := range []struct {
		name, rows string
		overrides  []string
		want, note string
	}{
		{"a.jsonl", `{"instruction":"q","input":"i","output":"a"}`, nil, "^<user>q\ni$<assistant>[a$]", "a.jsonl: alpaca (instruction, input, output)"},
		{"a.jsonl", `{"instruction":"q","output":"a","history":[["h","r"]]}`, []string{"system=s"}, "^<system>s$<user>h$<assistant>[r$]<user>q$<assistant>[a$]", "a.jsonl: alpaca (instruction, output, history)"},
		{"a.jsonl", `{"instruction":"q","output":"a","system":"own"}`, []string{"system=s", "train_on=all"}, "[^<system>own$<user>q$<assistant>a$]", "a.jsonl: alpaca (instruction, output, system)"},
		{"c.csv", "question,reply\nq,a\n", []string{"columns={prompt: question, completion: reply}"}, "^<user>q$<assistant>[a$]", "c.csv: prompt_completion (question, reply)"},
		{"s.json", `[{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"},{"from":"human","value":"r"},{"from":"gpt","value":"b"}]}]`, []string{"train_on=last"},
			"^<user>q$<assistant>a$<user>r$<assistant>[b$]", "s.json: sharegpt (conversations)"},
		{"m.jsonl", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","weight":0},{"role":"user","content":"r"},{"role":"assistant","content":"b"}]}`, nil,
			"^<user>q$<assistant>a$<user>r$<assistant>[b$]", "m.jsonl: messages (messages)"},
		{"t.jsonl", `{"text":"once"}`, nil, "[^once$]", "t.jsonl: text (text)"},
		{"t.jsonl", `{"text":"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"}`, nil, "[^<user>q$]", "t.jsonl: text (text)"},
		{"p.jsonl", `{"prompt":"q","completion":"a"}`, []string{"template=prompt", "prompt_template={instruction}:", "response_template={output}<|eot_id|>"}, "q:[a$]", "p.jsonl: prompt_completion (prompt, completion)"},
		{"p.jsonl", `{"instruction":"q","output":"a","system":"s"}`, []string{"template=prompt", "prompt_template={system}/{instruction}:", "response_template={output}<|eot_id|>", "train_on=all"}, "[s/q:a$]",
			"p.jsonl: alpaca (instruction, output, system)"},
	} {
		d, notes := chatData(t, c.name, c.rows, c.overrides...)
		if got := d.text(d.Train.Row(0)); got != c.want {
			t.Errorf("%s %v:\n got %q\nwant %q", c.rows, c.overrides, got, c.want)
		}
		if !slices.Equal(notes, []string{c.note}) {
			t.Errorf("%s: notes %q, want %q", c.rows, notes, c.note)
		}
		if err := d.Check(); err != nil {
			t.Errorf("%s: %v", c.rows, err)
		}
	}
}

func TestRowsThatATemplateCannotTake(t *testing.T) {
	prompt := []string{"template=prompt", "prompt_template={instruction}:", "response_template={output}<|eot_id|>"}
	for row, want := range map[string]string{
		`{"text":"t"}`: "format text",
		`{"messages":[{"role":"user","content":"q"}]}`:                  "format messages",
		`{"instruction":"q","output":"a","system":"s"}`:                 "no {system}",
		`{"instruction":"q","output":"a","input":"i"}`:                  "no {input}",
		`{"instruction":"q","output":"a","history":[["h","r"]]}`:        "has a history",
		`{"prompt":[],"completion":[{"role":"user","content":"q"}]}`:    "format prompt_completion",
		`{"prompt":"q","completion":"a","tools":[{"type":"function"}]}`: "has tools",
	} {
		path := filepath.Join(t.TempDir(), "d.jsonl")
		if err := os.WriteFile(path, []byte(row), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := recipe.Load("", append([]string{"model=" + golden + "tiny-llama", "dataset=" + path}, prompt...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Rows(context.Background(), r, Options{Cache: t.TempDir()}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+":1 (row 1)") {
			t.Errorf("%s: %v, want %s", row, err, want)
		}
	}
}

func TestTemplatesOfOtherModels(t *testing.T) {
	d, _ := chatData(t, "d.jsonl", `{"instruction":"q","output":"a"}`, "template=prompt", "prompt_template=<|im_start|>user\n{instruction}<|im_end|>\n", "response_template={output}<|eot_id|>")
	if err := d.Check(); err == nil || !strings.Contains(err.Error(), "prompt_template: <|im_start|>, <|im_end|>: no token") {
		t.Error(err)
	}
	d, _ = chatData(t, "d.jsonl", `{"instruction":"q","output":"a"}`, "template=prompt", "prompt_template=<|begin_of_text|><|begin_of_text|>{instruction}", "response_template={output}<|eot_id|>")
	if err := d.Check(); err == nil || !strings.Contains(err.Error(), "1 of 1 rows begin with two BOS tokens") || d.Report.DoubleBOS.Rows != 1 {
		t.Error(err)
	}
}

// Rows for evaluation are those of another file, or a share that is not trained.
func TestRowsForEvaluation(t *testing.T) {
	var rows strings.Builder
	for i := range 50 {
		fmt.Fprintf(&rows, `{"instruction":"q%d","output":"a"}`+"\n", i)
	}
	d, _ := chatData(t, "d.jsonl", rows.String(), "eval_fraction=0.1", "seed=3")
	again, _ := chatData(t, "d.jsonl", rows.String(), "eval_fraction=0.1", "seed=3")
	if d.Train.Len() != 45 || d.Eval.Len() != 5 || d.Report.Rows != 50 || d.EvalReport != nil {
		t.Fatalf("%d trained, %d for evaluation", d.Train.Len(), d.Eval.Len())
	}
	seen := map[string]bool{}
	for _, r := range []data.Rows{d.Train, d.Eval} {
		for i := range r.Len() {
			seen[d.text(r.Row(i))] = true
		}
	}
	if len(seen) != 50 {
		t.Errorf("%d different rows", len(seen))
	}
	for i := range 5 {
		if d.text(d.Eval.Row(i)) != again.text(again.Eval.Row(i)) {
			t.Error("drawn in another way")
		}
	}
	other := filepath.Join(t.TempDir(), "e.csv")
	if err := os.WriteFile(other, []byte("prompt,completion\nx,y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d, notes := chatData(t, "d.jsonl", rows.String(), "eval_dataset=["+other+"]")
	if d.Train.Len() != 50 || d.Eval.Len() != 1 || d.EvalReport.Files[0].Format != data.PromptCompletion || len(notes) != 2 || d.text(d.Eval.Row(0)) != "^<user>x$<assistant>[y$]" {
		t.Errorf("%d trained, %d for evaluation, %q", d.Train.Len(), d.Eval.Len(), notes)
	}
}

// Model and recipe belong to what rows are kept by.
func TestRowsAreKeptByModelAndRecipe(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	model := filepath.Join(dir, "model")
	if err := os.CopyFS(model, os.DirFS(golden+"tiny-llama")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "d.jsonl")
	if err := os.WriteFile(path, []byte(`{"instruction":"q","output":"a"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	entries := func(overrides ...string) int {
		t.Helper()
		r, err := recipe.Load("", append([]string{"model=" + model, "dataset=" + path}, overrides...))
		if err != nil {
			t.Fatal(err)
		}
		d, err := Rows(context.Background(), r, Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		list, err := os.ReadDir(cache)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	n := 1
	for _, c := range []struct {
		overrides string
		more      int
	}{{"", 0}, {"learning_rate=1", 0}, {"threads=1", 0}, {"seed=5", 0}, {"system=s", 1}, {"train_on=all", 1}, {"train_on=replies", 0}, {"max_length=7", 1}, {"max_samples=1", 1}, {"format=alpaca", 1}, {"too_long=drop", 1}} {
		if n += c.more; entries(strings.Fields(c.overrides)...) != n {
			t.Errorf("%q: want %d entries", c.overrides, n)
		}
	}
	config := filepath.Join(model, "tokenizer_config.json")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(b), "| trim", "| string", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if entries() != n+1 {
		t.Error("another chat template did not make other rows")
	}
}
