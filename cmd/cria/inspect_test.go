package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/inspect"
)

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	bad := write(t, filepath.Join(dir, "bad.yaml"), "model: m\nlearning_rte: 1\n")
	control := write(t, filepath.Join(dir, "control.json"), `[{"instruction": "\u001b[31mred", "output": "x\ny"}]`)
	for _, c := range []struct {
		path string
		kind inspect.Kind
		want []string // in the text
	}{
		{tiny, inspect.KindModel, []string{"LlamaForCausalLM", "1,229,952", "3 files", "BF16 (39 tensors)", "chat template  yes", "2043 2046 2047", "2,048 tokens", "usable         yes"}},
		{tiny + "/config.json", inspect.KindModel, []string{"usable         yes"}},
		{golden + "tiny/adapter", inspect.KindAdapter, []string{"r 8, lora_alpha 32, scale 4", "72,704 parameters in 28 modules", "peft 0.11.1 and newer"}},
		{golden + "checkpoint-example", inspect.KindCheckpoint, []string{"10 of 24", "another program", "6.0824 at step 1, lowest 3.7096 at step 7, last 4.7713 at step 10", "██▇▅▇▅▁▅▅▄", "RECIPE.yaml adapter="}},
		{tiny + "/model-00003-of-00003.safetensors", inspect.KindSafetensors, []string{"lm_head.weight", "BF16", "[2048 128]", "524,288", "total"}},
		{filepath.Join(dir, "rows.json"), inspect.KindDataset, []string{"instruction, input, output", "5, 1 of them with an input", "row 3", "一封信"}},
		{recipe, inspect.KindRecipe, []string{"r 4, lora_alpha 8", "6 steps of 2 rows", "[q_proj, v_proj, down_proj]", "max_grad_norm: 1"}},
		{bad, inspect.KindRecipe, []string{"bad.yaml:2:1", "learning_rate", "dataset"}},
		{control, inspect.KindDataset, []string{`\u001b[31mred`, "x⏎y"}},
		{dir, inspect.KindUnknown, []string{"rows.json"}},
	} {
		t.Run(c.path, func(t *testing.T) {
			before := tree(t, dir)
			r := cria(t, "inspect", c.path).ok(t)
			for _, want := range c.want {
				if !strings.Contains(r.out, want) {
					t.Errorf("standard output lacks %q:\n%s", want, r.out)
				}
			}
			if r.err != "" {
				t.Errorf("standard error: %s", r.err)
			}
			var report inspect.Report
			cria(t, "inspect", "--json", c.path).parse(t, &report)
			if report.Kind != c.kind || report.Problems == nil {
				t.Errorf("kind %s, want %s, problems %v", report.Kind, c.kind, report.Problems)
			}
			sameTree(t, dir, before)
		})
	}
	cria(t, "inspect", filepath.Join(dir, "none")).fails(t, exitError, "none")
}

// A model that lacks something says what.
func TestInspectUnusable(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"no tokenizer", func(t *testing.T, dir string) { remove(t, dir, "tokenizer.json") }, "tokenizer.json"},
		{"no configuration", func(t *testing.T, dir string) { remove(t, dir, "config.json") }, "config.json"},
		{"no shard", func(t *testing.T, dir string) { remove(t, dir, "model-00002-of-00003.safetensors") }, "model-00002-of-00003.safetensors"},
		{"shard cut off", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "model-00001-of-00003.safetensors"), 100000); err != nil {
				t.Fatal(err)
			}
		}, "model-00001-of-00003.safetensors"},
		{"another architecture", func(t *testing.T, dir string) {
			change(t, dir, func(c map[string]any) { c["model_type"], c["architectures"] = "qwen3", []string{"Qwen3ForCausalLM"} })
		}, "qwen3"},
		{"other sizes", func(t *testing.T, dir string) {
			change(t, dir, func(c map[string]any) { c["intermediate_size"] = 360 })
		}, "gate_proj.weight has shape [352 128]"},
		{"fewer tokens", func(t *testing.T, dir string) { change(t, dir, func(c map[string]any) { c["vocab_size"] = 2000 }) }, "vocabulary of 2000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir)
			var report inspect.Report
			cria(t, "inspect", dir, "--json").parse(t, &report)
			if report.Model == nil || report.Model.Usable || !strings.Contains(strings.Join(report.Problems, "\n"), c.want) {
				t.Errorf("%+v %q", report.Model, report.Problems)
			}
			if r := cria(t, "inspect", dir).ok(t); !strings.Contains(r.out, "usable         no") {
				t.Errorf("standard output:\n%s", r.out)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, dir string, f func(map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	var c map[string]any
	loadJSON(t, path, &c)
	f(c)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(b))
}

func TestSparkline(t *testing.T) {
	var losses []inspect.Loss
	for i := range 1000 {
		losses = append(losses, inspect.Loss{Step: i, Loss: float64(1000 - i)})
	}
	if got := sparkline(losses, 8); got != "█▇▆▅▄▃▂▁" {
		t.Error(got)
	}
	if got := sparkline(losses[:3], 8); got != "█▅▁" {
		t.Error(got)
	}
	if got := sparkline([]inspect.Loss{{Loss: 2}, {Loss: 2}}, 8); got != "▁▁" {
		t.Error(got)
	}
}
