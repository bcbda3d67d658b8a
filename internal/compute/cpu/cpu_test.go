package cpu

import (
	"fmt"
	"testing"

	"cria/internal/compute"
	"cria/internal/compute/computetest"
	"cria/internal/compute/cpu/kernels"
)

// Every level of instructions that the CPU has, in both compute types, with weights kept packed and not, passes the suite.
func TestConformance(t *testing.T) {
	for _, level := range kernels.Levels() {
		for _, dtype := range []compute.DType{compute.Float32, compute.BFloat16} {
			for _, mapped := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s_%s_mapped=%v", level, dtype, mapped), func(t *testing.T) {
					b := New(Options{Threads: 3, Level: &level, DType: dtype, MapWeights: mapped})
					defer b.Close()
					computetest.Run(t, b, dtype)
				})
			}
		}
	}
}
