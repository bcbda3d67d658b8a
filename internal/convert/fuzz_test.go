package convert

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"cria/internal/gguf"
)

// smallGGUF is a whole model of a few hundred bytes.
func smallGGUF() *ggufFile {
	g := &ggufFile{values: map[string]any{
		"general.architecture": "llama", "llama.block_count": uint32(1), "llama.context_length": uint32(8), "llama.embedding_length": uint32(2),
		"llama.feed_forward_length": uint32(3), "llama.attention.head_count": uint32(1), "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.tokens": []string{"a", "b", "ab", "<s>"},
		"tokenizer.ggml.token_type": []int32{1, 1, 1, 3}, "tokenizer.ggml.merges": []string{"a b"},
		"tokenizer.ggml.bos_token_id": uint32(3), "tokenizer.ggml.eos_token_id": uint32(3),
	}}
	for _, t := range []struct {
		name  string
		shape []int
	}{
		{"token_embd", []int{4, 2}}, {"blk.0.attn_norm", []int{2}}, {"blk.0.attn_q", []int{2, 2}}, {"blk.0.attn_k", []int{2, 2}},
		{"blk.0.attn_v", []int{2, 2}}, {"blk.0.attn_output", []int{2, 2}}, {"blk.0.ffn_norm", []int{2}}, {"blk.0.ffn_gate", []int{3, 2}},
		{"blk.0.ffn_up", []int{3, 2}}, {"blk.0.ffn_down", []int{2, 3}}, {"output_norm", []int{2}},
	} {
		tensor := gguf.Tensor{Name: t.name + ".weight", Type: gguf.F32, Shape: t.shape}
		tensor.Data = make([]byte, 4*tensor.NumElements())
		g.tensors = append(g.tensors, tensor)
	}
	return g
}

func FuzzImport(f *testing.F) {
	f.Add(smallGGUF().bytes(f))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "model.gguf")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		g, err := gguf.Open(path)
		if err != nil {
			return
		}
		defer g.Close()
		m, err := readModel(g)
		if err != nil {
			return
		}
		v, err := readVocabulary(g, m.VocabSize)
		if err != nil {
			return
		}
		if _, err := m.files(v); err != nil {
			t.Error(err)
		}
		_ = m.writeWeights(context.Background(), io.Discard, func(done, total int64) {})
	})
}
