// Package cria fine-tunes Llama models with LoRA and generates text with the result.
//
// It is what the command cria calls: [Train] runs a recipe, [Load] opens a model with or without an adapter, and
// [Model.Generate] answers a prompt. Models are directories in Hugging Face's format, adapters are PEFT's.
package cria

import (
	"context"
	"errors"

	"cria/internal/chat"
	"cria/internal/generate"
	"cria/internal/recipe"
	"cria/internal/train"
)

// ErrInterrupted is returned by Train when its context ended. The run was saved; resume_from_checkpoint=true goes on.
var ErrInterrupted = train.ErrInterrupted

// Progress is what a training run tells after every optimizer step.
type Progress = train.Progress

// TrainOptions of Train. The zero value is silent.
type TrainOptions struct {
	OnProgress func(Progress)
	OnNote     func(string) // remarks: keys without effect, damaged checkpoints that are passed over
}

// TrainResult is a finished run.
type TrainResult struct {
	Dir      string   // output_dir, which holds the adapter
	Steps    int      // that were made; early stopping may have left some out
	Problems []string // what speaks against the result, each with advice; none: it looks healthy
}

// Train runs the recipe in the YAML file path ("" for none) with overrides "key=value". It returns when the run is
// finished, or saved because ctx ended (ErrInterrupted).
func Train(ctx context.Context, path string, o TrainOptions, overrides ...string) (*TrainResult, error) {
	r, err := recipe.Load(path, overrides)
	if err != nil {
		return nil, err
	}
	if o.OnNote != nil {
		for _, n := range r.Notes {
			o.OnNote(n)
		}
	}
	j, err := train.Prepare(ctx, r, train.Options{Info: o.OnNote, OnProgress: o.OnProgress})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	if err := j.Run(ctx); err != nil {
		return nil, err
	}
	res := &TrainResult{Dir: r.OutputDir, Steps: j.Step()}
	if ill := new(train.UnhealthyError); errors.As(j.Verdict(), &ill) {
		res.Problems = ill.Problems
	}
	return res, nil
}

// Model is an open model, ready to answer.
type Model struct{ chat *generate.Chat }

// Load opens a model directory and, unless adapter is "", a LoRA adapter's directory.
func Load(model, adapter string) (*Model, error) {
	c, err := generate.Load(generate.LoadOptions{Model: model, Adapter: adapter})
	if err != nil {
		return nil, err
	}
	return &Model{c}, nil
}

// Close gives the model's memory and files back.
func (m *Model) Close() { m.chat.Close() }

// GenerateOptions of a reply. The zero value is greedy with at most 512 tokens.
type GenerateOptions struct {
	MaxNewTokens int // 0: 512
	Temperature  float64
	TopP         float64
	Seed         uint64
	OnText       func(string) // sees the reply as it is made
}

// Generate answers one prompt, which is rendered as the adapter was trained. A Temperature above 0 samples.
func (m *Model) Generate(ctx context.Context, prompt string, o GenerateOptions) (string, error) {
	if o.Temperature < 0 || o.TopP < 0 || o.TopP > 1 || o.MaxNewTokens < 0 {
		return "", errors.New("cria: negative option, or TopP above 1")
	}
	ids, err := m.chat.Prompt(chat.Message{Role: "user", Content: prompt})
	if err != nil {
		return "", err
	}
	g := generate.Options{MaxNewTokens: 512, EOS: m.chat.EOS, Sampling: generate.Sampling{Greedy: o.Temperature == 0, Temperature: o.Temperature, TopP: 1, RepetitionPenalty: 1, Seed: o.Seed}}
	if o.MaxNewTokens > 0 {
		g.MaxNewTokens = o.MaxNewTokens
	}
	if o.TopP > 0 {
		g.TopP = o.TopP
	}
	stream := m.chat.Tokenizer.NewStream(true)
	res, err := generate.NewSession(m.chat.Model).Generate(ctx, ids, g, func(id int32) {
		if text := stream.Push(id); o.OnText != nil && text != "" {
			o.OnText(text)
		}
	})
	if err != nil {
		return "", err
	}
	if text := stream.Flush(); o.OnText != nil && text != "" {
		o.OnText(text)
	}
	return m.chat.Tokenizer.Decode(res.IDs, true), ctx.Err()
}
