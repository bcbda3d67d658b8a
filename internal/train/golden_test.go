package train

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"cria/internal/adapter"
	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/data"
	"cria/internal/demomodel"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/safetensors"
)

const golden = "../../testdata/golden/"

// job is job.json of a golden run.
type job struct {
	MaxLength int `json:"max_length"`
	LoRA      struct {
		R             int             `json:"r"`
		LoraAlpha     float64         `json:"lora_alpha"`
		LoraDropout   float64         `json:"lora_dropout"`
		TargetModules adapter.Targets `json:"target_modules"`
		UseRSLoRA     bool            `json:"use_rslora"`
	} `json:"lora"`
	Args struct {
		Batch        int      `json:"per_device_train_batch_size"`
		Accumulation int      `json:"gradient_accumulation_steps"`
		Epochs       float64  `json:"num_train_epochs"`
		LR           float64  `json:"learning_rate"`
		Seed         *uint64  `json:"seed"`
		Schedule     string   `json:"lr_scheduler_type"`
		WarmupRatio  float64  `json:"warmup_ratio"`
		WeightDecay  float64  `json:"weight_decay"`
		MaxGradNorm  *float64 `json:"max_grad_norm"`
		LoggingSteps int      `json:"logging_steps"`
	} `json:"args"`
}

func loadJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(path, err)
	}
}

func loadRows(t testing.TB, path string) (rows []pack.Row) {
	t.Helper()
	var raw []struct {
		IDs    []int32 `json:"input_ids"`
		Labels []int32 `json:"labels"`
	}
	loadJSON(t, path, &raw)
	for _, r := range raw {
		rows = append(rows, pack.Row{IDs: r.IDs, Labels: r.Labels})
	}
	return rows
}

