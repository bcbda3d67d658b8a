package cpu

import (
	"math"
	"slices"

	"cria/internal/compute"
)

const (
	// queryBlock is how many queries of a segment a task handles: rows of scores are whole, (queryBlock·H/KV, keys) is all
	// that exists of the score matrix.
	queryBlock = compute.BlockRows
	// causalBlock is how many queries share a number of keys: products leave out keys that none of them sees.
	causalBlock = 16
	// fewQueries is up to how many query rows scores are made by dot products instead of packing the keys.
	fewQueries = 4
)

// task is one block of queries of one segment.
type task struct {
	seg  *compute.Segment
	rows compute.Span // counted from Pass.Rows.From

	// The key rows that the queries see: the context, then the segment's own rows up to the last query; and their number.
	spans []compute.Span
	keys  int

	partial int // first element of attentionBackward.partial; -1: none; only in the backward pass
}

// listTasks sets b.tasks to the blocks of a pass, last one first.
func (b *Backend) listTasks(ps *compute.Pass) []task {
	b.tasks, b.spans = b.tasks[:0], b.spans[:0]
	ps.Blocks(func(i int, rows compute.Span) {
		seg, from := &ps.Segments[i], len(b.spans)
		b.spans = append(append(b.spans, seg.Context...), compute.Span{From: ps.KV + seg.From, To: ps.KV + rows.To})
		t := task{seg: seg, rows: rows, spans: b.spans[from:len(b.spans):len(b.spans)]}
		for _, s := range t.spans {
			t.keys += s.Len()
		}
		b.tasks = append(b.tasks, t)
	})
	return b.tasks
}

