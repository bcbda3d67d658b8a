package cpu

import (
	"slices"

	"cria/internal/compute/cpu/kernels"
)

// Usage is what a backend has taken, or in a dry run would have.
type Usage struct {
	Buffers int64 // bytes of Alloc
	Weights int64 // bytes of weights converted to float32
	Packed  int64 // bytes of packed copies of weights
	Scratch int64 // bytes of the operations' own memory, each piece at its largest
	FLOP    float64
}

// Bytes is the memory of all.
func (u Usage) Bytes() int64 { return u.Buffers + u.Weights + u.Packed + u.Scratch }

// Usage is what was taken so far.
func (b *Backend) Usage() Usage {
	u := b.use
	for _, n := range b.slots {
		u.Scratch += n
	}
	return u
}

// Rehearse calls f, in which operations take the memory that they need and compute nothing. A step that was rehearsed
// allocates no scratch.
func (b *Backend) Rehearse(f func()) {
	flop := b.use.FLOP
	b.rehearsing = true
	defer func() { b.rehearsing, b.use.FLOP = false, flop }()
	f()
}

// idle says whether operations are not to compute.
func (b *Backend) idle() bool { return b.dry || b.rehearsing }

// took notes the bytes of a piece of scratch, and says whether it is to have memory.
func (b *Backend) took(slot any, bytes int64) bool {
	if bytes > b.slots[slot] {
		b.slots[slot] = bytes
	}
	return !b.dry
}

// grow gives a slice n elements of undefined value.
func (b *Backend) grow(s *[]float32, n int) []float32 {
	if b.took(s, 4*int64(n)) {
		if cap(*s) < n {
			*s = kernels.Alloc(n)
		}
		*s = (*s)[:n]
	}
	return *s
}

// bytes gives a slice n bytes of undefined value.
func (b *Backend) bytes(s *[]byte, n int) {
	if b.took(s, int64(n)) {
		*s = slices.Grow((*s)[:0], n)[:n]
	}
}

// operand makes o a (rows, k) operand.
func (b *Backend) operand(o *kernels.Operand, rows, k int) {
	if b.took(o, kernels.OperandBytes(b.arith, rows, k)) {
		o.Reset(b.arith, rows, k)
	} else {
		o.Shape(b.arith, rows, k)
	}
}

// pairs makes p a (t, r) matrix.
func (b *Backend) pairs(p *kernels.Pairs, t, r int) {
	if b.took(p, kernels.PairsBytes(b.arith, t, r)) {
		p.Reset(b.arith, t, r)
	}
}

// reset makes p a (k, n) matrix.
func (b *Backend) reset(p *kernels.Panels, k, n int, bf16 bool) {
	if b.took(p, kernels.PanelsBytes(k, n, bf16)) {
		p.Reset(b.level, k, n, bf16)
	}
}

// resetStrips makes s a (k, n) matrix.
func (b *Backend) resetStrips(s *kernels.Strips, k, n int) {
	if b.took(s, kernels.StripsBytes(k, n)) {
		s.Reset(b.arith, k, n)
	}
}
