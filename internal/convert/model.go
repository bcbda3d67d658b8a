package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cria/internal/gguf"
)

// model is a GGUF file's Llama: its config.json and where each weight comes from.
type model struct {
	config
	weights []weight
}

// config is config.json. Field names and order are transformers'.
type config struct {
	Architectures         []string     `json:"architectures"`
	AttentionBias         bool         `json:"attention_bias"`
	AttentionDropout      float        `json:"attention_dropout"`
	BOSTokenID            *int         `json:"bos_token_id"`
	EOSTokenID            oneOrMany    `json:"eos_token_id"`
	HeadDim               int          `json:"head_dim"`
	HiddenAct             string       `json:"hidden_act"`
	HiddenSize            int          `json:"hidden_size"`
	InitializerRange      float        `json:"initializer_range"`
	IntermediateSize      int          `json:"intermediate_size"`
	MaxPositionEmbeddings int          `json:"max_position_embeddings"`
	MLPBias               bool         `json:"mlp_bias"`
	ModelType             string       `json:"model_type"`
	NumAttentionHeads     int          `json:"num_attention_heads"`
	NumHiddenLayers       int          `json:"num_hidden_layers"`
	NumKeyValueHeads      int          `json:"num_key_value_heads"`
	PadTokenID            *int         `json:"pad_token_id,omitempty"`
	PretrainingTP         int          `json:"pretraining_tp"`
	RMSNormEps            float        `json:"rms_norm_eps"`
	RopeScaling           *ropeScaling `json:"rope_scaling"`
	RopeTheta             float        `json:"rope_theta"`
	TieWordEmbeddings     bool         `json:"tie_word_embeddings"`
	TorchDType            string       `json:"torch_dtype"`
	UseCache              bool         `json:"use_cache"`
	VocabSize             int          `json:"vocab_size"`
}

// known lists the metadata below "llama." whose meaning is taken into account.
// Any other key may change what the model computes and is refused.
var known = []string{
	"block_count", "context_length", "embedding_length", "feed_forward_length",
	"attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
	"attention.key_length", "attention.value_length",
	"rope.freq_base", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor",
	"rope.scaling.original_context_length", "rope.scaling.finetuned", "rope.scale_linear",
	"vocab_size", "expert_count", "expert_used_count", "tensor_data_layout",
}

// readModel reads the metadata, and checks that the file has exactly the
// tensors of such a Llama.
func readModel(f *gguf.File) (*model, error) {
	if err := refuseOtherModels(f); err != nil {
		return nil, err
	}
	m := &model{config: config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu", TorchDType: "bfloat16",
		InitializerRange: 0.02, PretrainingTP: 1, UseCache: true,
	}}
	c := &m.config
	r := &metadata{f: f}
	c.NumHiddenLayers = r.size("llama.block_count", 0)
	c.MaxPositionEmbeddings = r.size("llama.context_length", 0)
	c.HiddenSize = r.size("llama.embedding_length", 0)
	c.IntermediateSize = r.size("llama.feed_forward_length", 0)
	c.NumAttentionHeads = r.size("llama.attention.head_count", 0)
	c.NumKeyValueHeads = r.size("llama.attention.head_count_kv", c.NumAttentionHeads)
	c.RMSNormEps = r.float("llama.attention.layer_norm_rms_epsilon", 0)
	c.RopeTheta = r.float("llama.rope.freq_base", 10000)
	if r.err != nil {
		return nil, r.err
	}
	c.HeadDim = r.size("llama.attention.key_length", max(1, c.HiddenSize/c.NumAttentionHeads))
	for _, key := range []string{"llama.attention.value_length", "llama.rope.dimension_count"} {
		if n := r.size(key, c.HeadDim); n != c.HeadDim && r.err == nil {
			r.err = fmt.Errorf("%s %d is not supported; only the head size %d is", key, n, c.HeadDim)
		}
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case c.HeadDim%2 != 0 || c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return nil, fmt.Errorf("%d attention heads, %d key-value heads and head size %d do not fit together", c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim)
	case c.HiddenSize > 1<<20 || c.NumAttentionHeads > 1<<20 || c.HeadDim > 1<<20 || c.NumHiddenLayers > len(f.Tensors()):
		return nil, errors.New("sizes in the metadata are larger than the tensors")
	}
	embedding, ok := f.Tensor("token_embd.weight")
	if !ok || len(embedding.Shape) != 2 {
		return nil, errors.New("tensor token_embd.weight is missing or not a matrix")
	}
	c.VocabSize = embedding.Shape[0]
	if n := r.size("llama.vocab_size", c.VocabSize); n != c.VocabSize {
		return nil, fmt.Errorf("metadata llama.vocab_size is not the embedding's %d rows", c.VocabSize)
	}
	var err error
	if c.RopeScaling, err = readRopeScaling(f, c); err != nil {
		return nil, err
	}
	return m, m.findWeights(f)
}

