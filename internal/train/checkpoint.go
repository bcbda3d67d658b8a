package train

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cria/internal/compute"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// A checkpoint directory holds, beside what peft and transformers read (adapter_config.json, adapter_model.safetensors,
// trainer_state.json, the tokenizer's files):
//
//	recipe.yaml             the resolved recipe
//	run.json                what the run is made of (RunRecord)
//	optimizer.safetensors   AdamW's moments, exp_avg.<tensor> and exp_avg_sq.<tensor>, float32
//	cria_state.json         runState
//	MANIFEST.json           size and SHA-256 of every file (package disk)
const (
	optimizerFile = "optimizer.safetensors"
	stateFile     = "cria_state.json"
	recipeFile    = "recipe.yaml"
)

// runState is what a resumed run needs beside the tensors. Row order and dropout masks are functions of the seed and
// the step, so no generator's state is kept.
type runState struct {
	Format   int               `json:"format"`
	Step     int               `json:"step"`
	Pending  lossSum           `json:"pending"` // loss since the last log line
	Total    lossSum           `json:"total"`
	Best     *best             `json:"best,omitempty"`
	Patience int               `json:"patience,omitempty"` // evaluations since the best one
	Tokens   int               `json:"tokens,omitempty"`   // trained so far
	Identity map[string]string `json:"identity"`           // what a resumed run must agree in
}

const stateFormat = 1

// maxState limits the JSON files of a checkpoint; trainer_state.json grows by about 150 bytes a log line.
const maxState = 256 << 20

// checkpointName is the directory of a step.
func checkpointName(step int) string { return fmt.Sprintf("checkpoint-%d", step) }

// save publishes output_dir/checkpoint-N and deletes the oldest ones beyond save_total_limit.
func (l *Loop) save(epoch float64) (string, error) {
	dir := l.Checkpoint()
	err := disk.ReplaceDir(l.FS, dir, func(w *disk.DirWriter) error {
		if err := l.writeAdapter(w, epoch); err != nil {
			return err
		}
		if err := l.writeOptimizer(w); err != nil {
			return err
		}
		return writeJSON(w, stateFile, runState{stateFormat, l.step, l.pending, l.total, l.best, l.patience, l.seen, l.Identity()})
	})
	if err != nil {
		return "", fmt.Errorf("the checkpoint of step %d could not be written: %w; earlier checkpoints in %s are untouched", l.step, err, l.OutputDir)
	}
	l.newest = dir
	return dir, l.rotate()
}

// rotate keeps save_total_limit checkpoints: the newest, which has just been written, the best, and of the others the
// newest. The first two are kept always.
func (l *Loop) rotate() error {
	if l.SaveTotalLimit <= 0 {
		return nil
	}
	cps, err := checkpoints(l.FS, l.OutputDir)
	if err != nil {
		return err
	}
	kept := 1
	for _, step := range cps {
		isBest := l.best != nil && l.best.Step == step
		if isBest && step < l.step {
			kept++
		}
	}
	for _, step := range cps {
		switch {
		case step >= l.step || l.best != nil && l.best.Step == step:
		case kept < l.SaveTotalLimit:
			kept++
		default:
			if err := disk.RemoveDir(l.FS, filepath.Join(l.OutputDir, checkpointName(step))); err != nil {
				return fmt.Errorf("an old checkpoint could not be deleted: %w", err)
			}
		}
	}
	return nil
}

