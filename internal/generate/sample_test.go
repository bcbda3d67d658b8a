package generate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sorted is next as it reads in transformers: everything sorted, every filter a pass of its own.
func (s *sampler) sorted(logits []float32) int32 {
	var c []candidate
	top := float64(slices.Max(logits))
	for i, l := range logits {
		c = append(c, candidate{int32(i), (float64(l) - top) / s.Temperature})
	}
	slices.SortStableFunc(c, func(a, b candidate) int { return cmp.Compare(b.l, a.l) })
	if s.TopK > 0 && s.TopK < len(c) {
		least := c[s.TopK-1].l
		c = slices.DeleteFunc(c, func(c candidate) bool { return c.l < least })
	}
	p := make([]float64, len(c))
	scale := func() {
		var sum float64
		for _, x := range p {
			sum += x
		}
		for i := range p {
			p[i] /= sum
		}
	}
	for i := range c {
		p[i] = math.Exp(c[i].l)
	}
	scale()
	if s.TopP < 1 {
		n, sum := 1, p[0]
		for ; n < len(p) && sum < s.TopP; n++ {
			sum += p[n]
		}
		p = p[:n]
		scale()
	}
	n := 1
	for n < len(p) && p[n] >= s.MinP*p[0] {
		n++
	}
	p = p[:n]
	scale()
	u := s.rng.Float64()
	for i := range p {
		if u -= p[i]; u < 0 {
			return c[i].id
		}
	}
	return c[0].id
}

// The ranking, sorted as far as needed, draws what the sorted vocabulary draws, ties and all.
func TestSamplerEqualsSorted(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var s *sampler
	for round := range 200 {
		if round%4 == 0 { // the others find what the last one left
			s = newSampler(Sampling{})
		}
		s.Temperature = []float64{0.01, 0.6, 1, 5}[rng.IntN(4)]
		s.TopK = []int{0, 0, 1, 2, 40, 1000}[rng.IntN(6)]
		s.TopP = []float64{0, 0.3, 0.9, 0.999, 1}[rng.IntN(5)]
		s.MinP = []float64{0, 0, 0.05, 0.5, 1}[rng.IntN(5)]
		logits := make([]float32, 1+rng.IntN(600))
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * 4)
			if round%2 == 0 {
				logits[i] = float32(math.Round(float64(logits[i])))
			}
		}
		seed := rng.Uint64()
		draws := func(next func() int32) (ids []int32) {
			s.rng = rand.New(rand.NewPCG(seed, 1))
			for range 20 {
				ids = append(ids, next())
			}
			return ids
		}
		want := draws(func() int32 { return s.sorted(logits) })
		got := draws(func() int32 { return s.next(logits, nil) })
		if !slices.Equal(got, want) {
			t.Fatalf("%+v of %d tokens: %v, want %v", s.Sampling, len(logits), got, want)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	for _, n := range []int{49152, 128256} {
		logits := make([]float32, n)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * 3)
		}
		for _, s := range []Sampling{{TopP: 1}, {TopP: 0.9}, {TopP: 1, TopK: 50}} {
			s.Temperature = 0.6
			smp := newSampler(s)
			for name, next := range map[string]func() int32{
				"ranking": func() int32 { return smp.next(logits, nil) },
				"sorted":  func() int32 { return smp.sorted(logits) },
			} {
				b.Run(fmt.Sprintf("%d/top_p=%v/top_k=%d/%s", n, s.TopP, s.TopK, name), func(b *testing.B) {
					for b.Loop() {
						next()
					}
				})
			}
		}
	}
}
