package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cria/internal/gguf"
	"cria/internal/safetensors"
)

// ggufFile is a GGUF file to be written: what a converter would make, or wrong
// in one place.
type ggufFile struct {
	values  map[string]any
	tensors []gguf.Tensor
}

func (g *ggufFile) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, g.bytes(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (g *ggufFile) bytes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			if s, ok := v.(string); ok {
				v = append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
			}
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	align := func() { b.Write(make([]byte, (32-b.Len()%32)%32)) }
	b.WriteString("GGUF")
	put(uint32(3), uint64(len(g.tensors)), uint64(len(g.values)))
	for key, v := range g.values {
		put(key)
		switch v := v.(type) {
		case uint32:
			put(uint32(4), v)
		case float32:
			put(uint32(6), v)
		case bool:
			put(uint32(7), v)
		case string:
			put(uint32(8), v)
		case []int32:
			put(uint32(9), uint32(5), uint64(len(v)), v)
		case []string:
			put(uint32(9), uint32(8), uint64(len(v)))
			for _, s := range v {
				put(s)
			}
		default:
			t.Fatalf("%s: %T", key, v)
		}
	}
	offset := uint64(0)
	for _, tensor := range g.tensors {
		put(tensor.Name, uint32(len(tensor.Shape)))
		for _, d := range slices.Backward(tensor.Shape) {
			put(uint64(d))
		}
		put(uint32(tensor.Type), offset)
		offset += uint64(len(tensor.Data)+31) &^ 31
	}
	for _, tensor := range g.tensors {
		align()
		b.Write(tensor.Data)
	}
	return b.Bytes()
}

// tensor returns the tensor of that name, to be changed.
func (g *ggufFile) tensor(t *testing.T, name string) *gguf.Tensor {
	t.Helper()
	i := slices.IndexFunc(g.tensors, func(t gguf.Tensor) bool { return t.Name == name })
	if i < 0 {
		t.Fatalf("no tensor %s", name)
	}
	return &g.tensors[i]
}

const tinyDir = "../../testdata/golden/tiny-llama"

// tinyTokenizer is what the tests need of a tokenizer.json.
type tinyTokenizer struct {
	AddedTokens []struct {
		ID      int    `json:"id"`
		Content string `json:"content"`
	} `json:"added_tokens"`
	Model struct {
		Vocab  map[string]int `json:"vocab"`
		Merges []string       `json:"merges"`
	} `json:"model"`
}

// tinyGGUF is the golden tiny-llama as llama.cpp's converter writes it, but
// without RoPE scaling, whose constants GGUF cannot express.
func tinyGGUF(t *testing.T) *ggufFile {
	t.Helper()
	f, err := safetensors.OpenDir(tinyDir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := &ggufFile{values: map[string]any{
		"general.architecture":                   "llama",
		"llama.block_count":                      uint32(4),
		"llama.context_length":                   uint32(2048),
		"llama.embedding_length":                 uint32(128),
		"llama.feed_forward_length":              uint32(352),
		"llama.attention.head_count":             uint32(8),
		"llama.attention.head_count_kv":          uint32(2),
		"llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"llama.rope.freq_base":                   float32(500000),
		"llama.rope.dimension_count":             uint32(16),
		"llama.vocab_size":                       uint32(2048),
		"tokenizer.ggml.model":                   "gpt2",
		"tokenizer.ggml.pre":                     "llama-bpe",
		"tokenizer.ggml.bos_token_id":            uint32(2042),
		"tokenizer.ggml.eos_token_id":            uint32(2047),
		"tokenizer.ggml.eot_token_id":            uint32(2043),
	}}
	names := map[string]string{
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
		"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
		"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
	}
	add := func(from, to string, permute bool) {
		tensor, ok := f.Tensor(from + ".weight")
		if !ok {
			t.Fatalf("no tensor %s", from)
		}
		data := slices.Clone(tensor.Data)
		if permute {
			data = toInterleaved(data, tensor.Shape[0], 16)
		}
		g.tensors = append(g.tensors, gguf.Tensor{Name: to + ".weight", Type: gguf.BF16, Shape: tensor.Shape, Data: data})
	}
	add("model.embed_tokens", "token_embd", false)
	for _, layer := range []string{"0", "1", "2", "3"} {
		for from, to := range names {
			add("model.layers."+layer+"."+from, "blk."+layer+"."+to, to == "attn_q" || to == "attn_k")
		}
	}
	add("model.norm", "output_norm", false)
	add("lm_head", "output", false)

	var tok tinyTokenizer
	readJSON(t, filepath.Join(tinyDir, "tokenizer.json"), &tok)
	tokens, types := make([]string, 2048), make([]int32, 2048)
	for token, id := range tok.Model.Vocab {
		tokens[id], types[id] = token, TokenNormal
	}
	for _, added := range tok.AddedTokens {
		tokens[added.ID], types[added.ID] = added.Content, TokenControl
	}
	g.values["tokenizer.ggml.tokens"], g.values["tokenizer.ggml.token_type"] = tokens, types
	g.values["tokenizer.ggml.merges"] = tok.Model.Merges
	var config struct {
		ChatTemplate string `json:"chat_template"`
	}
	readJSON(t, filepath.Join(tinyDir, "tokenizer_config.json"), &config)
	g.values["tokenizer.chat_template"] = config.ChatTemplate
	return g
}

// toInterleaved is llama.cpp's permutation of q and k: rows of each head
// reshaped to (2, headSize/2) and transposed.
func toInterleaved(data []byte, rows, headSize int) []byte {
	row := len(data) / rows
	var out []byte
	for head := range rows / headSize {
		for j := range headSize / 2 {
			for s := range 2 {
				at := (head*headSize + s*headSize/2 + j) * row
				out = append(out, data[at:at+row]...)
			}
		}
	}
	return out
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}
