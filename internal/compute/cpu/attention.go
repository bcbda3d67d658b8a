package cpu

import (
	"math"

	"cria/internal/compute"
)

const (
	// queryBlock is how many queries of a segment a block has.
	queryBlock = compute.BlockRows
	// causalBlock is how many queries share a number of keys: products leave out keys that none of them sees. In the forward
	// pass their rows of scores, (causalBlock·H/KV, keys), are all that exists of the score matrix.
	causalBlock = 16
	// fewQueries is up to how many query rows scores are made by dot products instead of packing the keys.
	fewQueries = 4
)

// queries is one block of queries of one segment.
type queries struct {
	rows compute.Span // counted from Pass.Rows.From

	// The key rows that the queries see: the context, then the segment's own rows up to the last query; and their number.
	spans []compute.Span
	keys  int

	part int // first element of its part of b.partial, in the backward pass
}

// listQueries sets b.queries to the blocks of a pass, last one first.
func (b *Backend) listQueries(ps *compute.Pass) []queries {
	b.queries, b.spans = b.queries[:0], b.spans[:0]
	ps.Blocks(func(i int, rows compute.Span) {
		seg, from := &ps.Segments[i], len(b.spans)
		b.spans = append(append(b.spans, seg.Context...), compute.Span{From: ps.KV + seg.From, To: ps.KV + rows.To})
		t := queries{rows: rows, spans: b.spans[from:len(b.spans):len(b.spans)]}
		for _, s := range t.spans {
			t.keys += s.Len()
		}
		b.queries = append(b.queries, t)
	})
	return b.queries
}

// attentionScratch takes what the workers need for blocks of queries, and counts products products of D elements for every pair of
// a query and a key that it sees.
func (b *Backend) attentionScratch(ts []queries, h compute.Heads, backward bool) {
	rows, keys, pairs := 0, 0, 0
	for i := range ts {
		m, n := ts[i].rows.Len(), ts[i].keys
		rows, keys, pairs = max(rows, m), max(keys, n), pairs+m*n-m*(m-1)/2
	}
	products := 2
	if backward {
		products = 5
	}
	b.use.FLOP += 2 * float64(products) * float64(pairs) * float64(h.H*h.D)
	group := h.H / h.KV
	b.forWorkers(func(w *worker) {
		b.grow(&w.q, rows*group*h.D)
		b.grow(&w.do, rows*group*h.D)
		if backward {
			b.grow(&w.dq, rows*group*h.D)
			b.grow(&w.keys, h.D*chunkStride)
			b.grow(&w.values, h.D*chunkStride)
			b.grow(&w.s, rows*group*chunkStride)
			b.grow(&w.dp, rows*group*chunkStride)
		} else {
			b.grow(&w.keys, h.D*keys)
			b.grow(&w.s, min(rows, causalBlock)*group*keys)
		}
	})
}

// gather makes dst the (queries·group, D) matrix of the heads that read key-value head kv, in the rows from row on of x.
func gather(dst []float32, x *buffer, row, queries, kv, width int) []float32 {
	for i := range queries {
		copy(dst[i*width:(i+1)*width], x.from(row + i)[kv*width:])
	}
	return dst[:queries*width]
}

// scatter is the reverse of gather.
func scatter(x *buffer, row, queries, kv, width int, src []float32) {
	for i := range queries {
		copy(x.from(row + i)[kv*width:][:width], src[i*width:(i+1)*width])
	}
}

// causalBlocks calls f for runs of the queries of a block, i0 to i1-1, with the number of keys that the last of them sees.
func (t *queries) causalBlocks(f func(i0, i1, keys int)) {
	m := t.rows.Len()
	for i := 0; i < m; i += causalBlock {
		end := min(i+causalBlock, m)
		f(i, end, t.causal(end-1))
	}
}

// transposed makes dst (d, keys; ld apart) the transpose of one head of the rows spans of k.
func (b *Backend) transposed(dst []float32, ld int, k *buffer, col, d int, spans []compute.Span) {
	at := 0
	for _, sp := range spans {
		b.level.Transpose(dst[at:], ld, k.d[sp.From*k.cols+col:], k.cols, sp.Len(), d)
		at += sp.Len()
	}
}

