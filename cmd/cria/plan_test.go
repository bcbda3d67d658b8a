package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A plan tells what a run would, and leaves nothing behind, also where output_dir already holds a run.
func TestPlan(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	write(t, filepath.Join(dir, "out", "adapter_model.safetensors"), "of another run")
	before := tree(t, dir)
	var p planReport
	out := cria(t, "plan", recipe, "--json", "threads=1")
	out.parse(t, &p)
	if p.Steps != 6 || p.Rows != 5 || p.DType != "float32" || p.Threads != 1 || p.Trainable != 4*((128+128)+(128+32)+(352+128))*4 || p.Memory.Own <= p.Memory.Activations.Sum() || p.FLOP.Job <= p.FLOP.Largest {
		t.Errorf("%s", out.out)
	}
	if f := p.Forecast; f != nil && (f.Job <= 0 || f.Tokens <= 0 || f.PeakGFLOPS <= 0) {
		t.Errorf("forecast %+v", f)
	}
	if !strings.HasSuffix(out.err, "rows.json: alpaca (instruction, output, input)\n") || strings.Count(out.err, "\n") != 1 {
		t.Errorf("standard error: %s", out.err)
	}
	text := cria(t, "plan", recipe, "gradient_checkpointing=true").ok(t)
	for _, want := range []string{"parameters     14,336 trainable of", "own memory at most", "mapped files beside it", "computed again 4 layers' activations but x, k and v\n", "in all"} {
		if !strings.Contains(text.out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, text.out)
		}
	}
	out = cria(t, "plan", recipe, "--json", "eval_fraction=0.4", "eval_steps=2")
	var with planReport
	out.parse(t, &with)
	if f := with.Forecast; with.EvalRows != 2 || with.Evaluations != 3 || with.FLOP.Job <= 6*with.FLOP.Mean || f != nil && (f.Evaluation <= 0 || f.Job <= 6*f.Mean) {
		t.Errorf("%s", out.out)
	}
	if text := cria(t, "plan", recipe, "eval_fraction=0.4", "eval_steps=2").ok(t); !strings.Contains(text.out, "evaluations    3 of 2 rows, ") {
		t.Errorf("standard output:\n%s", text.out)
	}
	sameTree(t, dir, before)
}

func TestPlanRefuses(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{recipe, "max_memory=1MiB"}, exitUsage, "set max_memory to "},
		{[]string{recipe, "model=" + filepath.Join(dir, "none")}, exitUsage, "cria import"},
		{[]string{recipe, "learning_rte=1"}, exitUsage, "learning_rate"},
		{[]string{recipe, recipe}, exitUsage, "two recipes"},
	} {
		r := cria(t, append([]string{"plan"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%v: exit code %d, %q, %q", c.args, r.code, r.out, r.err)
		}
	}
}

func TestDuration(t *testing.T) {
	for seconds, want := range map[float64]string{0.0123: "12ms", 9.9994: "9.999s", 12.4: "12s", 3599: "59m59s", 7265: "2h1m", 3600 * 72: "3.0 days", 1e30: "centuries"} {
		if got := duration(seconds); got != want {
			t.Errorf("%g seconds: %q, not %q", seconds, got, want)
		}
	}
}
