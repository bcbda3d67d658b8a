package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/compute"
	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/safetensors"
)

func history(t testing.TB, dir string) (all, eval []Record) {
	t.Helper()
	var ts struct {
		History []Record `json:"log_history"`
	}
	loadJSON(t, filepath.Join(dir, trainerStateFile), &ts)
	for _, r := range ts.History {
		if r.EvalLoss != nil {
			eval = append(eval, r)
		}
	}
	return ts.History, eval
}

func prepared(t testing.TB, dir string, overrides ...string) *Job {
	t.Helper()
	j, err := Prepare(context.Background(), tinyRecipe(t, dir, overrides...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// The loss of evaluation is that of the plain backend, row by row in one pass each, whatever the passes, levels and threads.
func TestEvaluate(t *testing.T) {
	pretend(t, 8<<20, 20<<30)
	plain := func(j *Job) float64 {
		m, err := llama.Load(&compute.Plain[float32]{}, j.Data.Config, mustOpen(t, j.Data.ModelDir))
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		n := 0
		for i := range j.Eval.Len() {
			step := pack.NewStep([][]pack.Row{{j.Eval.Row(i)}}, pack.TokenMean, 1, false)
			runs, need, err := step.Plan(0)
			if err != nil {
				t.Fatal(err)
			}
			loss := m.Backend().Alloc(1, len(step.Targets))
			m.RunStep(m.NewState(llama.Shape{Stack: need}), runs, nil, loss)
			nll := make([]float32, len(step.Targets))
			m.Backend().Read(nll, loss, 0)
			for _, x := range nll {
				sum += float64(x)
			}
			n += len(nll)
		}
		return sum / float64(n)
	}
	var first float64
	for i, over := range [][]string{{"threads=1"}, {"threads=3", "max_memory=37MiB"}, {"gradient_checkpointing=true"}, {"share_prefix=false"}} {
		j := prepared(t, t.TempDir(), append([]string{"eval_fraction=0.3", "compute_dtype=float32"}, over...)...)
		got, err := j.Evaluate(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(j.groups) < 2 {
			t.Errorf("%d groups", len(j.groups))
		}
		if i == 0 {
			first = got
			if want := plain(j); math.Abs(got-want) > 1e-5*want {
				t.Errorf("eval_loss %v, plain %v", got, want)
			}
		} else if got != first {
			t.Errorf("%v: eval_loss %v, want %v", over, got, first)
		}
	}
}

// Evaluation changes no bit of what is trained, and a run that is resumed from any checkpoint has the same evaluations.
func TestEvaluationKeepsBits(t *testing.T) {
	pretend(t, 8<<20, 20<<30)
	dir := t.TempDir()
	over := []string{"eval_fraction=0.3", "save_steps=1", "eval_steps=2", "max_steps=7"}
	r := tinyRecipe(t, dir, over...)
	want := finish(t, r, Options{})
	_, evals := history(t, r.OutputDir)
	var at []int
	for _, e := range evals {
		at = append(at, e.Step)
		if math.Abs(*e.EvalPerplexity-math.Exp(*e.EvalLoss)) > 1e-9 || e.Epoch == 0 {
			t.Errorf("%+v", e)
		}
	}
	if fmt.Sprint(at) != "[2 4 6 7]" {
		t.Errorf("evaluations at %v", at)
	}
	for _, step := range []int{1, 2, 5} {
		again := append(over, "resume_from_checkpoint="+filepath.Join(r.OutputDir, checkpointName(step)), "output_dir="+filepath.Join(dir, fmt.Sprint("again", step)), "save_steps=100")
		if got := finish(t, tinyRecipe(t, dir, again...), Options{}); got != want {
			t.Errorf("resumed from step %d: other bits", step)
		}
		_, e := history(t, filepath.Join(dir, fmt.Sprint("again", step)))
		for i := range max(len(e), len(evals)) {
			if len(e) != len(evals) || e[i].Step != evals[i].Step || *e[i].EvalLoss != *evals[i].EvalLoss {
				t.Fatalf("resumed from step %d: evaluations differ", step)
			}
		}
	}
	j := prepared(t, dir, "eval_fraction=0.3", "max_steps=7", "output_dir="+filepath.Join(dir, "without"))
	j.groups = nil
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if digest(t, filepath.Join(dir, "without", checkpointName(7))) != want {
		t.Error("without evaluation: other bits")
	}
}

// A run that is stopped in any of its evaluations makes it when it goes on, stopped there once more too, and ends with the log,
// the best checkpoint and the adapter of a run that was left alone, whether or not the step has a checkpoint of its own.
func TestInterruptedEvaluation(t *testing.T) {
	over := []string{"eval_fraction=0.3", "eval_steps=1", "max_steps=6", "save_steps=2", "lr_scheduler_type=constant", "load_best_model_at_end=true"}
	for _, rate := range []string{"learning_rate=0.01", "learning_rate=0.0002"} { // the best checkpoint is the first, the last
		dir := t.TempDir()
		over := append(over, rate)
		whole := prepared(t, dir, append(over, "output_dir="+filepath.Join(dir, "whole"))...)
		if err := whole.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, want := history(t, whole.OutputDir)
		for step := 1; step <= 6; step++ {
			over := append(over, "output_dir="+filepath.Join(dir, fmt.Sprint("cut", step)))
			for _, more := range [][]string{nil, {"resume_from_checkpoint=true"}} {
				j := prepared(t, dir, append(more, over...)...)
				ctx, cancel := context.WithCancel(context.Background())
				j.Eval = watched{j.Eval, func() {
					if j.step == step {
						cancel()
					}
				}}
				if err := j.Run(ctx); !errors.Is(err, ErrInterrupted) || j.step != step {
					t.Fatalf("%s: stopped in the evaluation of step %d: %v at step %d", rate, step, err, j.step)
				}
				j.Close()
			}
			j := prepared(t, dir, append(over, "resume_from_checkpoint=true")...)
			if err := j.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			all, got := history(t, j.OutputDir)
			if len(got) != len(want) || *got[step-1].EvalLoss != *want[step-1].EvalLoss || all[len(all)-1].TrainRuntime == nil {
				t.Errorf("%s: stopped at step %d: evaluations %+v", rate, step, got)
			}
			if j.best.Metric != whole.best.Metric || j.best.Step != whole.best.Step || !sameFile(t, filepath.Join(j.OutputDir, adapterFile), filepath.Join(whole.OutputDir, adapterFile)) {
				t.Errorf("%s: stopped at step %d: best is %+v, not %+v", rate, step, j.best, whole.best)
			}
			j.Close()
		}
	}
}

type watched struct {
	data.Rows
	seen func()
}

func (w watched) Row(i int) pack.Row { w.seen(); return w.Rows.Row(i) }

// The best and the newest checkpoint outlive save_total_limit, and the final adapter is the best one's. A rate that is far too
// high makes the loss rise after the first evaluation.
func TestBestCheckpoint(t *testing.T) {
	for _, tt := range []struct {
		limit string
		left  string
	}{{"1", "[6 1]"}, {"2", "[6 1]"}, {"3", "[6 5 1]"}, {"0", "[6 5 4 3 2 1]"}} {
		dir := t.TempDir()
		j := prepared(t, dir, "eval_fraction=0.3", "eval_steps=1", "save_steps=1", "max_steps=6", "learning_rate=0.01", "lr_scheduler_type=constant", "load_best_model_at_end=true", "save_total_limit="+tt.limit)
		if err := j.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, evals := history(t, j.OutputDir)
		for _, e := range evals[1:] {
			if *e.EvalLoss <= *evals[0].EvalLoss {
				t.Fatalf("step %d is better than step 1: this run tests nothing", e.Step)
			}
		}
		left, _ := checkpoints(disk.OS{}, j.OutputDir)
		if fmt.Sprint(left) != tt.left {
			t.Errorf("save_total_limit %s leaves %v, want %s", tt.limit, left, tt.left)
		}
		if !sameFile(t, filepath.Join(j.OutputDir, adapterFile), filepath.Join(j.OutputDir, checkpointName(1), adapterFile)) {
			t.Error("the final adapter is not the best one")
		}
		var ts struct {
			Best string  `json:"best_model_checkpoint"`
			Loss float64 `json:"best_metric"`
			Step int     `json:"global_step"`
		}
		loadJSON(t, filepath.Join(j.OutputDir, trainerStateFile), &ts)
		if ts.Best != filepath.Join(j.OutputDir, checkpointName(1)) || ts.Loss != *evals[0].EvalLoss || ts.Step != 6 {
			t.Errorf("%+v", ts)
		}
	}
}

// Early stopping ends such a run after patience evaluations, also if it is resumed in between; resuming it again does nothing,
// more patience goes on.
func TestEarlyStopping(t *testing.T) {
	dir := t.TempDir()
	over := []string{"eval_fraction=0.3", "eval_steps=1", "save_steps=1", "max_steps=6", "learning_rate=0.01", "lr_scheduler_type=constant", "load_best_model_at_end=true"}
	run := func(more ...string) *Job {
		t.Helper()
		j := prepared(t, dir, append(more, over...)...)
		if err := j.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		j.Close()
		return j
	}
	if j := run("early_stopping_patience=3"); j.step != 4 || !j.Stopped() {
		t.Fatalf("ended at step %d", j.step)
	}
	if j := run("early_stopping_patience=3", "output_dir="+filepath.Join(dir, "b"), "resume_from_checkpoint="+filepath.Join(dir, "out", checkpointName(2))); j.step != 4 {
		t.Errorf("resumed: ended at step %d", j.step)
	} else if !sameFile(t, filepath.Join(dir, "b", adapterFile), filepath.Join(dir, "out", adapterFile)) {
		t.Error("resumed: another adapter")
	}
	if j := run("early_stopping_patience=3", "resume_from_checkpoint=true"); j.step != 4 {
		t.Errorf("finished: ended at step %d", j.step)
	}
	j := run("early_stopping_patience=4", "resume_from_checkpoint=true")
	all, _ := history(t, j.OutputDir)
	if j.step != 5 || all[len(all)-1].TrainRuntime == nil || all[len(all)-2].TrainRuntime != nil {
		t.Errorf("more patience: ended at step %d", j.step)
	}
}

// A run with evaluation, the best checkpoint and early stopping, resumed from any checkpoint, has the adapter, the log and the
// best of the one that was left alone.
func TestResumeWithEvaluation(t *testing.T) {
	dir := t.TempDir()
	over := []string{"eval_fraction=0.3", "eval_steps=1", "logging_steps=1", "save_steps=1", "max_steps=16", "learning_rate=0.004", "lr_scheduler_type=constant", "load_best_model_at_end=true", "early_stopping_patience=3"}
	end := func(more ...string) (j *Job, log string) {
		t.Helper()
		j = prepared(t, dir, append(more, over...)...)
		if err := j.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		j.Close()
		all, _ := history(t, j.OutputDir)
		for _, r := range all {
			r.EvalRuntime, r.EvalSamplesPerSecond, r.TrainRuntime, r.TrainSamplesPerSecond, r.TrainStepsPerSecond = nil, nil, nil, nil, nil
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			log += string(b) + "\n"
		}
		return j, log
	}
	whole, log := end()
	if whole.best.Step < 2 || !whole.Stopped() || whole.step != whole.best.Step+3 {
		t.Fatalf("ended at step %d, the best is %d: this run tests nothing", whole.step, whole.best.Step)
	}
	for step := 1; step < whole.step; step++ {
		out := filepath.Join(dir, fmt.Sprint("again", step))
		j, got := end("output_dir="+out, "resume_from_checkpoint="+filepath.Join(whole.OutputDir, checkpointName(step)))
		if got != log {
			t.Errorf("resumed from step %d: another log:\n%s\n%s", step, got, log)
		}
		if j.best.Metric != whole.best.Metric || j.best.Step != whole.best.Step || !sameFile(t, filepath.Join(out, adapterFile), filepath.Join(whole.OutputDir, adapterFile)) {
			t.Errorf("resumed from step %d: best is %+v, not %+v", step, j.best, whole.best)
		}
	}
}

func TestEvaluationIsRefused(t *testing.T) {
	for _, tt := range []struct{ over, want string }{
		{"save_steps=3", "save_steps (3) must be a multiple of eval_steps (2)"},
		{"dataset=nowhere.json", "nowhere.json"},
	} {
		_, err := Prepare(context.Background(), tinyRecipe(t, t.TempDir(), "eval_fraction=0.3", "eval_steps=2", "load_best_model_at_end=true", tt.over), Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.over, err)
		}
	}
}

func mustOpen(t testing.TB, dir string) *safetensors.File {
	t.Helper()
	f, err := safetensors.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func sameFile(t testing.TB, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}
