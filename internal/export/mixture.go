package export

import (
	"fmt"
	"slices"
	"strings"

	"cria/internal/gguf"
)

// Type is how the weights of a GGUF file are stored.
type Type string

// Types are the possible ones, from the largest to the smallest, and how many bits a weight takes about.
var Types = []Type{"F32", "F16", "BF16", "Q8_0", "Q4_K_M", "Q4_0"}

// fileTypes are the numbers of general.file_type (enum llama_ftype).
var fileTypes = map[Type]uint32{"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}

// ParseType reads a type's name in any case.
func ParseType(name string) (Type, error) {
	t := Type(strings.ToUpper(name))
	if !slices.Contains(Types, t) {
		return "", fmt.Errorf("type %q: one of %v", name, Types)
	}
	return t, nil
}

// of is the storage of one tensor, the same that llama.cpp's converter (prepare_tensors) and llama-quantize
// (llama_tensor_get_type) choose without an importance matrix.
func (t Type) of(w tensor, s *Source) gguf.Type {
	if len(w.shape) < 2 {
		return gguf.F32
	}
	kind := t.preferred(w, s)
	cols := w.shape[len(w.shape)-1]
	if cols%kind.BlockLen() != 0 { // tensor_type_fallback
		switch kind {
		case gguf.Q4_K:
			kind = gguf.Q5_0
		case gguf.Q5_K:
			kind = gguf.Q5_1
		case gguf.Q6_K:
			kind = gguf.Q8_0
		}
	}
	if cols%kind.BlockLen() != 0 {
		return gguf.F16
	}
	return kind
}

// preferred is the storage where rows are made of whole blocks.
func (t Type) preferred(w tensor, s *Source) gguf.Type {
	kind := map[Type]gguf.Type{"F32": gguf.F32, "F16": gguf.F16, "BF16": gguf.BF16, "Q8_0": gguf.Q8_0, "Q4_0": gguf.Q4_0, "Q4_K_M": gguf.Q4_K}[t]
	if t != "Q4_0" && t != "Q4_K_M" {
		return kind
	}
	layers := s.Config.NumHiddenLayers
	switch {
	case w.gguf == "output.weight", w.gguf == "token_embd.weight" && s.Config.TieWordEmbeddings:
		if w.shape[1]%kind.BlockLen() != 0 {
			return gguf.Q8_0
		}
		return gguf.Q6_K
	case t == "Q4_0":
	case strings.HasSuffix(w.gguf, ".ffn_down.weight") && moreBits(w.layer, layers):
		return gguf.Q6_K
	case strings.HasSuffix(w.gguf, ".attn_v.weight"):
		if moreBits(w.layer, layers) {
			return gguf.Q6_K
		}
		if layers == 80 && s.Config.NumAttentionHeads != s.Config.NumKeyValueHeads { // llama.cpp's 70B
			return gguf.Q5_K
		}
	}
	return kind
}

// moreBits picks the first and the last eighth of the layers, and every third between (use_more_bits).
func moreBits(i, n int) bool { return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2 }
