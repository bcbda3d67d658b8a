package train

import (
	"fmt"
	"strings"
	"testing"

	"cria/internal/adapter"
	"cria/internal/compute"
	"cria/internal/llama"
	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// On 24 GiB the 15 GB of Llama-3.1-8B's weights are read from the mapped files, and count; what is left holds a pass of
// some hundred tokens.
func TestMemoryPlan(t *testing.T) {
	cfg := &llama.Config{VocabSize: 128256, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 8, HeadDim: 128}
	if n := cfg.ProductElements(); n != 8030261248-128256*4096-65*4096 { // all parameters less embedding and norms
		t.Fatalf("%d elements in products", n)
	}
	c := &Config{Model: &llama.Model{Config: cfg, Layers: make([]llama.Layer, cfg.NumHiddenLayers)}, Adapter: &adapter.Adapter{}}
	const gib = 1 << 30
	for _, test := range []struct {
		memory         string
		stored         safetensors.DType
		checkpointing  string
		n              largest
		rows           [2]int // from, to
		mapped, remake bool
	}{
		{"200GiB", safetensors.BF16, "auto", largest{rows: 1512, minRows: 384}, [2]int{0, 0}, false, false},
		{"22GiB", safetensors.BF16, "auto", largest{rows: 1512, minRows: 384}, [2]int{1000, 1511}, true, false},
		{"20GiB", safetensors.BF16, "auto", largest{rows: 1512, minRows: 384}, [2]int{800, 1000}, true, false},
		{"16GiB", safetensors.BF16, "auto", largest{rows: 1512, minRows: 384}, [2]int{384, 1511}, true, true},
		{"9GiB", safetensors.BF16, "auto", largest{rows: 1512, minRows: 384}, [2]int{384, 384}, true, true}, // the weights do not stay in memory
		{"16GiB", safetensors.BF16, "false", largest{rows: 1512, minRows: 384}, [2]int{384, 384}, true, false},
		{"1GiB", safetensors.BF16, "false", largest{rows: 1512, minRows: 384}, [2]int{-1, -1}, true, false},
		{"64GiB", safetensors.F32, "auto", largest{rows: 1512, minRows: 384}, [2]int{0, 0}, true, false},
		{"30GiB", safetensors.F32, "auto", largest{rows: 1512, minRows: 384}, [2]int{384, 1511}, true, true}, // 28 GiB of float32 weights
		{"28GiB", safetensors.F32, "auto", largest{rows: 1512, minRows: 384}, [2]int{-1, -1}, true, false},
	} {
		t.Run(fmt.Sprint(test.memory, test.stored, test.checkpointing), func(t *testing.T) {
			r, err := recipe.Load("", []string{"model=m", "dataset=d", "max_memory=" + test.memory, "gradient_checkpointing=" + test.checkpointing})
			if err != nil {
				t.Fatal(err)
			}
			m := planMemory(cfg, test.stored, r, compute.BFloat16)
			rows, remake, err := m.rows(c, test.n)
			if test.rows[0] < 0 {
				if err == nil || !strings.Contains(err.Error(), "max_memory") {
					t.Fatalf("%d rows, %v; want a refusal", rows, err)
				}
				return
			}
			if err != nil || rows < test.rows[0] || rows > test.rows[1] || remake != test.remake || m.mapWeights != test.mapped {
				t.Errorf("%d rows, recompute %v, mapped %v, %v", rows, remake, m.mapWeights, err)
			}
			if rows > test.n.minRows {
				if used := m.weights + m.mapped + c.Model.StateBytes(rows, remake); used > m.limit {
					t.Errorf("%.1f GiB of %.1f are used", float64(used)/gib, float64(m.limit)/gib)
				}
			}
		})
	}
}
