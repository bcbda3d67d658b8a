package convert

import (
	"errors"
	"fmt"
	"math"

	"cria/internal/gguf"
	"cria/internal/llama"
)

// ropeScaling is config.json's rope_scaling. "linear" has only the factor.
type ropeScaling struct {
	Factor                        float  `json:"factor"`
	HighFreqFactor                float  `json:"high_freq_factor,omitempty"`
	LowFreqFactor                 float  `json:"low_freq_factor,omitempty"`
	OriginalMaxPositionEmbeddings int    `json:"original_max_position_embeddings,omitempty"`
	RopeType                      string `json:"rope_type"`
}

// readRopeScaling finds out how positions are scaled. GGUF has no setting for
// Llama 3.1's way: llama.cpp's converter writes the D/2 divisors of the
// frequencies as the tensor rope_freqs.weight, made from Llama 3.1's constants
// (low_freq_factor 1, high_freq_factor 4, 8192 positions) and the model's factor.
// The factor is read back, and the divisors must be the ones that it gives.
func readRopeScaling(f *gguf.File, c *config) (*ropeScaling, error) {
	kind, err := gguf.Get[string](f, "llama.rope.scaling.type")
	if errors.Is(err, gguf.ErrMissing) {
		kind, err = "none", nil
		if _, ok := f.Value("llama.rope.scale_linear"); ok {
			kind = "linear"
		}
	}
	if err != nil {
		return nil, err
	}
	freqs, scaled := f.Tensor("rope_freqs.weight")
	r := &metadata{f: f}
	switch {
	case kind == "linear" && !scaled:
		factor := r.float("llama.rope.scaling.factor", float64(r.float("llama.rope.scale_linear", 1)))
		if r.err != nil || factor == 1 {
			return nil, r.err
		}
		return &ropeScaling{RopeType: "linear", Factor: factor}, nil
	case kind == "none" && !scaled:
		return nil, nil
	case kind != "none":
		return nil, fmt.Errorf("llama.rope.scaling.type %q is not supported; \"none\" and \"linear\" are", kind)
	}
	divisors, err := freqs.Float32s()
	if err != nil {
		return nil, err
	}
	if len(divisors) != c.HeadDim/2 {
		return nil, fmt.Errorf("tensor rope_freqs.weight has %d values where the head size asks for %d", len(divisors), c.HeadDim/2)
	}
	s := &ropeScaling{RopeType: "llama3", Factor: float(divisors[len(divisors)-1]), LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	scaling := llama.RopeScaling{Type: s.RopeType, Factor: float64(s.Factor), LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	for i, want := range RopeDivisors(scaling, float64(c.RopeTheta), c.HeadDim) {
		got, want := divisors[i], float64(want)
		if !(math.Abs(float64(got)-want) <= 1e-4*want) {
			return nil, fmt.Errorf("tensor rope_freqs.weight is not Llama 3.1's scaling by %v (value %d is %v, not %v); import the original model instead", s.Factor, i, got, want)
		}
	}
	return s, nil
}

// RopeDivisors are what Llama 3.1's scaling divides the headDim/2 frequencies by: the tensor rope_freqs.weight, as
// LlamaModel.generate_extra_tensors of llama.cpp's converter makes it.
func RopeDivisors(s llama.RopeScaling, theta float64, headDim int) []float32 {
	out := make([]float32, headDim/2)
	for i := range out {
		freq := math.Pow(theta, -2*float64(i)/float64(headDim))
		switch turns := float64(s.OriginalMaxPositionEmbeddings) * freq / (2 * math.Pi); {
		case turns > s.HighFreqFactor:
			out[i] = 1
		case turns < s.LowFreqFactor:
			out[i] = float32(s.Factor)
		default:
			smooth := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
			out[i] = float32(1 / ((1-smooth)/s.Factor + smooth))
		}
	}
	return out
}
