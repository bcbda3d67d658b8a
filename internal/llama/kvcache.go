package llama

import "cria/internal/compute"

// Cache holds the keys and values of a text so far, for computing its next tokens. A decoded token is a pass of one
// token whose context is the cache.
type Cache struct {
	m      *Model
	s      *State
	logits compute.Buffer // (1, V)
	out    []float32
	chunk  int // tokens computed at a time
	rows   int // tokens that K and V have room for
	n      int // tokens in the cache
}

// NewCache returns an empty cache without room. Up to chunk tokens are computed at a time.
func (m *Model) NewCache(chunk int) *Cache {
	c := &Cache{m: m, s: &State{Layers: make([]Acts, len(m.Layers))}, chunk: chunk}
	c.logits, c.out = m.be.Alloc(1, m.VocabSize), make([]float32, m.VocabSize)
	hd := m.NumAttentionHeads * m.HeadDim
	alloc := func(cols int) compute.Buffer { return m.be.Alloc(chunk, cols) }
	xs := [2]compute.Buffer{alloc(m.HiddenSize), alloc(m.HiddenSize)} // input and output of a layer, in turn
	one := Acts{Q: alloc(hd), Attn: alloc(hd), LSE: alloc(m.NumAttentionHeads), H: alloc(m.HiddenSize), Gate: alloc(m.IntermediateSize), Up: alloc(m.IntermediateSize)}
	for i := range c.s.Layers {
		a := &c.s.Layers[i]
		*a = one
		a.X = xs[i%2]
		for j, l := range m.Layers[i].Linears() {
			if l.LoRA != nil {
				a.Low[j] = alloc(l.LoRA.A.Rows())
			}
		}
	}
	c.s.X = xs[len(c.s.Layers)%2]
	return c
}

// Reserve makes room for rows tokens in all. What is in the cache stays.
func (c *Cache) Reserve(rows int) {
	if rows <= c.rows {
		return
	}
	be, cols := c.m.be, c.m.NumKeyValueHeads*c.m.HeadDim
	filled := make([]float32, c.n*cols)
	grown := func(old compute.Buffer) compute.Buffer {
		b := be.Alloc(rows, cols)
		if c.n > 0 {
			be.Read(filled, old, 0)
			be.Write(b, 0, filled)
		}
		return b
	}
	for i := range c.s.Layers {
		a := &c.s.Layers[i]
		a.K, a.V = grown(a.K), grown(a.V)
	}
	c.rows = rows
}

// Len is the number of tokens in the cache.
func (c *Cache) Len() int { return c.n }

// Room is the number of tokens that still fit.
func (c *Cache) Room() int { return c.rows - c.n }

// Truncate forgets all but the first n tokens.
func (c *Cache) Truncate(n int) { c.n = min(c.n, n) }

// Feed appends at least one token, at most Room, and returns the logits (V) after the last one. They are overwritten by
// the next call. stop is asked between chunks; when it says true, Feed returns nil and the cache holds what was computed.
func (c *Cache) Feed(ids []int32, stop func() bool) []float32 {
	for len(ids) > 0 {
		if stop != nil && stop() {
			return nil
		}
		n := min(len(ids), c.chunk)
		p := compute.Pass{Rows: compute.Span{To: n}, KV: c.n, Pos: make([]int32, n)}
		for i := range p.Pos {
			p.Pos[i] = int32(c.n + i)
		}
		seg := compute.Segment{Span: p.Rows}
		if c.n > 0 {
			seg.Context = []compute.Span{{To: c.n}}
		}
		p.Segments = []compute.Segment{seg}
		c.m.Forward(c.s, &p, ids[:n])
		c.n += n
		if ids = ids[n:]; len(ids) == 0 {
			c.m.be.Logits(&p, c.logits, c.s.X, c.m.Norm, c.m.Head, []int32{int32(n - 1)})
		}
	}
	c.m.be.Read(c.out, c.logits, 0)
	return c.out
}