// config builds the run of a golden job on a model directory.
func (j *job) config(t testing.TB, be compute.Backend, modelDir, dir string, initial string) Config {
	t.Helper()
	cfg, err := llama.ReadConfig(modelDir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.OpenDir(modelDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := llama.Load(be, cfg, f)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(42)
	if j.Args.Seed != nil {
		seed = *j.Args.Seed
	}
	var a *adapter.Adapter
	if initial != "" {
		a, err = adapter.Load(initial, cfg)
	} else {
		a, err = adapter.New(adapter.Config{TaskType: "CAUSAL_LM", R: j.LoRA.R, LoraAlpha: j.LoRA.LoraAlpha, UseRSLoRA: j.LoRA.UseRSLoRA, TargetModules: j.LoRA.TargetModules}, cfg, seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	rows := loadRows(t, golden+dir+"/rows.json")
	steps, err := data.NewSteps(data.Plan{Rows: len(rows), Batch: j.Args.Batch, Accumulation: j.Args.Accumulation, Epochs: j.Args.Epochs, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	kind := j.Args.Schedule
	if kind == "" {
		kind = "linear"
	}
	clip := 1.0
	if j.Args.MaxGradNorm != nil {
		clip = *j.Args.MaxGradNorm
	}
	return Config{Model: m, Adapter: a, Rows: data.InMemory(rows), Steps: steps,
		BatchSize: j.Args.Batch, Accumulation: j.Args.Accumulation, Reduction: pack.MicrobatchMean, Share: true, Dropout: j.LoRA.LoraDropout, Seed: seed,
		Schedule:    Schedule{Type: kind, LR: j.Args.LR, Total: steps.Len(), Warmup: int(math.Ceil(float64(steps.Len()) * j.Args.WarmupRatio)), NumCycles: 0.5},
		Optimizer:   compute.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: j.Args.WeightDecay},
		MaxGradNorm: clip, FS: disk.OS{}, OutputDir: t.TempDir(), LoggingSteps: 1, SaveDType: safetensors.F32,
		Identity: func() map[string]string { return nil }}
}

// distance is the relative L2 distance of two adapters.
func distance(t testing.TB, a, b *adapter.Adapter) float64 {
	t.Helper()
	var d, n float64
	add := func(x, y []float32) {
		for i := range x {
			d += float64(x[i]-y[i]) * float64(x[i]-y[i])
			n += float64(y[i]) * float64(y[i])
		}
	}
	if len(a.Modules) != len(b.Modules) {
		t.Fatalf("%d modules, want %d", len(a.Modules), len(b.Modules))
	}
	for i := range a.Modules {
		add(a.Modules[i].A, b.Modules[i].A)
		add(a.Modules[i].B, b.Modules[i].B)
	}
	return math.Sqrt(d / n)
}

func mustLoad(t testing.TB, dir string, l *Loop) *adapter.Adapter {
	t.Helper()
	a, err := adapter.Load(dir, l.Model.Config)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tolerances of a run against the reference's log and final adapter.
type tolerances struct{ gradNorm, adapter float64 }

func (l *Loop) check(t *testing.T, dir string, tol tolerances) {
	t.Helper()
	var want []Record
	loadJSON(t, golden+dir+"/log_history.json", &want)
	n := 0
	for i, w := range want {
		if w.Loss == nil {
			continue
		}
		n++
		g := l.history[i]
		if math.Abs(*g.Loss-*w.Loss) > 1.0001e-4 {
			t.Errorf("step %d: loss %.4f, reference %.4f", w.Step, *g.Loss, *w.Loss)
		}
		if math.Abs(*g.GradNorm-*w.GradNorm) > tol.gradNorm**w.GradNorm {
			t.Errorf("step %d: grad_norm %.8g, reference %.8g", w.Step, *g.GradNorm, *w.GradNorm)
		}
		if *g.LearningRate != *w.LearningRate || g.Epoch != w.Epoch || g.Step != w.Step {
			t.Errorf("step %d: learning rate %v epoch %v, reference %v %v", w.Step, *g.LearningRate, g.Epoch, *w.LearningRate, w.Epoch)
		}
	}
	if n == 0 || n != l.step {
		t.Errorf("%d steps logged, reference %d", l.step, n)
	}
	final, got := mustLoad(t, golden+dir+"/final_adapter", l), mustLoad(t, l.OutputDir, l)
	if d := distance(t, got, final); d > tol.adapter {
		t.Errorf("final adapter: relative distance %.3g, allowed %.3g", d, tol.adapter)
	} else {
		t.Logf("final adapter: relative distance %.3g", d)
	}
}

func backends() map[string]func() compute.Backend {
	out := map[string]func() compute.Backend{"plain": func() compute.Backend { return &compute.Plain[float32]{} }}
	for _, level := range kernels.Levels() {
		out[level.String()] = func() compute.Backend { return cpu.New(cpu.Options{Level: &level}) }
	}
	return out
}

// The reference's whole runs in float32, from a fresh adapter drawn from the seed and from the given one.
func TestGoldenRuns(t *testing.T) {
	for name, be := range backends() {
		for _, dir := range []string{"train-fp32", "train-variant"} {
			for _, fresh := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/fresh=%v", name, dir, fresh), func(t *testing.T) {
					slow := name == "plain" || name == "generic" // plain Go
					if slow && (testing.Short() || !fresh || (name == "plain") != (dir == "train-fp32")) {
						t.Skip("plain Go: one of the jobs for each of the two")
					}
					var j job
					loadJSON(t, golden+dir+"/job.json", &j)
					initial := ""
					if !fresh {
						initial = golden + dir + "/init_adapter"
					}
					l, err := New(j.config(t, be(), golden+"tiny-llama", dir, initial))
					if err != nil {
						t.Fatal(err)
					}
					if err := l.Run(context.Background()); err != nil {
						t.Fatal(err)
					}
					l.check(t, dir, tolerances{gradNorm: 2e-5, adapter: 1e-5})
				})
			}
		}
	}
}

// Four real steps of SmolLM2-135M-Instruct in float32.
func TestGoldenSmolLM2(t *testing.T) {
	dir := testmodel(t)
	for _, fresh := range []bool{true, false} {
		t.Run(fmt.Sprintf("fresh=%v", fresh), func(t *testing.T) {
			if fresh == testing.Short() {
				t.Skip("one of the two runs is enough")
			}
			var j job
			loadJSON(t, golden+"smollm2-train/job.json", &j)
			initial := ""
			if !fresh {
				initial = golden + "smollm2-train/init_adapter"
			}
			be := cpu.New(cpu.Options{})
			defer be.Close()
			l, err := New(j.config(t, be, dir, "smollm2-train", initial))
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := l.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f tokens/s", float64(l.tokens)/time.Since(start).Seconds())
			l.check(t, "smollm2-train", tolerances{gradNorm: 1e-4, adapter: 2e-4})
		})
	}
}

// testmodel is the directory of SmolLM2-135M-Instruct; where it cannot be had the test is skipped, or fails if
// CRIA_TEST_MODELS=required.
func testmodel(t testing.TB) string {
	t.Helper()
	dir, err := demomodel.Dir(context.Background(), func(s string) { t.Log(s) })
	if err != nil {
		if os.Getenv("CRIA_TEST_MODELS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return dir
}
