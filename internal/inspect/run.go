package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cria/internal/adapter"
	"cria/internal/disk"
	"cria/internal/train"
)

// State is whether the files of a checkpoint are those that were written.
type State string

// The states of a checkpoint.
const (
	Whole    State = "whole"    // every file has the size and SHA-256 of its manifest
	Damaged  State = "damaged"  // a file is missing, cut off or altered
	Unsealed State = "unsealed" // there is no manifest to compare with: another program wrote it
)

// Checkpoint is a directory of one optimizer step.
type Checkpoint struct {
	State     State  `json:"state"`
	Resumable bool   `json:"resumable"` // by cria: it is whole and holds the optimizer's state
	Resume    string `json:"resume"`    // the command that does, or that starts from its weights

	Step         int     `json:"step"`
	MaxSteps     int     `json:"max_steps"`
	Epoch        float64 `json:"epoch"`
	Epochs       int     `json:"num_train_epochs"`
	ComputeDType string  `json:"compute_dtype"` // that it was trained in; "" where cria did not record it
	Bytes        int64   `json:"bytes"`         // of all files
}

// Log is the loss history of trainer_state.json.
type Log struct {
	Losses  []Loss  `json:"losses"`
	First   Loss    `json:"first"`
	Last    Loss    `json:"last"`
	Lowest  Loss    `json:"lowest"`
	Mean    float64 `json:"train_loss"`    // of the whole run; 0 before its end
	Seconds float64 `json:"train_runtime"` // 0 before the end of the run
}

// Loss is one entry of the log.
type Loss struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
}

// Run is a run's output_dir.
type Run struct {
	Finished    bool              `json:"finished"`            // the final adapter is there
	InUse       *disk.Owner       `json:"in_use,omitempty"`    // the process that trains in it now
	Checkpoints []CheckpointState `json:"checkpoints"`         // oldest first
	Newest      string            `json:"newest"`              // directory of the newest whole checkpoint, "" if there is none
	Leftovers   []string          `json:"leftovers,omitempty"` // of a run that was killed; the next run cleans them up
	Resume      string            `json:"resume,omitempty"`    // the command that goes on
}

