package convert

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"cria/internal/gguf"
	"cria/internal/half"
	"cria/internal/safetensors"
)

// weight is one tensor of the Hugging Face model and the GGUF tensor it comes from.
type weight struct {
	name     string // Hugging Face's
	from     gguf.Tensor
	headSize int // of q_proj and k_proj, whose rows llama.cpp reorders; else 0
}

// sourceRow is the row of the GGUF tensor that is row i of the weight.
//
// llama.cpp rotates neighbouring elements (2j, 2j+1) of a head, transformers
// elements (j, j+D/2), so llama.cpp's converter has moved row s D/2 + j of each
// head to 2j + s.
func (w weight) sourceRow(i int) int {
	if w.headSize == 0 {
		return i
	}
	head, in := i/w.headSize, i%w.headSize
	s, j := in/(w.headSize/2), in%(w.headSize/2)
	return head*w.headSize + 2*j + s
}

// findWeights lists the weights of a Llama of this size; the file must have
// them, with these shapes, and no other. Without output.weight the head is the
// embedding.
func (m *model) findWeights(f *gguf.File) error {
	used := map[string]bool{"rope_freqs.weight": true}
	find := func(name, from string, headSize int, shape ...int) error {
		t, ok := f.Tensor(from)
		if !ok {
			return fmt.Errorf("tensor %s is missing", from)
		}
		if !slices.Equal(t.Shape, shape) {
			return fmt.Errorf("tensor %s has the shape %v where the metadata ask for %v", from, t.Shape, shape)
		}
		if err := t.Rows(nil, 0); err != nil {
			return err
		}
		used[from] = true
		m.weights = append(m.weights, weight{name, t, headSize})
		return nil
	}
	vocab, hidden, ffn := m.VocabSize, m.HiddenSize, m.IntermediateSize
	q, kv := m.NumAttentionHeads*m.HeadDim, m.NumKeyValueHeads*m.HeadDim
	if err := find("model.embed_tokens.weight", "token_embd.weight", 0, vocab, hidden); err != nil {
		return err
	}
	for i := range m.NumHiddenLayers {
		for _, w := range []struct {
			name, from string
			headSize   int
			shape      []int
		}{
			{"input_layernorm", "attn_norm", 0, []int{hidden}},
			{"self_attn.q_proj", "attn_q", m.HeadDim, []int{q, hidden}},
			{"self_attn.k_proj", "attn_k", m.HeadDim, []int{kv, hidden}},
			{"self_attn.v_proj", "attn_v", 0, []int{kv, hidden}},
			{"self_attn.o_proj", "attn_output", 0, []int{hidden, q}},
			{"post_attention_layernorm", "ffn_norm", 0, []int{hidden}},
			{"mlp.gate_proj", "ffn_gate", 0, []int{ffn, hidden}},
			{"mlp.up_proj", "ffn_up", 0, []int{ffn, hidden}},
			{"mlp.down_proj", "ffn_down", 0, []int{hidden, ffn}},
		} {
			err := find(fmt.Sprintf("model.layers.%d.%s.weight", i, w.name), fmt.Sprintf("blk.%d.%s.weight", i, w.from), w.headSize, w.shape...)
			if err != nil {
				return err
			}
		}
	}
	if err := find("model.norm.weight", "output_norm.weight", 0, hidden); err != nil {
		return err
	}
	if _, ok := f.Tensor("output.weight"); !ok {
		m.TieWordEmbeddings = true
	} else if err := find("lm_head.weight", "output.weight", 0, vocab, hidden); err != nil {
		return err
	}
	for _, t := range f.Tensors() {
		if !used[t.Name] {
			return fmt.Errorf("tensor %s is not part of a plain Llama; such a model is not supported", t.Name)
		}
	}
	return nil
}

// writeWeights writes model.safetensors, row by row.
func (m *model) writeWeights(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	tensors := make([]safetensors.Tensor, len(m.weights))
	byName := make(map[string]weight, len(m.weights))
	var done, told, total int64
	for i, weight := range m.weights {
		tensors[i] = safetensors.Tensor{Name: weight.name, DType: safetensors.BF16, Shape: weight.from.Shape}
		byName[weight.name] = weight
		total += 2 * int64(weight.from.NumElements())
	}
	progress(0, total)
	return safetensors.WriteFunc(w, tensors, map[string]string{"format": "pt"}, func(w io.Writer, t safetensors.Tensor) error {
		from := byName[t.Name]
		row := make([]float32, from.from.RowLen())
		out := make([]byte, 2*len(row))
		for i := range from.from.NumElements() / len(row) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := from.from.Rows(row, from.sourceRow(i)); err != nil {
				return err
			}
			for j, x := range row {
				b := half.ToBFloat16(x)
				if b&0x7f80 == 0x7f80 {
					return fmt.Errorf("tensor %s holds %v: the file is damaged", from.from.Name, x)
				}
				binary.LittleEndian.PutUint16(out[2*j:], b)
			}
			if _, err := w.Write(out); err != nil {
				return err
			}
			if done += int64(len(out)); done-told >= 1<<20 || done == total {
				told = done
				progress(done, total)
			}
		}
		return nil
	})
}