// refuseOtherModels names what makes the file something else than a plain Llama.
func refuseOtherModels(f *gguf.File) error {
	architecture, err := gguf.Get[string](f, "general.architecture")
	switch {
	case err != nil:
		return err
	case architecture != "llama":
		return fmt.Errorf("general.architecture %q is not supported; use a Llama model (%q)", architecture, "llama")
	}
	for _, key := range f.Keys() {
		if name, ok := strings.CutPrefix(key, "llama."); ok && !slices.Contains(known, name) {
			v, _ := f.Value(key)
			return fmt.Errorf("metadata %s = %.60s is not supported; use a Llama model without it", key, fmt.Sprint(v))
		}
	}
	for key, limit := range map[string]int{"llama.expert_count": 0, "llama.expert_used_count": 0, "split.count": 1} {
		n, err := f.Int(key)
		switch {
		case errors.Is(err, gguf.ErrMissing):
		case err != nil:
			return err
		case n > limit && key == "split.count":
			return fmt.Errorf("the model is split into %d files; join them first (llama-gguf-split --merge)", n)
		case n > limit:
			return fmt.Errorf("metadata %s = %d: mixtures of experts are not supported", key, n)
		}
	}
	return nil
}

// metadata reads values, keeping the first error.
type metadata struct {
	f   *gguf.File
	err error
}

// size reads a positive integer; missing is the value where the key is, or 0
// if the key is needed.
func (r *metadata) size(key string, missing int) int {
	n, err := r.f.Int(key)
	switch {
	case errors.Is(err, gguf.ErrMissing) && missing != 0:
		return missing
	case err == nil && (n < 1 || n > 1<<31-1):
		err = fmt.Errorf("metadata %s = %d is not a size", key, n)
	}
	if r.err == nil {
		r.err = err
	}
	return n
}

func (r *metadata) float(key string, missing float64) float {
	x, err := r.f.Float(key)
	switch {
	case errors.Is(err, gguf.ErrMissing) && missing != 0:
		return float(missing)
	case err == nil && !(x > 0 && x < 1e30):
		err = fmt.Errorf("metadata %s = %v is not a positive number", key, x)
	}
	if r.err == nil {
		r.err = err
	}
	return float(x)
}

// float is a number that GGUF holds as float32. JSON gets the shortest decimal
// that is the same float32, always with a point, as Python writes floats.
type float float32

func (x float) MarshalJSON() ([]byte, error) {
	b := strconv.AppendFloat(nil, float64(x), 'g', -1, 32)
	if !bytes.ContainsAny(b, ".e") {
		b = append(b, ".0"...)
	}
	return b, nil
}

// oneOrMany is a list of token ids that is written as a number if it has one
// and as null if it has none.
type oneOrMany []int

func (l oneOrMany) MarshalJSON() ([]byte, error) {
	switch len(l) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(l[0])
	}
	return json.Marshal([]int(l))
}

// files makes the JSON files of the directory.
func (m *model) files(v *vocabulary) (map[string][]byte, error) {
	m.BOSTokenID, m.EOSTokenID, m.PadTokenID = v.bos, v.eos, v.pad
	generation := struct {
		FromModelConfig bool      `json:"_from_model_config"`
		BOSTokenID      *int      `json:"bos_token_id,omitempty"`
		EOSTokenID      oneOrMany `json:"eos_token_id"`
		PadTokenID      *int      `json:"pad_token_id,omitempty"`
	}{true, v.bos, v.eos, v.pad}
	files := map[string][]byte{}
	for name, content := range map[string]any{
		"config.json":             m.config,
		"generation_config.json":  generation,
		"tokenizer.json":          v.tokenizer(),
		"tokenizer_config.json":   v.config(m.MaxPositionEmbeddings),
		"special_tokens_map.json": v.specialTokens(),
	} {
		text, err := encode(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = text
	}
	return files, nil
}

// encode is content as indented JSON.
func encode(content any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(content)
	return b.Bytes(), err
}
