package compat

import (
	"regexp"
	"strconv"
	"strings"

	"cria/internal/adapter"
	"cria/internal/llama"
)

// part finds layer, kind and part of a LoRA tensor's name, PEFT's or MLX's.
var part = regexp.MustCompile(`(?:^|\.)layers\.(\d{1,4})\.[a-z_]+\.([a-z]+_proj)\.(lora_[ABab])\b`)

// infer makes of the tensors as much of the base's shape as the adapter needs: the number of layers, and the sizes of the
// matrices that have an adapter. Sizes that nothing says are 1.
func (f *facts) infer() *llama.Config {
	in, out := map[string]int{}, map[string]int{}
	c := &llama.Config{HeadDim: 1, NumHiddenLayers: 1}
	for _, name := range f.file.Names() {
		m := part.FindStringSubmatch(name)
		t, _ := f.file.Tensor(name)
		if m == nil || len(t.Shape) != 2 {
			continue
		}
		layer, _ := strconv.Atoi(m[1])
		c.NumHiddenLayers = max(c.NumHiddenLayers, layer+1)
		switch m[3] {
		case "lora_A":
			in[m[2]] = t.Shape[1]
		case "lora_a":
			in[m[2]] = t.Shape[0]
		case "lora_B":
			out[m[2]] = t.Shape[0]
		case "lora_b":
			out[m[2]] = t.Shape[1]
		}
	}
	known := func(sizes ...int) int {
		for _, n := range sizes {
			if n > 0 {
				return n
			}
		}
		return 1
	}
	c.HiddenSize = known(in["q_proj"], in["k_proj"], in["v_proj"], in["gate_proj"], in["up_proj"], out["o_proj"], out["down_proj"])
	c.IntermediateSize = known(out["gate_proj"], out["up_proj"], in["down_proj"])
	c.NumAttentionHeads = known(out["q_proj"], in["o_proj"])
	c.NumKeyValueHeads = known(out["k_proj"], out["v_proj"])
	return c
}

// whole lists the tensors that are no parts of a LoRA product: weights that were trained or saved beside it.
func (f *facts) whole() (names []string) {
	for _, name := range f.file.Names() {
		if !strings.Contains(strings.ToLower(name), ".lora_") || strings.HasSuffix(name, ".bias") || strings.Contains(name, "lora_magnitude") {
			names = append(names, name)
		}
	}
	return names
}

// odd lists LoRA tensors that are not called as PEFT calls them: base_model.model.<module>.lora_A.weight, or without the prefix
// where that is optional.
func (f *facts) odd(prefix bool) (names []string) {
	for _, name := range f.file.Names() {
		if !strings.Contains(name, ".lora_") || strings.Contains(name, "lora_magnitude") || strings.HasSuffix(name, ".bias") {
			continue
		}
		ends := []string{".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B"}
		good := false
		for _, end := range ends {
			good = good || strings.HasSuffix(name, end)
		}
		if !good || prefix && !strings.HasPrefix(name, "base_model.model.") {
			names = append(names, name)
		}
	}
	return names
}

// modules lists the names of the modules with LoRA tensors, without PEFT's prefix.
func (f *facts) modules() (names []string) {
	seen := map[string]bool{}
	for _, name := range f.file.Names() {
		module, _, found := strings.Cut(strings.TrimPrefix(name, "base_model.model."), ".lora_")
		if found && !seen[module] {
			seen[module] = true
			names = append(names, module)
		}
	}
	return names
}

// rank is the largest rank of a module.
func (f *facts) rank() int {
	r := 0
	for _, name := range f.file.Names() {
		if t, _ := f.file.Tensor(name); len(t.Shape) == 2 && strings.Contains(name, ".lora_A") {
			r = max(r, t.Shape[0])
		}
	}
	return r
}

// trained lists the keys that are set and make the adapter compute more than plain LoRA.
func (f *facts) trained() (keys []string) {
	for key := range f.keys {
		if adapter.Changes(key) != "" && f.set(key) {
			keys = append(keys, key)
		}
	}
	return keys
}
