package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/compute"
	"cria/internal/convert"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
	"cria/internal/tokenizer"
)

// Model is a directory in Hugging Face's layout. Sizes are zero where config.json cannot be used.
type Model struct {
	Architecture string `json:"architecture"` // architectures[0], or model_type
	Usable       bool   `json:"usable"`       // cria can train it and generate with it; if not, Problems say why

	Parameters int64          `json:"parameters"` // elements of all tensors
	Bytes      int64          `json:"bytes"`      // of all tensors
	DTypes     map[string]int `json:"dtypes"`     // number of tensors of each element type
	Files      []FileSize     `json:"files"`      // that hold weights

	HiddenSize            int    `json:"hidden_size"`
	IntermediateSize      int    `json:"intermediate_size"`
	NumHiddenLayers       int    `json:"num_hidden_layers"`
	NumAttentionHeads     int    `json:"num_attention_heads"`
	NumKeyValueHeads      int    `json:"num_key_value_heads"`
	HeadDim               int    `json:"head_dim"`
	VocabSize             int    `json:"vocab_size"`
	MaxPositionEmbeddings int    `json:"max_position_embeddings"` // context window, in tokens
	TieWordEmbeddings     bool   `json:"tie_word_embeddings"`
	RopeScaling           string `json:"rope_scaling"` // "default" or the type with its factor
	EOSTokenID            []int  `json:"eos_token_id"` // that end a reply: generation_config.json's, else config.json's

	Tokenizer *Tokenizer      `json:"tokenizer,omitempty"`
	Source    *convert.Source `json:"imported_from,omitempty"` // what cria import made the directory of
}

// FileSize is a file's name and its size in bytes.
type FileSize struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Tokenizer is what a model directory's tokenizer files say.
type Tokenizer struct {
	Type         string `json:"type"`
	Tokens       int    `json:"tokens"` // one more than the largest id
	BOSToken     string `json:"bos_token"`
	EOSToken     string `json:"eos_token"`
	PadToken     string `json:"pad_token"`
	ChatTemplate bool   `json:"chat_template"`
}

// model makes the same checks as loading the model does, without taking its weights into memory.
func (r *Report) model() {
	m := &Model{DTypes: map[string]int{}, Files: []FileSize{}, EOSTokenID: []int{}}
	r.Model = m
	cfg, err := llama.ReadConfig(r.Path)
	if err != nil {
		r.problem("%v", err)
		m.Architecture = architecture(r.Path)
	} else {
		m.take(cfg)
	}
	if gen, err := llama.ReadGenerationConfig(r.Path); err != nil {
		r.problem("%v", err)
	} else if len(gen.EOSTokenID) > 0 {
		m.EOSTokenID = gen.EOSTokenID
	}
	tok, err := tokenizer.Load(r.Path)
	if err != nil {
		r.problem("%v", err)
	} else {
		c := tok.Config()
		m.Tokenizer = &Tokenizer{Type: "byte-level BPE", Tokens: tok.VocabSize(), BOSToken: c.BOSToken, EOSToken: c.EOSToken, PadToken: c.PadToken, ChatTemplate: c.ChatTemplate != ""}
	}
	if cfg != nil && tok != nil && tok.VocabSize() > cfg.VocabSize {
		r.problem("the tokenizer has %d tokens, the model's vocab_size is %d; tokenizer.json belongs to another model", tok.VocabSize(), cfg.VocabSize)
	}
	r.weights(cfg)
	m.Source = source(r.Path)
	m.Usable = len(r.Problems) == 0
}

func (m *Model) take(c *llama.Config) {
	m.Architecture = c.ModelType
	if len(c.Architectures) > 0 {
		m.Architecture = c.Architectures[0]
	}
	m.HiddenSize, m.IntermediateSize, m.NumHiddenLayers = c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers
	m.NumAttentionHeads, m.NumKeyValueHeads, m.HeadDim = c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim
	m.VocabSize, m.MaxPositionEmbeddings, m.TieWordEmbeddings = c.VocabSize, c.MaxPositionEmbeddings, c.TieWordEmbeddings
	m.EOSTokenID = append(m.EOSTokenID, c.EOSTokenID...)
	if m.RopeScaling = c.RopeScaling.Type; c.RopeScaling.Factor != 0 {
		m.RopeScaling = fmt.Sprintf("%s, factor %g", c.RopeScaling.Type, c.RopeScaling.Factor)
	}
}

// architecture is what a config.json calls the model that ReadConfig refuses.
func architecture(dir string) string {
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if readJSON(filepath.Join(dir, configName), &c) != nil {
		return ""
	}
	if len(c.Architectures) > 0 {
		return c.Architectures[0]
	}
	return c.ModelType
}

// weights looks at the tensors, and whether they are those that config.json asks for.
func (r *Report) weights(cfg *llama.Config) {
	m := r.Model
	entries, err := os.ReadDir(r.Path)
	if err != nil {
		r.problem("%v", err)
		return
	}
	pickles := false
	for _, e := range entries {
		pickles = pickles || strings.HasPrefix(e.Name(), "pytorch_model")
		if !strings.HasSuffix(e.Name(), ".safetensors") {
			continue
		}
		if info, err := os.Stat(filepath.Join(r.Path, e.Name())); err == nil {
			m.Files = append(m.Files, FileSize{e.Name(), info.Size()})
		}
	}
	f, err := safetensors.OpenDir(r.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(m.Files) == 0 && pickles:
		r.problem("the weights are pickle files (pytorch_model*.bin), which can run code when they are read, so cria does not read them; get the model as safetensors")
		return
	case errors.Is(err, fs.ErrNotExist) && len(m.Files) == 0:
		r.problem("there are no weights: neither %s nor %s", safetensors.SingleFile, safetensors.IndexFile)
		return
	case err != nil:
		r.problem("%v", err)
		return
	}
	defer f.Close()
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		m.Parameters += int64(t.NumElements())
		m.Bytes += int64(len(t.Data))
		m.DTypes[string(t.DType)]++
	}
	if cfg == nil {
		return
	}
	if _, err := llama.Load(dryRun{}, cfg, f); err != nil {
		r.problem("%v", err)
	}
}

// dryRun is the part of a backend that loading a model uses. It looks at the weights' types and keeps nothing.
type dryRun struct{ compute.Backend }

type matrix struct{ rows, cols int }

func (m matrix) Rows() int { return m.rows }
func (m matrix) Cols() int { return m.cols }
func (m matrix) Out() int  { return m.rows }
func (m matrix) In() int   { return m.cols }

func (dryRun) Alloc(rows, cols int) compute.Buffer  { return matrix{rows, cols} }
func (dryRun) Write(compute.Buffer, int, []float32) {}
func (dryRun) Weight(t safetensors.Tensor) (compute.Weight, error) {
	if !slices.Contains([]safetensors.DType{safetensors.BF16, safetensors.F16, safetensors.F32}, t.DType) {
		return nil, fmt.Errorf("tensor %s is %s; weights must be BF16, F16 or F32", t.Name, t.DType)
	}
	return matrix{t.Shape[0], t.Shape[1]}, nil
}

// source is what the manifest of an imported model records.
func source(dir string) *convert.Source {
	m, err := disk.ReadManifest(disk.OS{}, dir)
	if err != nil {
		return nil
	}
	var s convert.Source
	if json.Unmarshal(m.Meta, &s) != nil || s.Format == "" {
		return nil
	}
	return &s
}
