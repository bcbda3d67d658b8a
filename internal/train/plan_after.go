package train

import (
	"context"
	"fmt"

	"cria/internal/generate"
	"cria/internal/pack"
)

// answering makes room in a plan for the answers after training, or gives them up where they do not fit in limit. d is the dry
// run of the plan's steps: of what these take only the activations are gone.
func (p *planner) answering(ctx context.Context, plan *Plan, d *dryRun, limit int64) error {
	most := 0
	for i := range p.c.prompts {
		most = max(most, len(p.c.prompts[i].ids))
	}
	if most == 0 {
		return nil
	}
	// The longest text as one prompt, but for a token that is decoded by itself.
	ids := make([]int32, max(1, min(most+p.c.maxNewTokens, p.cfg.MaxPositionEmbeddings)-2))
	if _, err := generate.NewSession(d.loop.Model).Generate(ctx, ids, generate.Options{MaxNewTokens: 2}, nil); err != nil {
		return err
	}
	after := *d
	after.use, after.need = d.backend.Usage(), pack.Stack{}
	after.use.Buffers -= d.activations.Sum()
	switch own, percent := p.own(&after); {
	case own <= plan.Memory.Own:
	case own <= limit:
		plan.Memory.Own, plan.collect = own, percent
	default:
		plan.unanswered = fmt.Sprintf("a prompt and its answer of up to %d tokens would take %s of memory, and there are %s", len(ids)+2, size(own), size(limit))
	}
	return nil
}

// evaluating counts what evaluation computes, by some of its groups.
func (p *planner) evaluating(plan *Plan, s setting, need pack.Stack) error {
	const looked, most = 16, 1 << 18 // groups and tokens
	n := len(p.groups)
	if n == 0 {
		return nil
	}
	plan.EvalRows, plan.Evaluations = p.c.Eval.Len(), 1
	if every := p.c.EvalSteps; every > 0 {
		plan.Evaluations = (plan.Steps + every - 1) / every
	}
	d, err := p.dry(s, need, nil)
	if err != nil {
		return err
	}
	tokens, before := 0, d.backend.Usage().FLOP
	for i := 0; i < min(n, looked) && tokens < most; i++ {
		step := p.c.packEval(p.groups[(2*i+1)*n/(2*min(n, looked))])
		runs, _, err := step.Plan(s.rows)
		if err != nil {
			return err
		}
		d.loop.Model.Evaluate(d.loop.state, runs, d.loop.loss)
		tokens += step.Tokens
	}
	all := 0
	for i := range p.c.Eval.Len() {
		all += p.c.Eval.Tokens(i)
	}
	plan.FLOP.Evaluation = (d.backend.Usage().FLOP - before) * float64(all) / float64(tokens)
	return nil
}
