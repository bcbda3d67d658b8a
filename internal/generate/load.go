package generate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"cria/internal/adapter"
	"cria/internal/chat"
	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/data"
	"cria/internal/llama"
	"cria/internal/recipe"
	"cria/internal/safetensors"
	"cria/internal/tokenizer"
)

// Chat is a model ready to answer: base weights, with or without an adapter, tokenizer and prompt.
type Chat struct {
	Model     *llama.Model
	Tokenizer *tokenizer.Tokenizer
	Defaults  *llama.GenerationConfig
	EOS       []int32
	Recipe    *recipe.Recipe // that the adapter was trained with; nil without
	System    string         // system prompt of dialogues that do not bring one

	template   *data.Template // prompt_template of the recipe
	messages   *chat.Template // the model's own; nil where it has none
	noTemplate error          // why not
	closers    []func() error
}

// LoadOptions say what to load and how to compute.
type LoadOptions struct {
	Model   string // directory
	Adapter string // directory, or ""
	DType   string // "auto", "float32" or "bfloat16"
	Threads int
}

// OpenPrompts opens what makes prompts, without weights: tokenizer, templates and the adapter's recipe. The Chat has no Model.
// The adapter is nil where adapterDir is "".
func OpenPrompts(model, adapterDir string) (*Chat, *llama.Config, *adapter.Adapter, error) {
	c := &Chat{}
	fail := func(err error) (*Chat, *llama.Config, *adapter.Adapter, error) { return nil, nil, nil, err }
	if info, err := os.Stat(model); err != nil || !info.IsDir() {
		return fail(fmt.Errorf("%q is not a model directory; name a directory in Hugging Face's format (cria import makes one of a GGUF file)", model))
	}
	cfg, err := llama.ReadConfig(model)
	if _, other := adapter.ReadConfig(model); errors.Is(err, fs.ErrNotExist) && other == nil {
		return fail(fmt.Errorf("%s is an adapter, not a model: name its base model, and this directory as the adapter", model))
	}
	if err != nil {
		return fail(err)
	}
	if c.Defaults, err = llama.ReadGenerationConfig(model); err != nil {
		return fail(err)
	}
	if c.Tokenizer, err = tokenizer.Load(model); err != nil {
		return fail(err)
	}
	c.messages, c.noTemplate = chat.New(c.Tokenizer)
	c.EOS = EOS(c.Defaults, cfg, c.Tokenizer)
	if adapterDir == "" {
		return c, cfg, nil, nil
	}
	ad, err := adapter.Load(adapterDir, cfg)
	if err == nil {
		err = c.loadRecipe(filepath.Join(adapterDir, "recipe.yaml"))
	}
	if err != nil {
		return fail(err)
	}
	return c, cfg, ad, nil
}

// EOS are the ids that end a reply: generation_config.json's, else config.json's, else the tokenizer's.
func EOS(defaults *llama.GenerationConfig, cfg *llama.Config, tok *tokenizer.Tokenizer) (out []int32) {
	for _, ids := range [][]int{defaults.EOSTokenID, cfg.EOSTokenID} {
		for _, id := range ids {
			out = append(out, int32(id))
		}
		if len(out) > 0 {
			return out
		}
	}
	if id, ok := tok.EOS(); ok {
		out = append(out, id)
	}
	return out
}

// Load opens a model directory and an adapter.
func Load(o LoadOptions) (_ *Chat, err error) {
	c, cfg, ad, err := OpenPrompts(o.Model, o.Adapter)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	dtype := compute.DType(o.DType)
	if o.DType == "auto" || o.DType == "" {
		dtype = cpu.FasterDType()
	}
	f, err := safetensors.OpenDir(o.Model)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, f.Close)
	converted, packed := cpu.WeightBytes(llama.StoredDType(f), dtype)
	_, available, _ := cpu.Memory()
	tooLarge := available > 0 && cfg.ProductElements()*(converted+packed) > available*8/10
	be := cpu.New(cpu.Options{Threads: o.Threads, DType: dtype, MapWeights: tooLarge})
	c.closers = append(c.closers, func() error { be.Close(); return nil })
	if c.Model, err = llama.Load(be, cfg, f); err != nil {
		return nil, err
	}
	if ad == nil {
		return c, nil
	}
	for _, m := range ad.Modules {
		if _, err := c.Model.Attach(m.Layer, m.Kind, m.R, m.A, m.B, m.Scale, false); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// loadRecipe takes the prompt template that an adapter was trained with, if cria trained it.
func (c *Chat) loadRecipe(path string) error {
	if _, err := os.Stat(path); err != nil {
		return nil // another program's adapter
	}
	r, err := recipe.Load(path, nil)
	if err != nil {
		return fmt.Errorf("the recipe beside the adapter cannot be read (without that file the model's chat template is used): %w", err)
	}
	c.Recipe = r
	return c.UsePrompt(r)
}

// UsePrompt renders prompts as a recipe does.
func (c *Chat) UsePrompt(r *recipe.Recipe) (err error) {
	c.System, c.template = r.System, nil
	if r.Template == recipe.TemplatePrompt {
		c.template, err = data.ParseTemplate(r.PromptTemplate, r.ResponseTemplate)
	}
	return err
}

// Prompt returns the ids of a dialogue that the model shall answer: as the adapter was trained to read it, else as the
// model's own chat template renders it.
//
// An adapter that was trained with a prompt_template has it for the first turn, with the system prompt that stands in it or
// for which it has a place, {system}; a system prompt that has no place there makes it the chat template's. Later turns go on as
// the chat template does.
func (c *Chat) Prompt(dialogue ...chat.Message) ([]int32, error) {
	var first data.Example
	turns := dialogue
	if c.template != nil && len(turns) > 1 && turns[0].Role == "system" && c.template.Uses("system") {
		first.System, turns = turns[0].Content, turns[1:]
	}
	if c.template == nil || turns[0].Role == "system" {
		if c.messages == nil {
			return nil, c.noTemplate
		}
		if c.System != "" && dialogue[0].Role != "system" {
			dialogue = append([]chat.Message{{Role: "system", Content: c.System}}, dialogue...)
		}
		return c.messages.IDs(dialogue, chat.Options{AddGenerationPrompt: true})
	}
	first.Instruction = turns[0].Content
	text, plain := c.template.Prompt(first)
	ids := c.Tokenizer.Encode(text, plain...)
	if len(turns) == 1 {
		return ids, nil
	}
	if c.messages == nil {
		return nil, fmt.Errorf("this adapter was trained on single turns and the model has no chat template that could go on from there; start anew")
	}
	begun, err := c.messages.IDs(dialogue[:len(dialogue)-len(turns)+1], chat.Options{AddGenerationPrompt: true})
	if err != nil {
		return nil, err
	}
	all, err := c.messages.IDs(dialogue, chat.Options{AddGenerationPrompt: true})
	if err != nil {
		return nil, err
	}
	if len(all) < len(begun) || !slices.Equal(begun, all[:len(begun)]) {
		return nil, fmt.Errorf("the model's chat template changes the first turn once a second one follows; start anew")
	}
	return append(ids, all[len(begun):]...), nil
}

// Close gives the model's memory and files back.
func (c *Chat) Close() {
	for i := len(c.closers) - 1; i >= 0; i-- {
		c.closers[i]()
	}
}
