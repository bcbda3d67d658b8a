package train

import (
	"context"
	"slices"

	"cria/internal/compute"
	"cria/internal/data"
	"cria/internal/pack"
)

// surveyTokens is how many tokens of a run are looked at, in whole steps.
const surveyTokens = 32 << 20

// Count is a number of tokens in a step.
type Count struct {
	Mean    float64 `json:"mean"`
	Largest int     `json:"largest"`
}

// survey is what a look at the steps of a run tells.
type survey struct {
	steps    int // looked at, from the first; what is said of rows and targets holds for all
	whole    bool
	tokens   Count
	computed Count // tokens that are left when shared ones are computed once
	labelled Count
	minRows  int     // the longest row
	targets  int     // of a step
	largest  int     // the step that computes most tokens
	groups   []group // of the rows of evaluation
}

// survey looks at all steps of a run, or where these are very many at the first ones; for the others it takes bounds.
func (c *Config) survey(ctx context.Context) (survey, error) {
	var s survey
	var tokens, computed, labelled int
	for s.steps < c.Steps.Len() && tokens < surveyTokens {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		st := c.pack(c.Steps.At(s.steps))
		tokens, computed, labelled = tokens+st.Tokens, computed+len(st.IDs), labelled+st.Labels
		if len(st.IDs) > s.computed.Largest || s.steps == 0 {
			s.largest = s.steps
		}
		s.tokens.Largest, s.computed.Largest, s.labelled.Largest = max(s.tokens.Largest, st.Tokens), max(s.computed.Largest, len(st.IDs)), max(s.labelled.Largest, st.Labels)
		s.minRows, s.targets = max(s.minRows, st.MinRows()), max(s.targets, len(st.Targets))
		s.steps++
	}
	n := float64(max(s.steps, 1))
	s.tokens.Mean, s.computed.Mean, s.labelled.Mean = float64(tokens)/n, float64(computed)/n, float64(labelled)/n
	s.whole = s.steps == c.Steps.Len()
	if !s.whole {
		var lengths, labels []int
		for i := range c.Rows.Len() {
			lengths, labels = append(lengths, c.Rows.Tokens(i)), append(labels, c.Rows.Labelled(i))
		}
		most := func(x []int) (sum int) {
			slices.Sort(x)
			for _, v := range x[max(0, len(x)-c.BatchSize*c.Accumulation):] {
				sum += v
			}
			return sum
		}
		s.tokens.Largest, s.labelled.Largest = most(lengths), most(labels)
		s.computed.Largest, s.targets = s.tokens.Largest, s.labelled.Largest
		s.minRows = max(s.minRows, lengths[len(lengths)-1])
	}
	if c.Eval != nil {
		for i := range c.Eval.Len() {
			s.minRows, s.targets = max(s.minRows, c.Eval.Tokens(i)), max(s.targets, c.Eval.Labelled(i))
		}
		s.groups = grouped(c.Eval, max(s.tokens.Largest, s.minRows), s.targets)
	}
	return s, nil
}

// sample is up to n of the steps looked at, at equal distances, of not too many tokens together.
func (c *Config) sample(s *survey, n int) (out []*pack.Step) {
	const most = 1 << 18
	n = min(n, s.steps, 1+int(most/max(s.computed.Mean, 1)))
	for i := range n {
		out = append(out, c.pack(c.Steps.At((2*i+1)*s.steps/(2*n))))
	}
	return out
}

// longest is a step of the longest rows, which no step exceeds in any number that memory depends on but what sharing does.
func (c *Config) longest() *pack.Step { return c.longestOf(c.Rows, c.BatchSize*c.Accumulation) }

// longestOf is a step of the n longest rows.
func (c *Config) longestOf(all data.Rows, n int) *pack.Step {
	order := make([]int, all.Len())
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return all.Tokens(b) - all.Tokens(a) })
	var rows []pack.Row
	for _, i := range order[:min(len(order), n)] {
		rows = append(rows, all.Row(i))
	}
	return pack.NewStep([][]pack.Row{rows}, c.Reduction, c.Accumulation, c.Share)
}

// demands goes through the steps looked at, in passes of at most maxRows rows. It returns the stack that all steps of the
// run need, and the steps that need most of each kind of scratch.
func (c *Config) demands(ctx context.Context, s *survey, maxRows int) (need pack.Stack, most []*pack.Step, err error) {
	need, most, err = largest(ctx, s.steps, func(i int) *pack.Step { return c.pack(c.Steps.At(i)) }, maxRows)
	if err != nil {
		return need, nil, err
	}
	if !s.whole {
		most = append(most, c.longest())
		need = pack.Stack{Rows: s.computed.Largest, Split: s.minRows}
		if maxRows > 0 {
			need = pack.Stack{Rows: min(maxRows, s.computed.Largest), Split: s.minRows}
		}
	}
	eval, groups, err := c.evalDemands(ctx, s, maxRows)
	return need.Max(eval), append(most, groups...), err
}

// largest goes through n steps in passes of at most maxRows rows. It returns the stack that all of them need, and those that
// need most of each kind of scratch.
func largest(ctx context.Context, n int, step func(i int) *pack.Step, maxRows int) (need pack.Stack, most []*pack.Step, err error) {
	var at [4]int
	var record [4]int
	for i := range n {
		if err := ctx.Err(); err != nil {
			return need, nil, err
		}
		runs, stack, err := step(i).Plan(maxRows)
		if err != nil {
			return need, nil, err
		}
		need = need.Max(stack)
		for k, v := range demand(runs) {
			if v > record[k] {
				at[k], record[k] = i, v
			}
		}
	}
	slices.Sort(at[:])
	for _, i := range slices.Compact(at[:]) {
		if i < n {
			most = append(most, step(i))
		}
	}
	return need, most, nil
}

// demand is what scratch grows with: rows, targets, keys of all blocks of queries, keys of one.
func demand(runs []pack.Run) (most [4]int) {
	for i := range runs {
		p, sum := &runs[i].Pass, 0
		p.Blocks(func(seg int, rows compute.Span) {
			keys := rows.To - p.Segments[seg].From
			for _, c := range p.Segments[seg].Context {
				keys += c.Len()
			}
			sum += keys
			most[3] = max(most[3], keys)
		})
		most[0], most[1], most[2] = max(most[0], p.Rows.Len()), max(most[1], len(runs[i].Targets)), max(most[2], sum)
	}
	return most
}
