package inspect

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"cria/internal/data"
	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// Safetensors is a tensor file.
type Safetensors struct {
	Tensors    []Tensor          `json:"tensors"` // by name
	Metadata   map[string]string `json:"metadata"`
	Parameters int64             `json:"parameters"` // elements of all tensors
	Bytes      int64             `json:"bytes"`      // of all tensors
	FileBytes  int64             `json:"file_bytes"`
}

// Tensor is one tensor of a file.
type Tensor struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
}

func (r *Report) safetensors(size int64) {
	s := &Safetensors{Tensors: []Tensor{}, Metadata: map[string]string{}, FileBytes: size}
	r.Safetensors = s
	f, err := safetensors.Open(r.Path)
	if err != nil {
		r.problem("%v", err)
		return
	}
	defer f.Close()
	for k, v := range f.Metadata() {
		s.Metadata[k] = v
	}
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		s.Tensors = append(s.Tensors, Tensor{name, string(t.DType), append([]int{}, t.Shape...), int64(len(t.Data))})
		s.Parameters += int64(t.NumElements())
		s.Bytes += int64(len(t.Data))
	}
}

// Dataset is a file of alpaca rows. A file with a fault has Bytes and, as far as they can be read, Columns.
type Dataset struct {
	Bytes     int64    `json:"bytes"`
	SHA256    string   `json:"sha256"`
	Columns   []string `json:"columns"` // of the first row
	Rows      int      `json:"rows"`
	WithInput int      `json:"rows_with_input"`

	Characters int   `json:"characters"` // of all rows: instruction, input and output
	Longest    Row   `json:"longest"`
	First      []Row `json:"first"` // the first few rows
}

// Row is one row of a dataset.
type Row struct {
	Row         int    `json:"row"`  // from 1
	Line        int    `json:"line"` // from 1
	Characters  int    `json:"characters"`
	Instruction string `json:"instruction"`
	Input       string `json:"input"`
	Output      string `json:"output"`
}

const firstRows = 3

func (r *Report) dataset(size int64) {
	d := &Dataset{Bytes: size, Columns: columns(r.Path), First: []Row{}}
	r.Dataset = d
	set, err := data.Read(r.Path)
	if err != nil {
		r.problem("%v", err)
		return
	}
	d.Rows, d.SHA256 = set.Files[0].Rows, set.Files[0].SHA256
	for i, e := range set.Examples {
		row := Row{e.Row, e.Line, utf8.RuneCountInString(e.Instruction + e.Input + e.Output), e.Instruction, e.Input, e.Output}
		d.Characters += row.Characters
		if e.Input != "" {
			d.WithInput++
		}
		if row.Characters > d.Longest.Characters {
			d.Longest = row
		}
		if i < firstRows {
			d.First = append(d.First, row)
		}
	}
}

// columns are the keys of a file's first object, as far as they can be read.
func columns(path string) []string {
	names := []string{}
	f, err := os.Open(path)
	if err != nil {
		return names
	}
	defer f.Close()
	in := bufio.NewReader(f)
	if b, err := in.Peek(3); err == nil && string(b) == "\ufeff" {
		in.Discard(3)
	}
	d := json.NewDecoder(in)
	t, err := d.Token()
	if err == nil && t == json.Delim('[') {
		t, err = d.Token()
	}
	if err != nil || t != json.Delim('{') {
		return names
	}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return names
		}
		names = append(names, key)
	}
	return names
}

// Recipe is a training recipe. A part of what it asks for is repeated here by name; Resolved is everything.
type Recipe struct {
	Path string   `json:"path"`
	Set  []string `json:"set"` // keys that the file gives, dotted, in the order of the documentation

	Model        string   `json:"model"`
	ModelFound   bool     `json:"model_found"`
	Dataset      []string `json:"dataset"`
	DatasetFound bool     `json:"dataset_found"` // all files are there
	OutputDir    string   `json:"output_dir"`
	Template     string   `json:"template"`

	R             int     `json:"r"`
	LoraAlpha     int     `json:"lora_alpha"`
	LoraDropout   float64 `json:"lora_dropout"`
	TargetModules string  `json:"target_modules"`
	Adapter       string  `json:"adapter"` // that it starts from; its rank, alpha and targets hold

	RowsPerStep  int     `json:"rows_per_step"` // per_device_train_batch_size x gradient_accumulation_steps
	Epochs       float64 `json:"num_train_epochs"`
	MaxSteps     int     `json:"max_steps"`
	LearningRate float64 `json:"learning_rate"`
	Schedule     string  `json:"lr_scheduler_type"`
	Seed         uint64  `json:"seed"`

	Resolved string   `json:"resolved"` // YAML with every key
	Notes    []string `json:"notes"`    // on keys that have no effect of their own
}

func readRecipe(path string) (*Recipe, error) {
	r, err := recipe.Load(path, nil)
	if err != nil {
		return nil, err
	}
	out := &Recipe{Path: path, Set: []string{}, Model: r.Model, ModelFound: exists(r.Model), Dataset: r.Dataset, DatasetFound: true, OutputDir: r.OutputDir,
		Template: r.Template, R: r.LoRA.R, LoraAlpha: r.LoRA.LoraAlpha, LoraDropout: r.LoRA.LoraDropout, Adapter: r.Adapter,
		TargetModules: r.LoRA.TargetModules.Pattern, RowsPerStep: r.PerDeviceTrainBatchSize * r.GradientAccumulationSteps, Epochs: r.NumTrainEpochs,
		MaxSteps: r.MaxSteps, LearningRate: r.LearningRate, Schedule: r.LRSchedulerType, Seed: r.Seed, Resolved: string(r.Resolved()), Notes: append([]string{}, r.Notes...)}
	if out.TargetModules == "" {
		out.TargetModules = fmt.Sprintf("[%s]", strings.Join(r.LoRA.TargetModules.List, ", "))
	}
	for _, name := range r.Dataset {
		out.DatasetFound = out.DatasetFound && exists(name)
	}
	for _, k := range recipe.Keys() {
		if r.IsSet(k.Name) {
			out.Set = append(out.Set, k.Name)
		}
	}
	return out, nil
}
