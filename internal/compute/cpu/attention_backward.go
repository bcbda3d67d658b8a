package cpu

import (
	"slices"

	"cria/internal/compute"
)

const (
	// keyChunk is how many keys of a block of queries the backward pass handles at a time: scores take memory for these, not
	// for a whole row. 128 to 512 are equally fast (docs/log.md).
	keyChunk    = 256
	chunkStride = keyChunk + 16 // between rows, so that they do not share cache sets

	// waveKeys bounds the keys, summed over blocks of queries, whose parts of dk and dv are kept at a time. Two tasks for
	// every worker run in any case, so that memory grows with the length of a row times the workers, not with its square.
	waveKeys = 8192
)

// AttentionBackward runs by blocks of queries, which set dq and their parts of dk and dv, and then by blocks of keys, which
// add up the parts, so that every result belongs to one task and all its terms come in one order.
func (b *Backend) AttentionBackward(ps *compute.Pass, h compute.Heads, dq, dk, dv, dout, out, lse, q, k, v compute.Buffer) {
	a := b.attention(ps, h, out, lse, q, k, v, true)
	a.dq, a.dk, a.dv, a.dout = buf(dq), buf(dk), buf(dv), buf(dout)
	b.grow(&b.delta, ps.Rows.Len()*h.H)
	b.rows(ps.Rows.Len(), deltaJob{a})
	for ts := a.ts; len(ts) > 0; {
		n, size := a.wave(ts)
		b.grow(&b.partial, size)
		a.ts, ts = ts[:n], ts[n:]
		b.run(n*h.KV, queryGradients{a})
		b.listKeyBlocks(a.ts)
		b.run(len(b.keyBlocks)*h.KV, keyGradients{a})
	}
}

// deltaJob makes the row sums of dout·out.
type deltaJob struct{ *attention }

func (a deltaJob) row(_ *worker, t int) {
	o, do, d := a.out.row(a.from+t), a.dout.row(a.from+t), a.h.D
	for hd := range a.h.H {
		a.delta[t*a.h.H+hd] = float32(a.level.Dot(o[hd*d:][:d], do[hd*d:][:d]))
	}
}

// wave is how many of the blocks run before their parts are added up, and how many elements these have.
func (a *attention) wave(ts []queries) (n, size int) {
	few := parts(2*a.Threads(), a.h.KV)
	for keys := 0; n < len(ts) && (n < few || keys+ts[n].keys <= waveKeys); n++ {
		ts[n].part = size
		keys += ts[n].keys
		size += ts[n].keys * a.h.D * 2 * a.h.KV
	}
	return n, size
}

// part is where a block of queries keeps its parts of dk and dv, (keys, D) each.
func (a *attention) part(t *queries, kv int) (dk, dv []float32) {
	n := t.keys * a.h.D
	p := a.partial[t.part+2*n*kv:][:2*n]
	return p[:n], p[n:]
}

// queryGradients are the tasks that set dq = dS k and their parts of dk = dSᵀ q and dv = Pᵀ dout.
type queryGradients struct{ *attention }

func (a queryGradients) task(w *worker, i int) {
	t, kv, d := &a.ts[i/a.h.KV], i%a.h.KV, a.h.D
	m, row := t.rows.Len(), a.from+t.rows.From
	q, do := gather(w.q, a.q, row, m, kv, a.group*d), gather(w.do, a.dout, row, m, kv, a.group*d)
	dq := w.dq[:len(q)]
	dk, dv := a.part(t, kv)
	for from := 0; from < t.keys; from += keyChunk {
		to := min(from+keyChunk, t.keys)
		a.chunk(w, t, kv, from, to, q, do, dq, dk[from*d:to*d], dv[from*d:to*d])
	}
	scatter(a.dq, row, m, kv, a.group*d, dq)
}

// chunk adds to dq and sets dk and dv for the keys from to to-1 of a block of queries.
func (a *attention) chunk(w *worker, t *queries, kv, from, to int, q, do, dq, dk, dv []float32) {
	const ld = chunkStride
	d, col, m, level := a.h.D, kv*a.h.D, t.rows.Len(), &a.level
	w.spans = t.between(w.spans[:0], from, to)
	a.transposed(w.keys, ld, a.k, col, d, w.spans)
	a.transposed(w.values, ld, a.v, col, d, w.spans)
	done := from // keys before have their gradients
	t.causalBlocks(func(i0, i1, keys int) {
		if keys = min(keys, to) - from; keys <= 0 {
			return
		}
		r0, rows := i0*a.group, (i1-i0)*a.group
		s, dp := w.s[r0*ld:], w.dp[r0*ld:]
		level.Product(s, ld, q[r0*d:], d, 1, w.keys, ld, rows, keys, d, false)
		level.Product(dp, ld, do[r0*d:], d, 1, w.values, ld, rows, keys, d, false)
		for r := range rows {
			i := i0 + r/a.group
			hd, see := kv*a.group+r%a.group, max(0, min(t.causal(i)-from, keys))
			p, g := s[r*ld:][:keys], dp[r*ld:][:keys]
			level.Exp(p[:see], p[:see], a.scale, a.lse.row(a.from + t.rows.From + i)[hd], 1)
			clear(p[see:])
			level.SoftmaxBackward(g[:see], p[:see], g[:see], a.delta[(t.rows.From+i)*a.h.H+hd], a.scale)
			clear(g[see:])
		}
		a.overKeys(dq[r0*d:], dp, ld, rows, d, keys, a.k, col, w.spans, from > 0)
	})
	t.causalBlocks(func(i0, _, keys int) { // of the keys that no earlier query sees
		if keys = min(keys, to); keys > done {
			r0, rows, at := i0*a.group, (m-i0)*a.group, done-from
			level.Product(dk[at*d:], d, w.dp[r0*ld+at:], 1, ld, q[r0*d:], d, keys-done, d, rows, false)
			level.Product(dv[at*d:], d, w.s[r0*ld+at:], 1, ld, do[r0*d:], d, keys-done, d, rows, false)
			done = keys
		}
	})
}

// between appends the rows of the keys from to to-1 of a block of queries.
func (t *queries) between(spans []compute.Span, from, to int) []compute.Span {
	at := 0
	for _, sp := range t.spans {
		if f, e := max(from-at, 0), min(to-at, sp.Len()); f < e {
			spans = append(spans, compute.Span{From: sp.From + f, To: sp.From + e})
		}
		at += sp.Len()
	}
	return spans
}

// find is the place of a row of the key buffer among the keys of a block of queries.
func (t *queries) find(row int) int {
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
	queries []*queries
}

// listKeyBlocks sets b.keyBlocks to all key rows that blocks of queries see, in blocks.
func (b *Backend) listKeyBlocks(ts []queries) {
	clear(b.blockAt)
	out := b.keyBlocks[:0]
	for i := range ts {
		t := &ts[i]
		for _, s := range t.spans {
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
	}
	b.keyBlocks = out
}

// keyGradients are the tasks that add up the parts of one block of keys and one key-value head.
type keyGradients struct{ *attention }

func (a keyGradients) task(_ *worker, i int) {
	kb, kv, d := &a.keyBlocks[i/a.h.KV], i%a.h.KV, a.h.D
	for _, t := range kb.queries {
		pk, pv := a.part(t, kv)
		at := t.find(kb.rows.From)
		for r := range kb.rows.Len() {
			a.level.Add(a.dk.row(kb.rows.From + r)[kv*d:][:d], pk[(at+r)*d:][:d])
			a.level.Add(a.dv.row(kb.rows.From + r)[kv*d:][:d], pv[(at+r)*d:][:d])
		}
	}
}
