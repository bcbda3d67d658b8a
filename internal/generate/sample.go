package generate

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how the next token is chosen. Filters run in the order of transformers' LogitsProcessors: repetition
// penalty, temperature, top-k, top-p, min-p.
type Sampling struct {
	Greedy            bool
	Temperature       float64 // 0: greedy
	TopK              int     // 0: all
	TopP              float64 // 1: all
	MinP              float64 // 0: all
	RepetitionPenalty float64 // 1: none (Keskar et al., arXiv 1909.05858)
	Seed              uint64
}

// candidate is a token that may be chosen.
type candidate struct {
	id int32
	l  float64 // logit, later probability
}

// sampler chooses tokens one after the other.
type sampler struct {
	Sampling
	rng   *rand.Rand
	cands []candidate
}

func newSampler(s Sampling) *sampler {
	return &sampler{Sampling: s, rng: rand.New(rand.NewPCG(s.Seed, 0x63726961))}
}

// next chooses a token from logits (V), which it may change. seen are the ids of the prompt and the reply so far.
func (s *sampler) next(logits []float32, seen []int32) int32 {
	if p := float32(s.RepetitionPenalty); p != 1 && p != 0 {
		done := make(map[int32]bool, len(seen))
		for _, id := range seen {
			if done[id] || int(id) >= len(logits) {
				continue
			}
			done[id] = true
			if logits[id] < 0 {
				logits[id] *= p
			} else {
				logits[id] /= p
			}
		}
	}
	if s.Greedy || s.Temperature == 0 {
		best := 0
		for i, l := range logits {
			if l > logits[best] {
				best = i
			}
		}
		return int32(best)
	}
	s.cands = s.cands[:0]
	top := float64(slices.Max(logits)) // subtracted first, as no quotient may overflow
	for i, l := range logits {
		s.cands = append(s.cands, candidate{int32(i), (float64(l) - top) / s.Temperature})
	}
	slices.SortFunc(s.cands, func(a, b candidate) int {
		switch {
		case a.l > b.l:
			return -1
		case a.l < b.l:
			return 1
		}
		return int(a.id - b.id)
	})
	c := s.cands
	if s.TopK > 0 && s.TopK < len(c) {
		k := s.TopK
		for k < len(c) && c[k].l == c[s.TopK-1].l { // ties stay, as in TopKLogitsWarper
			k++
		}
		c = c[:k]
	}
	softmax(c)
	if s.TopP < 1 {
		var sum float64
		for i := range c {
			if sum += c[i].l; sum >= s.TopP {
				c = c[:i+1]
				break
			}
		}
		renormalise(c)
	}
	if s.MinP > 0 {
		n := len(c)
		for n > 1 && c[n-1].l < s.MinP*c[0].l {
			n--
		}
		c = c[:n]
		renormalise(c)
	}
	u := s.rng.Float64()
	for i := range c {
		if u -= c[i].l; u < 0 {
			return c[i].id
		}
	}
	return c[0].id
}

// softmax turns descending logits into probabilities.
func softmax(c []candidate) {
	top := c[0].l
	for i := range c {
		c[i].l = math.Exp(c[i].l - top)
	}
	renormalise(c)
}

// finite reports whether no logit is NaN or infinite.
func finite(logits []float32) bool {
	var sum float32
	for _, l := range logits {
		sum += l * 0
	}
	return sum == 0
}

func renormalise(c []candidate) {
	var sum float64
	for i := range c {
		sum += c[i].l
	}
	for i := range c {
		c[i].l /= sum
	}
}
