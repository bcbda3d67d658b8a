// Package train runs a LoRA fine-tuning job: optimizer steps, learning rates, logs and checkpoints.
package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"cria/internal/compute"
	"cria/internal/data"
	"cria/internal/llama"
	"cria/internal/pack"
)

// Loop is a training run. Run takes it from its step to the last one.
type Loop struct {
	Config
	loras  []*compute.LoRA  // of Adapter.Modules
	params []compute.Param  // lora_A and lora_B of each
	grads  []compute.Buffer // of params
	sums   []float64        // of their squares
	names  []string         // of params, PEFT's, as in adapter_model.safetensors
	state  *llama.State
	loss   compute.Buffer // (1, targets of a step)
	nll    []float32      // loss as read from the backend

	step    int      // optimizer steps made
	pending lossSum  // since the last log line
	total   lossSum  // of the whole run
	history []Record // trainer_state.json's log_history
	newest  string   // directory of the newest checkpoint

	groups   []group // of the rows of evaluation
	best     *best   // nil: no checkpoint was evaluated yet
	patience int     // evaluations since the best one

	started   time.Time
	aside     time.Duration // of the time since then, what evaluation took
	fromStep  int
	tokens    int // trained by this process
	seen      int // trained by the whole run
	reporters []*reporter
}

type lossSum struct {
	Sum   float64 `json:"sum"`
	Steps int     `json:"steps"`
}

// Progress is what a run tells while it goes: after every step.
type Progress struct {
	Step, Steps     int
	Epoch           float64
	Loss            float64 // of this step
	GradNorm        float64
	LearningRate    float64
	TokensPerSecond float64       // real tokens, shared or not, since the start of this process, without evaluation
	Left            time.Duration // estimated
	Record          *Record       // the log line, on every logging_steps-th step
	Eval            *Record       // the evaluation, where one was made
	Checkpoint      string        // directory that was just written
}

// ErrInterrupted is returned by Run when its context ended: the run was saved and can be resumed.
var ErrInterrupted = errors.New("interrupted")

// NonFiniteError stops a run before an update would ruin the adapter.
type NonFiniteError struct {
	Step int
	What string   // "loss" or the name of the tensor whose gradient is not finite
	Rows []string // where the rows come from
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("step %d: %s is not finite (NaN or infinite); the update was not made. Rows of this step: %s. "+
		"Lower learning_rate or look at these rows, then go on from the last checkpoint with resume_from_checkpoint=true",
		e.Step, e.What, join(e.Rows, 8))
}

// Run trains until the last step, or until evaluation ends it, or until ctx ends: then the step that is under way is finished,
// saved, and Run returns ErrInterrupted. An evaluation that ctx cuts off is made first when the run goes on.
func (l *Loop) Run(ctx context.Context) (err error) {
	l.started, l.aside, l.fromStep, l.tokens = time.Now(), 0, l.step, 0
	if !l.ended() || l.owed() {
		defer func() { err = errors.Join(err, l.closeLogs()) }()
		if err := l.openLogs(); err != nil {
			return err
		}
		// A run that was interrupted in an evaluation, or that had ended and goes on.
		l.history = slices.DeleteFunc(l.history, func(r Record) bool { return r.TrainRuntime != nil })
		e, err := l.evaluate(ctx)
		if err == nil {
			err = l.report(e)
		}
		switch {
		case err != nil:
			return err
		case l.owed():
			return ErrInterrupted
		case l.ended():
			if _, err := l.keep(); err != nil {
				return err
			}
		case e != nil && l.scheduled():
			l.rank(l.newest)
		}
	}
	for !l.ended() {
		p, err := l.trainStep()
		if err != nil {
			return err
		}
		if err := l.report(p.Record); err != nil {
			return err
		}
		if p.Eval, err = l.evaluate(ctx); err != nil {
			return err
		}
		if err := l.report(p.Eval); err != nil {
			return err
		}
		interrupted := l.owed() || ctx.Err() != nil && !l.ended()
		if interrupted || l.scheduled() {
			if p.Checkpoint, err = l.keep(); err != nil {
				return err
			}
		}
		if l.OnProgress != nil {
			l.OnProgress(*p)
		}
		if interrupted {
			return ErrInterrupted
		}
	}
	return l.saveFinal()
}

// ended says whether the step that was made last is the run's last one.
func (l *Loop) ended() bool { return l.step == l.Steps.Len() || l.enough() }

// scheduled says whether that step has a checkpoint in a run that nothing interrupts.
func (l *Loop) scheduled() bool { return l.ended() || l.SaveSteps > 0 && l.step%l.SaveSteps == 0 }