// causal is the number of keys that query i of a block sees.
func (t *queries) causal(i int) int { return t.keys - (t.rows.Len() - 1 - i) }

func (b *Backend) AttentionForward(ps *compute.Pass, h compute.Heads, out, lse, q, k, v compute.Buffer) {
	a := b.attention(ps, h, out, lse, q, k, v, false)
	b.run(len(a.ts)*h.KV, attentionForward{a})
}

// attention is an operation at work. Most of its tasks are a block of queries and the heads of one key-value head.
type attention struct {
	*Backend
	h                 compute.Heads
	group, from       int // query heads of a key-value head; first row
	scale             float32
	ts                []queries // in the backward pass those of a wave
	q, k, v, out, lse *buffer
	dq, dk, dv, dout  *buffer // in the backward pass
}

// attention begins an operation: it lists the blocks of queries and takes what the workers need for them.
func (b *Backend) attention(ps *compute.Pass, h compute.Heads, out, lse, q, k, v compute.Buffer, backward bool) *attention {
	a := &b.attend
	*a = attention{Backend: b, h: h, group: h.H / h.KV, scale: float32(1 / math.Sqrt(float64(h.D))), from: ps.Rows.From, ts: b.listQueries(ps),
		q: buf(q), k: buf(k), v: buf(v), out: buf(out), lse: buf(lse)}
	b.attentionScratch(a.ts, h, backward)
	return a
}

// attentionForward are the tasks of AttentionForward.
type attentionForward struct{ *attention }

func (a attentionForward) task(w *worker, i int) {
	t, kv, d, group := &a.ts[i/a.h.KV], i%a.h.KV, a.h.D, a.group
	n, m, row, col := t.keys, t.rows.Len(), a.from+t.rows.From, kv*d
	x := gather(w.q, a.q, row, m, kv, group*d)
	if m > fewQueries {
		a.transposed(w.keys, n, a.k, col, d, t.spans)
	}
	o := w.do[:m*group*d]
	t.causalBlocks(func(i0, i1, keys int) {
		s, r0, rows := w.s, i0*group, (i1-i0)*group
		a.scores(w, s, n, x[r0*d:], rows, d, m > fewQueries, keys, a.k, col, t.spans)
		for r := range rows {
			i := i0 + r/group
			p, see := s[r*n:][:keys], t.causal(i)
			top := a.level.Max(p[:see]) * a.scale
			sum := a.level.ExpSum(p[:see], p[:see], a.scale, top)
			a.level.Scale(p[:see], float32(1/sum))
			clear(p[see:])
			a.lse.row(row + i)[kv*group+r%group] = top + float32(math.Log(sum))
		}
		a.overKeys(o[r0*d:], s, n, rows, d, keys, a.v, col, t.spans, false)
	})
	scatter(a.out, row, m, kv, group*d, o)
}

// scores sets s (rows, keys; ld apart) to q kᵀ for the first keys of one head; q (rows, D). The keys stand transposed in
// w.keys, or few rows are multiplied with each key.
func (b *Backend) scores(w *worker, s []float32, ld int, q []float32, rows, d int, packed bool, keys int, k *buffer, col int, spans []compute.Span) {
	if packed {
		b.level.Product(s, ld, q, d, 1, w.keys, ld, rows, keys, d, false)
		return
	}
	for i := range rows {
		j, qi := i*ld, q[i*d:][:d]
		for _, sp := range spans {
			for r := sp.From; r < sp.To && j-i*ld < keys; r++ {
				s[j] = float32(b.level.Dot(qi, k.d[r*k.cols+col:][:d]))
				j++
			}
		}
	}
}

// overKeys sets o (rows, D) to p x, or adds to it, where p (rows, keys; ld apart) belongs to the first keys of one head of x.
func (b *Backend) overKeys(o, p []float32, ld, rows, d, keys int, x *buffer, col int, spans []compute.Span, accumulate bool) {
	at := 0
	for _, sp := range spans {
		if n := min(sp.Len(), keys-at); n > 0 {
			b.level.Product(o, d, p[at:], ld, 1, x.d[sp.From*x.cols+col:], x.cols, rows, d, n, accumulate || at > 0)
			at += n
		}
	}
}
