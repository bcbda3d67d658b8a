package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"cria/internal/adapter"
	"cria/internal/convert"
	"cria/internal/disk"
	"cria/internal/gguf"
)

// AdapterGGUF writes the adapter alone, in float32, for use with a GGUF file of its base (llama-cli --lora). llama.cpp scales
// the product of a module by adapter.lora.alpha / r; where PEFT's scale is another one (use_rslora, alpha_pattern), B holds
// the difference.
func (s *Source) AdapterGGUF(path, name string) error {
	if s.Adapter == nil {
		return errors.New("there is no adapter to export; name its directory")
	}
	if err := Vacant(path, false); err != nil {
		return err
	}
	alpha := s.Adapter.Config.LoraAlpha
	values := append(s.general(name, "adapter"),
		gguf.KeyValue{Key: "adapter.type", Value: "lora"},
		gguf.KeyValue{Key: "adapter.lora.alpha", Value: float32(alpha)},
		gguf.KeyValue{Key: "general.quantization_version", Value: uint32(2)})
	if float32(alpha) == 0 {
		return fmt.Errorf("lora_alpha is %v: llama.cpp takes no scale from a file that says 0", alpha)
	}
	from := map[string]tensor{}
	for _, t := range s.tensors() {
		from[t.name] = t
	}
	var tensors []gguf.Tensor
	rows := map[string][]float32{}
	for i := range s.Adapter.Modules {
		m := &s.Adapter.Modules[i]
		t := from[m.Name+".weight"]
		a, b := t.gguf+".lora_a", t.gguf+".lora_b"
		tensors = append(tensors, gguf.Tensor{Name: a, Type: gguf.F32, Shape: []int{m.R, m.In}}, gguf.Tensor{Name: b, Type: gguf.F32, Shape: []int{m.Out, m.R}})
		rows[a], rows[b] = m.A, s.loraB(m, t.rotated, alpha)
	}
	size, err := gguf.Size(values, tensors)
	if err == nil {
		err = room(path, size)
	}
	if err == nil {
		err = disk.MkdirAll(disk.OS{}, filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	return disk.PublishChecked(disk.OS{}, path, func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 1<<20)
		err := gguf.Write(buffered, values, tensors, func(w io.Writer, t gguf.Tensor) error {
			b, err := gguf.F32.AppendRow(nil, rows[t.Name])
			if err != nil {
				return err
			}
			_, err = w.Write(b)
			return err
		})
		return errors.Join(err, buffered.Flush())
	}, func(string) error { return Vacant(path, false) }) // another export may have been faster
}

// loraB is B with llama.cpp's order of rows, times what its scale lacks.
func (s *Source) loraB(m *adapter.Module, rotated bool, alpha float64) []float32 {
	factor := m.Scale / (alpha / float64(m.R))
	if !rotated && factor == 1 {
		return m.B
	}
	out := make([]float32, len(m.B))
	for i := range m.Out {
		row := i
		if rotated {
			row = convert.RotatedRow(s.Config.HeadDim, i)
		}
		for r, b := range m.B[row*m.R:][:m.R] {
			out[i*m.R+r] = float32(float64(b) * factor)
		}
	}
	return out
}

// FileName is a name for general.name: the output's, without directory and extension.
func FileName(output string) string {
	base := filepath.Base(filepath.Clean(output))
	return strings.TrimSuffix(base, ".gguf")
}
