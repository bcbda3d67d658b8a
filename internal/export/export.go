// Package export writes what was trained in the formats of other programs: a merged model in Hugging Face's layout, a model or
// an adapter in llama.cpp's GGUF, a model with a Modelfile for Ollama.
//
// Whatever chats with a model has to make the prompts on which it was trained. So every export carries a chat template that
// does, and before anything is published the prompts of a set of dialogues are made from the exported files and compared with
// those of training.
package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"cria/internal/adapter"
	"cria/internal/disk"
	"cria/internal/generate"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// Progress is told how much of a piece of work is done, in bytes. It may be nil.
type Progress func(done, total int64)

func (p Progress) tell(done, total int64) {
	if p != nil {
		p(done, total)
	}
}

// Source is what is exported: a model, with or without an adapter.
type Source struct {
	Model   string // directory
	Config  *llama.Config
	Adapter *adapter.Adapter // nil: the model alone
	Chat    *generate.Chat   // makes the prompts on which it was trained; no weights in it

	// BaseUnknown says that the adapter does not record on which weights it was trained, so that it was not compared.
	BaseUnknown bool

	adapterDir string
	template   string // Jinja: makes those prompts, too; "" where the model has none
	addBOS     bool   // a reader puts bos_token in front of a prompt
	weights    *safetensors.File
	modules    map[string]*adapter.Module // by tensor name
}

// Open opens a model directory and an adapter, "" for none. An adapter that records on which weights it was trained is refused
// where these are others, which takes reading them once: hashing is told how far that is.
func Open(ctx context.Context, model, adapterDir string, hashing Progress) (*Source, error) {
	s := &Source{Model: model, adapterDir: adapterDir, modules: map[string]*adapter.Module{}}
	var err error
	if s.Chat, s.Config, s.Adapter, err = generate.OpenPrompts(model, adapterDir); err != nil {
		return nil, err
	}
	if s.Config.VocabSize < s.Chat.Tokenizer.VocabSize() {
		return nil, fmt.Errorf("%s: the tokenizer has %d tokens, the model only %d", model, s.Chat.Tokenizer.VocabSize(), s.Config.VocabSize)
	}
	if s.Adapter != nil {
		for i := range s.Adapter.Modules {
			m := &s.Adapter.Modules[i]
			s.modules[m.Name+".weight"] = m
		}
		if s.BaseUnknown = s.Adapter.BaseSHA256 == ""; !s.BaseUnknown {
			if err := s.checkBase(ctx, hashing); err != nil {
				return nil, err
			}
		}
	}
	if s.template, err = chatTemplate(s.Chat); err != nil {
		return nil, err
	}
	s.addBOS = s.wantsBOS()
	if s.weights, err = safetensors.OpenDir(model); err != nil {
		return nil, err
	}
	if err := s.checkWeights(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", model, err), s.Close())
	}
	return s, nil
}

// Close gives the files back.
func (s *Source) Close() error {
	s.Chat.Close()
	return s.weights.Close()
}

// checkBase compares the base's weights with those that the adapter was trained on.
func (s *Source) checkBase(ctx context.Context, hashing Progress) error {
	have, err := adapter.HashBase(ctx, s.Model, hashing)
	if err != nil {
		return err
	}
	if have != s.Adapter.BaseSHA256 {
		return fmt.Errorf("%s is not the model that %s was trained on: its weights have the SHA-256 %.12s…, the adapter records %.12s…; "+
			"merged into other weights an adapter says something else. Name the directory of the right model", s.Model, s.adapterDir, have, s.Adapter.BaseSHA256)
	}
	return nil
}

// checkWeights makes sure that the weights are those of config.json, and that the adapter fits them.
func (s *Source) checkWeights() error {
	names := map[string]bool{}
	for _, t := range s.tensors() {
		names[t.name] = true
		w, ok := s.weights.Tensor(t.name)
		switch {
		case !ok:
			return fmt.Errorf("tensor %s is missing", t.name)
		case !slices.Equal(w.Shape, t.shape):
			return fmt.Errorf("tensor %s has the shape %v where config.json asks for %v", t.name, w.Shape, t.shape)
		case w.DType != safetensors.BF16 && w.DType != safetensors.F16 && w.DType != safetensors.F32:
			return fmt.Errorf("tensor %s is stored as %s; BF16, F16 and F32 can be exported", t.name, w.DType)
		}
	}
	for name := range s.modules {
		if !names[name] {
			return fmt.Errorf("the adapter changes %s, which the model does not have", name)
		}
	}
	return nil
}

// room makes sure that a file or directory of that many bytes can be written at path.
func room(path string, need int64) error {
	free, err := disk.FreeSpace(path)
	if need += 1 << 20; err == nil && free < uint64(need) {
		return fmt.Errorf("%s has %d MiB free and needs %d MiB; make room or name another place", filepath.Dir(path), free>>20, need>>20)
	}
	return nil
}

// Vacant refuses an output that would replace something: anything that exists, but for an empty directory where the output is
// a directory, too.
func Vacant(path string, directory bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if directory && info.IsDir() {
		if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s exists already; delete it or name another place: %w", path, fs.ErrExist)
}
