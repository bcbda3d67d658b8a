// Package pack turns the rows of one optimizer step into a prefix trie, and the trie into passes. Pure integers.
//
//	row 0: S S S S a b c      node 0: S S S S        rows of a node are computed once; a child attends to its
//	row 1: S S S S d e        node 1:         a b c  ancestors and to itself, and its positions go on from its parent's
//	row 2: S S S S a f        node 2:         d e
//
// Only tokens that can influence a labelled one enter: a row ends before its last labelled token.
package pack

import (
	"fmt"
	"slices"

	"cria/internal/compute"
)

// MinShared is the shortest run of tokens for which a node is split: shorter ones cost more than they save.
const MinShared = 8

// Row is one tokenised sample. A token with label -100 is not predicted; label i is predicted by token i-1.
type Row struct {
	IDs    []int32
	Labels []int32
}

// Reduction is how the losses of an optimizer step are weighted.
type Reduction string

const (
	MicrobatchMean Reduction = "microbatch_mean" // transformers 4.43: mean over micro-batches of their token means
	TokenMean      Reduction = "token_mean"      // transformers >= 4.46: mean over all labelled tokens of the step
)

// Node is a run of tokens that all rows below it share.
type Node struct {
	Parent int // index of the parent, -1 at the root
	From   int // first token of the run in Step.IDs
	To     int
	Pos    int // position of the first token
	// End is the index after the last descendant: nodes stand in depth-first order, so a subtree is [i, End).
	End int
}

// Len is the number of tokens of the run.
func (n *Node) Len() int { return n.To - n.From }

// Step is the trie of one optimizer step with its tokens in canonical (depth-first) order.
type Step struct {
	Nodes   []Node
	IDs     []int32
	Key     []int32 // per token, the node of the fully shared trie: a dropout mask's key, whether or not sharing is used
	Targets []compute.Target
	Source  []int32 // per target, the number of its row in the step
	Tokens  int     // of all rows, shared or not, as a user counts them
	Labels  int     // labelled tokens
}

// NewStep builds the trie of the step's micro-batches. Row order within the step decides canonical order and nothing
// else. accumulation is gradient_accumulation_steps, the divisor of MicrobatchMean even where the last step of a run has
// fewer micro-batches.
func NewStep(microBatches [][]Row, red Reduction, accumulation int, share bool) *Step {
	s := &Step{}
	var rows []weighted
	for _, mb := range microBatches {
		n := 0
		for _, r := range mb {
			n += labelled(r)
		}
		s.Labels += n
		for _, r := range mb {
			s.Tokens += len(r.IDs)
			rows = append(rows, weighted{r, 1 / (float64(accumulation) * float64(n))})
		}
	}
	if red == TokenMean {
		for i := range rows {
			rows[i].weight = 1 / float64(s.Labels)
		}
	}
	t := &trie{}
	keys := make([][]*trieNode, len(rows)) // per row, the node of each token
	for _, r := range rows {
		if n := r.inputs(); n > 0 {
			t.insert(r.IDs[:n])
		}
	}
	t.number()
	for i, r := range rows {
		keys[i] = t.path(r.IDs[:r.inputs()])
	}
	if share {
		s.layout(t)
		for i, r := range rows {
			s.addTargets(i, r, func(pos int) int { return keys[i][pos].tokenAt(pos) })
		}
	} else {
		for i, r := range rows {
			n := r.inputs()
			if n == 0 {
				continue
			}
			from := len(s.IDs)
			s.Nodes = append(s.Nodes, Node{Parent: -1, From: from, To: from + n, End: len(s.Nodes) + 1})
			s.IDs = append(s.IDs, r.IDs[:n]...)
			for _, k := range keys[i] {
				s.Key = append(s.Key, int32(k.index))
			}
			s.addTargets(i, r, func(pos int) int { return from + pos })
		}
	}
	slices.SortStableFunc(s.Targets, func(a, b compute.Target) int { return int(a.Row - b.Row) })
	s.Source = make([]int32, len(s.Targets))
	for i := range s.Targets {
		s.Source[i], s.Targets[i].Index = s.Targets[i].Index, int32(i)
	}
	return s
}

type weighted struct {
	Row
	weight float64 // of each labelled token in the step's loss
}

// inputs is the number of leading tokens that a labelled token depends on.
func (r *Row) inputs() int {
	for i := len(r.Labels) - 1; i > 0; i-- {
		if r.Labels[i] >= 0 {
			return i
		}
	}
	return 0
}

func labelled(r Row) int {
	n := 0
	for _, l := range r.Labels[min(1, len(r.Labels)):] {
		if l >= 0 {
			n++
		}
	}
	return n
}

// addTargets appends the targets of row number n, which stands in their Index until they are sorted; token says where
// the row's input at a position stands in s.IDs.
func (s *Step) addTargets(n int, r weighted, token func(pos int) int) {
	for i := 1; i < len(r.Labels); i++ {
		if r.Labels[i] >= 0 {
			s.Targets = append(s.Targets, compute.Target{Row: int32(token(i - 1)), Token: r.Labels[i], Weight: float32(r.weight), Index: int32(n)})
		}
	}
}

// layout writes the trie's nodes in depth-first order.
func (s *Step) layout(t *trie) {
	var visit func(n *trieNode, parent int)
	visit = func(n *trieNode, parent int) {
		me, from := len(s.Nodes), len(s.IDs)
		n.from = from
		s.Nodes = append(s.Nodes, Node{Parent: parent, From: from, To: from + len(n.ids), Pos: n.pos})
		s.IDs = append(s.IDs, n.ids...)
		for range n.ids {
			s.Key = append(s.Key, int32(n.index))
		}
		for _, c := range n.children {
			visit(c, me)
		}
		s.Nodes[me].End = len(s.Nodes)
	}
	for _, c := range t.root.children {
		visit(c, -1)
	}
}

// Check reports labels and ids outside the vocabulary.
func (r *Row) Check(vocab int) error {
	for i, id := range r.IDs {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("token %d at position %d is outside the model's vocabulary of %d", id, i, vocab)
		}
	}
	return nil
}
