package foreign

import (
	"errors"
	commandline "flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cria/internal/recipe"

	"go.yaml.in/yaml/v4"
)

var update = commandline.Bool("update", false, "write what the examples become anew")

// examples are recipes of the tools, and which tool's they are.
var examples = []struct {
	file string
	tool Tool
}{
	{"llamafactory/lora.yaml", LLaMAFactory},
	{"axolotl.yaml", Axolotl},
	{"axolotl-prompt.yaml", Axolotl},
	{"mlx.yaml", MLX},
	{"mlx-small.yaml", MLX},
	{"trl.yaml", TRL},
	{"trl-args.json", TRL},
}

func sixteen(string) int { return 16 }

func read1(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// load reads a translated recipe as cria train does.
func load(t testing.TB, r *Result) *recipe.Recipe {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(path, r.Recipe, 0o644); err != nil {
		t.Fatal(err)
	}
	var overrides []string
	for _, key := range r.Missing {
		overrides = append(overrides, key+"=x")
	}
	got, err := recipe.Load(path, overrides)
	if err != nil {
		t.Fatalf("cria train would not read this: %v\n%s", err, r.Recipe)
	}
	return got
}

func translate(t testing.TB, content string, opt Options) *Result {
	t.Helper()
	r, err := Translate("file.yaml", []byte(content), opt)
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, content)
	}
	return r
}

// TestExamples compares the recipes and notes of the examples with those in testdata, which -update writes, and lets
// recipe.Load read each.
func TestExamples(t *testing.T) {
	for _, e := range examples {
		t.Run(e.file, func(t *testing.T) {
			file := "testdata/" + e.file
			r, err := Translate(file, read1(t, file), Options{Layers: sixteen})
			if err != nil {
				t.Fatal(err)
			}
			if r.Tool != e.tool {
				t.Errorf("taken for %s", r.Tool)
			}
			load(t, r)
			for suffix, got := range map[string]string{".recipe": string(r.Recipe), ".notes": r.Text()} {
				golden := strings.TrimSuffix(file, filepath.Ext(file)) + suffix
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want := string(read1(t, golden)); got != want {
					t.Errorf("%s is now\n%s", golden, got)
				}
			}
			again, err := Translate(file, read1(t, file), Options{From: e.tool, Layers: sixteen})
			if err != nil || string(again.Recipe) != string(r.Recipe) {
				t.Errorf("with --from it becomes something else: %v\n%s", err, again.Recipe)
			}
		})
	}
}

// mentioned tells whether a key of the tool's recipe is in the translated one, as a key or in a comment, or in a note.
func mentioned(r *Result, name string) bool {
	if regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(name) + `($|[^\w])`).Match(r.Recipe) {
		return true
	}
	if slices.ContainsFunc(r.Notes, func(n Note) bool { return slices.Contains(n.Keys, name) }) {
		return true
	}
	return regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(name) + `\.`).MatchString(r.Text() + string(r.Recipe)) // what is in it is
}

// keysOf lists a recipe's keys, those of mappings in mappings and lists too.
func keysOf(t testing.TB, content []byte) (names []string) {
	t.Helper()
	entries, err := read("file", content)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(e entry)
	walk = func(e entry) {
		names = append(names, e.name)
		for _, p := range pairsOf(e.name+".", e.node) {
			walk(p)
		}
		if e.node.Kind == yaml.SequenceNode {
			for _, n := range e.node.Content {
				for _, p := range pairsOf(e.name+".", n) {
					walk(p)
				}
			}
		}
	}
	for _, e := range entries {
		walk(e)
	}
	return names
}

// inner are keys whose mappings are one value: an environment, patterns.
var inner = regexp.MustCompile(`^env\.`)

