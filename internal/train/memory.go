package train

import (
	"fmt"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/llama"
	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// memory decides what is kept and what is made again, within max_memory or what the machine has free.
type memory struct {
	r          *recipe.Recipe
	limit      int64 // bytes for everything; 0: unknown, no limit
	weights    int64 // converted and packed copies of the weights
	mapped     int64 // weights that are read from the mapped files in every operation, through the system's cache
	mapWeights bool  // pack weights anew in every operation
}

// planMemory keeps packed copies of the weights where they take at most a third of the limit. stored is the type of the
// model's files.
func planMemory(cfg *llama.Config, stored safetensors.DType, r *recipe.Recipe, dtype compute.DType) *memory {
	m := &memory{r: r, limit: r.MaxMemory}
	if m.limit == 0 {
		_, available, _ := cpu.Memory()
		m.limit = available * 9 / 10
	}
	elements := cfg.ProductElements()
	converted, packed := cpu.WeightBytes(stored, dtype)
	m.weights = elements * (converted + 2*packed) // packed for the forward and the backward pass
	if m.limit > 0 && m.weights > m.limit/3 {
		m.mapWeights, m.weights = true, elements*converted
		if converted == 0 {
			m.mapped = elements * packed
		}
	}
	return m
}

// rows is how many rows of activations a pass may have, 0 for no bound, and whether layers are computed again in the
// backward pass.
func (m *memory) rows(c *Config, n largest) (maxRows int, recompute bool, err error) {
	choices := map[string][]bool{"auto": {false, true}, "true": {true}, "false": {false}}[m.r.GradientCheckpointing]
	if m.limit == 0 {
		return 0, choices[0], nil
	}
	cfg := c.Model.Config
	adapter := int64(c.Adapter.NumParameters()) * 4 * 4 // weight, gradient, two moments
	ranks := 0
	for _, mod := range c.Adapter.Modules {
		ranks += mod.R
	}
	scratch, head := cpu.ScratchBytes(cfg.HiddenSize, cfg.IntermediateSize, cfg.VocabSize)
	room, row := m.limit-m.weights-adapter-head, int64(0)
	for _, recompute = range choices {
		row = c.Model.StateBytes(1, recompute) + int64(4*ranks) + scratch
		switch fits := int((room - m.mapped) / row); {
		case fits >= n.rows:
			return 0, recompute, nil
		case fits >= n.minRows:
			return fits, recompute, nil
		}
	}
	if m.mapped > 0 && int(room/row) >= n.minRows { // slow, but possible: what leaves the system's cache is read again
		return n.minRows, recompute, nil
	}
	return 0, false, m.r.Errorf("max_memory", "%s does not hold this job: the longest row's activations take %s, adapter and optimizer %s, copies of the weights %s; "+
		"allow more memory, or lower max_length%s", size(m.limit), size(int64(n.minRows)*row), size(adapter), size(m.weights), map[bool]string{false: ", or set gradient_checkpointing: auto"}[recompute])
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
