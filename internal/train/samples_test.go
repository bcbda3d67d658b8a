package train

import (
	"context"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"cria/internal/compute/cpu"
	"cria/internal/generate"
	"cria/internal/recipe"
)

// The answers in the report are those of cria generate, without an adapter and with the one that lies in output_dir, also
// where that is not the last step's.
func TestAnswers(t *testing.T) {
	for _, over := range [][]string{
		{"sample_prompts=[娘娘。, 这是什么？]", "max_steps=4"},
		{"eval_fraction=0.3", "eval_steps=1", "save_steps=1", "max_steps=5", "learning_rate=0.03", "lr_scheduler_type=constant", "load_best_model_at_end=true"},
	} {
		j := prepared(t, t.TempDir(), append(over, "sample_max_new_tokens=12")...)
		if err := j.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if dir, _ := j.Best(); j.LoadBest && filepath.Base(dir) == checkpointName(5) {
			t.Fatal("the last checkpoint is the best: this run tests nothing")
		}
		if len(j.Samples) != len(j.Config.prompts) || len(j.Samples) < 2 || j.Unanswered != "" {
			t.Fatalf("%d samples of %d prompts, %s", len(j.Samples), len(j.Config.prompts), j.Unanswered)
		}
		page, changed := html.UnescapeString(string(mustRead(t, filepath.Join(j.OutputDir, ReportFile)))), false
		for _, dir := range []string{"", j.OutputDir} {
			c, err := generate.Load(generate.LoadOptions{Model: j.Data.ModelDir, Adapter: dir, DType: string(j.DType), Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range j.Samples {
				res, err := generate.NewSession(c.Model).Generate(context.Background(), j.Config.prompts[i].ids, generate.Options{MaxNewTokens: 12, EOS: c.EOS, Sampling: generate.Sampling{Greedy: true}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := strings.TrimRight(strings.TrimSpace(c.Tokenizer.Decode(res.IDs, true)), "\ufffd")
				got := map[bool]string{true: s.Before, false: s.After}[dir == ""]
				if strings.TrimSuffix(got, " …") != want {
					t.Errorf("%s, adapter %q: %q, want %q", s.Prompt, dir, got, want)
				}
				changed = changed || s.Before != s.After
				if !strings.Contains(page, s.Prompt) {
					t.Errorf("the page lacks %q", s.Prompt)
				}
			}
			c.Close()
		}
		if !changed {
			t.Error("training changed no answer: this run tests nothing")
		}
	}
}

// Prompts come from the recipe, from the rows of evaluation or from the rows of training, without the template around them.
func TestPrompts(t *testing.T) {
	for _, tt := range []struct {
		over []string
		of   string
		want string
	}{
		{nil, "from the training data", "[娘娘。 是皇上有心，惦记着咱们爱看戏。 皇上驾到！]"},
		{[]string{"sample_prompts=一"}, "from the recipe", "[一]"},
		{[]string{"eval_fraction=0.1"}, "from the rows of evaluation", ""},
	} {
		j := prepared(t, t.TempDir(), append(tt.over, "sample_max_new_tokens=3")...)
		var got []string
		for _, p := range j.Config.prompts {
			got = append(got, p.text)
			if p.want == "" && tt.of != "from the recipe" {
				t.Errorf("%v: %s has no answer in the data", tt.over, p.text)
			}
		}
		if tt.want != "" && fmt.Sprint(got) != tt.want || j.promptsOf != tt.of || len(got) == 0 {
			t.Errorf("%v: %q %s", tt.over, got, j.promptsOf)
		}
	}
	// A text that is trained whole is begun. An instruction goes into the model's chat template.
	dir := t.TempDir()
	text := filepath.Join(dir, "text.json")
	if err := os.WriteFile(text, []byte(`[{"text": "one two three four five six"}, {"text": "one two seven eight nine ten"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, over := range [][]string{nil, {"sample_prompts=who"}} {
		r, err := recipe.Load("", append(over, "model="+golden+"tiny-llama", "dataset="+text, "output_dir="+filepath.Join(dir, "out")))
		if err != nil {
			t.Fatal(err)
		}
		j, err := Prepare(context.Background(), r, Options{})
		if err != nil {
			t.Fatal(err)
		}
		switch p := j.Config.prompts; {
		case over == nil && (len(p) != 2 || !strings.HasPrefix("one two three four five six", p[0].text) || len(p[0].text) < 8 || !strings.HasSuffix(p[0].want, "six")):
			t.Errorf("of text: %+v", p)
		case over != nil && (len(p) != 1 || !strings.HasSuffix(j.Data.Tokenizer.Decode(p[0].ids, false), "who<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")):
			t.Errorf("of the recipe: %+v", p)
		}
		j.Close()
	}
}

// What goes wrong with answers is said in the report, and nowhere else.
func TestUnanswered(t *testing.T) {
	pretend(t, 8<<20, 20<<30)
	for _, tt := range []struct {
		name string
		over []string
		want string
	}{
		{"stopped", nil, "none: training was over and they were stopped"},
		{"too long", []string{"sample_prompts=" + strings.Repeat("一二三四五六七八九十", 1000)}, "max_position_embeddings"},
		{"none", []string{"sample_max_new_tokens=0"}, ""},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		dir := t.TempDir()
		r := tinyRecipe(t, dir, append([]string{"max_steps=2", "sample_max_new_tokens=8"}, tt.over...)...)
		early := ""
		j, err := Prepare(ctx, r, Options{OnAnswer: func(done, all int) {
			if early = string(mustRead(t, filepath.Join(dir, "out", ReportFile))); done == 1 {
				cancel()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Run(ctx); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		j.Close()
		cancel()
		page := string(mustRead(t, filepath.Join(dir, "out", ReportFile)))
		if !strings.Contains(page, tt.want) || strings.Contains(page, "<h2>Answers") != (tt.want != "") || j.Samples != nil {
			t.Errorf("%s: %s, %+v", tt.name, j.Unanswered, j.Samples)
		}
		if tt.name == "stopped" && !strings.Contains(early, "not made yet") {
			t.Error("no report while answers are made")
		}
		if _, err := os.Stat(filepath.Join(dir, "out", adapterFile)); err != nil {
			t.Error(err)
		}
	}
}

// A plan counts what evaluation computes.
func TestPlanOfEvaluation(t *testing.T) {
	pretend(t, 8<<20, 20<<30)
	j := prepared(t, t.TempDir(), "eval_fraction=0.4", "eval_steps=2", "max_steps=5", "share_prefix=false", "lora.lora_dropout=0")
	p := j.Plan
	be := j.Model.Backend().(*cpu.Backend)
	before := be.Usage().FLOP
	if _, err := j.Evaluate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if flop := be.Usage().FLOP - before; p.FLOP.Evaluation < 0.95*flop || p.FLOP.Evaluation > 1.05*flop {
		t.Errorf("%g operations, the plan says %g", flop, p.FLOP.Evaluation)
	}
	if p.Evaluations != 3 || p.EvalRows != 20 || p.FLOP.Job != 5*p.FLOP.Mean+3*p.FLOP.Evaluation {
		t.Errorf("%+v", p)
	}
}

// A plan has room for answers, or none are made: a key and a value of Llama-3.1-8B take 256 KiB a token.
func TestPlanOfAnswers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files of 16 GB are not sparse here")
	}
	pretend(t, 100<<20, 40<<30)
	dir, model := t.TempDir(), "model="+sparse8B(t)
	plan := func(over ...string) *Plan {
		t.Helper()
		p, _, err := MakePlan(context.Background(), tinyRecipe(t, dir, append([]string{model, "per_device_train_batch_size=1", "gradient_accumulation_steps=1", "max_memory=2GiB", "max_length=50", "too_long=drop"}, over...)...), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	none, few, many, most := plan(), plan("sample_max_new_tokens=64"), plan("sample_max_new_tokens=9000"), plan("sample_max_new_tokens=9000", fmt.Sprint("max_memory=", plan().Memory.Own>>20+64, "MiB"))
	if few.Memory.Own != none.Memory.Own || few.unanswered != "" {
		t.Errorf("64 tokens: %s of own memory instead of %s, %s", size(few.Memory.Own), size(none.Memory.Own), few.unanswered)
	}
	if more := many.Memory.Own - none.Memory.Own; more < 64<<20 || many.unanswered != "" {
		t.Errorf("2048 tokens: %s more of own memory, %s", size(more), many.unanswered)
	}
	if most.Memory.Own > most.Memory.Limit || !strings.Contains(most.unanswered, "up to 2048 tokens would take") {
		t.Errorf("2048 tokens in %s: %s, %s", size(most.Memory.Limit), size(most.Memory.Own), most.unanswered)
	}
}
