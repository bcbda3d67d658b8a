package data

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func (j job) plan(rows int) Plan {
	seed := uint64(42)
	if j.Args.Seed != nil {
		seed = *j.Args.Seed
	}
	return Plan{Rows: rows, Batch: j.Args.Batch, Accumulation: j.Args.Accumulation, Epochs: j.Args.Epochs, Seed: seed}
}

// The reference's own runs: micro-batches in the order in which its Trainer saw them, and the epochs that it logged.
func TestStepsAsReference(t *testing.T) {
	for _, run := range []string{"train-fp32", "train-bf16", "train-variant", "smollm2-train"} {
		var j job
		var order [][]int
		var rows []json.RawMessage
		var log []struct {
			Epoch float64
			Step  int
			Loss  *float64
		}
		readJSON(t, golden+run+"/job.json", &j)
		readJSON(t, golden+run+"/order.json", &order)
		readJSON(t, golden+run+"/rows.json", &rows)
		readJSON(t, golden+run+"/log_history.json", &log)
		steps, err := NewSteps(j.plan(len(rows)))
		if err != nil {
			t.Fatal(err)
		}
		compareOrder(t, run, steps, j.Args.Accumulation, order)
		n := 0
		for _, entry := range log {
			if entry.Loss == nil {
				continue
			}
			n++
			if got := steps.At(entry.Step - 1).Epoch; got != entry.Epoch {
				t.Errorf("%s: step %d: epoch %v, want %v", run, entry.Step, got, entry.Epoch)
			}
		}
		if n != steps.Len() {
			t.Errorf("%s: %d steps, the reference logged %d", run, steps.Len(), n)
		}
	}
}

func TestStepsOfTheTutorial(t *testing.T) {
	var order [][]int
	readJSON(t, golden+"order-3729-seed42.json", &order)
	steps, err := NewSteps(Plan{Rows: 3729, Batch: 4, Accumulation: 4, Epochs: 3, Seed: 42})
	if err != nil {
		t.Fatal(err)
	}
	if steps.Len() != 699 || steps.MicroBatchesPerEpoch() != 933 || steps.NumTrainEpochs() != 3 {
		t.Errorf("%d steps, %d micro-batches an epoch, %d epochs", steps.Len(), steps.MicroBatchesPerEpoch(), steps.NumTrainEpochs())
	}
	compareOrder(t, "tutorial", steps, 4, order)
	thirteen := 0
	for i := range steps.Len() {
		n := 0
		for _, mb := range steps.At(i).MicroBatches {
			n += len(mb)
		}
		if n == 13 {
			thirteen++
		} else if n != 16 {
			t.Errorf("step %d has %d rows", i, n)
		}
	}
	if thirteen != 2 {
		t.Errorf("%d steps of 13 rows, want 2", thirteen)
	}
}

// compareOrder checks every step against the micro-batches as listed; the last one listed was prefetched and not trained.
func compareOrder(t *testing.T, run string, steps *Steps, accumulation int, order [][]int) {
	t.Helper()
	next := 0
	for i := range steps.Len() {
		step := steps.At(i)
		if len(step.MicroBatches) != accumulation {
			t.Fatalf("%s: step %d has %d micro-batches", run, i, len(step.MicroBatches))
		}
		for _, mb := range step.MicroBatches {
			if !slices.Equal(mb, order[next]) {
				t.Fatalf("%s: step %d micro-batch %d: %v, want %v", run, i, next, mb, order[next])
			}
			next++
		}
	}
	if next != len(order)-1 {
		t.Errorf("%s: %d micro-batches, want all but the last of %d", run, next, len(order))
	}
}

