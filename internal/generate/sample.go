package generate

import (
	"math"
	"math/rand/v2"
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

// sampler chooses tokens one after the other.
type sampler struct {
	Sampling
	rng   *rand.Rand
	ranks ranking
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
	r := &s.ranks
	r.start(logits, s.Temperature)
	if s.TopK > 0 && s.TopK < r.len() {
		k := s.TopK
		for k < r.len() && r.at(k).l == r.at(s.TopK-1).l { // ties stay, as in TopKLogitsWarper
			k++
		}
		r.cut(k)
	}
	var sum float64
	for _, c := range r.c {
		sum += math.Exp(c.l)
	}
	p := func(i int) float64 { return math.Exp(r.at(i).l) / sum }
	n, kept := r.len(), 1.0
	if s.TopP < 1 || s.MinP > 0 {
		n, kept = 1, p(0)
		for least := s.MinP * p(0); n < r.len() && (s.TopP >= 1 || kept < s.TopP) && p(n) >= least; n++ {
			kept += p(n)
		}
	}
	u := s.rng.Float64() * kept
	for i := range n {
		if u -= p(i); u < 0 {
			return r.at(i).id
		}
	}
	return r.at(0).id
}

// finite reports whether no logit is NaN or infinite.
func finite(logits []float32) bool {
	var sum float32
	for _, l := range logits {
		sum += l * 0
	}
	return sum == 0
}
