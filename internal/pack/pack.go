// Package pack turns the rows of one optimizer step into a prefix trie, and the trie into passes. Pure integers.
//
//	row 0: S S S S a b c      node 0: S S S S        rows of a node are computed once; a child attends to its
//	row 1: S S S S d e        node 1:         a b c  ancestors and to itself, and its positions go on from its parent's
//	row 2: S S S S a f        node 2:         d e
//
// Only tokens that can influence the prediction of a labelled one enter: a row ends before its last labelled token.
package pack

import (
	"slices"

	"cria/internal/compute"
)

// MinShared is the shortest run of tokens for which a node is split: shorter ones cost more than they save.
const MinShared = 8

// Ignore is the label of a token that is not trained: PyTorch's cross-entropy ignore_index.
const Ignore int32 = -100

// Row is one tokenised sample. IDs and Labels have the same length; Labels[i] is IDs[i] where the token is trained and
// Ignore elsewhere, as in a Hugging Face data set: the model at position i-1 predicts Labels[i], so Labels[0] has no
// effect.
type Row struct {
	IDs    []int32
	Labels []int32
}

// Labelled returns the number of tokens that enter the loss: labels from the second position on that are not Ignore.
func (r Row) Labelled() int {
	n := 0
	for i := 1; i < len(r.Labels); i++ {
		if r.Labels[i] != Ignore {
			n++
		}
	}
	return n
}

// inputs is the number of leading tokens that a labelled token depends on: a row is computed up to the one before its
// last labelled token.
func (r Row) inputs() int {
	for i := len(r.Labels) - 1; i > 0; i-- {
		if r.Labels[i] != Ignore {
			return i
		}
	}
	return 0
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
	Pos     []int32 // per token, its position in its rows
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
	tokens := 0
	for _, mb := range microBatches {
		n := 0
		for _, r := range mb {
			n += r.Labelled()
		}
		for _, r := range mb {
			s.Tokens += len(r.IDs)
			tokens += r.inputs()
			// Where n is 0 the weight is infinite, but no token has it.
			rows = append(rows, weighted{r, 1 / (float64(accumulation) * float64(n))})
		}
		s.Labels += n
	}
	if red == TokenMean {
		for i := range rows {
			rows[i].weight = 1 / float64(s.Labels)
		}
	}
	s.IDs, s.Pos, s.Key = make([]int32, 0, tokens), make([]int32, 0, tokens), make([]int32, 0, tokens)
	s.Targets, s.Source = make([]compute.Target, 0, s.Labels), make([]int32, s.Labels)

	t := &trie{}
	for _, r := range rows {
		t.insert(r.IDs[:r.inputs()])
	}
	t.number()
	if share {
		s.layout(t.root.children, -1)
	}
	for i, r := range rows {
		path := t.path(r.IDs[:r.inputs()])
		if !share {
			path = []*trieNode{s.whole(r.Row, path)}
		}
		s.addTargets(i, r, path)
	}
	slices.SortStableFunc(s.Targets, func(a, b compute.Target) int { return int(a.Row - b.Row) })
	for i := range s.Targets {
		s.Source[i], s.Targets[i].Index = s.Targets[i].Index, int32(i)
	}
	return s
}

type weighted struct {
	Row
	weight float64 // of each labelled token in the step's loss
}

// addTargets appends the targets of row number n, which stands in their Index until they are sorted. path holds the nodes
// of the row, laid out.
func (s *Step) addTargets(n int, r weighted, path []*trieNode) {
	for _, node := range path {
		for k := range node.ids {
			if label := r.Labels[node.pos+k+1]; label != Ignore {
				s.Targets = append(s.Targets, compute.Target{Row: int32(node.from + k), Token: label, Weight: float32(r.weight), Index: int32(n)})
			}
		}
	}
}

// layout writes sibling nodes and what is below them in depth-first order.
func (s *Step) layout(siblings []*trieNode, parent int) {
	for _, n := range siblings {
		me := len(s.Nodes)
		s.add(n, parent)
		s.layout(n.children, me)
		s.Nodes[me].End = len(s.Nodes)
	}
}

// whole writes a row that shares nothing as one node; path are its nodes in the shared trie.
func (s *Step) whole(r Row, path []*trieNode) *trieNode {
	n := &trieNode{ids: r.IDs[:r.inputs()]}
	if len(n.ids) > 0 {
		s.add(n, -1)
		key := s.Key[n.from:n.from]
		for _, p := range path {
			for range p.ids {
				key = append(key, int32(p.index))
			}
		}
	}
	return n
}

// add writes one node without descendants.
func (s *Step) add(n *trieNode, parent int) {
	n.from = len(s.IDs)
	s.Nodes = append(s.Nodes, Node{Parent: parent, From: n.from, To: n.from + len(n.ids), Pos: n.pos, End: len(s.Nodes) + 1})
	s.IDs = append(s.IDs, n.ids...)
	for i := range n.ids {
		s.Pos, s.Key = append(s.Pos, int32(n.pos+i)), append(s.Key, int32(n.index))
	}
}
