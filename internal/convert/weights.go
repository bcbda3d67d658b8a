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

// RotatedRow is the inverse: the row of q_proj or k_proj that is row i of the GGUF tensor, with heads of headSize rows.
func RotatedRow(headSize, i int) int {
	head, in := i/headSize, i%headSize
	return head*headSize + in%2*(headSize/2) + in/2
}

// LayerTensors are the weights of a layer: Hugging Face's name behind "model.layers.N." and llama.cpp's behind "blk.N.", both
// followed by ".weight". The rows of Rotated ones are reordered, see RotatedRow.
var LayerTensors = []struct {
	Name, GGUF string
	Rotated    bool
}{
	{"input_layernorm", "attn_norm", false},
	{"self_attn.q_proj", "attn_q", true},
	{"self_attn.k_proj", "attn_k", true},
	{"self_attn.v_proj", "attn_v", false},
	{"self_attn.o_proj", "attn_output", false},
	{"post_attention_layernorm", "ffn_norm", false},
	{"mlp.gate_proj", "ffn_gate", false},
	{"mlp.up_proj", "ffn_up", false},
	{"mlp.down_proj", "ffn_down", false},
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
	shapes := [][]int{{hidden}, {q, hidden}, {kv, hidden}, {kv, hidden}, {hidden, q}, {hidden}, {ffn, hidden}, {ffn, hidden}, {hidden, ffn}}
	for i := range m.NumHiddenLayers {
		for j, t := range LayerTensors {
			headSize := 0
			if t.Rotated {
				headSize = m.HeadDim
			}
			err := find(fmt.Sprintf("model.layers.%d.%s.weight", i, t.Name), fmt.Sprintf("blk.%d.%s.weight", i, t.GGUF), headSize, shapes[j]...)
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
