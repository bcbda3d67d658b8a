package train

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"cria/internal/compute"
	"cria/internal/llama"
	"cria/internal/recipe"
)

// memory decides what is kept and what is made again, within max_memory or what the machine has free.
type memory struct {
	r          *recipe.Recipe
	limit      int64 // bytes for everything; 0: unknown, no limit
	packed     int64 // packed copies of the weights
	mapWeights bool  // pack weights anew in every operation
}

// planMemory keeps packed copies of the weights where they take at most a third of the limit.
func planMemory(cfg *llama.Config, r *recipe.Recipe, dtype compute.DType) *memory {
	m := &memory{r: r, limit: r.MaxMemory}
	if m.limit == 0 {
		m.limit = available() * 8 / 10
	}
	c, hd, kvd := int64(cfg.HiddenSize), int64(cfg.NumAttentionHeads*cfg.HeadDim), int64(cfg.NumKeyValueHeads*cfg.HeadDim)
	layer := c*(2*hd+2*kvd) + 3*c*int64(cfg.IntermediateSize)
	m.packed = 2 * 2 * (int64(cfg.NumHiddenLayers)*layer + int64(cfg.VocabSize)*c) // two directions of bfloat16
	if m.limit > 0 && m.packed > m.limit/3 {
		m.mapWeights, m.packed = true, 0
	}
	return m
}

// rows is how many rows of activations a pass may have, and whether layers are computed again in the backward pass.
func (m *memory) rows(c *Config) (maxRows int, recompute bool, err error) {
	least, most := 0, 0
	l := &Loop{Config: *c}
	for i := range c.Steps.Len() {
		step, _, need, err := l.pack(c.Steps.At(i))
		if err != nil {
			return 0, false, err
		}
		least, most = max(least, step.MinRows()), max(most, need)
	}
	adapter := int64(c.Adapter.NumParameters()) * 4 * 4 // weight, gradient, two moments
	ranks := 0
	for _, mod := range c.Adapter.Modules {
		ranks += mod.R
	}
	for _, recompute := range []bool{false, true} {
		switch m.r.GradientCheckpointing {
		case "true":
			recompute = true
		case "false":
			recompute = false
		}
		if m.limit == 0 {
			return 0, recompute, nil
		}
		row := c.Model.StateBytes(1, recompute) + int64(4*ranks) + m.scratch(c.Model.Config)
		fits := int((m.limit - m.packed - adapter) / row)
		if fits >= most {
			return 0, recompute, nil
		}
		if fits >= least {
			return fits, recompute, nil
		}
		if m.r.GradientCheckpointing != "auto" || recompute {
			return 0, false, m.r.Errorf("max_memory", "%s does not hold this job: the longest row's activations take %s, adapter and optimizer %s, packed weights %s; "+
				"allow more memory, or lower max_length%s", size(m.limit), size(int64(least)*row), size(adapter), size(m.packed), map[bool]string{false: ", or set gradient_checkpointing: auto"}[recompute])
		}
	}
	panic("unreachable")
}

// scratch is what the operations of the CPU backend need for a row, beside the state.
func (m *memory) scratch(cfg *llama.Config) int64 {
	return 4 * int64(4*cfg.IntermediateSize+2*cfg.HiddenSize)
}

func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// available is the memory that the machine can give, in bytes; 0 where it does not say.
func available() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int64
		if rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
			if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%d kB", &kb); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
