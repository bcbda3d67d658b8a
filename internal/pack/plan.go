package pack

import (
	"fmt"
	"slices"
	"sort"

	"cria/internal/compute"
)

// Phase says what a run does with its tokens.
type Phase int

const (
	Forward Phase = 1 << iota
	Backward
)

// Run is one piece of work of a step: forward, backward, or both, over consecutive nodes.
//
// Activations stand on a stack of rows: a node that does not fit in one pass together with its descendants is computed
// forward first; groups of its children are computed above it, forward and backward, one group after the other in the
// same rows; its own backward comes last. So nothing is computed twice and rows are bounded by the largest group.
type Run struct {
	Phase   Phase
	Pass    compute.Pass
	IDs     []int32
	Targets []compute.Target
}

// Stack is a number of rows of activations, and how many of them, from the bottom, belong to nodes that go backward in a
// later run than their descendants.
type Stack struct{ Rows, Split int }

// Max is what serves two plans.
func (s Stack) Max(t Stack) Stack { return Stack{max(s.Rows, t.Rows), max(s.Split, t.Split)} }

// Plan returns the runs of the step for at most maxRows rows of activations (0: no bound), and the stack that they need.
// Runs go from the last node to the first, which is what keeps every sum over tokens in one order (compute.BlockRows).
func (s *Step) Plan(maxRows int) (runs []Run, need Stack, err error) {
	if maxRows <= 0 {
		maxRows = len(s.IDs)
	}
	p := &planner{step: s, max: maxRows, row: make([]int, len(s.Nodes))}
	if err := p.children(0, len(s.Nodes), 0); err != nil {
		return nil, Stack{}, err
	}
	return p.runs, p.need, nil
}

// MinRows is the smallest maxRows for which Plan succeeds: the longest path from a root to a leaf.
func (s *Step) MinRows() int {
	longest := 0
	for i := range s.Nodes {
		longest = max(longest, s.Nodes[i].Pos+s.Nodes[i].Len())
	}
	return longest
}

type planner struct {
	step *Step
	max  int
	need Stack
	row  []int // of each node's first token on the stack
	runs []Run
}

// children plans the sibling subtrees in nodes [from, to), whose ancestors stand below row base of the stack.
func (p *planner) children(from, to, base int) error {
	var tops []int // first nodes of the sibling subtrees
	for i := from; i < to; i = p.step.Nodes[i].End {
		tops = append(tops, i)
	}
	fits := func(top int) bool { return p.tokens(top, p.step.Nodes[top].End) <= p.max-base }
	for n := len(tops); n > 0; n = len(tops) {
		end := p.step.Nodes[tops[n-1]].End
		if !fits(tops[n-1]) {
			if err := p.split(tops[n-1], base); err != nil {
				return err
			}
			tops = tops[:n-1]
			continue
		}
		first := n - 1
		for first > 0 && fits(tops[first-1]) {
			first--
		}
		for _, top := range p.groups(tops[first:], end, p.max-base) {
			p.add(Forward|Backward, top, end, base)
			end = top
		}
		tops = tops[:first]
	}
	return nil
}

// groups divides consecutive subtrees, the last one ending before node end, into as few groups of at most limit tokens as
// there can be, and these into groups as equal as they can be. It returns the first node of each, last group first.
func (p *planner) groups(tops []int, end, limit int) []int {
	divide := func(limit int) (firsts []int) {
		for i, end := len(tops)-1, end; i >= 0; i-- {
			if i > 0 && p.tokens(tops[i-1], end) <= limit {
				continue
			}
			firsts, end = append(firsts, tops[i]), tops[i]
		}
		return firsts
	}
	fewest := len(divide(limit))
	most := p.tokens(tops[0], end)
	smaller := sort.Search(limit, func(limit int) bool {
		return limit*fewest >= most && len(divide(limit)) <= fewest
	})
	return divide(smaller)
}

// split plans node i alone, forward, then its children above it, then its backward.
func (p *planner) split(i, base int) error {
	n := &p.step.Nodes[i]
	if base+n.Len() > p.max {
		return fmt.Errorf("a pass of %d tokens is too small for a row with %d", p.max, base+n.Len())
	}
	p.add(Forward, i, i+1, base)
	p.need.Split = max(p.need.Split, base+n.Len())
	if err := p.children(i+1, n.End, base+n.Len()); err != nil {
		return err
	}
	p.add(Backward, i, i+1, base)
	return nil
}

func (p *planner) tokens(from, end int) int {
	return p.step.Nodes[end-1].To - p.step.Nodes[from].From
}

// add appends one run over nodes [from, end) with their first token in row base.
func (p *planner) add(ph Phase, from, end, base int) {
	s := p.step
	t0, t1 := s.Nodes[from].From, s.Nodes[end-1].To
	p.need.Rows = max(p.need.Rows, base+t1-t0)
	r := Run{Phase: ph, IDs: s.IDs[t0:t1]}
	r.Pass = compute.Pass{Rows: compute.Span{From: base, To: base + t1 - t0}, KV: base, Pos: s.Pos[t0:t1], Node: s.Key[t0:t1],
		Segments: make([]compute.Segment, 0, end-from)}
	for i := from; i < end; i++ {
		n := &s.Nodes[i]
		p.row[i] = base + n.From - t0
		seg := compute.Segment{Span: compute.Span{From: n.From - t0, To: n.To - t0}, Context: p.context(n.Parent)}
		r.Pass.Segments = append(r.Pass.Segments, seg)
	}
	if ph&Backward != 0 {
		r.Targets = slices.Clone(s.Targets[s.firstTarget(t0):s.firstTarget(t1)])
		for i := range r.Targets {
			r.Targets[i].Row -= int32(t0)
		}
	}
	p.runs = append(p.runs, r)
}

// firstTarget is the index of the first target whose row is token or a later one.
func (s *Step) firstTarget(token int) int {
	i, _ := slices.BinarySearchFunc(s.Targets, token, func(t compute.Target, token int) int { return int(t.Row) - token })
	return i
}

// context lists the stack rows of a node and its ancestors, oldest first.
func (p *planner) context(i int) []compute.Span {
	if i < 0 {
		return nil
	}
	n := &p.step.Nodes[i]
	return append(p.context(n.Parent), compute.Span{From: p.row[i], To: p.row[i] + n.Len()})
}