// keep writes the checkpoint of that step. Only a scheduled one can be the best, so that an interrupted run has the same.
func (l *Loop) keep() (dir string, err error) {
	epoch := l.Steps.At(l.step - 1).Epoch
	if l.scheduled() {
		l.rank(l.Checkpoint())
	}
	if l.ended() && !l.owed() {
		if err := l.report(l.summarise(epoch)); err != nil {
			return "", err
		}
	}
	if err := l.syncLogs(); err != nil {
		return "", err
	}
	return l.save(epoch)
}

// trainStep makes one optimizer step.
func (l *Loop) trainStep() (*Progress, error) {
	be, plan := l.Model.Backend(), l.Steps.At(l.step)
	step := l.pack(plan)
	runs, _, err := step.Plan(l.MaxRows)
	if err != nil {
		return nil, err
	}
	for _, g := range l.grads {
		be.Zero(g, compute.Span{To: g.Rows()})
	}
	drop := compute.NewDropout(l.Dropout, l.Seed, l.step+1)
	l.Model.RunStep(l.state, runs, drop, l.loss)

	loss, err := l.readLoss(step, plan)
	if err != nil {
		return nil, err
	}
	be.SumSquares(l.sums, l.grads)
	norm, scale, err := l.clip(l.sums, plan)
	if err != nil {
		return nil, err
	}
	o := l.Optimizer
	o.LR, o.Step, o.GradScale = l.Schedule.At(l.step), l.step+1, scale
	be.Update(l.params, o)
	l.step++

	l.tokens += step.Tokens
	l.seen += step.Tokens
	l.pending.add(loss)
	l.total.add(loss)
	spent := time.Since(l.started)
	done := l.step - l.fromStep
	p := &Progress{Step: l.step, Steps: l.Steps.Len(), Epoch: plan.Epoch, Loss: loss, GradNorm: norm, LearningRate: l.Schedule.At(l.step),
		TokensPerSecond: l.speed(spent), Left: spent / time.Duration(done) * time.Duration(l.Steps.Len()-l.step)}
	if l.LoggingSteps > 0 && l.step%l.LoggingSteps == 0 {
		p.Record = l.log(p)
	}
	return p, nil
}

// speed is tokens a second.
func (l *Loop) speed(spent time.Duration) float64 {
	return float64(l.tokens) / (spent - l.aside).Seconds()
}

func (s *lossSum) add(loss float64) {
	s.Sum += loss
	s.Steps++
}

// readLoss is the weighted sum of the step's losses, added in canonical order.
func (l *Loop) readLoss(step *pack.Step, plan data.Step) (float64, error) {
	nll := l.nll[:len(step.Targets)]
	l.Model.Backend().Read(nll, l.loss, 0)
	var sum float64
	bad := map[int32]bool{}
	for i, t := range step.Targets {
		sum += float64(nll[t.Index]) * float64(t.Weight)
		if x := float64(nll[t.Index]); math.IsNaN(x) || math.IsInf(x, 0) {
			bad[step.Source[i]] = true
		}
	}
	if len(bad) > 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0, &NonFiniteError{l.step + 1, "loss", l.where(plan, bad)}
	}
	return sum, nil
}

// clip returns the gradient's norm and the factor that brings it to max_grad_norm, as torch.nn.utils.clip_grad_norm_.
func (l *Loop) clip(squares []float64, plan data.Step) (norm float64, scale float32, err error) {
	var sum float64
	for i, s := range squares {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return 0, 0, &NonFiniteError{l.step + 1, "the gradient of " + l.names[i], l.where(plan, nil)}
		}
		sum += s
	}
	norm, scale = math.Sqrt(sum), 1
	if l.MaxGradNorm > 0 {
		scale = float32(min(1, l.MaxGradNorm/(norm+1e-6)))
	}
	return norm, scale, nil
}

// where names the rows of a step, or only those whose number in it is in only.
func (l *Loop) where(plan data.Step, only map[int32]bool) (out []string) {
	n := int32(0)
	for _, mb := range plan.MicroBatches {
		for _, r := range mb {
			if len(only) == 0 || only[n] {
				out = append(out, l.Rows.Where(r))
			}
			n++
		}
	}
	return out
}

func join(s []string, most int) string {
	out := ""
	for i, x := range s {
		if i == most {
			return fmt.Sprintf("%s and %d more", out, len(s)-most)
		}
		if i > 0 {
			out += ", "
		}
		out += x
	}
	return out
}
