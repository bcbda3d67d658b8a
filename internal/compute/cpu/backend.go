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
	// DryRun makes operations count what they would take (see Usage), without memory and without computing.
	DryRun bool
}

// Backend implements compute.Backend. Its results do not depend on the number of threads.
type Backend struct {
	level      kernels.Level
	arith      kernels.Arith // of the frozen and the LoRA products
	pool       *kernels.Pool
	layout     layout
	dry        bool // nothing has memory
	rehearsing bool // nothing is computed
	workers    []worker
	use        Usage
	slots      map[any]int64 // bytes of each piece of scratch

	// scratch, reused by every operation
	in       kernels.Operand // (T, in)
	branches [3]branch
	dx       []float32       // (T, in)
	logits   []float32       // (headRows, V)
	dlogits  kernels.Operand // the same
	delta    []float32       // (T, H)
	partial  []float32       // (block of queries, KV, 2, keys, D) parts of dk and dv
	angles   angles

	labelled  []int32 // rows with targets
	labelAt   []int   // first target of each
	terms     [3]term
	products  [3]product
	blocks    []block
	last      []block // scratch of splitLast
	queries   []queries
	spans     []compute.Span
	keyBlocks []keyBlock
	blockAt   map[compute.Span]int // index in keyBlocks

	runTask func(id, task int) // runs a task of job; made once, because a closure for every call would be allocated
	job     job

	// jobs, filled anew by every operation
	rowBlocks   rowBlocks
	tiles       tiles
	projections projections
	backwardEnd backwardEnd
	packs       packs
	loraSums    loraSums
	attend      attention
	moved       gatherJob
	norm        normJob
	turn        rotateJob
	act         actBackward
	headIn      headIn
	loss        lossJob
	headGrad    headGradJob
	squares     squares
	update      updateJob
}

// worker is the scratch of one thread.
type worker struct {
	row, x, tile []float32
	dropped      kernels.Operand
	mask         kernels.Mask
	panels       kernels.Panels    // of weights that are not kept packed
	strips       [3]kernels.Strips // of the terms of a product
	keys, values []float32         // (D, keys) transposed; in the backward pass of a chunk of keys
	q, do, dq    []float32         // (queries·group, D) of the heads that share a key-value head; do is out in the forward pass
	s, dp        []float32         // (causalBlock·group, keys) scores; backward (queries·group, chunkStride), and their gradients
	spans        []compute.Span    // of a chunk of keys
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
	b := &Backend{level: level, dry: o.DryRun, workers: make([]worker, o.Threads), slots: map[any]int64{}, blockAt: map[compute.Span]int{}}
	b.runTask = func(id, task int) { b.job.task(&b.workers[id], task) }
	if !b.dry {
		b.pool = kernels.NewPool(o.Threads)
	}
	switch {
	case !o.MapWeights:
		b.layout = packed{b}
	case level.Strips():
		b.layout = strips{b}
	default:
		b.layout = mapped{b}
	}
	b.arith = kernels.Arith{Level: level, BF16: o.DType == compute.BFloat16}
	return b
}

// Name tells the kernels in use.
func (b *Backend) Name() string { return "cpu " + b.level.String() }

// Threads is the number of workers.
func (b *Backend) Threads() int { return len(b.workers) }

// Close stops the workers.
func (b *Backend) Close() {
	if !b.dry {
		b.pool.Close()
	}
}

type buffer struct {
	rows, cols int
	d          []float32
}

func (b *buffer) Rows() int { return b.rows }
func (b *buffer) Cols() int { return b.cols }

// row, from and span are parts of a buffer; nil in a dry run.
func (b *buffer) row(i int) []float32 { return b.span(compute.Span{From: i, To: i + 1}) }

func (b *buffer) span(s compute.Span) []float32 {
	if b.d == nil {
		return nil
	}
	return b.d[s.From*b.cols : s.To*b.cols : s.To*b.cols]
}

func (b *buffer) from(i int) []float32 {
	if b.d == nil {
		return nil
	}
	return b.d[i*b.cols:]
}

func buf(b compute.Buffer) *buffer { return b.(*buffer) }

func (b *Backend) Alloc(rows, cols int) compute.Buffer {
	b.use.Buffers += 4 * int64(rows) * int64(cols)
	if b.dry {
		return &buffer{rows: rows, cols: cols}
	}
	return &buffer{rows, cols, kernels.Alloc(rows * cols)}
}

func (b *Backend) Write(dst compute.Buffer, row int, src []float32) {
	if !b.dry {
		copy(buf(dst).from(row), src)
	}
}

func (b *Backend) Read(dst []float32, src compute.Buffer, row int) {
	if !b.dry {
		copy(dst, buf(src).from(row))
	}
}

func (b *Backend) Zero(d compute.Buffer, rows compute.Span) {
	if !b.idle() {
		clear(buf(d).span(rows))
	}
}

// weight is a frozen (out, in) matrix: the bytes of the mapped file, and its packed forms once they were needed.
type weight struct {
	out, in int
	bf16    []byte          // bfloat16, row-major; or
	f32     []float32       // where the file's type is another one
	fwd     *kernels.Panels // x Wᵀ
	bwd     *kernels.Panels // dy W
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
	b.use.Weights += 4 * int64(w.out) * int64(w.in)
	if b.dry {
		return w, nil
	}
	var err error
	w.f32, err = t.Float32s()
	return w, err
}

// wide says whether the products with w need float32 panels.
func (b *Backend) wide(w *weight) bool { return w.bf16 == nil && !b.arith.BF16 }

// at is the element at which a block of Wᵀ (NK) or W (KN) begins: rows from k0 and columns from n0 on.
func (w *weight) at(n0, k0 int, order kernels.Order) int {
	if order == kernels.NK {
		return n0*w.in + k0
	}
	return k0*w.in + n0
}

// packPart fills dst with the block from row k0 and column n0 on.
func (w *weight) packPart(dst *kernels.Panels, n0, k0 int, order kernels.Order) {
	if at := w.at(n0, k0, order); w.bf16 != nil {
		dst.PackBF16(0, dst.Count(), w.bf16[2*at:], order, w.in)
	} else {
		dst.PackF32(0, dst.Count(), w.f32[at:], order, w.in)
	}
}

// pack fills panels p0 to p1-1 of dst, a Panels for all of Wᵀ (NK) or W (KN).
func (w *weight) pack(dst *kernels.Panels, p0, p1 int, order kernels.Order) {
	if w.bf16 != nil {
		dst.PackBF16(p0, p1, w.bf16, order, w.in)
	} else {
		dst.PackF32(p0, p1, w.f32, order, w.in)
	}
}

// panels returns the packed form of w, made on first use.
func (b *Backend) panels(w *weight, order kernels.Order) *kernels.Panels {
	p, k, n := &w.fwd, w.in, w.out
	if order == kernels.KN {
		p, k, n = &w.bwd, w.out, w.in
	}
	if *p == nil {
		b.use.Packed += kernels.PanelsBytes(k, n, !b.wide(w))
		*p = new(kernels.Panels)
		if !b.dry {
			(*p).Reset(b.level, k, n, !b.wide(w))
			b.pool.Run((*p).Count(), func(_, i int) { w.pack(*p, i, i+1, order) })
		}
	}
	return *p
}

var _ compute.Backend = (*Backend)(nil)