// CheckpointState is one checkpoint of a run.
type CheckpointState struct {
	Name   string `json:"name"`
	Step   int    `json:"step"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why it is not whole
	Bytes  int64  `json:"bytes"`
}

// trainerStateFile is what is read of trainer_state.json.
type trainerStateFile struct {
	Step     int            `json:"global_step"`
	MaxSteps int            `json:"max_steps"`
	Epoch    float64        `json:"epoch"`
	Epochs   int            `json:"num_train_epochs"`
	History  []train.Record `json:"log_history"`
}

// verify compares a checkpoint with its manifest. A state other than Whole comes with the reason.
func verify(dir string) (State, string) {
	_, err := disk.Verify(disk.OS{}, dir)
	switch {
	case err == nil:
		return Whole, ""
	case errors.Is(err, disk.ErrNoManifest) && !exists(filepath.Join(dir, criaState)):
		return Unsealed, err.Error()
	}
	return Damaged, err.Error()
}

func (r *Report) checkpoint() {
	c := &Checkpoint{Bytes: treeBytes(r.Path)}
	r.Checkpoint = c
	state, reason := verify(r.Path)
	if c.State = state; state == Damaged {
		r.problem("%s", reason)
	}
	t := r.log(r.Path)
	c.Step, c.MaxSteps, c.Epoch, c.Epochs = t.Step, t.MaxSteps, t.Epoch, t.Epochs
	var own struct {
		Step     int               `json:"step"`
		Identity map[string]string `json:"identity"`
	}
	err := readJSON(filepath.Join(r.Path, criaState), &own)
	switch {
	case err == nil:
		c.ComputeDType = own.Identity["compute_dtype"]
	case state != Unsealed:
		r.problem("%v", err)
	}
	if c.Step == 0 {
		c.Step = own.Step
	}
	if m := checkpointName.FindStringSubmatch(filepath.Base(r.Path)); m != nil && c.Step == 0 {
		c.Step, _ = strconv.Atoi(m[1])
	}
	r.adapter(r.Path)
	r.trainedWith(r.Path)
	c.Resumable = state == Whole && len(r.Problems) == 0
	switch {
	case c.Resumable:
		c.Resume = fmt.Sprintf("cria train %s resume_from_checkpoint=%s", quoted(filepath.Join(r.Path, recipeName)), quoted(r.Path))
	case state == Unsealed && len(r.Problems) == 0:
		c.Resume = "cria train RECIPE.yaml adapter=" + quoted(r.Path)
	}
}

// log reads trainer_state.json of dir.
func (r *Report) log(dir string) (t trainerStateFile) {
	if err := readJSON(filepath.Join(dir, trainerState), &t); err != nil {
		r.problem("%v", err)
		return trainerStateFile{}
	}
	l := &Log{Losses: []Loss{}}
	for _, e := range t.History {
		if e.TrainLoss != nil {
			l.Mean = *e.TrainLoss
		}
		if e.TrainRuntime != nil {
			l.Seconds = *e.TrainRuntime
		}
		if e.Loss == nil {
			continue
		}
		p := Loss{e.Step, *e.Loss}
		if len(l.Losses) == 0 || p.Loss < l.Lowest.Loss {
			l.Lowest = p
		}
		l.Losses = append(l.Losses, p)
	}
	if n := len(l.Losses); n > 0 {
		l.First, l.Last = l.Losses[0], l.Losses[n-1]
	}
	r.Log = l
	return t
}

// trainedWith reads the recipe beside an adapter, if there is one.
func (r *Report) trainedWith(dir string) {
	path := filepath.Join(dir, recipeName)
	if !exists(path) {
		return
	}
	recipe, err := readRecipe(path)
	if err != nil {
		r.problem("the recipe beside the adapter cannot be read: %v", err)
		return
	}
	r.Recipe = recipe
}

var leftover = regexp.MustCompile(`\.(tmp|old|del)-[0-9a-f]{12}$`)

func (r *Report) run(ctx context.Context, entries []fs.DirEntry) error {
	u := &Run{Checkpoints: []CheckpointState{}, Finished: exists(filepath.Join(r.Path, adapter.TensorsName))}
	r.Run = u
	u.InUse = owner(filepath.Join(r.Path, disk.LockName))
	for _, e := range entries {
		if leftover.MatchString(e.Name()) && u.InUse == nil {
			u.Leftovers = append(u.Leftovers, e.Name())
		}
		m := checkpointName.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		dir := filepath.Join(r.Path, e.Name())
		c := CheckpointState{Name: e.Name(), Bytes: treeBytes(dir)}
		c.Step, _ = strconv.Atoi(m[1])
		if c.State, c.Reason = verify(dir); c.State == Damaged {
			r.problem("%s", c.Reason)
		}
		u.Checkpoints = append(u.Checkpoints, c)
	}
	slices.SortFunc(u.Checkpoints, func(a, b CheckpointState) int { return a.Step - b.Step })
	for _, c := range u.Checkpoints {
		if c.State == Whole {
			u.Newest = filepath.Join(r.Path, c.Name)
		}
	}
	switch {
	case u.Finished:
		r.log(r.Path)
		r.adapter(r.Path)
		r.trainedWith(r.Path)
	case u.Newest != "":
		r.log(u.Newest)
		r.adapter(u.Newest)
		r.trainedWith(u.Newest)
		if u.InUse == nil && r.Recipe != nil {
			u.Resume = ResumeCommand(u.Newest, r.Path)
		}
	}
	return nil
}

// ResumeCommand is the command that goes on with the run in outputDir from its newest checkpoint, whatever was on the
// command line that began it.
func ResumeCommand(newest, outputDir string) string {
	return fmt.Sprintf("cria train %s output_dir=%s resume_from_checkpoint=true", quoted(filepath.Join(newest, recipeName)), quoted(outputDir))
}

// owner is who holds a lock file now, nil if nobody does.
func owner(path string) *disk.Owner {
	if !exists(path) {
		return nil
	}
	l, err := disk.OS{}.TryLock(path)
	if err == nil {
		l.Close()
	}
	if !errors.Is(err, disk.ErrLocked) {
		return nil
	}
	o := &disk.Owner{}
	f, err := os.Open(path)
	if err != nil {
		return o
	}
	defer f.Close()
	if b, err := io.ReadAll(io.LimitReader(f, 4096)); err != nil || json.Unmarshal(b, o) != nil {
		return &disk.Owner{}
	}
	return o
}

// treeBytes is the size of the files in a directory.
func treeBytes(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
	}
	return n
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./+,@%-]+$`)

// quoted is a word of a command for a POSIX shell.
func quoted(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
