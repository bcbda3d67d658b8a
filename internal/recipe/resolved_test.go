package recipe

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite docs/recipe.md")

// TestResolvedLoadsAgain draws recipes and asks that Resolved loads as the same recipe and resolves to the same bytes.
func TestResolvedLoadsAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t)
		resolved := r.Resolved()
		again, err := parse("resolved.yaml", resolved, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, resolved)
		}
		if got, want := bareOf(again), bareOf(r); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v\n%s", got, want, resolved)
		}
		if twice := again.Resolved(); !bytes.Equal(twice, resolved) {
			t.Fatalf("resolved again:\n%s\nfirst:\n%s", twice, resolved)
		}
	})
}

// draw makes a valid recipe from overrides, so that it went through the same checks as any other.
func draw(t *rapid.T) *Recipe {
	path := rapid.StringN(1, 30, 60).Filter(func(s string) bool { return s != "~" && !strings.HasPrefix(s, "~/") })
	o := []string{"model=" + quote(path.Draw(t, "model")), "dataset=" + join(quoteAll(rapid.SliceOfN(path, 1, 3).Draw(t, "dataset")))}
	maybe := func(name, value string) {
		if rapid.Bool().Draw(t, "set "+name) {
			o = append(o, name+"="+value)
		}
	}
	if rapid.Bool().Draw(t, "prompt") {
		o = append(o, "template=prompt", "prompt_template=p"+rapid.String().Draw(t, "prompt_template"), "response_template=r"+rapid.String().Draw(t, "response_template"))
		maybe("append_pad_token", "true")
	} else {
		maybe("system", rapid.String().Draw(t, "system"))
	}
	maybe("max_length", fmt.Sprint(rapid.IntRange(1, 1<<20).Draw(t, "max_length")))
	maybe("adapter", quote(path.Draw(t, "adapter")))
	maybe("lora.r", fmt.Sprint(rapid.IntRange(1, 1<<16).Draw(t, "r")))
	maybe("lora.use_rslora", "true")
	maybe("lora.lora_dropout", fmt.Sprint(rapid.Float64Range(0, 0.99).Draw(t, "lora_dropout")))
	if rapid.Bool().Draw(t, "pattern") {
		maybe("lora.target_modules", quote(`^`+rapid.String().Draw(t, "target_modules")))
	} else {
		maybe("lora.target_modules", join(quoteAll(rapid.SliceOfN(rapid.StringN(1, 9, 20), 1, 3).Draw(t, "target_modules"))))
		maybe("lora.layers_to_transform", strings.ReplaceAll(fmt.Sprint(rapid.SliceOfN(rapid.IntRange(0, 99), 1, 4).Draw(t, "layers")), " ", ", "))
	}
	var ranks Pattern
	for _, key := range rapid.SliceOfNDistinct(rapid.StringN(1, 9, 20), 0, 3, rapid.ID[string]).Draw(t, "rank_pattern") {
		ranks = append(ranks, PatternEntry{key, rapid.IntRange(1, 99).Draw(t, "rank")})
	}
	maybe("lora.rank_pattern", pattern{&ranks, 99}.encode())
	maybe("lora.alpha_pattern", pattern{&ranks, 99}.encode())
	maybe("learning_rate", fmt.Sprint(rapid.Float64Range(1e-6, 3e38).Draw(t, "learning_rate")))
	maybe("weight_decay", fmt.Sprint(rapid.Float64Range(0, 1).Draw(t, "weight_decay")))
	maybe("num_train_epochs", fmt.Sprint(rapid.Float64Range(0.001, 9e5).Draw(t, "num_train_epochs")))
	maybe("max_steps", fmt.Sprint(rapid.IntRange(1, 1<<20).Draw(t, "max_steps")))
	maybe("seed", fmt.Sprint(rapid.Uint32().Draw(t, "seed")))
	maybe("logging_steps", rapid.SampledFrom([]string{"0.25", "1", "10"}).Draw(t, "logging_steps"))
	maybe("resume_from_checkpoint", rapid.SampledFrom([]string{"true", "false", "a/checkpoint-1", "no checkpoint"}).Draw(t, "resume"))
	maybe("max_memory", fmt.Sprint(rapid.Int64Range(1, 1<<50).Draw(t, "max_memory")))
	maybe("threads", fmt.Sprint(rapid.IntRange(1, 4096).Draw(t, "threads")))
	maybe("share_prefix", rapid.SampledFrom([]string{"auto", "true", "false"}).Draw(t, "share_prefix"))
	maybe("allow", "[cut_rows, double_bos]")
	maybe("fp16", "true")
	if rapid.Bool().Draw(t, "min_lr") {
		o = append(o, "lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_kwargs={min_lr_rate: 0.1, num_cycles: 0.5}")
	}
	r, err := Load("", o)
	if err != nil {
		t.Fatalf("%q: %v", o, err)
	}
	return r
}

