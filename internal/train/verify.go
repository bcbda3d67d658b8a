package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// Verification is what came of making an adapter again.
type Verification struct {
	Dir   string `json:"dir"`
	Step  int    `json:"step"`
	Steps int    `json:"steps"`

	Inputs []Difference `json:"inputs"` // that are not the same; then nothing was trained
	Notes  []Difference `json:"notes"`  // what differs and may explain other bits, or explains none: kernels, program, processor

	Trained bool        `json:"trained"`
	Same    bool        `json:"same"` // every byte of the adapter is
	Adapter AdapterDiff `json:"adapter"`
	Was     *RunRecord  `json:"was"`
	Is      *RunRecord  `json:"is"`
}

// Difference is a value that is not what it was.
type Difference struct {
	Name string `json:"name"`
	Was  string `json:"was"`
	Is   string `json:"is"`
}

// AdapterDiff says how two adapters differ.
type AdapterDiff struct {
	Tensors   int     `json:"tensors"`   // of both
	Differing int     `json:"differing"` // of them in any bit
	Largest   float64 `json:"largest"`   // difference of two elements
	Name      string  `json:"name"`      // of the tensor that has it
}

// OpenRun reads what an adapter's directory says of its run: the record, and the recipe with overrides as on a command line, for
// paths that are elsewhere now.
func OpenRun(dir string, overrides []string) (*RunRecord, *recipe.Recipe, error) {
	was, err := ReadRunRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s has no %s: name the output_dir or a checkpoint of a run of cria; versions before this one did not write it", dir, RunFile)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := recipe.Load(filepath.Join(dir, recipeFile), append([]string{"compute_dtype=" + was.Inputs["compute_dtype"]}, overrides...))
	return was, r, err
}

// Verify makes the adapter of dir again, as OpenRun says, and compares. Where an input is not what it was, or inputsOnly is
// set, nothing is trained. The run is made in a temporary directory; dir is only read.
func Verify(ctx context.Context, dir string, was *RunRecord, r *recipe.Recipe, inputsOnly bool, o Options) (*Verification, error) {
	work, err := os.MkdirTemp("", "cria-verify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	// What is done beside training is not done.
	r.OutputDir, r.ResumeFromCheckpoint, r.SaveTotalLimit, r.SaveSteps, r.ReportTo = filepath.Join(work, "out"), recipe.Resume{}, 1, 0, nil
	r.LoadBestModelAtEnd, r.EarlyStoppingPatience, r.SampleMaxNewTokens = false, 0, 0

	v := &Verification{Dir: dir, Step: was.Step, Steps: was.Steps, Was: was}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	told := o.OnProgress
	o.OnProgress = func(p Progress) {
		if p.Step == was.Step-1 {
			stop() // after the step that follows
		}
		if told != nil {
			told(p)
		}
	}
	j, err := Prepare(ctx, r, o)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	j.groups = nil // no evaluation
	is := j.Record()
	is.Step = was.Step
	v.Is = &is
	v.compareInputs()
	if len(v.Inputs) > 0 || inputsOnly {
		return v, nil
	}
	if was.Step == 1 {
		stop()
	}
	if err := j.Loop.Run(ctx); err != nil && (!errors.Is(err, ErrInterrupted) || j.step != was.Step) {
		return nil, err
	}
	v.Trained = true
	return v, v.compareAdapters(filepath.Join(dir, adapterFile), filepath.Join(j.Checkpoint(), adapterFile))
}

// compareInputs compares what the bytes follow from, and what may explain other bits.
func (v *Verification) compareInputs() {
	was, is := v.Was, v.Is
	names := maps.Clone(was.Inputs)
	maps.Copy(names, is.Inputs)
	for _, k := range slices.Sorted(maps.Keys(names)) {
		if was.Inputs[k] != is.Inputs[k] {
			v.Inputs = append(v.Inputs, Difference{k, was.Inputs[k], is.Inputs[k]})
		}
	}
	if was.Steps != is.Steps {
		v.Inputs = append(v.Inputs, Difference{"steps of the run", fmt.Sprint(was.Steps), fmt.Sprint(is.Steps)})
	}
	note := func(name, was, is string) {
		if was != is {
			v.Notes = append(v.Notes, Difference{name, was, is})
		}
	}
	note("kernels", was.Machine.Kernels, is.Machine.Kernels)
	note("processor", was.Machine.Processor, is.Machine.Processor)
	note("architecture", was.Machine.Arch, is.Machine.Arch)
	note("program", was.Program.Version, is.Program.Version)
	note("program (SHA-256)", was.Program.SHA256, is.Program.SHA256)
	note("Go", was.Program.Go, is.Program.Go)
	files := func(ds []RunData) map[string]string {
		out := map[string]string{}
		for _, d := range ds {
			out[filepath.Base(d.Path)] = d.SHA256
		}
		return out
	}
	a, b := files(was.Data), files(is.Data)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] != "" {
			note("dataset "+name+" (SHA-256)", a[name], b[name])
		}
	}
}

// compareAdapters compares two files of an adapter's tensors.
func (v *Verification) compareAdapters(was, is string) error {
	a, err := os.ReadFile(was)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(is)
	if err != nil {
		return err
	}
	v.Same = bytes.Equal(a, b)
	fa, err := safetensors.Open(was)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := safetensors.Open(is)
	if err != nil {
		return err
	}
	defer fb.Close()
	if !slices.Equal(fa.Names(), fb.Names()) {
		return fmt.Errorf("%s has other tensors than its run makes: it was altered afterwards", was)
	}
	d := &v.Adapter
	for _, name := range fa.Names() {
		ta, _ := fa.Tensor(name)
		tb, _ := fb.Tensor(name)
		d.Tensors++
		if ta.DType == tb.DType && bytes.Equal(ta.Data, tb.Data) {
			continue
		}
		d.Differing++
		x, err := ta.Float32s()
		if err != nil {
			return err
		}
		y, err := tb.Float32s()
		if err != nil {
			return err
		}
		if len(x) != len(y) {
			return fmt.Errorf("%s: %s has another shape than its run makes: it was altered afterwards", was, name)
		}
		for i := range x {
			if e := math.Abs(float64(x[i]) - float64(y[i])); e > d.Largest || e != e {
				d.Largest, d.Name = e, name
			}
		}
	}
	return nil
}
