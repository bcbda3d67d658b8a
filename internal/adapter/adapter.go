// Package adapter reads, makes and writes LoRA adapters in the format of Hugging Face PEFT 0.11.1; it also reads those of newer
// versions, and of mlx-lm, where they compute the same.
//
// LoRA (arXiv 2106.09685) adds to a frozen linear layer y = W x a product of two thin matrices:
//
//	   x (in)                       W (out, in)   frozen
//	┌────┴────┐                     A (r, in)     lora_A
//	│         A                     B (out, r)    lora_B
//	W         │ (r)                 scale = lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora
//	│         B
//	└────+────┘ · scale             y = W x + scale · B (A dropout(x))
//	   y (out)
//
// An adapter directory holds adapter_config.json and adapter_model.safetensors with the tensors
// base_model.model.<module>.lora_A.weight and .lora_B.weight. The mathematics of LoRA is in package compute.
package adapter

import (
	"fmt"
	"math"

	"cria/internal/llama"
	"cria/internal/torchrng"
)

// Module is the adapter of one linear layer.
type Module struct {
	Name  string // as in transformers: model.layers.0.self_attn.q_proj
	Layer int
	Kind  string // q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj

	In, Out, R int
	Alpha      float64   // lora_alpha of this module
	Scale      float64   // what B A is multiplied by
	A          []float32 // (R, In)
	B          []float32 // (Out, R)
}

// Adapter is a LoRA adapter for one model.
type Adapter struct {
	Config  Config
	Modules []Module // in module order: by layer, then q, k, v, o, gate, up, down

	// BaseSHA256 is the hash of the frozen weights that cria recorded in the tensor file, empty in other tools' adapters.
	BaseSHA256 string
}

// New makes a fresh adapter as torch.manual_seed(seed); get_peft_model(model, LoraConfig(...)) of torch 2.8 and PEFT 0.11.1
// does, bit for bit in float32: for every target module in module order nn.Linear's own initialisation of A and B uses up
// r·in and out·r numbers, then A is drawn by kaiming_uniform_(a = sqrt 5), and B is zero. The returned Config is the one to
// save: default targets and "all-linear" are written out as a list, and patterns that PEFT's versions read differently are
// written out as whole names.
func New(c Config, m *llama.Config, seed uint64) (*Adapter, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.TargetModules = c.TargetModules.expand()
	modules, err := c.modules(m)
	if err != nil {
		return nil, err
	}
	if err := c.checkUnused(m); err != nil {
		return nil, err
	}
	if err := c.settle(modules, m); err != nil {
		return nil, err
	}
	g := torchrng.New(seed)
	for i := range modules {
		mod := &modules[i]
		mod.A = make([]float32, mod.R*mod.In)
		mod.B = make([]float32, mod.Out*mod.R)
		g.Discard(len(mod.A) + len(mod.B))
		g.KaimingUniform(mod.A, mod.In)
	}
	return &Adapter{Config: c, Modules: modules}, nil
}

// NumParameters is the number of trainable parameters: the elements of all A and B.
func (a *Adapter) NumParameters() int {
	n := 0
	for _, m := range a.Modules {
		n += m.R * (m.In + m.Out)
	}
	return n
}

// checkFinite names the first module with a NaN or an infinity.
func (a *Adapter) checkFinite() error {
	for _, m := range a.Modules {
		for part, v := range [][]float32{m.A, m.B} {
			for i, x := range v {
				if x-x != 0 {
					return fmt.Errorf("%s is not finite: element %d is %v", tensorName(m.Name, part), i, x)
				}
			}
		}
	}
	return nil
}

// scaling is LoraLayer.update_layer's.
func (c *Config) scaling(alpha float64, r int) float64 {
	if c.UseRSLoRA {
		return alpha / math.Sqrt(float64(r))
	}
	return alpha / float64(r)
}
