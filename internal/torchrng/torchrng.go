// Package torchrng reproduces PyTorch's CPU random number generator bit for bit.
//
// Row order and fresh adapters must be what the reference stack would give for the same seed, and both come from
// torch.Generator on the CPU: MT19937 (at::mt19937 in aten/src/ATen/core/MT19937RNGEngine.h) with the distributions of
// aten/src/ATen/core/TransformationHelper.h. The generator is not safe for concurrent use.
package torchrng

import "math"

const (
	stateN  = 624 // words of state
	stateM  = 397 // distance of the word that is mixed in
	matrixA = 0x9908b0df
	upper   = 0x80000000
	lower   = 0x7fffffff

	// perm64 is the length from which torch.randperm draws 64 bits for each swap, because a 32-bit remainder would be
	// noticeably uneven (aten/src/ATen/native/TensorFactories.cpp, randperm_cpu).
	perm64 = math.MaxUint32 / 20
)

// Generator is torch.Generator(device="cpu"): MT19937 as PyTorch seeds and reads it. Use New.
type Generator struct {
	state [stateN]uint32
	next  int // the next word of state to hand out; stateN when the block is used up
}

// New returns a generator in the state that torch.manual_seed(seed) leaves.
func New(seed uint64) *Generator {
	g := new(Generator)
	g.Seed(seed)
	return g
}

// Seed puts the generator into the state that torch.manual_seed(seed) leaves. Only the low 32 bits count, as in
// at::mt19937::init_with_uint32.
func (g *Generator) Seed(seed uint64) {
	g.state[0] = uint32(seed)
	for i := 1; i < stateN; i++ {
		prev := g.state[i-1]
		g.state[i] = 1812433253*(prev^prev>>30) + uint32(i)
	}
	g.next = stateN
}

// refill computes the next block of stateN words in place.
func (g *Generator) refill() {
	s := &g.state
	twist := func(u, v uint32) uint32 {
		return (u&upper|v&lower)>>1 ^ -(v&1)&matrixA
	}
	for i := range stateN - stateM {
		s[i] = s[i+stateM] ^ twist(s[i], s[i+1])
	}
	for i := stateN - stateM; i < stateN-1; i++ {
		s[i] = s[i+stateM-stateN] ^ twist(s[i], s[i+1])
	}
	s[stateN-1] = s[stateM-1] ^ twist(s[stateN-1], s[0])
	g.next = 0
}

// Uint32 is CPUGeneratorImpl::random: one draw of 32 bits.
func (g *Generator) Uint32() uint32 {
	if g.next == stateN {
		g.refill()
	}
	y := g.state[g.next]
	g.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Uint64 is CPUGeneratorImpl::random64: two draws, the first one in the high half.
func (g *Generator) Uint64() uint64 {
	high := uint64(g.Uint32())
	return high<<32 | uint64(g.Uint32())
}

// Int63 is one element of Tensor.random_() on an int64 tensor: two draws, in [0, 2^63).
func (g *Generator) Int63() int64 {
	return int64(g.Uint64() & math.MaxInt64)
}

// Discard skips n draws of 32 bits, as n calls of Uint32 would; n <= 0 skips nothing. One float32 of Uniform is one draw.
func (g *Generator) Discard(n int) {
	for n > 0 {
		if g.next == stateN {
			g.refill()
		}
		k := min(n, stateN-g.next)
		g.next += k
		n -= k
	}
}

// Uniform fills dst as Tensor.uniform_(from, to) fills a contiguous float32 tensor: one draw an element, of which the low
// 24 bits count, so that every element lies in [from, to).
func (g *Generator) Uniform(dst []float32, from, to float32) {
	span := to - from
	for i := range dst {
		x := float32(g.Uint32()&(1<<24-1)) * (1.0 / (1 << 24))
		dst[i] = scale(x, span, from)
	}
}

// KaimingUniform fills dst, a contiguous (out x fanIn) float32 matrix, as
// torch.nn.init.kaiming_uniform_(dst, a=math.sqrt(5)) does: uniform in [-bound, bound) with
// bound = sqrt(3) * sqrt(2 / (1 + a^2)) / sqrt(fanIn). PEFT draws lora_A (r x in) with it, and torch.nn.Linear its weight.
func (g *Generator) KaimingUniform(dst []float32, fanIn int) {
	a := math.Sqrt(5)
	gain := math.Sqrt(2 / (1 + a*a))
	bound := math.Sqrt(3) * (gain / math.Sqrt(float64(fanIn)))
	g.Uniform(dst, float32(-bound), float32(bound))
}

// Perm is torch.randperm(n): a permutation of 0..n-1 with n-1 draws (n-1 double draws for very large n).
// It is empty for n <= 0.
func (g *Generator) Perm(n int) []int {
	if n <= 0 {
		return nil
	}
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := range n - 1 {
		var z uint64
		if n < perm64 {
			z = uint64(g.Uint32()) % uint64(n-i)
		} else {
			z = g.Uint64() % uint64(n-i)
		}
		j := i + int(z)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// scale returns x*span + from rounded once, as the reference's vectorised kernels do on processors with fused
// multiply-add. The float64 product of two float32 numbers is exact, so the only rounding is the last one.
func scale(x, span, from float32) float32 {
	return float32(math.FMA(float64(x), float64(span), float64(from)))
}
