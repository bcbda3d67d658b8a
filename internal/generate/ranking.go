package generate

import "slices"

// candidate is a token that may be chosen.
type candidate struct {
	id int32
	l  float64 // logit less the largest one, divided by the temperature
}

// before orders candidates: the likeliest first, of equal ones the first of the vocabulary.
func (a candidate) before(b candidate) bool { return a.l > b.l || a.l == b.l && a.id < b.id }

// ranking orders candidates only as far as it is asked: of a vocabulary of 128,256 tokens a reply needs some dozens. It is
// a heap that heapsort (Williams, CACM 7 (1964) 347) has begun to sort.
type ranking struct {
	c    []candidate // a heap with the likeliest of the rest at its root, after it those in order, the likeliest last
	rest int         // length of the heap
}

// start makes all tokens candidates.
func (r *ranking) start(logits []float32, temperature float64) {
	r.c, r.rest = r.c[:0], len(logits)
	top := float64(slices.Max(logits)) // subtracted first, as no quotient may overflow
	for i, l := range logits {
		r.c = append(r.c, candidate{int32(i), (float64(l) - top) / temperature})
	}
	for i := r.rest/2 - 1; i >= 0; i-- {
		r.sift(i)
	}
}

func (r *ranking) len() int { return len(r.c) }

// at is candidate i of the order.
func (r *ranking) at(i int) candidate {
	place := len(r.c) - 1 - i
	for r.rest > place {
		r.rest--
		r.c[0], r.c[r.rest] = r.c[r.rest], r.c[0]
		r.sift(0)
	}
	return r.c[place]
}

// cut keeps the first n candidates, n > 0.
func (r *ranking) cut(n int) {
	r.at(n - 1)
	copy(r.c, r.c[len(r.c)-n:])
	r.c, r.rest = r.c[:n], 0
}

// sift moves a candidate down the heap to its place.
func (r *ranking) sift(i int) {
	c := r.c[i]
	for {
		child := 2*i + 1
		if child >= r.rest {
			break
		}
		if next := child + 1; next < r.rest && r.c[next].before(r.c[child]) {
			child = next
		}
		if c.before(r.c[child]) {
			break
		}
		r.c[i] = r.c[child]
		i = child
	}
	r.c[i] = c
}
