package train

import (
	"math"
	"time"
)

// Record is one entry of trainer_state.json's log_history, as Trainer writes them: a log line, an evaluation (eval_loss,
// ...), or the summary at the end (train_runtime, ...).
type Record struct {
	Loss         *float64 `json:"loss,omitempty"`
	GradNorm     *float64 `json:"grad_norm,omitempty"`
	LearningRate *float64 `json:"learning_rate,omitempty"`

	EvalLoss             *float64 `json:"eval_loss,omitempty"`       // mean of all labelled tokens
	EvalPerplexity       *float64 `json:"eval_perplexity,omitempty"` // exp of it; Trainer does not write this one
	EvalRuntime          *float64 `json:"eval_runtime,omitempty"`
	EvalSamplesPerSecond *float64 `json:"eval_samples_per_second,omitempty"`

	Epoch float64 `json:"epoch"`
	Step  int     `json:"step"`

	TrainRuntime          *float64 `json:"train_runtime,omitempty"`
	TrainSamplesPerSecond *float64 `json:"train_samples_per_second,omitempty"`
	TrainStepsPerSecond   *float64 `json:"train_steps_per_second,omitempty"`
	TotalFlos             *float64 `json:"total_flos,omitempty"`
	TrainLoss             *float64 `json:"train_loss,omitempty"`
}

// log makes the line of a step: the mean loss since the last line, rounded to four decimals as Trainer does.
func (l *Loop) log(p *Progress) *Record {
	loss := round4(l.pending.Sum / float64(l.pending.Steps))
	r := Record{Loss: &loss, GradNorm: &p.GradNorm, LearningRate: &p.LearningRate, Epoch: p.Epoch, Step: p.Step}
	l.pending = lossSum{}
	l.history = append(l.history, r)
	return &r
}

// summarise appends the run's totals.
func (l *Loop) summarise(epoch float64) *Record {
	spent := time.Since(l.started).Seconds()
	samples := 0
	for s := l.fromStep; s < l.step; s++ {
		for _, mb := range l.Steps.At(s).MicroBatches {
			samples += len(mb)
		}
	}
	round := func(x float64) *float64 { x = math.Round(x*1000) / 1000; return &x }
	mean, flos := l.total.Sum/float64(l.total.Steps), 0.0
	r := Record{Epoch: epoch, Step: l.step, TrainRuntime: round(spent), TrainSamplesPerSecond: round(float64(samples) / spent),
		TrainStepsPerSecond: round(float64(l.step-l.fromStep) / spent), TotalFlos: &flos, TrainLoss: &mean}
	l.history = append(l.history, r)
	return &r
}

func round4(x float64) float64 { return math.Round(x*1e4) / 1e4 }