// attentionScratch takes what the workers need for the tasks, and counts products products of D elements for every pair of
// a query and a key that it sees.
func (b *Backend) attentionScratch(ts []task, h compute.Heads, backward bool) {
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
	rows *= h.H / h.KV
	b.forWorkers(func(w *worker) {
		b.grow(&w.keys, h.D*keys)
		b.grow(&w.s, rows*keys)
		b.grow(&w.q, rows*h.D)
		b.grow(&w.do, rows*h.D)
		if backward {
			b.grow(&w.values, h.D*keys)
			b.grow(&w.dp, rows*keys)
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

// causalBlocks calls f for runs of the queries of a task, i0 to i1-1, with the number of keys that the last of them sees.
func (t *task) causalBlocks(f func(i0, i1, keys int)) {
	m := t.rows.Len()
	for i := 0; i < m; i += causalBlock {
		end := min(i+causalBlock, m)
		f(i, end, t.causal(end-1, t.keys))
	}
}

// transposed makes dst the (d, n) transpose of one head of the rows spans of k, which are n together.
func (b *Backend) transposed(dst *[]float32, k *buffer, col, d int, spans []compute.Span, n int) {
	t, at := (*dst)[:d*n], 0
	for _, sp := range spans {
		b.level.Transpose(t[at:], n, k.d[sp.From*k.cols+col:], k.cols, sp.Len(), d)
		at += sp.Len()
	}
}

// causal is the number of keys that query i of a task sees, of n that its last one sees.
func (t *task) causal(i, n int) int { return n - (t.rows.Len() - 1 - i) }

func (b *Backend) AttentionForward(ps *compute.Pass, h compute.Heads, out, lse, q, k, v compute.Buffer) {
	ts, qs, ks, vs, os := b.listTasks(ps), buf(q), buf(k), buf(v), buf(out)
	group, scale := h.H/h.KV, float32(1/math.Sqrt(float64(h.D)))
	b.attentionScratch(ts, h, false)
	b.run(len(ts)*h.KV, func(id, ti int) {
		w, t, kv := &b.workers[id], &ts[ti/h.KV], ti%h.KV
		n, m, row, col := t.keys, t.rows.Len(), ps.Rows.From+t.rows.From, kv*h.D
		x := gather(w.q, qs, row, m, kv, group*h.D)
		if m > fewQueries {
			b.transposed(&w.keys, ks, col, h.D, t.spans, n)
		}
		o := w.do[:m*group*h.D]
		t.causalBlocks(func(i0, i1, keys int) {
			s, r0, rows := w.s[i0*group*n:], i0*group, (i1-i0)*group
			b.scores(w, s, n, x[r0*h.D:], rows, h.D, m > fewQueries, keys, ks, col, t.spans)
			for r := range rows {
				i := i0 + r/group
				p, see := s[r*n:][:keys], t.causal(i, n)
				top := b.level.Max(p[:see]) * scale
				sum := b.level.ExpSum(p[:see], p[:see], scale, top)
				b.level.Scale(p[:see], float32(1/sum))
				clear(p[see:])
				buf(lse).row(row + i)[kv*group+r%group] = top + float32(math.Log(sum))
			}
			b.overKeys(o[r0*h.D:], s, n, rows, h.D, keys, vs, col, t.spans)
		})
		scatter(os, row, m, kv, group*h.D, o)
	})
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

// overKeys sets o (rows, D) to p x, where p (rows, keys; ld apart) belongs to the first keys of one head of x.
func (b *Backend) overKeys(o, p []float32, ld, rows, d, keys int, x *buffer, col int, spans []compute.Span) {
	at := 0
	for _, sp := range spans {
		if n := min(sp.Len(), keys-at); n > 0 {
			b.level.Product(o, d, p[at:], ld, 1, x.d[sp.From*x.cols+col:], x.cols, rows, d, n, at > 0)
			at += n
		}
	}
}

// partialKeys is up to how many keys a block of queries keeps what it says of dk and dv. Beyond it the scores are computed
// twice instead, so that memory does not grow with the square of the length.
const partialKeys = 512

// AttentionBackward runs by blocks of queries, which set dq, and then by blocks of keys, which add up dk and dv, so that
// every result belongs to one task and all its terms come in one order.
func (b *Backend) AttentionBackward(ps *compute.Pass, h compute.Heads, dq, dk, dv, dout, out, lse, q, k, v compute.Buffer) {
	a := &attentionBackward{b: b, h: h, group: h.H / h.KV, scale: float32(1 / math.Sqrt(float64(h.D))),
		from: ps.Rows.From, q: buf(q), k: buf(k), v: buf(v), do: buf(dout), lse: buf(lse), dq: buf(dq), dk: buf(dk), dv: buf(dv)}
	a.delta = b.grow(&b.delta, ps.Rows.Len()*h.H)
	b.rows(ps.Rows.Len(), func(_ *worker, t int) {
		o, do := buf(out).row(ps.Rows.From+t), a.do.row(ps.Rows.From+t)
		for hd := range h.H {
			a.delta[t*h.H+hd] = float32(b.level.Dot(o[hd*h.D:][:h.D], do[hd*h.D:][:h.D]))
		}
	})
	ts, size := b.listTasks(ps), 0
	b.attentionScratch(ts, h, true)
	for i := range ts {
		t := &ts[i]
		if t.keys <= partialKeys {
			t.partial = size
			size += t.keys * h.D * 2 * h.KV
		} else {
			t.partial = -1
		}
	}
	a.partial = b.grow(&b.partial, size)
	b.run(len(ts)*h.KV, func(id, i int) { a.queries(&b.workers[id], &ts[i/h.KV], i%h.KV) })
	blocks := b.listKeyBlocks(ps, ts)
	b.run(len(blocks)*h.KV, func(id, i int) { a.keyGradients(&b.workers[id], ps, &blocks[i/h.KV], i%h.KV) })
}

type attentionBackward struct {
	b                            *Backend
	h                            compute.Heads
	group, from                  int
	scale                        float32
	q, k, v, do, lse, dq, dk, dv *buffer
	delta                        []float32 // (T, H)
	partial                      []float32 // (task, KV, 2, keys, D) dk and dv of single blocks of queries
}

// queries sets dq = dS k for one block of queries and the heads of one key-value head, and where the task has room for
// them its parts of dk and dv.
func (a *attentionBackward) queries(w *worker, t *task, kv int) {
	m, n, row, d := t.rows.Len(), t.keys, a.from+t.rows.From, a.h.D
	group, col := a.group, kv*d
	b := a.b
	b.transposed(&w.keys, a.k, col, d, t.spans, n)
	b.transposed(&w.values, a.v, col, d, t.spans, n)
	q, do := gather(w.q, a.q, row, m, kv, group*d), gather(w.do, a.do, row, m, kv, group*d)
	dk, dv := a.part(t, kv)
	t.causalBlocks(func(i0, i1, keys int) {
		r0, rows := i0*group, (i1-i0)*group
		s, dp := w.s[r0*n:], w.dp[r0*n:]
		a.gradient(w, t, kv, q[r0*d:], do[r0*d:], s, dp, n, i0, i1, keys, func(i int) int { return t.causal(i, n) })
		b.overKeys(q[r0*d:], dp, n, rows, d, keys, a.k, col, t.spans)
	})
	scatter(a.dq, row, m, kv, group*d, q)
	if dk == nil {
		return
	}
	q = gather(w.q, a.q, row, m, kv, group*d) // it was overwritten
	from := 0
	t.causalBlocks(func(i0, _, keys int) { // of the keys that no earlier query sees
		r0, rows := i0*group, (m-i0)*group
		b.level.Product(dk[from*d:], d, w.dp[r0*n+from:], 1, n, q[r0*d:], d, keys-from, d, rows, false)
		b.level.Product(dv[from*d:], d, w.s[r0*n+from:], 1, n, do[r0*d:], d, keys-from, d, rows, false)
		from = keys
	})
}

// gradient sets s to the probabilities and dp to the gradients of the scores (rows n apart) of the queries i0 to i1-1 of a
// task and the first keys, of which query i sees see(i). q and do belong to them; w.keys and w.values hold keys and values
// transposed, ld apart.
func (a *attentionBackward) gradient(w *worker, t *task, kv int, q, do, s, dp []float32, n, i0, i1, keys int, see func(i int) int) {
	rows, d, level := (i1-i0)*a.group, a.h.D, &a.b.level
	level.Product(s, n, q, d, 1, w.keys, n, rows, keys, d, false)
	level.Product(dp, n, do, d, 1, w.values, n, rows, keys, d, false)
	for r := range rows {
		i, hd := i0+r/a.group, kv*a.group+r%a.group
		e := see(i)
		p, g := s[r*n:][:keys], dp[r*n:][:keys]
		level.Exp(p[:e], p[:e], a.scale, a.lse.row(a.from + t.rows.From + i)[hd], 1)
		clear(p[e:])
		level.SoftmaxBackward(g[:e], p[:e], g[:e], a.delta[(t.rows.From+i)*a.h.H+hd], a.scale)
		clear(g[e:])
	}
}

// part is where a task keeps its parts of dk and dv, (keys, D) each; nil where it does not.
func (a *attentionBackward) part(t *task, kv int) (dk, dv []float32) {
	if t.partial < 0 {
		return nil, nil
	}
	n := t.keys * a.h.D
	p := a.partial[t.partial+2*n*kv:][:2*n]
	return p[:n], p[n:]
}

// find is the place of a row of the key buffer among the keys of a task.
func (t *task) find(row int) int {
	at := 0
	for _, sp := range t.spans {
		if row >= sp.From && row < sp.To {
			return at + row - sp.From
		}
		at += sp.Len()
	}
	panic("cpu: a task does not see a key of its context")
}

// keyBlock is a run of key rows and the query blocks that see it, last one first.
type keyBlock struct {
	rows    compute.Span // of the key and value buffers
	queries []*task
}

// listKeyBlocks sets b.keyBlocks to all key rows that a pass sees, in blocks.
func (b *Backend) listKeyBlocks(ps *compute.Pass, ts []task) []keyBlock {
	clear(b.blockAt)
	out := b.keyBlocks[:0]
	add := func(s compute.Span, t *task) {
		for from := s.From; from < s.To; from += queryBlock {
			rows := compute.Span{From: from, To: min(from+queryBlock, s.To)}
			i, ok := b.blockAt[rows]
			if !ok {
				i = len(out)
				b.blockAt[rows] = i
				out = slices.Grow(out, 1)[:i+1]
				out[i] = keyBlock{rows, out[i].queries[:0]} // of an earlier call
			}
			out[i].queries = append(out[i].queries, t)
		}
	}
	for i := range ts {
		t := &ts[i]
		for _, c := range t.seg.Context {
			add(c, t)
		}
		add(compute.Span{From: ps.KV + t.seg.From, To: ps.KV + t.seg.To}, t)
	}
	b.keyBlocks = out
	return out
}

// keyGradients adds dk = dSᵀ q and dv = Pᵀ dout of one block of keys and one key-value head.
func (a *attentionBackward) keyGradients(w *worker, ps *compute.Pass, kb *keyBlock, kv int) {
	n, col, d := kb.rows.Len(), kv*a.h.D, a.h.D
	transposed := false
	dk, dv := a.dk.from(kb.rows.From)[col:], a.dv.from(kb.rows.From)[col:]
	for _, t := range kb.queries {
		own := kb.rows.From >= ps.KV+t.seg.From && kb.rows.To <= ps.KV+t.seg.To
		first := kb.rows.From - ps.KV // as a row of the pass, if own
		if own && t.rows.To <= first {
			continue // all of the queries come before these keys
		}
		if pk, pv := a.part(t, kv); pk != nil {
			at, seen := t.find(kb.rows.From), n
			if own {
				seen = min(n, t.rows.To-first)
			}
			for r := range seen {
				a.b.level.Add(dk[r*a.dk.cols:][:d], pk[(at+r)*d:][:d])
				a.b.level.Add(dv[r*a.dv.cols:][:d], pv[(at+r)*d:][:d])
			}
			continue
		}
		if !transposed {
			spans := []compute.Span{kb.rows}
			a.b.transposed(&w.keys, a.k, col, d, spans, n)
			a.b.transposed(&w.values, a.v, col, d, spans, n)
			transposed = true
		}
		see := func(i int) int {
			if own {
				return max(0, min(n, t.rows.From+i+1-first))
			}
			return n
		}
		m, row := t.rows.Len(), a.from+t.rows.From
		q, do := gather(w.q, a.q, row, m, kv, a.group*d), gather(w.do, a.do, row, m, kv, a.group*d)
		a.gradient(w, t, kv, q, do, w.s, w.dp, n, 0, m, n, see)
		a.b.level.Product(dk, a.dk.cols, w.dp, 1, n, q, d, n, d, m*a.group, true)
		a.b.level.Product(dv, a.dv.cols, w.s, 1, n, do, d, n, d, m*a.group, true)
	}
}
