// Package bench measures the machine's peaks and the operations of training steps against them.
package bench

import (
	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/compute/cpu/kernels"
)

// Peak is what some threads reach together in products that touch no memory, in GFLOP/s; 0: not measured, the kernels are
// plain Go.
type Peak struct {
	Threads  int     `json:"threads"`
	Float32  float64 `json:"float32_gflops"`
	BFloat16 float64 `json:"bfloat16_gflops"`
}

// of is the peak of one type of products.
func (p Peak) of(d compute.DType) float64 {
	if d == compute.BFloat16 {
		return p.BFloat16
	}
	return p.Float32
}

// Peaks measures, for every number of threads named, that many threads at once; each takes some 40 milliseconds.
func Peaks(level kernels.Level, threads ...int) []Peak {
	out := make([]Peak, len(threads))
	for i, n := range threads {
		out[i] = Peak{n, together(n, func(int) float64 { return kernels.PeakF32(level) }), together(n, func(int) float64 { return kernels.PeakBF16(level) })}
	}
	return out
}

// ReadBandwidth is the rate at which all threads together read memory, in GB/s, about; 0: not measured. Every thread reads
// memory of its own, more than caches hold; it is written first, so that every page is real.
func ReadBandwidth(level kernels.Level, threads int) float64 {
	size := int64(max(16, 256/threads)) << 20
	if _, available, _ := cpu.Memory(); level == kernels.Generic || available > 0 && size*int64(threads) > available/4 {
		return 0
	}
	buffers := make([][]float32, threads)
	together(threads, func(i int) float64 {
		buffers[i] = make([]float32, size/4)
		for j := range buffers[i] {
			buffers[i][j] = 1
		}
		return 0
	})
	return together(threads, func(i int) float64 { return kernels.ReadBandwidth(level, buffers[i]) })
}

// together runs f on n threads at once and adds up what it returns.
func together(n int, f func(thread int) float64) (sum float64) {
	pool := kernels.NewPool(n)
	defer pool.Close()
	got := make([]float64, n)
	pool.Run(n, func(_, i int) { got[i] = f(i) })
	for _, x := range got {
		sum += x
	}
	return sum
}

// ThreadCounts are 1, 2, 4, ... and n.
func ThreadCounts(n int) (out []int) {
	for i := 1; i < n; i *= 2 {
		out = append(out, i)
	}
	return append(out, n)
}
