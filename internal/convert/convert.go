// Package convert imports models from other formats as Hugging Face directories.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"cria/internal/disk"
	"cria/internal/gguf"
	"cria/internal/safetensors"
	"cria/internal/tokenizer"
)

// Source is what an imported directory's manifest records as meta.
type Source struct {
	Format string `json:"format"` // "gguf"
	Name   string `json:"name"`   // file name
	SHA256 string `json:"sha256"` // of the file, lower-case hexadecimal
}

// CheckGGUF makes the checks of ImportGGUF that do not read the weights.
func CheckGGUF(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	_, _, err = readGGUF(f, path)
	return errors.Join(err, f.Close())
}

// Tokenizer is the tokenizer of a GGUF file, with its chat template, as ImportGGUF would write it.
func Tokenizer(f *gguf.File) (*tokenizer.Tokenizer, error) {
	tokens, err := gguf.Get[[]string](f, "tokenizer.ggml.tokens")
	if err != nil {
		return nil, err
	}
	v, err := readVocabulary(f, len(tokens))
	if err != nil {
		return nil, err
	}
	text, err := encode(v.tokenizer())
	if err != nil {
		return nil, err
	}
	config, err := encode(v.config(0))
	if err != nil {
		return nil, err
	}
	return tokenizer.ParseFiles(text, config)
}

// ImportGGUF writes the Llama model in the GGUF file at path as the new
// directory outDir: config.json, generation_config.json, model.safetensors in
// bfloat16, tokenizer.json, tokenizer_config.json, special_tokens_map.json, and
// the manifest with a Source. The directory appears whole or not at all; one
// that exists and is not empty is refused with fs.ErrExist.
//
// Whatever has no exact equal (another architecture, an unknown tensor, setting
// or tokenizer) is refused by name. Weights are dequantised to float32 and
// rounded to the nearest bfloat16, ties to even.
//
// progress, if not nil, is told how many of the weights' bytes are written.
func ImportGGUF(ctx context.Context, path, outDir string, progress func(done, total int64)) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	err = importGGUF(ctx, f, path, outDir, progress)
	return errors.Join(err, f.Close())
}

func importGGUF(ctx context.Context, f *gguf.File, path, outDir string, progress func(done, total int64)) error {
	m, files, err := readGGUF(f, path)
	if err != nil {
		return err
	}
	source := Source{Format: "gguf", Name: filepath.Base(path)}
	if source.SHA256, err = disk.HashFile(ctx, path, nil); err != nil {
		return err
	}
	if progress == nil {
		progress = func(done, total int64) {}
	}
	err = publish(outDir, source, files, func(w io.Writer) error { return m.writeWeights(ctx, w, progress) })
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s exists already; delete it or name another directory: %w", outDir, err)
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readGGUF makes everything of a directory but its weights.
func readGGUF(f *gguf.File, path string) (*model, map[string][]byte, error) {
	fail := func(err error) (*model, map[string][]byte, error) { return nil, nil, fmt.Errorf("%s: %w", path, err) }
	m, err := readModel(f)
	if err != nil {
		return fail(err)
	}
	v, err := readVocabulary(f, m.VocabSize)
	if err != nil {
		return fail(err)
	}
	files, err := m.files(v)
	if err != nil {
		return fail(err)
	}
	return m, files, nil
}

// publish is the one place where files are written.
func publish(dir string, source Source, files map[string][]byte, weights func(io.Writer) error) error {
	if err := disk.MkdirAll(disk.OS{}, filepath.Dir(dir)); err != nil {
		return err
	}
	return disk.PublishDir(disk.OS{}, dir, func(d *disk.DirWriter) error {
		if err := d.SetMeta(source); err != nil {
			return err
		}
		names := make([]string, 0, len(files))
		for name := range files {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			err := d.WriteFile(name, func(w io.Writer) error {
				_, err := w.Write(files[name])
				return err
			})
			if err != nil {
				return err
			}
		}
		return d.WriteFile(safetensors.SingleFile, weights)
	})
}