func TestResolvedWithAdapter(t *testing.T) {
	r, err := read(least + "adapter: a\nlora: {r: 4}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Resolved()); !strings.Contains(got, "lora:\n  r: 4\n  lora_dropout: 0\nadapter_dtype") {
		t.Errorf("keys that the adapter decides must only stand where they were named:\n%s", got)
	}
}

// FuzzParse: no recipe and no override panics; what is accepted resolves and loads again.
func FuzzParse(f *testing.F) {
	tutorial, err := os.ReadFile("testdata/tutorial.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(tutorial), "lora={r: 3}", "seed=3")
	f.Add(least+"lora: {rank_pattern: &a {x: 1}, alpha_pattern: *a}\nallow: [cut_rows]\n", "system='a'", "dataset=[x,y]")
	f.Add("? [a]\n: !!str b\n<<: *c\n---\n...\n%YAML", "a.b={c: [", "lora.target_modules=\"")
	f.Fuzz(func(t *testing.T, text, first, second string) {
		r, err := read(text, first, second)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		again, err := parse("resolved.yaml", r.Resolved(), nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Resolved())
		}
		if !reflect.DeepEqual(bareOf(again), bareOf(r)) {
			t.Fatalf("resolved differs:\n%s", r.Resolved())
		}
	})
}

// TestDocs compares docs/recipe.md with the table; -update writes it.
func TestDocs(t *testing.T) {
	const path = "../../docs/recipe.md"
	want := markdown()
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run go generate ./internal/recipe", path)
	}
}

func markdown() []byte {
	var b strings.Builder
	b.WriteString(`# Recipe

<!-- Generated from internal/recipe/keys.go by: go generate ./internal/recipe -->

A recipe is a YAML file that describes a training run. ` + "`cria train recipe.yaml`" + ` reads it; ` + "`key=value`" + ` (or ` + "`--key value`" + `) on the
command line overrides a key, with dots for nesting: ` + "`cria train recipe.yaml lora.r=16 learning_rate=1e-4`" + `. Where the command
line says everything, no file is needed.

The names and defaults are those of transformers 4.43.2's TrainingArguments and peft 0.11.1's LoraConfig where these have the
key. Unknown keys, wrong types and bad values are errors with file, line and column, all at once, and nothing is written before
the whole recipe has passed. Paths are relative to the working directory.

Numbers may be written as ` + "`2e-5`" + ` or ` + "`1E-4`" + `; numbers with a leading zero (` + "`010`" + `) and ` + "`yes`" + `/` + "`no`" + ` for ` + "`true`" + `/` + "`false`" + ` are refused, because
YAML versions read them differently.
`)
	section := ""
	for _, k := range Keys() {
		if k.Section != section {
			section = k.Section
			if section == sectionIgnored {
				fmt.Fprintf(&b, "\n## %s\n\nKeys of recipes written for other tools. Their values are checked, and a note says that they have no effect.\n\n"+
					"| key | value | why |\n|---|---|---|\n", section)
			} else {
				fmt.Fprintf(&b, "\n## %s\n\n| key | value | default | meaning |\n|---|---|---|---|\n", section)
			}
		}
		if k.noEffect {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Name, k.Kind, k.Meaning)
			continue
		}
		def := k.Default
		if def != "required" && def != "none" {
			def = "`" + def + "`"
		}
		meaning := k.Meaning
		if k.Reference != "" {
			meaning += " (" + k.Reference + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, strings.TrimPrefix(strings.TrimPrefix(k.Kind, "a "), "one of "), def, meaning)
	}
	return []byte(b.String())
}
