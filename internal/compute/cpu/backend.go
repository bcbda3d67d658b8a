// Package cpu is the CPU backend: compute's operations on all cores, with the kernels that the processor has.
package cpu

import (
	"fmt"
	"runtime"

	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/safetensors"
)

// Options of a backend. The zero value takes all cores, the best kernels and float32.
type Options struct {
	Threads int            // 0: all cores
	Level   *kernels.Level // nil: kernels.Best()
	DType   compute.DType  // "": float32
	// MapWeights packs weights for the products anew in every operation instead of keeping a packed copy: less memory, a
	// little slower. For models whose packed copies do not fit.
	MapWeights bool
}

// Backend implements compute.Backend. Its results do not depend on the number of threads.
type Backend struct {
	level      kernels.Level
	exact      kernels.Arith // float32 products, whatever the compute type
	arith      kernels.Arith // of the frozen and the LoRA products
	pool       *kernels.Pool
	mapWeights bool
	workers    []worker

	// scratch, reused by every operation
	in, low       kernels.Operand
	loraA         kernels.Panels
	x, dx, dy, dl []float32 // (T, in), (T, in), (T, out), (T, in)
	lowF          []float32 // (T, R)
	dlow          []float32 // (T, R)
	ra, rb        []float32 // rounded A and Bᵀ
	logits        []float32
	delta         []float32 // (T, H)
	partial       []float32 // attentionBackward.partial
	tasks         []task
	spans         []compute.Span
	blocks        []keyBlock
	blockAt       map[compute.Span]int // index in blocks
	angles        []float32            // cos and sin of each row
}

// worker is the scratch of one thread.
type worker struct {
	row          []float32
	panels       kernels.Panels // of weights that are not kept packed
	keys, values []float32      // (D, keys) transposed
	s, dp        []float32      // (queries, keys) scores and their gradients
}

// New starts the workers.
func New(o Options) *Backend {
	level := kernels.Best()
	if o.Level != nil {
		level = *o.Level
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	b := &Backend{level: level, pool: kernels.NewPool(o.Threads), mapWeights: o.MapWeights, workers: make([]worker, o.Threads), blockAt: map[compute.Span]int{}}
	b.exact = kernels.Arith{Level: level}
	b.arith = kernels.Arith{Level: level, BF16: o.DType == compute.BFloat16}
	return b
}

// Name tells the kernels in use.
func (b *Backend) Name() string { return "cpu " + b.level.String() }

// Threads is the number of workers.
func (b *Backend) Threads() int { return b.pool.Workers() }

// Close stops the workers.
func (b *Backend) Close() { b.pool.Close() }

type buffer struct {
	rows, cols int
	d          []float32
}

func (b *buffer) Rows() int                     { return b.rows }
func (b *buffer) Cols() int                     { return b.cols }
func (b *buffer) row(i int) []float32           { return b.d[i*b.cols : (i+1)*b.cols : (i+1)*b.cols] }
func (b *buffer) from(i int) []float32          { return b.d[i*b.cols:] }
func (b *buffer) span(s compute.Span) []float32 { return b.d[s.From*b.cols : s.To*b.cols] }

func buf(b compute.Buffer) *buffer { return b.(*buffer) }

func (b *Backend) Alloc(rows, cols int) compute.Buffer {
	return &buffer{rows, cols, make([]float32, rows*cols)}
}

func (b *Backend) Write(dst compute.Buffer, row int, src []float32) { copy(buf(dst).from(row), src) }
func (b *Backend) Read(dst []float32, src compute.Buffer, row int)  { copy(dst, buf(src).from(row)) }
func (b *Backend) Zero(d compute.Buffer, rows compute.Span)         { clear(buf(d).span(rows)) }

// weight is a frozen (out, in) matrix: the bytes of the mapped file, and its packed forms once they were needed.
type weight struct {
	out, in int
	bf16    []byte          // bfloat16, row-major; or
	f32     []float32       // where the file's type is another one
	fwd     *kernels.Panels // x Wᵀ
	bwd     *kernels.Panels // dy W
	views   []*weight       // blocks of its rows
}

func (w *weight) Out() int { return w.out }
func (w *weight) In() int  { return w.in }

func (b *Backend) Weight(t safetensors.Tensor) (compute.Weight, error) {
	if len(t.Shape) != 2 {
		return nil, fmt.Errorf("tensor %s has shape %v, a matrix was expected", t.Name, t.Shape)
	}
	w := &weight{out: t.Shape[0], in: t.Shape[1]}
	if t.DType == safetensors.BF16 {
		w.bf16 = t.Data
		return w, nil
	}
	var err error
	w.f32, err = t.Float32s()
	return w, err
}

// wide says whether the products with w need float32 panels.
func (b *Backend) wide(w *weight) bool { return w.bf16 == nil && !b.arith.BF16 }

// pack fills panels p0 to p1-1 of dst, a Panels for columns from n0 on of Wᵀ (KN false) or W.
func (w *weight) pack(dst *kernels.Panels, p0, p1, n0 int, order kernels.Order) {
	off := n0
	if order == kernels.NK {
		off = n0 * w.in
	}
	if w.bf16 != nil {
		dst.PackBF16(p0, p1, w.bf16[2*off:], order, w.in)
	} else {
		dst.PackF32(p0, p1, w.f32[off:], order, w.in)
	}
}

// panels returns the packed form of w, made on first use.
func (b *Backend) panels(w *weight, order kernels.Order) *kernels.Panels {
	p, k, n := &w.fwd, w.in, w.out
	if order == kernels.KN {
		p, k, n = &w.bwd, w.out, w.in
	}
	if *p == nil {
		*p = kernels.NewPanels(b.level, k, n, !b.wide(w))
		b.pool.Run((*p).Count(), func(_, i int) { w.pack(*p, i, i+1, 0, order) })
	}
	return *p
}

// rows runs f for the rows 0..n-1 in blocks, on all workers.
func (b *Backend) rows(n int, f func(w *worker, t int)) {
	const block = 8
	b.pool.Run((n+block-1)/block, func(id, i int) {
		for t := i * block; t < min(n, (i+1)*block); t++ {
			f(&b.workers[id], t)
		}
	})
}

// grow returns s with n elements of undefined value.
func grow(s *[]float32, n int) []float32 {
	if cap(*s) < n {
		*s = make([]float32, n)
	}
	*s = (*s)[:n]
	return *s
}

var _ compute.Backend = (*Backend)(nil)