func TestNothingIsDropped(t *testing.T) {
	for _, e := range examples {
		content := read1(t, "testdata/"+e.file)
		r, err := Translate("testdata/"+e.file, content, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range keysOf(t, content) {
			if !mentioned(r, name) && !inner.MatchString(name) {
				t.Errorf("%s: nothing is said of %s", e.file, name)
			}
		}
	}
}

// bases are recipes that are as short as they can be.
var bases = map[Tool]string{
	LLaMAFactory: "model_name_or_path: org/llama\nstage: sft\ndataset: rows\n",
	Axolotl:      "base_model: org/llama\nadapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\nlearning_rate: 1e-4\ndatasets: [{path: rows.jsonl, type: chat_template}]\n",
	MLX:          "model: org/llama\ndata: rows\nfine_tune_type: lora\n",
	TRL:          "model_name_or_path: org/llama\nuse_peft: true\ndataset_name: org/rows\n",
}

// TestEveryKey gives every key of every table values of all kinds: each is translated or mentioned, or is a fault that names it.
func TestEveryKey(t *testing.T) {
	values := []string{"true", "0.5", "2", "word", "[a, 2]", "{a: 1}", "null", "''", "[{path: x}]"}
	for _, tool := range Tools {
		var base strings.Builder
		for name := range tools[tool].keys {
			base.Reset()
			for _, line := range strings.SplitAfter(bases[tool], "\n") {
				if !strings.HasPrefix(line, name+":") {
					base.WriteString(line)
				}
			}
			for _, v := range values {
				content := base.String() + name + ": " + v + "\n"
				r, err := Translate("file.yaml", []byte(content), Options{From: tool, Layers: sixteen})
				if err != nil {
					if !strings.HasPrefix(err.Error(), "file.yaml:") || !strings.Contains(err.Error(), name) {
						t.Errorf("%s, %s: %s: the fault is %v", tool, name, v, err)
					}
					continue
				}
				if !mentioned(r, name) {
					t.Errorf("%s: nothing is said of %s: %s\n%s%s", tool, name, v, r.Recipe, r.Text())
				}
				if v == "2" { // that values pass is Translate's affair; this is about the text
					load(t, r)
				}
			}
		}
	}
}

// TestDefaults: the tools' defaults that differ from cria's are written, and only these.
func TestDefaults(t *testing.T) {
	defaults := map[string]string{}
	for _, k := range recipe.Keys() {
		defaults[k.Name] = k.Default
	}
	want := map[Tool]string{
		LLaMAFactory: `lora.lora_alpha=16 lora.target_modules=all-linear max_length=2048 output_dir=trainer_output`,
		Axolotl:      `logging_steps=0.005 lr_scheduler_type=cosine max_length=512 num_train_epochs=1 output_dir="./model-out" per_device_train_batch_size=1 save_steps=0 save_total_limit=4 too_long=drop warmup_ratio=0.03`,
		MLX:          `learning_rate=1e-05 logging_steps=10 lora.lora_alpha=160 lora.target_modules=all-linear lr_scheduler_type=constant max_grad_norm=0 max_length=2048 max_steps=1000 output_dir=adapters per_device_train_batch_size=4 save_steps=100 seed=0 train_on="all"`,
		TRL:          `compute_dtype=bfloat16 learning_rate=2e-05 logging_steps=10 lora.lora_alpha=32 lora.lora_dropout=0.05 lora.r=16 max_length=1024 output_dir=trainer_output train_on="all"`,
	}
	for _, tool := range Tools {
		entries, err := read("file.yaml", []byte(bases[tool]))
		if err != nil {
			t.Fatal(err)
		}
		tr := &translation{file: "file.yaml", tool: tools[tool], given: map[string]entry{}, values: map[string]value{}}
		for _, e := range entries {
			tr.take(e)
		}
		tr.tool.finish(tr)
		tr.common()
		var got []string
		for _, key := range slices.Sorted(maps.Keys(tr.values)) {
			v := tr.values[key]
			if v.comment == "" {
				continue
			}
			if encode(v.v) == defaults[key] {
				t.Errorf("%s: %s is %s in cria too", tool, key, encode(v.v))
			}
			got = append(got, key+"="+encode(v.v))
		}
		if s := strings.Join(got, " "); s != want[tool] {
			t.Errorf("%s: defaults\n%s\nwant\n%s", tool, s, want[tool])
		}
	}
}

func TestRecognise(t *testing.T) {
	for tool, base := range bases {
		if r := translate(t, base, Options{}); r.Tool != tool || !strings.Contains(r.Text(), "read as a recipe of "+tool.String()) {
			t.Errorf("a recipe of %s is taken for %s", tool, r.Tool)
		}
	}
	for content, want := range map[string]string{
		"learning_rate: 1e-4\n":                             "no key belongs to one tool only: say which tool's recipe this is with --from llamafactory|axolotl|mlx|trl",
		"base_model: x\nlora_parameters: {}\n":              "has keys of axolotl (base_model) and of mlx-lm (lora_parameters): say",
		"a: 1\n":                                            "no key belongs to one tool only",
		"per_device_train_batch_size: 1\noptim: sgd\n":      "no key belongs to one tool only",
		"stage: sft\ndataset_name: a/b\ncutoff_len: 1024\n": "has keys of LLaMA-Factory (stage, cutoff_len) and of TRL (dataset_name)",
	} {
		if _, err := Translate("file.yaml", []byte(content), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", content, err, want)
		}
	}
}

func TestFaults(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	axolotl := bases[Axolotl]
	for _, c := range []struct{ name, content, want string }{
		{"text", "hello", "file.yaml:1:1: a recipe is a mapping of keys to values, not \"hello\""},
		{"list", "- a\n- b\n", "file.yaml:1:1: a recipe is a mapping of keys to values, not a list"},
		{"empty", "", "a recipe is a mapping of keys to values, not nothing"},
		{"not YAML", "stage: sft\nx: [1, 2\ny: 3", "file.yaml:"},
		{"tab", "stage: sft\nx:\n\t- 1\n", "file.yaml:3"},
		{"twice", "stage: sft\nlora_rank: 8\nlora_rank: 16\n", "file.yaml:3:1: lora_rank: appears twice, first in line 2"},
		{"twice below", "lora_parameters:\n  rank: 8\n  rank: 9\n", "file.yaml:3:3: rank: appears twice, first in line 2"},
		{"merge", "a: &a {x: 1}\nb:\n  <<: *a\n", "file.yaml:3:3: merge keys (<<) are not taken"},
		{"bomb", bomb, "more than 20000 values"},
		{"itself", "stage: &a [*a]\n", "file.yaml:"},
		{"deep", "stage: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "more than 32 inside each other"},
		{"very deep", "stage: " + strings.Repeat("[", 1<<19), "file.yaml"},
		{"large", strings.Repeat("#", 1<<20+1), "is larger than 1 MiB"},
		{"latin 1", "stage: sft\ndataset: \xe4\n", "file.yaml:2:0: byte 0xe4 is no text"},
		{"binary", "PK\x03\x04", "byte 0x03 is no text"},
		{"two documents", "stage: sft\n---\nstage: sft\n", "a second document begins in line"},
		{"key", "{[a]: 1}", "a key must be a name, not a list"},
		{"word for a number", "stage: sft\nlora_rank: many\n", "file.yaml:2:12: lora_rank: must be a whole number, not \"many\""},
		{"fraction for a whole number", "stage: sft\nlora_rank: 1.5\n", "file.yaml:2:12: lora_rank: must be a whole number"},
		{"list for a number", "stage: sft\nlearning_rate: [1]\n", "file.yaml:2:16: learning_rate: must be a number, not a list"},
		{"hexadecimal", "stage: sft\nlora_rank: 0x10\n", "file.yaml:2:12: lora_rank: must be a whole number"},
		{"infinite", "stage: sft\nlearning_rate: .inf\n", "file.yaml:2:16: learning_rate: must be"},
		{"huge", "stage: sft\nlearning_rate: 1e999\n", "file.yaml:2:16: learning_rate: must be a number"},
		{"out of range", "model_name_or_path: m\nstage: sft\nlora_rank: 0\n", "file.yaml:3:12: lora_rank: becomes lora.r: must be a whole number from 1 to 65536, not 0"},
		{"same name out of range", "model_name_or_path: m\nstage: sft\nadam_beta1: 2\n", "file.yaml:3:13: adam_beta1: must be"},
		{"home directory", "model_name_or_path: ~/m\nstage: sft\n", "file.yaml:1:21: model_name_or_path: becomes model: ~/m begins with ~"},
		{"DPO", "stage: dpo\n", "file.yaml:1:8: stage: cria trains supervised only, not \"dpo\""},
		{"full", "stage: sft\nfinetuning_type: full\n", "file.yaml:2:18: finetuning_type: cria trains LoRA adapters only, not \"full\""},
		{"full mlx", "fine_tune_type: full\n", "cria trains LoRA adapters only"},
		{"full axolotl", strings.Replace(axolotl, "adapter: lora\n", "", 1), "file.yaml: adapter: is not given, so axolotl trains all weights"},
		{"empty adapter", strings.Replace(axolotl, "adapter: lora\n", "adapter:\n", 1), "adapter: is not given"},
		{"DPO axolotl", axolotl + "rl: dpo\n", "file.yaml:8:5: rl: cria trains supervised only"},
		{"full TRL", "use_peft: false\n", "file.yaml:1:11: use_peft: without it TRL trains all weights"},
		{"datasets", axolotl[:strings.Index(axolotl, "datasets")] + "datasets: rows\n", "datasets: must be a list of datasets, not \"rows\""},
		{"dataset without path", axolotl[:strings.Index(axolotl, "datasets")] + "datasets: [{type: alpaca}]\n", "datasets: a dataset needs a path"},
		{"two adapters", "stage: sft\nadapter_name_or_path: a,b\n", "cria starts from one adapter"},
		{"all at once", "stage: ppo\nlora_rank: x\ncutoff_len: y\n", "file.yaml:3:13: cutoff_len"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Translate("file.yaml", []byte(c.content), Options{})
			var faults recipe.Errors
			if err == nil {
				t.Fatalf("became\n%s", r.Recipe)
			}
			if !errors.As(err, &faults) {
				t.Errorf("%T is no recipe.Errors", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}
