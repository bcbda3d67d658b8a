package compat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"cria/internal/adapter"
	"cria/internal/disk"
	"cria/internal/safetensors"
)

// beside are the files that belong to an adapter and are copied with it.
var beside = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt",
	"chat_template.jinja", "chat_template.json", "generation_config.json", "recipe.yaml", "README.md"}

// Fix writes the adapter in dir as PEFT 0.11.1 would have, into the new directory out, which appears whole or not at all: with
// exactly that version's keys, its names of tensors, and one rank and scale for all modules. What it computes stays the same, up to
// the rounding of lora_B to float32 where scales had to be made equal. base is as for Check; baseName is the model that
// the adapter names where it names none itself, or one in MLX's own format. An adapter that computes more than plain LoRA is
// refused.
func Fix(dir, base, baseName, out string) error {
	if inside(out, dir) {
		return fmt.Errorf("%s lies in %s, which is not altered; name another place", out, dir)
	}
	f, err := open(dir, base)
	if err != nil {
		return err
	}
	defer f.close()
	if f.err != nil {
		return fmt.Errorf("it cannot be written as a plain LoRA adapter: %w", f.err)
	}
	a := f.adapter
	dtype := f.dtype()
	if folded := level(a); folded {
		dtype = safetensors.F32
	}
	c := &a.Config
	if baseName != "" && (c.BaseModelNameOrPath == "" || f.mlx) {
		c.BaseModelNameOrPath = baseName
	}
	if c.TaskType == "" {
		c.TaskType = "CAUSAL_LM"
	}
	if err := disk.MkdirAll(disk.OS{}, filepath.Dir(out)); err != nil {
		return err
	}
	return disk.PublishDir(disk.OS{}, out, func(w *disk.DirWriter) error {
		if err := a.Write(dtype, w.Create); err != nil {
			return err
		}
		for _, name := range beside {
			if err := copyFile(w, dir, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// dtype is BF16 where every tensor is, else F32.
func (f *facts) dtype() safetensors.DType {
	for _, name := range f.file.Names() {
		if t, _ := f.file.Tensor(name); t.DType != safetensors.BF16 {
			return safetensors.F32
		}
	}
	return safetensors.BF16
}

// level gives all modules one rank and one scale, lora_alpha / r, where they have others: A and B get rows and columns of zeros,
// and B takes what its scale differs by. It reports whether a B was multiplied.
func level(a *adapter.Adapter) (folded bool) {
	c := &a.Config
	rank, scale, plain := 0, 0.0, c.LoraAlpha != 0
	for i := range a.Modules {
		m := &a.Modules[i]
		rank = max(rank, m.R)
		if math.Abs(m.Scale) > math.Abs(scale) {
			scale = m.Scale
		}
		plain = plain && m.R == c.R && m.Scale == c.LoraAlpha/float64(c.R)
	}
	c.RankPattern, c.AlphaPattern, c.UseRSLoRA = nil, nil, false
	if plain {
		return false
	}
	if scale == 0 {
		scale = 1 // and every B becomes zero
	}
	for i := range a.Modules {
		m := &a.Modules[i]
		if factor := m.Scale / scale; factor != 1 {
			folded = true
			for j, b := range m.B {
				m.B[j] = float32(float64(b) * factor)
			}
		}
		m.A, m.B = pad(m, rank)
		m.R, m.Scale, m.Alpha = rank, scale, scale*float64(rank)
	}
	c.R, c.LoraAlpha = rank, scale*float64(rank)
	return folded
}

// pad returns A (rank, in) and B (out, rank) with zeros where m has nothing.
func pad(m *adapter.Module, rank int) (a, b []float32) {
	if m.R == rank {
		return m.A, m.B
	}
	a, b = make([]float32, rank*m.In), make([]float32, m.Out*rank)
	copy(a, m.A)
	for o := range m.Out {
		copy(b[o*rank:], m.B[o*m.R:][:m.R])
	}
	return a, b
}

// copyFile copies a file, if it is there.
func copyFile(w *disk.DirWriter, dir, name string) error {
	const limit = 1 << 30
	content, err := disk.ReadFile(filepath.Join(dir, name), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.WriteFile(name, func(f io.Writer) error { _, err := f.Write(content); return err })
}

// inside reports that path is dir or lies in it.
func inside(path, dir string) bool {
	real := func(p string) string {
		p, err := filepath.Abs(p)
		if err != nil {
			return p
		}
		for rest := ""; ; {
			if r, err := filepath.EvalSymlinks(p); err == nil {
				return filepath.Join(r, rest)
			}
			if parent := filepath.Dir(p); parent == p {
				return filepath.Join(p, rest)
			}
			p, rest = filepath.Dir(p), filepath.Join(filepath.Base(p), rest)
		}
	}
	rel, err := filepath.Rel(real(dir), real(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
