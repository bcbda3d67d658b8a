package llama

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"cria/internal/disk"
)

// Config is a model's config.json. Field names are Hugging Face's.
type Config struct {
	ModelType             string   // "llama"
	Architectures         []string // ["LlamaForCausalLM"], or empty where the file does not say
	VocabSize             int      // V
	HiddenSize            int      // C
	IntermediateSize      int      // F
	NumHiddenLayers       int
	NumAttentionHeads     int    // H
	NumKeyValueHeads      int    // KV, a divisor of H
	HeadDim               int    // D, even; hidden_size / num_attention_heads where the file does not say
	HiddenAct             string // "silu"
	RMSNormEps            float64
	RopeTheta             float64
	RopeScaling           RopeScaling
	TieWordEmbeddings     bool // the head is the embedding
	MaxPositionEmbeddings int
	AttentionBias         bool // always false: refused by ReadConfig
	MLPBias               bool // always false: refused by ReadConfig
	BOSTokenID            *int // nil where the file does not say
	EOSTokenID            []int
	TorchDType            string // "bfloat16", ...; the dtype of the stored weights, "" where the file does not say
}

// RopeScaling says how rotary frequencies are stretched beyond the context that the model was first trained for.
// Type "default" uses none of the other fields, "linear" only Factor.
type RopeScaling struct {
	Type                          string // "default", "linear" or "llama3"
	Factor                        float64
	LowFreqFactor                 float64
	HighFreqFactor                float64
	OriginalMaxPositionEmbeddings int
}

// GenerationConfig is a model's generation_config.json: how its makers sample from it. Nil means that the file does not
// say.
type GenerationConfig struct {
	BOSTokenID        *int
	EOSTokenID        []int
	PadTokenID        *int
	DoSample          *bool
	Temperature       *float64
	TopK              *int
	TopP              *float64
	MinP              *float64
	RepetitionPenalty *float64
}

// The largest sizes that are believed. They keep every product of sizes inside 64 bits.
const (
	maxVocab     = 1 << 22
	maxHidden    = 1 << 17
	maxFFN       = 1 << 19
	maxLayers    = 1 << 12
	maxHeads     = 1 << 12
	maxHeadDim   = 1 << 12
	maxPositions = 1 << 30
	maxJSON      = 8 << 20 // bytes of config.json
)

