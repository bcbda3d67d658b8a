//go:build amd64

package kernels

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestDecode(t *testing.T) {
	k, n := 576, 49152
	x := aligned[float32](64 << 20 / 4)
	for i := range x {
		x[i] = float32(i)
	}
	for _, ar := range []Arith{{AVX2, false}, {AVX512BF16, true}} {
		p := NewPanels(ar.Level, k, n, true)
		for i := range p.h {
			p.h[i] = uint16(i) & 0x3fff
		}
		b, _ := os.ReadFile("/proc/self/smaps_rollup")
		for _, l := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(l, "AnonHuge") || strings.HasPrefix(l, "Rss") {
				fmt.Println(l)
			}
		}
		for _, m := range []int{1, 2, 4} {
			for _, cols := range []int{16, 32} {
				if ar.Level == AVX2 && (cols == 64 && m > 1 || cols == 32 && m > 3) {
					continue
				}
				var op Operand
				op.Reset(ar, m, k)
				row := make([]float32, k)
				for i := range m {
					op.SetRow(i, row)
				}
				c := make([]float32, m*n)
				best := 1e9
				bw := 0.0
				g := product{p: p, a: &op, c: c, ldc: n}
				for range 20 {
					s := time.Now()
					for j := 0; j < n; j += cols {
						g.column(0, m, j, j+cols, cols, 0, k, false)
					}
					best = min(best, time.Since(s).Seconds())
					bw = max(bw, ReadBandwidth(AVX2, x))
				}
				fmt.Printf("%v m%d cols %d %.1f GB/s (read %.1f)\n", ar.Level, m, cols, float64(2*k*n)/best/1e9, bw)
			}
		}
	}
}
