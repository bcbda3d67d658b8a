package cpu

import (
	"math"
	"slices"

	"cria/internal/compute"
)

// queryBlock is how many queries of a segment a task handles: rows of scores are whole, (queryBlock, keys) is all that
// exists of the score matrix.
const queryBlock = compute.BlockRows

// fewQueries is up to how many query rows scores are made by dot products instead of packing the keys.
const fewQueries = 4

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
	b.forWorkers(func(w *worker) {
		b.grow(&w.keys, h.D*keys)
		b.grow(&w.s, rows*keys)
		if backward {
			b.grow(&w.values, h.D*keys)
			b.grow(&w.dp, rows*keys)
		}
	})
}

// scores sets s (queries, keys; ld keys apart) to q kᵀ for one head; q is row-major with stride ldq.
func (b *Backend) scores(w *worker, s []float32, ld int, q []float32, ldq, m, d int, k *buffer, col int, spans []compute.Span) {
	if m <= fewQueries {
		for i := range m {
			j, qi := i*ld, q[i*ldq:][:d]
			for _, sp := range spans {
				for r := sp.From; r < sp.To; r++ {
					s[j] = float32(b.level.Dot(qi, k.d[r*k.cols+col:][:d]))
					j++
				}
			}
		}
		return
	}
	b.level.Product(s, ld, q, ldq, 1, w.keys, ld, m, ld, d, false)
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
		spans, n := t.spans, t.keys
		m, row := t.rows.Len(), ps.Rows.From+t.rows.From
		s := w.s[:m*n]
		if m > fewQueries {
			b.transposed(&w.keys, ks, kv*h.D, h.D, spans, n)
		}
		for hd := kv * group; hd < (kv+1)*group; hd++ {
			b.scores(w, s, n, qs.from(row)[hd*h.D:], qs.cols, m, h.D, ks, kv*h.D, spans)
			for i := range m {
				see := t.causal(i, n)
				p := s[i*n:][:n]
				top := b.level.Max(p[:see]) * scale
				sum := b.level.ExpSum(p[:see], p[:see], scale, top)
				b.level.Scale(p[:see], float32(1/sum))
				clear(p[see:])
				buf(lse).row(row + i)[hd] = top + float32(math.Log(sum))
			}
			o, at := os.from(row)[hd*h.D:], 0
			for si, sp := range spans {
				b.level.Product(o, os.cols, s[at:], n, 1, vs.d[sp.From*vs.cols+kv*h.D:], vs.cols, m, h.D, sp.Len(), si > 0)
				at += sp.Len()
			}
		}
	})
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

// gradient sets w.s to the probabilities and w.dp to the gradients of the scores of one block of queries (m) and keys
// (n, of which query i sees see(i)). w.keys and w.values hold the transposed keys and values.
func (a *attentionBackward) gradient(w *worker, t *task, hd, m, n int, see func(i int) int) {
	row := a.from + t.rows.From
	s, dp := w.s[:m*n], w.dp[:m*n]
	a.b.level.Product(s, n, a.q.from(row)[hd*a.h.D:], a.q.cols, 1, w.keys, n, m, n, a.h.D, false)
	a.b.level.Product(dp, n, a.do.from(row)[hd*a.h.D:], a.do.cols, 1, w.values, n, m, n, a.h.D, false)
	for i := range m {
		e := see(i)
		p, d := s[i*n:][:n], dp[i*n:][:n]
		a.b.level.Exp(p[:e], p[:e], a.scale, a.lse.row(row + i)[hd], 1)
		clear(p[e:])
		a.b.level.SoftmaxBackward(d[:e], p[:e], d[:e], a.delta[(t.rows.From+i)*a.h.H+hd], a.scale)
		clear(d[e:])
	}
}

// queries sets dq = dS k for one block of queries and the heads of one key-value head, and where the task has room for
// them its parts of dk and dv.
func (a *attentionBackward) queries(w *worker, t *task, kv int) {
	m, n, row, col, d := t.rows.Len(), t.keys, a.from+t.rows.From, kv*a.h.D, a.h.D
	a.b.transposed(&w.keys, a.k, col, d, t.spans, n)
	a.b.transposed(&w.values, a.v, col, d, t.spans, n)
	dk, dv := a.part(t, kv)
	for hd := kv * a.group; hd < (kv+1)*a.group; hd++ {
		a.gradient(w, t, hd, m, n, func(i int) int { return t.causal(i, n) })
		at := 0
		for si, sp := range t.spans {
			a.b.level.Product(a.dq.from(row)[hd*d:], a.dq.cols, w.dp[at:], n, 1, a.k.d[sp.From*a.k.cols+col:], a.k.cols, m, d, sp.Len(), si > 0)
			at += sp.Len()
		}
		if dk != nil {
			later := hd > kv*a.group
			a.b.level.Product(dk, d, w.dp, 1, n, a.q.from(row)[hd*d:], a.q.cols, n, d, m, later)
			a.b.level.Product(dv, d, w.s, 1, n, a.do.from(row)[hd*d:], a.do.cols, n, d, m, later)
		}
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
		for hd := kv * a.group; hd < (kv+1)*a.group; hd++ {
			a.gradient(w, t, hd, m, n, see)
			a.b.level.Product(dk, a.dk.cols, w.dp, 1, n, a.q.from(row)[hd*d:], a.q.cols, n, d, m, true)
			a.b.level.Product(dv, a.dv.cols, w.s, 1, n, a.do.from(row)[hd*d:], a.do.cols, n, d, m, true)
		}
	}
}