// Runs of Trainer 4.43.2 with accelerate 0.32.1 whose epochs are about as long as a step or shorter: how many
// micro-batches each step held, and the epoch after it. Regenerate with testdata/trainer_steps.py.
func TestStepsOfShortEpochs(t *testing.T) {
	b, err := os.ReadFile("testdata/trainer_steps.json")
	if err != nil {
		t.Fatal(err)
	}
	var runs []struct {
		Rows, Batch, Accumulation int
		Epochs                    float64
		MaxSteps                  int `json:"max_steps"`
		Steps                     []struct {
			MicroBatches [][]int `json:"micro_batches"`
			Epoch        float64
		}
		NumTrainEpochs int `json:"num_train_epochs"`
	}
	if err := json.Unmarshal(b, &runs); err != nil {
		t.Fatal(err)
	}
	if len(runs) == 0 {
		t.Fatal("no runs")
	}
	for _, r := range runs {
		s, err := NewSteps(Plan{Rows: r.Rows, Batch: r.Batch, Accumulation: r.Accumulation, Epochs: r.Epochs, MaxSteps: r.MaxSteps, Seed: 42})
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() != len(r.Steps) || s.NumTrainEpochs() != r.NumTrainEpochs {
			t.Errorf("%+v: %d steps, %d epochs", r, s.Len(), s.NumTrainEpochs())
			continue
		}
		for i, want := range r.Steps {
			got := s.At(i)
			if got.Epoch != want.Epoch || !slices.EqualFunc(got.MicroBatches, want.MicroBatches, slices.Equal[[]int]) {
				t.Errorf("%+v: step %d: %v, want %v", r, i, got, want)
			}
		}
	}
}

// TestStepsAgainstLoop compares random access with the reference's loop, written down as it stands, for any sizes.
func TestStepsAgainstLoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Plan{
			Rows:         rapid.IntRange(1, 40).Draw(t, "rows"),
			Batch:        rapid.IntRange(1, 7).Draw(t, "batch"),
			Accumulation: rapid.IntRange(1, 12).Draw(t, "accumulation"),
			Epochs:       rapid.Float64Range(0.01, 6).Draw(t, "epochs"),
			MaxSteps:     rapid.IntRange(-1, 30).Draw(t, "max_steps"),
			Seed:         uint64(rapid.Uint32().Draw(t, "seed")),
		}
		s, err := NewSteps(p)
		if err != nil {
			t.Fatal(err)
		}
		want := trainerLoop(p, s.Len(), s.NumTrainEpochs())
		if len(want) != s.Len() {
			t.Fatalf("the loop makes %d steps, Len is %d", len(want), s.Len())
		}
		for _, i := range rapid.Permutation(seq(len(want))).Draw(t, "access") {
			got := s.At(i)
			if got.Epoch != want[i].Epoch || !slices.EqualFunc(got.MicroBatches, want[i].MicroBatches, slices.Equal[[]int]) {
				t.Fatalf("step %d: %v, want %v", i, got, want[i])
			}
		}
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// trainerLoop is the skeleton of Trainer._inner_training_loop.
func trainerLoop(p Plan, maxSteps, epochs int) []Step {
	var steps []Step
	var held [][]int
	total := 0
	for epoch := range epochs {
		order := Order(p.Rows, p.Seed, epoch)
		inEpoch := (p.Rows + p.Batch - 1) / p.Batch
		for i := range inEpoch {
			total++
			held = append(held, order[i*p.Batch:min((i+1)*p.Batch, p.Rows)])
			if total%p.Accumulation == 0 || inEpoch <= p.Accumulation && i+1 == inEpoch {
				steps = append(steps, Step{held, float64(epoch) + float64(i+1)/float64(inEpoch)})
				held = nil
				if len(steps) == maxSteps {
					return steps
				}
			}
		}
	}
	return steps
}

func TestNewStepsErrors(t *testing.T) {
	for _, p := range []Plan{
		{Rows: 0, Batch: 1, Accumulation: 1, Epochs: 1},
		{Rows: 1, Batch: 0, Accumulation: 1, Epochs: 1},
		{Rows: 1, Batch: 1, Accumulation: -1, Epochs: 1},
		{Rows: 1, Batch: 1, Accumulation: 1, Epochs: 0},
		{Rows: 1, Batch: 1, Accumulation: 1, Epochs: 1e300},
		{Rows: 1, Batch: 1, Accumulation: 1 << 40, Epochs: 1},
		{Rows: 1, Batch: 1, Accumulation: 1, MaxSteps: 1 << 40},
	} {
		if s, err := NewSteps(p); err == nil {
			t.Errorf("%+v: %d steps", p, s.Len())
		}
	}
}
