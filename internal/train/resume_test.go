package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cria/internal/disk"
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
		"num_train_epochs=2", "learning_rate=1e-3", "logging_steps=3", "save_steps=2", "loss_reduction=microbatch_mean", "threads=2"}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// finish runs a recipe to its end and returns the hash of everything that matters in its last checkpoint.
func finish(t testing.TB, r *recipe.Recipe, o Options) string {
	t.Helper()
	j, err := Prepare(context.Background(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if r.MaxMemory > 0 && j.MaxRows == 0 && !j.Recompute {
		t.Fatalf("max_memory %d does not limit this run", r.MaxMemory)
	}
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

// Resuming from every step gives the bits of the uninterrupted run, for any number of threads, with and without
// recomputation and in passes of any size.
func TestResumeEveryStep(t *testing.T) {
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
			over = append(over, "max_memory=17MiB")
		}
		if got := finish(t, tinyRecipe(t, dir, over...), Options{}); got != want {
			t.Errorf("resumed from step %d with %v: other bits", step, over[2:])
		}
	}
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

// --- killed processes

// dyingFS kills the process at its n-th operation.
type dyingFS struct {
	disk.OS
	n *int
}

func (d dyingFS) step() {
	if *d.n--; *d.n == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Second)
	}
}

func (d dyingFS) Create(name string) (disk.File, error) {
	d.step()
	f, err := d.OS.Create(name)
	return dyingFile{f, d}, err
}
func (d dyingFS) Mkdir(name string) error      { d.step(); return d.OS.Mkdir(name) }
func (d dyingFS) Rename(from, to string) error { d.step(); return d.OS.Rename(from, to) }
func (d dyingFS) Remove(name string) error     { d.step(); return d.OS.Remove(name) }
func (d dyingFS) SyncDir(name string) error    { d.step(); return d.OS.SyncDir(name) }

type dyingFile struct {
	disk.File
	d dyingFS
}

func (f dyingFile) Write(p []byte) (int, error) { f.d.step(); return f.File.Write(p) }
func (f dyingFile) Sync() error                 { f.d.step(); return f.File.Sync() }

// TestChild is the run that TestKills kills; it is not a test of its own.
func TestChild(t *testing.T) {
	dir, at := os.Getenv("CRIA_CHILD_DIR"), os.Getenv("CRIA_CHILD_DIE_AT")
	if dir == "" {
		t.SkipNow()
	}
	n, _ := strconv.Atoi(at)
	finish(t, tinyRecipe(t, dir, "resume_from_checkpoint=true"), Options{FS: dyingFS{n: &n}})
}

// A run that is killed again and again, half of the times inside a save, ends with the bits of one that was not.
func TestKills(t *testing.T) {
	kills := 60
	if testing.Short() {
		kills = 6
	}
	dir := t.TempDir()
	want := finish(t, tinyRecipe(t, dir, "output_dir="+filepath.Join(dir, "whole")), Options{})
	rng := rand.New(rand.NewPCG(8, 9))
	work := t.TempDir()
	done, killed, finished, inSave := 0, 0, 0, 0
	for killed < kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
		die := 0
		if killed%2 == 0 {
			die = 1 + rng.IntN(160)
		}
		cmd.Env = append(os.Environ(), "CRIA_CHILD_DIR="+work, fmt.Sprint("CRIA_CHILD_DIE_AT=", die))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if die == 0 {
			timer := time.AfterFunc(time.Duration(50+rng.IntN(600))*time.Millisecond, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		switch {
		case err == nil:
			finished++
			if got := digest(t, filepath.Join(work, "out", checkpointName(16))); got != want {
				t.Fatalf("after %d kills: other bits", killed)
			}
			work = t.TempDir()
		case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
			killed++
			if die > 0 {
				inSave++
			}
		default:
			t.Fatalf("the run failed by itself: %v\n%s", err, out.String())
		}
		if done++; done > 5*kills {
			t.Fatalf("only %d kills in %d runs", killed, done)
		}
	}
	if got := finish(t, tinyRecipe(t, work, "resume_from_checkpoint=true"), Options{}); got != want {
		t.Error("the last run ended with other bits")
	}
	t.Logf("%d kills, %d of them inside a save; %d runs came to their end between them", killed, inSave, finished)
}
