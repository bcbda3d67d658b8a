// Package recipe reads the YAML file that describes a training run, with overrides from the command line.
//
// All keys stand in one table (keys.go), from which decoding, --help, docs/recipe.md and the resolved recipe are made. Names
// and defaults are those of transformers 4.43.2's TrainingArguments and peft 0.11.1's LoraConfig wherever these have one.
package recipe

import (
	"fmt"
	"math"
)

// Recipe is a complete, checked recipe. The comment of a key is in Keys.
type Recipe struct {
	Model   string
	Source  string   // auto, hf or ms
	Dataset []string // paths, at least one: see data.Spec

	Format     string   // auto or one of data.Formats
	Columns    []Column // what columns are for, where their names do not say it
	TrainOn    string   // replies, last or all
	MaxSamples int      // 0: all

	Template         string // TemplatePrompt or TemplateChat
	PromptTemplate   string
	ResponseTemplate string
	System           string
	AppendPadToken   bool
	MaxLength        int    // tokens; 0: no limit
	TooLong          string // cut, drop or error
	MaxCutShare      float64

	OutputDir            string
	Adapter              string // directory of the adapter to start from; "": a fresh one
	ResumeFromCheckpoint Resume

	LoRA LoRA

	PerDeviceTrainBatchSize   int
	GradientAccumulationSteps int
	NumTrainEpochs            float64
	MaxSteps                  int // > 0: decides the number of steps; -1: NumTrainEpochs does
	LossReduction             string
	Seed                      uint64

	LearningRate      float64
	LRSchedulerType   string
	LRSchedulerKwargs map[string]float64
	WarmupSteps       int // > 0: WarmupRatio has no effect
	WarmupRatio       float64
	WeightDecay       float64
	AdamBeta1         float64
	AdamBeta2         float64
	AdamEpsilon       float64
	MaxGradNorm       float64 // 0: no clipping

	LoggingSteps   Interval
	SaveSteps      Interval
	SaveTotalLimit int      // 0: all are kept
	EvalDataset    []string // nil: none
	EvalFraction   float64
	EvalSteps      Interval // 0: not given
	ReportTo       []string // out of jsonl, csv, tensorboard, or none alone

	SamplePrompts      []string // nil: of the data
	SampleMaxNewTokens int      // 0: no answers

	LoadBestModelAtEnd     bool
	EarlyStoppingPatience  int // evaluations; 0: the run goes to its end
	EarlyStoppingThreshold float64

	ComputeDtype          string
	AdapterDtype          string
	SharePrefix           string // auto, true or false
	GradientCheckpointing string // auto, true or false
	MaxMemory             int64  // bytes; 0: no limit
	Threads               int    // 0: all
	Device                string
	Allow                 []string

	// Notes are remarks for the user on keys that were taken without having their own effect.
	Notes []string

	origin
}

// origin is what a recipe knows of where it came from.
type origin struct {
	file       string           // "": no file, only overrides
	places     map[string]place // by dotted key, of every key that was set
	bf16, fp16 bool
	greater    bool // greater_is_better
}

// LoRA is the recipe's lora mapping, with LoraConfig's names.
type LoRA struct {
	R                 int
	LoraAlpha         int
	LoraDropout       float64
	TargetModules     TargetModules
	UseRSLoRA         bool
	LayersToTransform []int // nil: all layers
	RankPattern       Pattern
	AlphaPattern      Pattern
}

// Pattern gives some modules a value of their own, by module name or regular expression, in the order of the file: in PEFT
// the first key that matches a module counts.
type Pattern []PatternEntry

// PatternEntry is one key of a Pattern.
type PatternEntry struct {
	Key   string
	Value int
}

// TargetModules names the layers that get an adapter: as a list of module names, or as one text, which is a regular
// expression for the whole module name or "all-linear". Exactly one of the two is set.
type TargetModules struct {
	List    []string
	Pattern string
}

// Column says which column of a dataset has a role.
type Column struct{ Role, Name string }

// Resume says where training goes on: nowhere (not Enabled), at checkpoint Dir, or, with an empty Dir, at the newest whole
// checkpoint of output_dir.
type Resume struct {
	Enabled bool
	Dir     string
}

// Interval is a number of steps, or, below 1, a share of all steps, as TrainingArguments' logging_steps is.
type Interval float64

// Steps returns the interval in steps for a run of total steps (Trainer: math.ceil(max_steps * logging_steps)).
func (i Interval) Steps(total int) int {
	if i < 1 {
		return int(math.Ceil(float64(total) * float64(i)))
	}
	return int(i)
}

// Values of Recipe.Template.
const (
	TemplatePrompt = "prompt" // prompt_template and response_template
	TemplateChat   = "chat"   // the model's own chat template
)

// Formats of a dataset's rows, and what a column can be for: data.Formats and data.Roles.
var (
	formats = []string{"auto", "alpaca", "sharegpt", "messages", "prompt_completion", "text"}
	roles   = []string{"instruction", "input", "output", "system", "history", "messages", "tools", "prompt", "completion", "text"}
)

// Logs that Recipe.ReportTo can name.
var reports = []string{"jsonl", "csv", "tensorboard", "none"}

// Checks that Recipe.Allow can name.
var checks = []string{"unlabelled_rows", "cut_rows", "untrained_end", "double_bos", "template_mismatch"}

// defaults returns a recipe in which every key has its default.
func defaults() *Recipe {
	return &Recipe{
		Source:    "auto",
		Format:    "auto",
		Template:  TemplateChat,
		TrainOn:   "replies",
		TooLong:   "cut",
		OutputDir: "output",

		LoRA: LoRA{
			R:             8,
			LoraAlpha:     8,
			TargetModules: TargetModules{List: []string{"q_proj", "v_proj"}},
		},

		PerDeviceTrainBatchSize:   8,
		GradientAccumulationSteps: 1,
		NumTrainEpochs:            3,
		MaxSteps:                  -1,
		LossReduction:             "token_mean",
		Seed:                      42,

		LearningRate:    5e-5,
		LRSchedulerType: "linear",
		AdamBeta1:       0.9,
		AdamBeta2:       0.999,
		AdamEpsilon:     1e-8,
		MaxGradNorm:     1,

		LoggingSteps: 500,
		SaveSteps:    500,
		ReportTo:     []string{"jsonl"},

		SampleMaxNewTokens: 64,

		ComputeDtype:          "auto",
		AdapterDtype:          "float32",
		SharePrefix:           "auto",
		GradientCheckpointing: "auto",
		Device:                "auto",

		origin: origin{places: map[string]place{}},
	}
}

// IsSet tells whether the file or an override gave the key (dotted: lora.r) a value of its own.
func (r *Recipe) IsSet(key string) bool {
	_, ok := r.places[key]
	return ok
}

// Errorf returns an error about a key, with the place at which it was set: for what can only be found out later, such as a
// dataset that does not exist.
func (r *Recipe) Errorf(key, format string, args ...any) error {
	return &Error{File: r.file, place: r.places[key], Key: key, Reason: fmt.Sprintf(format, args...)}
}
