// Package llama is the Llama model: configuration, weights, forward pass and its mirror, the backward pass.
//
// Letters as in package compute: T tokens, C hidden_size, H heads, KV key-value heads, D head size, F intermediate_size,
// V vocabulary, R rank.
package llama

import (
	"fmt"
	"slices"

	"cria/internal/compute"
	"cria/internal/safetensors"
)

// ProductElements is the number of elements of the frozen matrices that tokens are multiplied with: all projections and
// the head.
func (c *Config) ProductElements() int64 {
	h, hd, kvd := int64(c.HiddenSize), int64(c.NumAttentionHeads*c.HeadDim), int64(c.NumKeyValueHeads*c.HeadDim)
	return int64(c.NumHiddenLayers)*h*(2*hd+2*kvd+3*int64(c.IntermediateSize)) + int64(c.VocabSize)*h
}

// Parameters is the number of a model's elements: matrices, norms, and an embedding of its own where it has one.
func (c *Config) Parameters() int64 {
	n := c.ProductElements() + int64(2*c.NumHiddenLayers+1)*int64(c.HiddenSize)
	if !c.TieWordEmbeddings {
		n += int64(c.VocabSize) * int64(c.HiddenSize)
	}
	return n
}

// Layer is one transformer block.
type Layer struct {
	InputNorm      compute.Norm   // input_layernorm (C)
	Q, K, V        compute.Linear // self_attn.{q,k,v}_proj (H·D, C), (KV·D, C), (KV·D, C)
	O              compute.Linear // self_attn.o_proj (C, H·D)
	PostNorm       compute.Norm   // post_attention_layernorm (C)
	Gate, Up, Down compute.Linear // mlp.{gate,up}_proj (F, C), mlp.down_proj (C, F)
}

// Linears lists the block's projections in module order, which is PyTorch's order of construction.
func (l *Layer) Linears() [7]*compute.Linear {
	return [7]*compute.Linear{&l.Q, &l.K, &l.V, &l.O, &l.Gate, &l.Up, &l.Down}
}

// LinearNames are the names of Layer.Linears.
var LinearNames = [7]string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// Model holds the frozen weights on a backend.
type Model struct {
	*Config
	be     compute.Backend
	Embed  compute.Weight // model.embed_tokens (V, C)
	Layers []Layer
	Norm   compute.Norm   // model.norm (C)
	Head   compute.Weight // lm_head (V, C); Embed where tie_word_embeddings
	rope   *compute.Rope
}

// Backend returns the backend that holds the weights.
func (m *Model) Backend() compute.Backend { return m.be }

// StoredDType is the element type of the projections in a model's files, of one for all.
func StoredDType(f *safetensors.File) safetensors.DType {
	t, _ := f.Tensor("model.layers.0.self_attn.q_proj.weight")
	return t.DType
}

// Load takes the weights of a Hugging Face model directory onto a backend. The mapped file must stay open as long as
// the model is used.
func Load(be compute.Backend, cfg *Config, f *safetensors.File) (*Model, error) {
	m := &Model{Config: cfg, be: be, Layers: make([]Layer, cfg.NumHiddenLayers)}
	m.rope = &compute.Rope{D: cfg.HeadDim, InvFreq: cfg.InvFreq()}
	ld := &loader{be: be, f: f}
	c, qd, kvd, ff := cfg.HiddenSize, cfg.NumAttentionHeads*cfg.HeadDim, cfg.NumKeyValueHeads*cfg.HeadDim, cfg.IntermediateSize
	eps := float32(cfg.RMSNormEps)
	m.Embed = ld.weight("model.embed_tokens.weight", cfg.VocabSize, c)
	for i := range m.Layers {
		l, p := &m.Layers[i], fmt.Sprintf("model.layers.%d.", i)
		l.InputNorm = ld.norm(p+"input_layernorm.weight", c, eps)
		l.Q.W = ld.weight(p+"self_attn.q_proj.weight", qd, c)
		l.K.W = ld.weight(p+"self_attn.k_proj.weight", kvd, c)
		l.V.W = ld.weight(p+"self_attn.v_proj.weight", kvd, c)
		l.O.W = ld.weight(p+"self_attn.o_proj.weight", c, qd)
		l.PostNorm = ld.norm(p+"post_attention_layernorm.weight", c, eps)
		l.Gate.W = ld.weight(p+"mlp.gate_proj.weight", ff, c)
		l.Up.W = ld.weight(p+"mlp.up_proj.weight", ff, c)
		l.Down.W = ld.weight(p+"mlp.down_proj.weight", c, ff)
	}
	m.Norm = ld.norm("model.norm.weight", c, eps)
	m.Head = m.Embed
	if !cfg.TieWordEmbeddings {
		m.Head = ld.weight("lm_head.weight", cfg.VocabSize, c)
	}
	return m, ld.err
}

// loader keeps the first error of a row of loads.
type loader struct {
	be  compute.Backend
	f   *safetensors.File
	err error
}

func (l *loader) tensor(name string, shape ...int) (t safetensors.Tensor) {
	if l.err != nil {
		return t
	}
	t, ok := l.f.Tensor(name)
	if !ok {
		l.err = fmt.Errorf("the model's files have no tensor %s, which its config.json asks for; fetch the model again", name)
		return t
	}
	if !slices.Equal(t.Shape, shape) {
		l.err = fmt.Errorf("tensor %s has shape %v, config.json asks for %v", name, t.Shape, shape)
	}
	return t
}

func (l *loader) weight(name string, out, in int) compute.Weight {
	t := l.tensor(name, out, in)
	if l.err != nil {
		return nil
	}
	var w compute.Weight
	w, l.err = l.be.Weight(t)
	return w
}

func (l *loader) norm(name string, c int, eps float32) compute.Norm {
	t := l.tensor(name, c)
	if l.err != nil {
		return compute.Norm{}
	}
	v, err := t.Float32s()
	if err != nil {
		l.err = err
		return compute.Norm{}
	}
	b := l.be.Alloc(1, c)
	l.be.Write(b, 0, v)
	return compute.Norm{Weight: b, Eps: eps}
}

func (m *Model) heads() compute.Heads {
	return compute.Heads{H: m.NumAttentionHeads, KV: m.NumKeyValueHeads, D: m.HeadDim}
}
