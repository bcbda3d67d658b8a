package cpu

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/safetensors"
)

// BenchmarkMultiply is the frozen products of SmolLM2-135M and of Llama-3.1-8B, both directions, as a share of the peak
// that the same number of threads reach in the same run.
func BenchmarkMultiply(b *testing.B) {
	shapes := []struct{ out, in int }{{576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {49152, 576}, {4096, 4096}, {1024, 4096}, {14336, 4096}, {4096, 14336}}
	for _, dtype := range []compute.DType{compute.BFloat16, compute.Float32} {
		for _, threads := range []int{1, 2} {
			if threads > runtime.NumCPU() {
				continue
			}
			for _, s := range shapes {
				for _, mapped := range []bool{false, true} {
					if mapped && s.out < 1024 {
						continue
					}
					for _, m := range []int{256, 512, 1000} {
						if s.out > 40000 && m > 256 {
							continue
						}
						for _, order := range []kernels.Order{kernels.NK, kernels.KN} {
							name := fmt.Sprintf("%s/%d/%dx%d/mapped=%v/M%d/%s", dtype, threads, s.out, s.in, mapped, m, [2]string{"dx", "y"}[order])
							b.Run(name, func(b *testing.B) { benchmarkMultiply(b, dtype, threads, s.out, s.in, m, order, mapped) })
						}
					}
				}
			}
		}
	}
}

func benchmarkMultiply(b *testing.B, dtype compute.DType, threads, out, in, m int, order kernels.Order, mapped bool) {
	be := New(Options{Threads: threads, DType: dtype, MapWeights: mapped})
	defer be.Close()
	raw := make([]uint16, out*in)
	for i := range raw {
		raw[i] = uint16(0x3c00 + rand.IntN(256))
	}
	w, err := be.Weight(safetensors.FromBFloat16s("w", []int{out, in}, raw))
	if err != nil {
		b.Fatal(err)
	}
	n, k := out, in
	if order == kernels.KN {
		n, k = in, out
	}
	x, c := make([]float32, k), kernels.Alloc(m*n)
	for i := range x {
		x[i] = rand.Float32()
	}
	be.in.Reset(be.arith, m, k)
	for t := range m {
		be.in.SetRow(t, x)
	}
	work := []product{{terms: []term{{w.(*weight), order, &be.in}}, c: c, ldc: n}}
	be.multiply(work)
	b.ResetTimer()
	fastest, peak := time.Hour, 0.0
	for range max(b.N, 5) {
		start := time.Now()
		be.multiply(work)
		fastest = min(fastest, time.Since(start))
		peak = max(peak, peakOf(threads, be.arith))
	}
	rate := 2 * float64(m) * float64(n) * float64(k) / fastest.Seconds() / 1e9
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/peak, "%peak")
}

// peakOf is the peak of threads at the same time.
func peakOf(threads int, ar kernels.Arith) float64 {
	var wg sync.WaitGroup
	rates := make([]float64, threads)
	for i := range rates {
		wg.Go(func() {
			if ar.BF16 {
				rates[i] = kernels.PeakBF16(ar.Level)
			} else {
				rates[i] = kernels.PeakF32(ar.Level)
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}
