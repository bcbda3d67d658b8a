package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/pack"
)

// group is a range of evaluation rows that are computed together.
type group struct{ from, to int }

// grouped divides rows into groups that have no more tokens than a training step, and no more targets: evaluation takes no
// more memory than training. A row that alone has more is a group.
func grouped(rows data.Rows, tokens, targets int) (out []group) {
	g, sum, labels := group{}, 0, 0
	for i := range rows.Len() {
		n, l := rows.Tokens(i), rows.Labelled(i)
		if i > g.from && (sum+n > tokens || labels+l > targets) {
			out = append(out, g)
			g, sum, labels = group{from: i}, 0, 0
		}
		g.to, sum, labels = i+1, sum+n, labels+l
	}
	if g.to > g.from {
		out = append(out, g)
	}
	return out
}

// packEval makes a group's trie.
func (c *Config) packEval(g group) *pack.Step {
	rows := make([]pack.Row, 0, g.to-g.from)
	for i := g.from; i < g.to; i++ {
		rows = append(rows, c.Eval.Row(i))
	}
	return pack.NewStep([][]pack.Row{rows}, pack.TokenMean, 1, c.Share)
}

// evalDemands is demands of the groups of evaluation; where they are very many, of the first and of a bound for the others.
func (c *Config) evalDemands(ctx context.Context, s *survey, maxRows int) (need pack.Stack, most []*pack.Step, err error) {
	tokens, looked, longest := 0, 0, 0
	for _, g := range s.groups {
		if tokens < surveyTokens {
			looked++
		}
		for i := g.from; i < g.to; i++ {
			tokens, longest = tokens+c.Eval.Tokens(i), max(longest, c.Eval.Tokens(i))
		}
	}
	need, most, err = largest(ctx, looked, func(i int) *pack.Step { return c.packEval(s.groups[i]) }, maxRows)
	if err != nil || looked == len(s.groups) {
		return need, most, err
	}
	rows := max(s.tokens.Largest, s.minRows)
	if maxRows > 0 {
		rows = min(rows, maxRows)
	}
	step := c.longestOf(c.Eval, c.BatchSize*c.Accumulation)
	_, stack, err := step.Plan(maxRows)
	return need.Max(stack).Max(pack.Stack{Rows: rows, Split: longest}), append(most, step), err
}

// Evaluate computes the mean loss of all labelled tokens of the evaluation rows, without dropout. It changes nothing that
// training reads. (Trainer averages the means of its batches instead, so that its eval_loss depends on
// per_device_eval_batch_size; the two agree where all batches have the same number of labels.)
func (l *Loop) Evaluate(ctx context.Context) (loss float64, err error) {
	var sum float64
	labels := 0
	for _, g := range l.groups {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		step := l.packEval(g)
		runs, _, err := step.Plan(l.MaxRows)
		if err != nil {
			return 0, err
		}
		l.Model.Evaluate(l.state, runs, l.loss)
		nll := l.nll[:len(step.Targets)]
		l.Model.Backend().Read(nll, l.loss, 0)
		for _, t := range step.Targets {
			sum += float64(nll[t.Index])
		}
		labels += len(step.Targets)
	}
	return sum / float64(labels), nil
}

// evaluated is the eval_loss that the log has of the step that was made last; nil: none.
func (l *Loop) evaluated() *float64 {
	for i := len(l.history) - 1; i >= 0 && l.history[i].Step == l.step; i-- {
		if e := l.history[i].EvalLoss; e != nil {
			return e
		}
	}
	return nil
}

// owed says whether an evaluation of the step that was made last is due and was not made.
func (l *Loop) owed() bool {
	due := l.step == l.Steps.Len() || l.EvalSteps > 0 && l.step%l.EvalSteps == 0
	return l.groups != nil && l.step > 0 && due && l.evaluated() == nil
}