// ReadConfig reads dir/config.json. A model that is not a plain Llama is refused by the name and value of the setting that
// makes it different. rope_theta and rope_scaling may also come as rope_parameters, and torch_dtype as dtype, as
// transformers 5 writes them.
func ReadConfig(dir string) (*Config, error) {
	path := filepath.Join(dir, "config.json")
	o, err := readObject(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a Hugging Face model directory: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseConfig(o object) (*Config, error) {
	if err := refuseOtherModels(o); err != nil {
		return nil, err
	}
	// The defaults are LlamaConfig's. Sizes have none: a file without them is not trusted.
	c := &Config{HiddenAct: "silu", RMSNormEps: 1e-6, MaxPositionEmbeddings: 2048}
	err := errors.Join(
		o.get("model_type", &c.ModelType),
		o.get("architectures", &c.Architectures),
		o.size("vocab_size", &c.VocabSize, maxVocab),
		o.size("hidden_size", &c.HiddenSize, maxHidden),
		o.size("intermediate_size", &c.IntermediateSize, maxFFN),
		o.size("num_hidden_layers", &c.NumHiddenLayers, maxLayers),
		o.size("num_attention_heads", &c.NumAttentionHeads, maxHeads),
		o.get("rms_norm_eps", &c.RMSNormEps),
		o.get("tie_word_embeddings", &c.TieWordEmbeddings),
		o.get("bos_token_id", &c.BOSTokenID),
		o.ids("eos_token_id", &c.EOSTokenID),
	)
	if err != nil {
		return nil, err
	}
	c.NumKeyValueHeads = c.NumAttentionHeads
	if o.has("num_key_value_heads") {
		err = o.size("num_key_value_heads", &c.NumKeyValueHeads, maxHeads)
	}
	if o.has("head_dim") {
		err = errors.Join(err, o.size("head_dim", &c.HeadDim, maxHeadDim))
	} else if c.HeadDim = c.HiddenSize / c.NumAttentionHeads; c.HeadDim*c.NumAttentionHeads != c.HiddenSize {
		err = errors.Join(err, fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads))
	}
	if o.has("max_position_embeddings") {
		err = errors.Join(err, o.size("max_position_embeddings", &c.MaxPositionEmbeddings, maxPositions))
	}
	if err = errors.Join(err, c.readRope(o), c.readDType(o)); err != nil {
		return nil, err
	}
	return c, c.check()
}

// refuseOtherModels names the first setting that asks for something that cria does not compute.
func refuseOtherModels(o object) error {
	var modelType string
	var architectures []string
	if err := errors.Join(o.get("model_type", &modelType), o.get("architectures", &architectures)); err != nil {
		return err
	}
	switch modelType {
	case "llama":
	case "":
		return errors.New(`model_type is missing; a Llama model has "model_type": "llama"`)
	case "mistral":
		if !o.has("sliding_window") {
			return errors.New(`model_type "mistral" is not supported; without a sliding window this model computes what a Llama does: ` +
				`with "model_type": "llama" and "architectures": ["LlamaForCausalLM"] in config.json it can be used`)
		}
		return errors.New(`model_type "mistral" with a sliding_window is not supported; use a Llama model (model_type "llama")`)
	default:
		return fmt.Errorf("model_type %q is not supported; use a Llama model (model_type %q: Llama 3, 3.1 and 3.2, SmolLM and SmolLM2, ...)", modelType, "llama")
	}
	if len(architectures) > 0 && !slices.Equal(architectures, []string{"LlamaForCausalLM"}) {
		return fmt.Errorf("architectures %q are not supported; only [\"LlamaForCausalLM\"] is", architectures)
	}
	for _, s := range unsupported {
		raw, ok := o[s.key]
		if !ok || slices.Contains(append(s.harmless, "null"), string(raw)) {
			continue
		}
		return fmt.Errorf("%s %s is not supported; %s", s.key, raw, s.advice)
	}
	return nil
}

const useAPlainLlama = "use a Llama model without it"

// unsupported lists settings that change what a model computes, with the values (compact JSON) that change nothing.
var unsupported = []struct {
	key      string
	harmless []string
	advice   string
}{
	{"quantization_config", nil, "use the model's original bfloat16, float16 or float32 weights"},
	{"hidden_act", []string{`"silu"`, `"swish"`}, `only "silu" is`},
	{"attention_bias", []string{"false"}, useAPlainLlama},
	{"mlp_bias", []string{"false"}, useAPlainLlama},
	{"qkv_bias", []string{"false"}, useAPlainLlama},
	{"use_qk_norm", []string{"false"}, useAPlainLlama},
	{"qk_norm", []string{"false"}, useAPlainLlama},
	{"sliding_window", nil, useAPlainLlama},
	{"attention_dropout", []string{"0", "0.0"}, "set it to 0.0: cria has dropout only in LoRA"},
	{"pretraining_tp", []string{"0", "1"}, "set it to 1: the weights are the same and the results differ only by rounding"},
	{"partial_rotary_factor", []string{"1", "1.0"}, useAPlainLlama},
	{"num_local_experts", []string{"0", "1"}, "mixtures of experts cannot be used"},
	{"num_experts", []string{"0", "1"}, "mixtures of experts cannot be used"},
	{"n_routed_experts", []string{"0"}, "mixtures of experts cannot be used"},
	{"final_logit_softcapping", nil, useAPlainLlama},
	{"attn_logit_softcapping", nil, useAPlainLlama},
	{"logit_scale", []string{"1", "1.0"}, useAPlainLlama},
	{"is_encoder_decoder", []string{"false"}, useAPlainLlama},
	{"add_cross_attention", []string{"false"}, useAPlainLlama},
}

// readRope reads rope_theta and rope_scaling, or rope_parameters, which holds both.
func (c *Config) readRope(o object) error {
	c.RopeTheta = 10000
	c.RopeScaling = RopeScaling{Type: "default"}
	if err := o.get("rope_theta", &c.RopeTheta); err != nil {
		return err
	}
	for _, key := range []string{"rope_scaling", "rope_parameters"} {
		if !o.has(key) {
			continue
		}
		var r object
		if err := o.get(key, &r); err != nil {
			return err
		}
		theta := c.RopeTheta
		scaling, err := parseRopeScaling(r)
		if err = errors.Join(err, r.get("rope_theta", &theta)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if key == "rope_parameters" && (o.has("rope_theta") && theta != c.RopeTheta || o.has("rope_scaling") && scaling != c.RopeScaling) {
			return errors.New("rope_parameters disagrees with rope_theta or rope_scaling; delete the one that is wrong")
		}
		c.RopeTheta, c.RopeScaling = theta, scaling
	}
	if !(c.RopeTheta >= 1 && c.RopeTheta <= 1e12) {
		return fmt.Errorf("rope_theta %v is not between 1 and 1e12", c.RopeTheta)
	}
	return nil
}

func parseRopeScaling(r object) (RopeScaling, error) {
	var s RopeScaling
	var old string // "type" is the name before transformers 4.43
	if err := errors.Join(r.get("rope_type", &s.Type), r.get("type", &old)); err != nil {
		return s, err
	}
	switch {
	case s.Type == "" && old == "":
		s.Type = "default"
	case s.Type == "":
		s.Type = old
	case old != "" && old != s.Type:
		return s, fmt.Errorf("rope_type %q and type %q disagree; delete the one that is wrong", s.Type, old)
	}
	switch s.Type {
	case "default":
		return s, nil
	case "linear", "llama3":
	default:
		return s, fmt.Errorf(`rope_type %q is not supported; "default", "linear" and "llama3" are`, s.Type)
	}
	if err := r.positive("factor", &s.Factor); err != nil || s.Type == "linear" {
		return s, err
	}
	err := errors.Join(
		r.positive("low_freq_factor", &s.LowFreqFactor),
		r.positive("high_freq_factor", &s.HighFreqFactor),
		r.size("original_max_position_embeddings", &s.OriginalMaxPositionEmbeddings, maxPositions),
	)
	if err == nil && s.HighFreqFactor <= s.LowFreqFactor {
		err = fmt.Errorf("high_freq_factor %v is not above low_freq_factor %v", s.HighFreqFactor, s.LowFreqFactor)
	}
	return s, err
}

func (c *Config) readDType(o object) error {
	var newer string
	if err := errors.Join(o.get("torch_dtype", &c.TorchDType), o.get("dtype", &newer)); err != nil {
		return err
	}
	switch {
	case c.TorchDType == "":
		c.TorchDType = newer
	case newer != "" && newer != c.TorchDType:
		return fmt.Errorf("torch_dtype %q and dtype %q disagree; delete the one that is wrong", c.TorchDType, newer)
	}
	return nil
}

func (c *Config) check() error {
	switch {
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return fmt.Errorf("num_attention_heads %d is not a multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head_dim %d is odd; rotary positions need pairs", c.HeadDim)
	case !(c.RMSNormEps > 0 && c.RMSNormEps <= 1):
		return fmt.Errorf("rms_norm_eps %v is not between 0 and 1", c.RMSNormEps)
	}
	ids := slices.Clone(c.EOSTokenID)
	if c.BOSTokenID != nil {
		ids = append(ids, *c.BOSTokenID)
	}
	for _, id := range ids {
		if id < 0 || id >= c.VocabSize {
			return fmt.Errorf("bos_token_id or eos_token_id %d is not in the vocabulary of %d", id, c.VocabSize)
		}
	}
	return nil
}

// InvFreq returns the rotary frequencies, (D/2): position p turns pair i by the angle p x InvFreq[i]. Every step is
// rounded to float32 as PyTorch rounds it, which the model was trained with: _compute_default_rope_parameters,
// _compute_linear_scaling_rope_parameters and _compute_llama3_parameters of transformers 4.43.2 (modeling_rope_utils.py).
func (c *Config) InvFreq() []float32 {
	s := c.RopeScaling
	out := make([]float32, c.HeadDim/2)
	for i := range out {
		exponent := float32(2*i) / float32(c.HeadDim)
		freq := 1 / float32(math.Pow(c.RopeTheta, float64(exponent)))
		switch s.Type {
		case "linear":
			freq /= float32(s.Factor)
		case "llama3":
			freq = s.llama3(freq)
		}
		out[i] = freq
	}
	return out
}

// llama3 keeps high frequencies, divides low ones by the factor, and blends between the two. PyTorch computes
// number/tensor as (1/tensor) x number; float32() keeps a compiler from fusing products into sums.
func (s RopeScaling) llama3(freq float32) float32 {
	context := float64(s.OriginalMaxPositionEmbeddings)
	factor := float32(s.Factor)
	wavelength := float32(1/freq) * float32(2*math.Pi)
	switch {
	case wavelength < float32(context/s.HighFreqFactor):
		return freq
	case wavelength > float32(context/s.LowFreqFactor):
		return freq / factor
	}
	turns := float32(float32(1/wavelength) * float32(context))
	smooth := (turns - float32(s.LowFreqFactor)) / float32(s.HighFreqFactor-s.LowFreqFactor)
	low := float32(float32(1-smooth)*freq) / factor
	return low + float32(smooth*freq)
}

// ReadGenerationConfig reads dir/generation_config.json. Without the file the result is empty.
func ReadGenerationConfig(dir string) (*GenerationConfig, error) {
	path := filepath.Join(dir, "generation_config.json")
	o, err := readObject(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &GenerationConfig{}, nil
	}
	if err != nil {
		return nil, err
	}
	g := &GenerationConfig{}
	err = errors.Join(
		o.get("bos_token_id", &g.BOSTokenID),
		o.ids("eos_token_id", &g.EOSTokenID),
		o.get("pad_token_id", &g.PadTokenID),
		o.get("do_sample", &g.DoSample),
		o.get("temperature", &g.Temperature),
		o.get("top_k", &g.TopK),
		o.get("top_p", &g.TopP),
		o.get("min_p", &g.MinP),
		o.get("repetition_penalty", &g.RepetitionPenalty),
	)
	if err == nil {
		err = g.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func (g *GenerationConfig) check() error {
	switch {
	case g.Temperature != nil && *g.Temperature < 0:
		return fmt.Errorf("temperature %v is negative", *g.Temperature)
	case g.TopK != nil && *g.TopK < 0:
		return fmt.Errorf("top_k %d is negative", *g.TopK)
	case g.TopP != nil && !(*g.TopP >= 0 && *g.TopP <= 1):
		return fmt.Errorf("top_p %v is not between 0 and 1", *g.TopP)
	case g.MinP != nil && !(*g.MinP >= 0 && *g.MinP <= 1):
		return fmt.Errorf("min_p %v is not between 0 and 1", *g.MinP)
	case g.RepetitionPenalty != nil && *g.RepetitionPenalty <= 0:
		return fmt.Errorf("repetition_penalty %v is not positive", *g.RepetitionPenalty)
	}
	for _, id := range g.EOSTokenID {
		if id < 0 {
			return fmt.Errorf("eos_token_id %d is negative", id)
		}
	}
	return nil
}

// object is a JSON object whose values are read one by one, by exact key. Values are compact.
type object map[string]json.RawMessage

func readObject(path string) (object, error) {
	text, err := disk.ReadFile(path, maxJSON)
	if err != nil {
		return nil, err
	}
	o, err := parseObject(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

func parseObject(text []byte) (object, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	var o object
	if err := json.Unmarshal(compact.Bytes(), &o); err != nil || o == nil {
		return nil, errors.New("not a JSON object")
	}
	return o, nil
}

// has reports whether key is there and not null.
func (o object) has(key string) bool {
	raw, ok := o[key]
	return ok && string(raw) != "null"
}

// get reads a value; where it is missing or null, v stays as it is.
func (o object) get(key string, v any) error {
	if !o.has(key) {
		return nil
	}
	if err := disk.Unmarshal(o[key], v); err != nil {
		return fmt.Errorf("%s %s: %w", key, o[key], err)
	}
	return nil
}

// size reads a needed integer from 1 to limit.
func (o object) size(key string, v *int, limit int) error {
	if !o.has(key) {
		return fmt.Errorf("%s is missing", key)
	}
	if err := o.get(key, v); err != nil {
		return err
	}
	if *v < 1 || *v > limit {
		return fmt.Errorf("%s %d is not between 1 and %d", key, *v, limit)
	}
	return nil
}

// positive reads a needed number above zero.
func (o object) positive(key string, v *float64) error {
	if !o.has(key) {
		return fmt.Errorf("%s is missing", key)
	}
	if err := o.get(key, v); err != nil {
		return err
	}
	if !(*v > 0 && *v <= 1e9) {
		return fmt.Errorf("%s %v is not between 0 and 1e9", key, *v)
	}
	return nil
}

// ids reads one token id or a list of them.
func (o object) ids(key string, v *[]int) error {
	if !o.has(key) {
		return nil
	}
	var id int
	if json.Unmarshal(o[key], &id) == nil {
		*v = []int{id}
		return nil
	}
	return o.get(key, v)
}