// saveFinal copies the last checkpoint's result, or the best one's, into output_dir itself, where peft looks for it. The
// log is the last one's always. The adapter's weights come last: an output_dir with adapter_model.safetensors is a finished
// one.
func (l *Loop) saveFinal() error {
	from := l.newest
	if l.LoadBest && l.best != nil {
		from = l.best.dir
	}
	m, err := disk.ReadManifest(l.FS, from)
	if err != nil {
		return err
	}
	names := []string{}
	for _, f := range m.Files {
		if f.Name != optimizerFile && f.Name != stateFile && f.Name != adapterFile {
			names = append(names, f.Name)
		}
	}
	for _, name := range append(names, adapterFile) {
		err := disk.PublishStream(l.FS, filepath.Join(l.OutputDir, name), func(w io.Writer) error {
			dir := from
			if name == trainerStateFile {
				dir = l.newest
			}
			f, err := l.FS.Open(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(w, f)
			return err
		})
		if err != nil {
			return fmt.Errorf("the final adapter could not be written (it is whole in %s): %w", from, err)
		}
	}
	return nil
}

const (
	adapterFile      = "adapter_model.safetensors"
	trainerStateFile = "trainer_state.json"
)

// writeAdapter writes what other programs read.
func (l *Loop) writeAdapter(w *disk.DirWriter, epoch float64) error {
	be := l.Model.Backend()
	for i := range l.Adapter.Modules {
		m, lo := &l.Adapter.Modules[i], l.loras[i]
		be.Read(m.A, lo.A, 0)
		bt := make([]float32, len(m.B))
		be.Read(bt, lo.Bt, 0)
		copy(m.B, llama.Transpose(bt, m.R, m.Out))
	}
	if l.BaseHash != nil {
		l.Adapter.BaseSHA256 = l.BaseHash()
	}
	if err := l.Adapter.Write(l.SaveDType, w.Create); err != nil {
		return err
	}
	for _, f := range l.TokenizerFiles {
		if err := copyFile(w, f); err != nil {
			return err
		}
	}
	if err := w.WriteFile(recipeFile, func(f io.Writer) error { _, err := f.Write(l.Recipe); return err }); err != nil {
		return err
	}
	if l.Record != nil {
		rec := l.Record()
		rec.Step = l.step
		if err := writeJSON(w, RunFile, rec); err != nil {
			return err
		}
	}
	return writeJSON(w, trainerStateFile, l.trainerState(epoch))
}

// writeOptimizer writes one tensor after the other, so that they never stand in memory twice.
func (l *Loop) writeOptimizer(w *disk.DirWriter) error {
	var ts []safetensors.Tensor
	moments, most := map[string]compute.Buffer{}, 0
	for i, p := range l.params {
		for key, b := range map[string]compute.Buffer{"exp_avg.": p.M, "exp_avg_sq.": p.V} {
			ts = append(ts, safetensors.Tensor{Name: key + l.names[i], DType: safetensors.F32, Shape: []int{b.Rows(), b.Cols()}})
			moments[key+l.names[i]], most = b, max(most, b.Rows()*b.Cols())
		}
	}
	f, err := w.Create(optimizerFile)
	if err != nil {
		return err
	}
	values, data := make([]float32, most), make([]byte, 0, 4*most)
	err = safetensors.WriteFunc(f, ts, map[string]string{"format": "pt"}, func(w io.Writer, t safetensors.Tensor) error {
		b := moments[t.Name]
		v := values[:b.Rows()*b.Cols()]
		l.Model.Backend().Read(v, b, 0)
		data = data[:0]
		for _, x := range v {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return f.Close()
}

// load takes a verified checkpoint's state into the loop. The adapter has been loaded already.
func (l *Loop) load(dir string) error {
	var st runState
	if err := readJSON(filepath.Join(dir, stateFile), &st); err != nil {
		return err
	}
	if st.Format != stateFormat {
		return fmt.Errorf("%s was written by another version of cria (state format %d, this one reads %d)", dir, st.Format, stateFormat)
	}
	if err := sameIdentity(dir, st.Identity, l.Identity()); err != nil {
		return err
	}
	if st.Step < 0 || st.Step > l.Steps.Len() {
		return fmt.Errorf("%s is of step %d, this run has %d steps", dir, st.Step, l.Steps.Len())
	}
	var ts struct {
		History []Record `json:"log_history"`
	}
	if err := readJSON(filepath.Join(dir, trainerStateFile), &ts); err != nil {
		return err
	}
	f, err := safetensors.Open(filepath.Join(dir, optimizerFile))
	if err != nil {
		return err
	}
	defer f.Close()
	for i, p := range l.params {
		for key, b := range map[string]compute.Buffer{"exp_avg.": p.M, "exp_avg_sq.": p.V} {
			t, ok := f.Tensor(key + l.names[i])
			if !ok || !slices.Equal(t.Shape, []int{b.Rows(), b.Cols()}) {
				return fmt.Errorf("%s: tensor %s%s is missing or has another shape", filepath.Join(dir, optimizerFile), key, l.names[i])
			}
			v, err := t.Float32s()
			if err != nil {
				return err
			}
			l.Model.Backend().Write(b, 0, v)
		}
	}
	l.step, l.newest, l.pending, l.total, l.history = st.Step, dir, st.Pending, st.Total, ts.History
	l.patience, l.seen = st.Patience, st.Tokens
	return l.findBest(dir, st.Best)
}

// sameIdentity refuses to go on with something else than what was begun.
func sameIdentity(dir string, was, is map[string]string) error {
	var diff []string
	for _, k := range slices.Sorted(maps.Keys(is)) {
		if was["adapter"] != is["adapter"] && strings.HasPrefix(k, "lora.") {
			continue // what follows from that
		}
		if was[k] != is[k] {
			diff = append(diff, fmt.Sprintf("%s was %s, is now %s", k, orNone(was[k]), orNone(is[k])))
		}
	}
	if len(diff) == 0 {
		return nil
	}
	return fmt.Errorf("%s cannot be resumed, it belongs to another run: %s. Restore these, or start a new run from its weights with adapter=%s and another output_dir",
		dir, strings.Join(diff, "; "), dir)
}

func orNone(s string) string {
	if s == "" {
		return "(not recorded)"
	}
	return s
}

// checkpoints lists the steps of the checkpoint directories, newest first.
func checkpoints(fsys disk.FS, dir string) (steps []int, err error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), "checkpoint-"); ok && e.IsDir() {
			if step, err := strconv.Atoi(n); err == nil && checkpointName(step) == e.Name() {
				steps = append(steps, step)
			}
		}
	}
	slices.Sort(steps)
	slices.Reverse(steps)
	return steps, err
}

// NewestCheckpoint returns the newest checkpoint of output_dir that is whole, or "", and the newer ones that are not. warn
// is told of each of those, and why.
func NewestCheckpoint(fsys disk.FS, dir string, warn func(string)) (whole string, damaged []string, err error) {
	steps, err := checkpoints(fsys, dir)
	if err != nil {
		return "", nil, err
	}
	for _, step := range steps {
		cp := filepath.Join(dir, checkpointName(step))
		if _, err := disk.Verify(fsys, cp); err != nil && !errors.Is(err, disk.ErrExtra) {
			warn(fmt.Sprintf("%s is passed over: %v", cp, err))
			damaged = append(damaged, cp)
			continue
		}
		return cp, damaged, nil
	}
	if len(steps) > 0 {
		return "", nil, fmt.Errorf("%s has %d checkpoints, but none of them is whole; move it away or choose another output_dir to start anew", dir, len(steps))
	}
	return "", nil, nil
}

// setAside renames damaged checkpoints, so that the run can write its own under their names.
func setAside(fsys disk.FS, damaged []string) error {
	for _, cp := range damaged {
		to := cp + ".damaged"
		for n := 2; ; n++ {
			if _, err := fsys.Lstat(to); errors.Is(err, fs.ErrNotExist) {
				break
			}
			to = fmt.Sprintf("%s.damaged-%d", cp, n)
		}
		if err := fsys.Rename(cp, to); err != nil {
			return err
		}
	}
	return nil
}

// trainerState is trainer_state.json with only the fields that transformers 4.43.2's TrainerState knows.
func (l *Loop) trainerState(epoch float64) any {
	var metric, dir any
	if l.best != nil {
		metric, dir = l.best.Metric, l.best.dir
	}
	every := l.EvalSteps
	if l.groups == nil {
		every = 500
	}
	return map[string]any{
		"best_metric": metric, "best_model_checkpoint": dir, "epoch": epoch, "eval_steps": every, "global_step": l.step,
		"is_hyper_param_search": false, "is_local_process_zero": true, "is_world_process_zero": true,
		"log_history": append([]Record{}, l.history...), "logging_steps": l.LoggingSteps, "max_steps": l.Steps.Len(),
		"num_input_tokens_seen": 0, "num_train_epochs": l.Steps.NumTrainEpochs(), "save_steps": l.SaveSteps,
		"stateful_callbacks": map[string]any{}, "total_flos": 0.0, "train_batch_size": l.BatchSize, "trial_name": nil, "trial_params": nil,
	}
}

func writeJSON(w *disk.DirWriter, name string, v any) error {
	return w.WriteFile(name, func(f io.Writer) error {
		enc := json.NewEncoder(f)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	})
}

func copyFile(w *disk.DirWriter, path string) error {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	return w.WriteFile(filepath.Base(path), func(f io.Writer) error { _, err := io.Copy(f, src); return err })
}

func readJSON(path string, v any) error {
	return disk.ReadJSON(path, maxState, v)
}
