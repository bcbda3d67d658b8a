package pack

// trie is a prefix tree with compressed paths.
type trie struct{ root trieNode }

type trieNode struct {
	ids      []int32
	pos      int // position of the first token
	children []*trieNode
	index    int // in depth-first order
	from     int // in Step.IDs, once laid out
}

// insert adds one row. A node is split only where at least MinShared of its tokens are shared (or where the row ends in
// it), otherwise the row gets a branch of its own.
func (t *trie) insert(ids []int32) {
	n, pos := &t.root, 0
	for pos < len(ids) {
		c, l := n.best(ids[pos:])
		switch {
		case c == nil:
			n.children = append(n.children, &trieNode{ids: ids[pos:], pos: pos})
			return
		case l < len(c.ids):
			tail := &trieNode{ids: c.ids[l:], pos: c.pos + l, children: c.children}
			c.ids, c.children = c.ids[:l:l], []*trieNode{tail}
		}
		n, pos = c, pos+l
	}
}

// best returns the child that shares the longest run with ids, and its length; nil where no run is worth it.
func (n *trieNode) best(ids []int32) (child *trieNode, length int) {
	for _, c := range n.children {
		if l := common(c.ids, ids); l > length && (l >= MinShared || l == len(c.ids) || l == len(ids)) {
			child, length = c, l
		}
	}
	return child, length
}

func common(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// number gives every node its depth-first index.
func (t *trie) number() {
	i := 0
	var visit func(n *trieNode)
	visit = func(n *trieNode) {
		for _, c := range n.children {
			c.index = i
			i++
			visit(c)
		}
	}
	visit(&t.root)
}

// path returns the nodes of a row that was inserted, root first.
func (t *trie) path(ids []int32) (out []*trieNode) {
	for n := &t.root; len(ids) > 0; ids = ids[len(n.ids):] {
		n = n.find(ids)
		out = append(out, n)
	}
	return out
}

// find returns the child through which the inserted row goes on.
func (n *trieNode) find(ids []int32) *trieNode {
	for _, c := range n.children {
		if l := common(c.ids, ids); l == len(c.ids) && c.holds(ids[l:]) {
			return c
		}
	}
	return nil
}

// holds reports whether a path of whole nodes below n spells ids.
func (n *trieNode) holds(ids []int32) bool { return len(ids) == 0 || n.find(ids) != nil }
