package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"cria/internal/llama"
	"cria/internal/safetensors"
)

// shapes are models by their published config.json; their weights are random, so nothing has to be downloaded.
var shapes = []struct {
	name   string
	config llama.Config
}{
	{"smollm2-135m", llama.Config{VocabSize: 49152, HiddenSize: 576, IntermediateSize: 1536, NumHiddenLayers: 30, NumAttentionHeads: 9,
		NumKeyValueHeads: 3, HeadDim: 64, RMSNormEps: 1e-5, RopeTheta: 100000, MaxPositionEmbeddings: 8192, TieWordEmbeddings: true}},
	{"llama-3.2-1b", llama.Config{VocabSize: 128256, HiddenSize: 2048, IntermediateSize: 8192, NumHiddenLayers: 16, NumAttentionHeads: 32,
		NumKeyValueHeads: 8, HeadDim: 64, RMSNormEps: 1e-5, RopeTheta: 500000, MaxPositionEmbeddings: 131072, TieWordEmbeddings: true,
		RopeScaling: llama.RopeScaling{Type: "llama3", Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}}},
	{"llama-3.1-8b-slice", llama.Config{VocabSize: 128256, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 4, NumAttentionHeads: 32,
		NumKeyValueHeads: 8, HeadDim: 128, RMSNormEps: 1e-5, RopeTheta: 500000, MaxPositionEmbeddings: 131072,
		RopeScaling: llama.RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}}},
}

// ShapeNames lists the built-in shapes.
func ShapeNames() string {
	var out []string
	for _, s := range shapes {
		out = append(out, s.name)
	}
	return strings.Join(out, ", ")
}

// Shape returns a built-in shape by its name, false where there is none of that name. The caller may change it.
func Shape(name string) (*llama.Config, bool) {
	for _, s := range shapes {
		if s.name == name {
			c := s.config
			return &c, true
		}
	}
	return nil, false
}

// randomWeights makes a model's tensors in memory: matrices in bfloat16 whose elements have magnitudes from 2⁻⁶ to 2⁻⁵ and
// random signs, norms of ones.
func randomWeights(ctx context.Context, c *llama.Config) (*safetensors.File, error) {
	var tensors []safetensors.Tensor
	random := rand.NewPCG(1, 2)
	matrix := func(name string, out, in int) {
		if ctx.Err() != nil {
			return
		}
		tensors = append(tensors, safetensors.Tensor{Name: name, DType: safetensors.BF16, Shape: []int{out, in}, Data: randomBFloat16s(random, out*in)})
	}
	norm := func(name string) {
		one := make([]uint16, c.HiddenSize)
		for i := range one {
			one[i] = 0x3F80
		}
		tensors = append(tensors, safetensors.FromBFloat16s(name, []int{c.HiddenSize}, one))
	}
	hd, kvd := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	matrix("model.embed_tokens.weight", c.VocabSize, c.HiddenSize)
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("model.layers.%d.", i)
		norm(p + "input_layernorm.weight")
		matrix(p+"self_attn.q_proj.weight", hd, c.HiddenSize)
		matrix(p+"self_attn.k_proj.weight", kvd, c.HiddenSize)
		matrix(p+"self_attn.v_proj.weight", kvd, c.HiddenSize)
		matrix(p+"self_attn.o_proj.weight", c.HiddenSize, hd)
		norm(p + "post_attention_layernorm.weight")
		matrix(p+"mlp.gate_proj.weight", c.IntermediateSize, c.HiddenSize)
		matrix(p+"mlp.up_proj.weight", c.IntermediateSize, c.HiddenSize)
		matrix(p+"mlp.down_proj.weight", c.HiddenSize, c.IntermediateSize)
	}
	norm("model.norm.weight")
	if !c.TieWordEmbeddings {
		matrix("lm_head.weight", c.VocabSize, c.HiddenSize)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return safetensors.InMemory(tensors)
}

// randomBFloat16s makes n elements, four of every 64 random bits: sign and fraction stay, the exponent is set.
func randomBFloat16s(random *rand.PCG, n int) []byte {
	const keep, exponent = 0x807F807F807F807F, 0x3C803C803C803C80
	b := make([]byte, (n+3)/4*8)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64()&keep|exponent)
	}
	return b[:2*n]
}
