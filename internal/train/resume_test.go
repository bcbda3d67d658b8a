package train

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/compute"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/recipe"
)

// tinyRecipe trains the tiny model on 50 dialogues, with dropout, accumulation across the epoch's edge, and a checkpoint
// every second step.
func tinyRecipe(t testing.TB, dir string, overrides ...string) *recipe.Recipe {
	t.Helper()
	var rows []json.RawMessage
	loadJSON(t, "../../examples/huanhuan/huanhuan.json", &rows)
	b, err := json.Marshal(rows[:50])
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data.json")
	if err := os.WriteFile(data, b, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("", append([]string{"model=" + golden + "tiny-llama", "dataset=" + data, "output_dir=" + filepath.Join(dir, "out"),
		"template=prompt", "prompt_template=<|start_header_id|>user<|end_header_id|>{instruction}{input}<|eot_id|>", "response_template={output}<|eot_id|>",
		"lora.lora_dropout=0.2", "lora.target_modules=all-linear", "lora.lora_alpha=32", "per_device_train_batch_size=2", "gradient_accumulation_steps=3",
		"num_train_epochs=2", "learning_rate=1e-3", "logging_steps=3", "save_steps=2", "loss_reduction=microbatch_mean", "threads=2", "sample_max_new_tokens=0"}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// finish runs a recipe to its end and returns the hash of everything that matters in its last checkpoint.
func finish(t testing.TB, r *recipe.Recipe, o Options) string {
	t.Helper()
	return finishAfter(t, r, o, func(*Job) {})
}

// finishAfter is finish with a change to the job before it runs.
func finishAfter(t testing.TB, r *recipe.Recipe, o Options, change func(*Job)) string {
	t.Helper()
	j, err := Prepare(context.Background(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if r.MaxMemory > 0 && (j.Plan.Memory.Own > r.MaxMemory || j.MaxRows >= j.Plan.Computed.Largest && !j.Plan.MapWeights && !j.Recomputes()) {
		t.Fatalf("max_memory %d does not limit this run: %+v", r.MaxMemory, j.Plan)
	}
	change(j)
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return digest(t, filepath.Join(r.OutputDir, checkpointName(j.Steps.Len())))
}

// digest hashes the adapter, the optimizer, and the log without its run times.
func digest(t testing.TB, checkpoint string) string {
	t.Helper()
	h := sha256.New()
	for _, name := range []string{adapterFile, optimizerFile} {
		b, err := os.ReadFile(filepath.Join(checkpoint, name))
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	var ts struct {
		History []Record `json:"log_history"`
	}
	loadJSON(t, filepath.Join(checkpoint, "trainer_state.json"), &ts)
	for _, r := range ts.History {
		if r.Loss != nil {
			fmt.Fprintln(h, *r.Loss, *r.GradNorm, *r.LearningRate, r.Epoch, r.Step)
		} else if r.TrainLoss != nil {
			fmt.Fprintln(h, *r.TrainLoss, r.Step)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Resuming from every step gives the bits of the uninterrupted run, for any number of threads, whatever layers compute
// again and in passes of any size.
func TestResumeEveryStep(t *testing.T) {
	pretend(t, 8<<20, 20<<30)
	dir := t.TempDir()
	r := tinyRecipe(t, dir, "save_steps=1")
	want := finish(t, r, Options{})
	steps, err := checkpoints(disk.OS{}, r.OutputDir)
	if err != nil || len(steps) != 16 {
		t.Fatalf("checkpoints %v, %v", steps, err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for _, step := range steps[1:] {
		from := filepath.Join(r.OutputDir, checkpointName(step))
		over := []string{"resume_from_checkpoint=" + from, "output_dir=" + filepath.Join(dir, fmt.Sprint("resumed", step)),
			fmt.Sprint("threads=", 1+rng.IntN(4)), fmt.Sprint("gradient_checkpointing=", rng.IntN(2) == 0), "save_steps=100"}
		if rng.IntN(2) == 0 {
			p, _, err := MakePlan(context.Background(), tinyRecipe(t, dir, over...), Options{})
			if err != nil {
				t.Fatal(err)
			}
			over = append(over, fmt.Sprintf("max_memory=%dKiB", p.Memory.Own>>10*int64(85+rng.IntN(13))/100))
		}
		shake := func(j *Job) {
			levels := make([]llama.Level, j.Model.NumHiddenLayers)
			for i := range levels {
				levels[i] = llama.Level(rng.IntN(int(llama.DropAll) + 1))
			}
			j.state = j.Model.NewState(llama.Shape{Stack: j.Plan.need, Levels: levels})
		}
		if step%2 == 0 {
			shake = func(*Job) {}
		}
		if got := finishAfter(t, tinyRecipe(t, dir, over...), Options{}, shake); got != want {
			t.Errorf("resumed from step %d with %v: other bits", step, over[2:])
		}
	}
	// The last checkpoint has nothing left to train: another output_dir gets its adapter.
	last := filepath.Join(r.OutputDir, checkpointName(steps[0]))
	again := filepath.Join(dir, "again")
	j, err := Prepare(context.Background(), tinyRecipe(t, dir, "save_steps=1", "resume_from_checkpoint="+last, "output_dir="+again), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(again, adapterFile)); err != nil || !bytes.Equal(b, mustRead(t, filepath.Join(last, adapterFile))) {
		t.Errorf("a finished run, resumed elsewhere: another adapter, %v", err)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInterruptAndResume(t *testing.T) {
	dir := t.TempDir()
	want := finish(t, tinyRecipe(t, dir), Options{})
	r := tinyRecipe(t, dir, "output_dir="+filepath.Join(dir, "stopped"))
	ctx, cancel := context.WithCancel(context.Background())
	j, err := Prepare(ctx, r, Options{OnProgress: func(p Progress) {
		if p.Step == 5 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = j.Run(ctx)
	j.Close()
	if !errors.Is(err, ErrInterrupted) || j.Step() != 6 {
		t.Fatalf("stopped at step %d with %v", j.Step(), err)
	}
	r = tinyRecipe(t, dir, "output_dir="+filepath.Join(dir, "stopped"), "resume_from_checkpoint=true")
	if got := finish(t, r, Options{}); got != want {
		t.Error("resumed after an interrupt: other bits")
	}
	// resuming a finished run does nothing and succeeds
	if got := finish(t, r, Options{}); got != want {
		t.Error("a finished run changed when it was resumed")
	}
}

func TestDamagedCheckpointIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	r := tinyRecipe(t, dir)
	want := finish(t, r, Options{})
	for i, damage := range []func(path string) error{
		func(p string) error { return os.Truncate(filepath.Join(p, optimizerFile), 1000) },
		func(p string) error { return os.Remove(filepath.Join(p, "MANIFEST.json")) },
		func(p string) error {
			b, err := os.ReadFile(filepath.Join(p, adapterFile))
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 4
			return os.WriteFile(filepath.Join(p, adapterFile), b, 0o644)
		},
	} {
		newest := filepath.Join(r.OutputDir, checkpointName(16-2*i))
		if err := damage(newest); err != nil {
			t.Fatal(err)
		}
		var said []string
		cp, _, err := NewestCheckpoint(disk.OS{}, r.OutputDir, func(s string) { said = append(said, s) })
		if err != nil || filepath.Base(cp) != checkpointName(14-2*i) || len(said) != i+1 || !strings.Contains(said[len(said)-1], filepath.Base(newest)) {
			t.Fatalf("after damage %d: checkpoint %s, %v, said %q", i, cp, err, said)
		}
	}
	if got := finish(t, tinyRecipe(t, dir, "resume_from_checkpoint=true"), Options{}); got != want {
		t.Error("resumed past damaged checkpoints: other bits")
	}
	if found, _ := filepath.Glob(filepath.Join(r.OutputDir, "*.damaged")); len(found) != 3 {
		t.Errorf("set aside: %v", found)
	}
}

func TestOtherRunIsNotResumed(t *testing.T) {
	dir := t.TempDir()
	finish(t, tinyRecipe(t, dir, "max_steps=2"), Options{})
	for _, over := range [][]string{{"learning_rate=2e-3"}, {"seed=1"}, {"lora.lora_dropout=0.1"}, {"prompt_template={instruction}{input}"}, {"compute_dtype=float32"}, {"max_steps=3"}} {
		if over[0] == "compute_dtype=float32" {
			over = append(over, "compute_dtype="+map[bool]string{true: "float32", false: "bfloat16"}[recordedDType(t, dir) == "bfloat16"])
		}
		_, err := Prepare(context.Background(), tinyRecipe(t, dir, append([]string{"max_steps=2", "resume_from_checkpoint=true"}, over...)...), Options{})
		if err == nil || !strings.Contains(err.Error(), "cannot be resumed") {
			t.Errorf("%v: %v", over, err)
		}
	}
}

func recordedDType(t *testing.T, dir string) string {
	var st runState
	loadJSON(t, filepath.Join(dir, "out", checkpointName(2), stateFile), &st)
	return st.Identity["compute_dtype"]
}

func TestNonFiniteStops(t *testing.T) {
	dir := t.TempDir()
	r := tinyRecipe(t, dir, "learning_rate=1e30", "max_grad_norm=0", "save_steps=1")
	j, err := Prepare(context.Background(), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	err = j.Run(context.Background())
	var nan *NonFiniteError
	if !errors.As(err, &nan) || nan.Step < 2 || len(nan.Rows) == 0 || !strings.Contains(nan.Rows[0], "data.json:") {
		t.Fatalf("got %v", err)
	}
	if steps, _ := checkpoints(disk.OS{}, r.OutputDir); len(steps) != nan.Step-1 {
		t.Errorf("checkpoints %v after a stop in step %d", steps, nan.Step)
	}
}

// fullFS is a disk that becomes full at its n-th operation.
type fullFS struct {
	disk.OS
	n *int
}

var errFull = errors.New("no space left on device")

func (f fullFS) Create(name string) (disk.File, error) {
	file, err := f.OS.Create(name)
	return fullFile{file, f}, err
}

func (f fullFS) Append(name string) (disk.File, error) {
	file, err := f.OS.Append(name)
	return fullFile{file, f}, err
}

type fullFile struct {
	disk.File
	f fullFS
}

func (f fullFile) Write(p []byte) (int, error) {
	if *f.f.n--; *f.f.n <= 0 {
		return 0, errFull
	}
	return f.File.Write(p)
}

// A disk that is full keeps the last checkpoint, and the run goes on from it once there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	want := finish(t, tinyRecipe(t, dir, "output_dir="+filepath.Join(dir, "whole")), Options{})
	n := 400
	j, err := Prepare(context.Background(), tinyRecipe(t, dir), Options{FS: fullFS{n: &n}})
	if err != nil {
		t.Fatal(err)
	}
	err = j.Run(context.Background())
	j.Close()
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "untouched") {
		t.Fatalf("got %v", err)
	}
	steps, err := checkpoints(disk.OS{}, filepath.Join(dir, "out"))
	if err != nil || len(steps) == 0 {
		t.Fatalf("checkpoints left: %v, %v", steps, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "out", "*.tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if got := finish(t, tinyRecipe(t, dir, "resume_from_checkpoint=true"), Options{}); got != want {
		t.Error("resumed after a full disk: other bits")
	}
}

// With adapter_dtype: bfloat16 the adapter has bfloat16 values from the first step on, as peft casts a fresh adapter and a
// loaded one to the base model's type.
func TestBFloat16AdapterFromTheStart(t *testing.T) {
	j, err := Prepare(context.Background(), tinyRecipe(t, t.TempDir(), "adapter_dtype=bfloat16"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for step := range 2 {
		for i, p := range j.params {
			v := make([]float32, p.W.Rows()*p.W.Cols())
			j.Model.Backend().Read(v, p.W, 0)
			for _, x := range v {
				if x != compute.RoundBFloat16(x) {
					t.Fatalf("%s after %d steps: %v", j.names[i], step, x)
				}
			}
		}
		if _, err := j.trainStep(); err != nil {
			t.Fatal(err)
		}
	}
}