// evaluate logs an evaluation, if one is owed, and judges whether the run should end. It does neither where ctx ends before.
func (l *Loop) evaluate(ctx context.Context) (*Record, error) {
	if !l.owed() {
		return nil, nil
	}
	start := time.Now()
	loss, err := l.Evaluate(ctx)
	if ctx.Err() != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l.aside += time.Since(start)
	spent := time.Since(start).Seconds()
	speed := math.Round(float64(l.Eval.Len())/spent*1000) / 1000
	spent, perplexity := round4(spent), math.Exp(loss)
	r := Record{EvalLoss: &loss, EvalPerplexity: &perplexity, EvalRuntime: &spent, EvalSamplesPerSecond: &speed, Epoch: l.Steps.At(l.step - 1).Epoch, Step: l.step}
	if math.IsInf(perplexity, 0) || math.IsNaN(perplexity) {
		r.EvalPerplexity = nil // JSON has no such number
	}
	if math.IsInf(loss, 0) || math.IsNaN(loss) {
		return nil, &NonFiniteError{l.step, "the loss of evaluation", nil}
	}
	l.history = append(l.history, r)
	// transformers.EarlyStoppingCallback
	if l.best == nil || loss < l.best.Metric && l.best.Metric-loss > l.Threshold {
		l.patience = 0
	} else {
		l.patience++
	}
	return &r, nil
}

// enough says whether evaluation has ended the run.
func (l *Loop) enough() bool { return l.Patience > 0 && l.patience >= l.Patience }

// best is the checkpoint with the smallest eval_loss. As in Trainer only those checkpoints take part that were written in a
// step with an evaluation.
type best struct {
	Metric float64 `json:"metric"`
	Step   int     `json:"step"`
	dir    string
}

// rank makes dir, the checkpoint of the step that was made last, the best one, if it is.
func (l *Loop) rank(dir string) {
	if e := l.evaluated(); e != nil && (l.best == nil || *e < l.best.Metric) {
		l.best = &best{*e, l.step, dir}
	}
}

// findBest takes over what the checkpoint dir says of the best one, which lies beside it. One that was deleted is none.
func (l *Loop) findBest(dir string, b *best) error {
	if b == nil {
		return nil
	}
	b.dir = filepath.Join(filepath.Dir(dir), checkpointName(b.Step))
	if b.Step == l.step {
		b.dir = dir
	}
	if _, err := l.FS.Lstat(b.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := disk.Verify(l.FS, b.dir); err != nil && !errors.Is(err, disk.ErrExtra) {
		return fmt.Errorf("the best checkpoint: %w; delete %s to go on without it", err, b.dir)
	}
	l.best = b
	return nil
}

// Best is the checkpoint with the smallest eval_loss, "" where there is none.
func (l *Loop) Best() (dir string, evalLoss float64) {
	if l.best == nil {
		return "", 0
	}
	return l.best.dir, l.best.Metric
}

// Stopped says whether early stopping ended the run.
func (l *Loop) Stopped() bool { return l.enough() && l.step < l.Steps.Len() }

// configureEval sets what the recipe says of evaluation.
func (j *Job) configureEval(c *Config) error {
	r := j.Recipe
	if c.Eval == nil {
		return nil
	}
	total := c.Steps.Len()
	labels := 0
	for i := range c.Eval.Len() {
		labels += c.Eval.Labelled(i)
	}
	if labels == 0 {
		key := "eval_dataset"
		if r.EvalDataset == nil {
			key = "eval_fraction"
		}
		return r.Errorf(key, "no row of evaluation has a token that is trained, so there is no loss; name more rows")
	}
	c.EvalSteps = c.LoggingSteps
	if r.EvalSteps != 0 {
		c.EvalSteps = r.EvalSteps.Steps(total)
	}
	c.LoadBest, c.Patience, c.Threshold = r.LoadBestModelAtEnd, r.EarlyStoppingPatience, r.EarlyStoppingThreshold
	if c.LoadBest && c.SaveSteps > 0 && (c.EvalSteps <= 0 || c.SaveSteps%c.EvalSteps != 0) {
		return r.Errorf("load_best_model_at_end", "needs every checkpoint to be evaluated: save_steps (%d) must be a multiple of eval_steps (%d)", c.SaveSteps, c.EvalSteps)
	}
	return nil
}
