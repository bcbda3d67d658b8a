package data

import (
	"errors"
	"fmt"
	"math"

	"cria/internal/torchrng"
)

// Order returns the rows of one epoch in training order: a permutation of 0..n-1, as accelerate 0.32.1's
// SeedableRandomSampler gives it, which seeds a generator with seed + epoch (epochs count from 0).
func Order(n int, seed uint64, epoch int) []int {
	return torchrng.New(seed + uint64(epoch)).Perm(n)
}

// Plan is the size of a run: which rows go into which optimizer step, and how many steps there are.
type Plan struct {
	Rows         int     // rows of the dataset
	Batch        int     // per_device_train_batch_size: rows of a micro-batch
	Accumulation int     // gradient_accumulation_steps: micro-batches of a step
	Epochs       float64 // num_train_epochs, used where MaxSteps <= 0
	MaxSteps     int     // max_steps; > 0 decides the number of steps whatever Epochs is
	Seed         uint64
}

// Step is one optimizer step.
type Step struct {
	// MicroBatches lists the row numbers of each micro-batch. Every micro-batch's loss counts 1/Accumulation, even
	// where a step has fewer of them (see Steps).
	MicroBatches [][]int
	// Epoch is the number that the reference logs for the step: epochs done, as a fraction of the micro-batches of an
	// epoch.
	Epoch float64
}

// Steps is the sequence of optimizer steps of a run, as transformers 4.43.2 with accelerate 0.32.1 makes it
// (Trainer._inner_training_loop). Any step can be asked for at any time, so a resumed run replays nothing.
//
// An epoch is ceil(Rows/Batch) micro-batches, the last one smaller where Batch does not divide Rows. The counter that
// decides when a step is complete runs on across the end of an epoch (Trainer sets accelerate's sync_with_dataloader to
// false), so a step may hold the end of one epoch and the beginning of the next. The number of steps does not know of that:
// it is ceil(Epochs * floor(micro-batches/Accumulation)), and what the last epoch has left over is never trained.
//
// Where an epoch has fewer micro-batches than Accumulation, Trainer also completes a step at the end of every epoch, and
// does not start its counter again: such runs hold steps of different sizes. The loss of a micro-batch is divided by
// Accumulation all the same, so those steps have smaller gradients. Steps repeats that.
//
// Trainer itself resumes at another place than the uninterrupted run has reached: it assumes that every epoch begins with
// a new step. Steps does not repeat that.
//
// A Steps is not safe for concurrent use: it keeps the last two orders.
type Steps struct {
	plan     Plan
	perEpoch int // micro-batches of an epoch
	steps    int
	orders   [2]struct {
		epoch int
		order []int
	}
}

// NewSteps checks the plan and counts its steps.
func NewSteps(p Plan) (*Steps, error) {
	const limit = 1 << 30 // rows, batch and accumulation: far beyond any run, and their products stay exact
	switch {
	case p.Rows < 1:
		return nil, errors.New("the dataset has no rows")
	case p.Batch < 1 || p.Accumulation < 1:
		return nil, fmt.Errorf("per_device_train_batch_size %d and gradient_accumulation_steps %d must be at least 1", p.Batch, p.Accumulation)
	case p.Batch > limit || p.Accumulation > limit || p.Rows > limit:
		return nil, errors.New("per_device_train_batch_size, gradient_accumulation_steps or the dataset is too large to count")
	}
	s := &Steps{plan: p, perEpoch: (p.Rows + p.Batch - 1) / p.Batch}
	if p.MaxSteps > 0 {
		s.steps = p.MaxSteps
	} else {
		n := math.Ceil(p.Epochs * float64(s.updatesPerEpoch()))
		if !(n >= 1 && n <= limit) {
			return nil, fmt.Errorf("num_train_epochs %v over %d rows makes no countable number of steps", p.Epochs, p.Rows)
		}
		s.steps = int(n)
	}
	if s.steps > limit {
		return nil, fmt.Errorf("max_steps %d is too large to count", s.steps)
	}
	for i := range s.orders {
		s.orders[i].epoch = -1
	}
	return s, nil
}

// updatesPerEpoch is Trainer's num_update_steps_per_epoch.
func (s *Steps) updatesPerEpoch() int { return max(s.perEpoch/s.plan.Accumulation, 1) }

// Len returns the number of optimizer steps: Trainer's max_steps.
func (s *Steps) Len() int { return s.steps }

// MicroBatchesPerEpoch returns the number of micro-batches of an epoch.
func (s *Steps) MicroBatchesPerEpoch() int { return s.perEpoch }

// NumTrainEpochs returns the whole number that Trainer writes into trainer_state.json as num_train_epochs.
func (s *Steps) NumTrainEpochs() int {
	if s.plan.MaxSteps > 0 {
		u := s.updatesPerEpoch()
		return (s.plan.MaxSteps + u - 1) / u
	}
	return int(math.Ceil(s.plan.Epochs))
}

// At returns step i, 0 <= i < Len. The result is the caller's.
func (s *Steps) At(i int) Step {
	if i < 0 || i >= s.steps {
		panic(fmt.Sprintf("data: step %d of %d", i, s.steps))
	}
	first, last := s.end(i), s.end(i+1)
	step := Step{MicroBatches: make([][]int, 0, last-first)}
	for t := first; t < last; t++ {
		order := s.order(t / s.perEpoch)
		from := t % s.perEpoch * s.plan.Batch
		to := min(from+s.plan.Batch, s.plan.Rows)
		step.MicroBatches = append(step.MicroBatches, append([]int(nil), order[from:to]...))
	}
	t := last - 1
	step.Epoch = float64(t/s.perEpoch) + float64(t%s.perEpoch+1)/float64(s.perEpoch)
	return step
}

// end returns how many micro-batches the first n steps hold together. Steps end where the count of micro-batches is a
// multiple of Accumulation and, with short epochs, also where it is a multiple of an epoch's size.
func (s *Steps) end(n int) int {
	g, m := s.plan.Accumulation, s.perEpoch
	if m >= g {
		return n * g
	}
	both := g / gcd(g, m) * m
	ended := func(t int) int { return t/g + t/m - t/both }
	low, high := 0, n*m // n epochs end at least n steps
	for low < high {
		mid := low + (high-low)/2
		if ended(mid) < n {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// order returns the order of an epoch. A step touches two epochs at most, so two are kept.
func (s *Steps) order(epoch int) []int {
	o := &s.orders[epoch%2]
	if o.epoch != epoch {
		o.epoch, o.order = epoch, Order(s.plan.Rows, s.plan.Seed, epoch)
	}
	return o.order
}
