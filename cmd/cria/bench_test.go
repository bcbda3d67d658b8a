package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/bench"
)

func TestBench(t *testing.T) {
	var r bench.Report
	out := cria(t, "bench", tiny, "--steps", "1", "--rows", "3", "--length", "24", "--prefix", "8", "--rank", "2", "--threads", "1", "--dtype", "float32", "--json")
	out.parse(t, &r)
	if r.Step == nil || r.Step.Rows != 3 || r.Step.Tokens != 72 || r.LoRA.R != 2 || r.Threads != 1 || r.DType != "float32" || r.Model.Layers != 4 || len(r.Peaks) != 1 || r.Version == "" {
		t.Errorf("%s", out.out)
	}
	if out.err != "" {
		t.Errorf("standard error: %s", out.err)
	}
	table := cria(t, "bench", tiny, "--steps", "1", "--rows", "2", "--length", "24").ok(t)
	for _, want := range []string{"operation", "of peak", "\nqkv         forward", "\n            backward", "head_loss", "\nstep", "100.0 %", "tokens/s"} {
		if !strings.Contains(table.out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, table.out)
		}
	}
}

// A recipe's job is measured without a trace of a run, also where its output_dir already holds one.
func TestBenchRecipe(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	before := tree(t, dir)
	var r bench.Report
	cria(t, "bench", recipe, "--steps", "1", "--json").parse(t, &r)
	if filepath.Base(r.Model.Name) != filepath.Base(tiny) || r.Model.Random || r.Step == nil || r.Step.Labelled == 0 || r.Step.FLOP.Head == 0 {
		t.Errorf("%+v", r)
	}
	sameTree(t, dir, before)
}

func TestBenchGrowth(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	out := cria(t, "bench", tiny, "--growth", "--layers", "1", "--json").ok(t)
	var r bench.Report
	if err := json.Unmarshal([]byte(out.out), &r); err != nil {
		t.Fatal(err)
	}
	g := r.Growth
	if r.Step != nil || len(g.Lengths) < 3 || len(g.Ranks) != 6 || len(g.Threads) < 1 || g.Lengths[1].Tokens != 128 || r.Model.Layers != 1 {
		t.Fatalf("%s", out.out)
	}
	for _, p := range append(append(g.Lengths, g.Ranks...), g.Threads...) {
		if p.Micros <= 0 || p.Attention <= 0 || p.Attention > p.Micros || p.Runs < 1 {
			t.Errorf("%+v", p)
		}
	}
	if text := benchText(&r); !strings.Contains(text, "LoRA's rank") || !strings.Contains(text, "no LoRA") {
		t.Errorf("%s", text)
	}
}

func TestBenchRefusals(t *testing.T) {
	recipe := job(t, t.TempDir(), "")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"no-such-thing"}, []string{"no-such-thing", "smollm2-135m"}},
		{[]string{tiny, recipe}, []string{"one argument too many"}},
		{[]string{"--shape", "gpt-2"}, []string{"gpt-2", "llama-3.2-1b"}},
		{[]string{tiny, "--shape", "smollm2-135m"}, []string{"--shape"}},
		{[]string{recipe, "--length", "100"}, []string{"--length", "recipe"}},
		{[]string{recipe, "--growth"}, []string{"--growth"}},
		{[]string{"--growth", "--steps", "2"}, []string{"--steps"}},
		{[]string{"--steps", "0"}, []string{"--steps 0"}},
		{[]string{"--layers", "-1"}, []string{"--layers -1"}},
		{[]string{"--rows", "0"}, []string{"--rows 0"}},
		{[]string{"--prefix", "10"}, []string{"--length"}},
		{[]string{"--length", "10", "--prefix", "9"}, []string{"--prefix 9"}},
		{[]string{"--length", "9000"}, []string{"8192"}},
		{[]string{"max_steps=3"}, []string{"--steps"}},
		{[]string{"--rank", "0"}, []string{"lora.r"}},
		{[]string{"--dtype", "int8"}, []string{"compute_dtype", "bfloat16"}},
		{[]string{"no_such_key=1"}, []string{"no_such_key"}},
		{[]string{"--threads", "many"}, []string{"--threads"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			cria(t, append([]string{"bench"}, c.args...)...).fails(t, exitUsage, c.want...)
		})
	}
}
