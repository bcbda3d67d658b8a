package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"cria/internal/convert"
	"cria/internal/disk"
	"cria/internal/gguf"
)

// ropeFreqs is the tensor with Llama 3.1's scaling of positions.
const ropeFreqs = "rope_freqs.weight"

// GGUF writes the model, merged with its adapter, as one GGUF file. The weights are rounded once, from float32 to the file's
// type. name goes into general.name.
func (s *Source) GGUF(ctx context.Context, path, name string, t Type, progress Progress) error {
	if err := Vacant(path, false); err != nil {
		return err
	}
	values, tensors, err := s.prepare(path, name, t)
	if err != nil {
		return err
	}
	return disk.PublishChecked(disk.OS{}, path, func(w io.Writer) error {
		return s.writeGGUF(ctx, w, values, tensors, progress)
	}, func(temp string) error {
		if err := s.checkGGUF(temp); err != nil {
			return err
		}
		return Vacant(path, false) // another export may have been faster
	})
}

// prepare lays out a GGUF file that will be written at path or below it, makes sure that there is room for it and that its
// prompts are right, and makes the directory around path.
func (s *Source) prepare(path, name string, t Type) (values []gguf.KeyValue, tensors []gguf.Tensor, err error) {
	if values, tensors, err = s.layOut(name, t); err != nil {
		return nil, nil, err
	}
	size, err := gguf.Size(values, tensors)
	if err == nil {
		err = room(path, size)
	}
	if err == nil {
		err = s.precheck(values)
	}
	if err == nil {
		err = disk.MkdirAll(disk.OS{}, filepath.Dir(filepath.Clean(path)))
	}
	return values, tensors, err
}

// precheck makes the check of checkGGUF without the weights, before the long work.
func (s *Source) precheck(values []gguf.KeyValue) error {
	f, err := os.CreateTemp("", "cria-*.gguf")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriter(f)
	if err := errors.Join(gguf.Write(w, values, nil, nil), w.Flush(), f.Close()); err != nil {
		return err
	}
	return s.checkGGUF(f.Name())
}

// checkGGUF makes prompts from the file and compares them with those of training.
func (s *Source) checkGGUF(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	tok, err := convert.Tokenizer(f)
	if err == nil {
		err = s.check(tok)
	}
	return errors.Join(err, f.Close())
}

// layOut makes the metadata and the list of tensors, named and ordered as by llama.cpp's converter.
func (s *Source) layOut(name string, t Type) (values []gguf.KeyValue, tensors []gguf.Tensor, err error) {
	c := s.Config
	if c.RopeScaling.Type == "llama3" {
		tensors = append(tensors, gguf.Tensor{Name: ropeFreqs, Type: gguf.F32, Shape: []int{c.HeadDim / 2}})
	}
	elements := 0
	for _, w := range s.tensors() {
		tensors = append(tensors, gguf.Tensor{Name: w.gguf, Type: t.of(w, s), Shape: w.shape})
		elements += tensors[len(tensors)-1].NumElements()
	}
	values = append(s.general(name, "model"), gguf.KeyValue{Key: "general.size_label", Value: sizeLabel(float64(elements))})
	size := func(key string, n int) { values = append(values, gguf.KeyValue{Key: key, Value: uint32(n)}) }
	size("llama.block_count", c.NumHiddenLayers)
	size("llama.context_length", c.MaxPositionEmbeddings)
	size("llama.embedding_length", c.HiddenSize)
	size("llama.feed_forward_length", c.IntermediateSize)
	size("llama.attention.head_count", c.NumAttentionHeads)
	size("llama.attention.head_count_kv", c.NumKeyValueHeads)
	if c.RopeScaling.Type == "linear" {
		values = append(values, gguf.KeyValue{Key: "llama.rope.scaling.type", Value: "linear"},
			gguf.KeyValue{Key: "llama.rope.scaling.factor", Value: float32(c.RopeScaling.Factor)})
	}
	values = append(values, gguf.KeyValue{Key: "llama.rope.freq_base", Value: float32(c.RopeTheta)},
		gguf.KeyValue{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(c.RMSNormEps)})
	size("llama.attention.key_length", c.HeadDim)
	size("llama.attention.value_length", c.HeadDim)
	size("general.file_type", int(fileTypes[t]))
	size("llama.vocab_size", c.VocabSize)
	size("llama.rope.dimension_count", c.HeadDim)
	vocabulary, err := s.vocabulary()
	if err != nil {
		return nil, nil, err
	}
	values = append(values, vocabulary...)
	size("general.quantization_version", 2)
	return values, tensors, nil
}

// general is what a file says about itself.
func (s *Source) general(name, kind string) []gguf.KeyValue {
	values := []gguf.KeyValue{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.type", Value: kind},
		{Key: "general.name", Value: name},
	}
	if s.Adapter == nil {
		return values
	}
	return append(values, gguf.KeyValue{Key: "general.base_model.count", Value: uint32(1)},
		gguf.KeyValue{Key: "general.base_model.0.name", Value: filepath.Base(filepath.Clean(s.Model))})
}

// sizeLabel writes a number of parameters as gguf-py does (model_weight_count_rounded_notation): 135M, 1.2B.
func sizeLabel(n float64) string {
	for _, unit := range []struct {
		size   float64
		suffix string
	}{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}} {
		if n > unit.size || unit.suffix == "K" {
			x := n / unit.size
			digits := max(0, 2-len(fmt.Sprint(math.RoundToEven(x))))
			if math.RoundToEven(x) == 0 {
				digits = 2
			}
			return fmt.Sprintf("%.*f%s", digits, x, unit.suffix)
		}
	}
	return ""
}

// writeGGUF writes the file, tensor by tensor.
func (s *Source) writeGGUF(ctx context.Context, w io.Writer, values []gguf.KeyValue, tensors []gguf.Tensor, progress Progress) error {
	from := map[string]tensor{}
	var done, total int64
	for _, t := range s.tensors() {
		from[t.gguf] = t
	}
	for _, t := range tensors {
		total += 4 * int64(t.NumElements())
	}
	told := func(n int) {
		done += 4 * int64(n)
		progress.tell(done, total)
	}
	buffered := bufio.NewWriterSize(w, 1<<20)
	err := gguf.Write(buffered, values, tensors, func(w io.Writer, t gguf.Tensor) error {
		if t.Name == ropeFreqs {
			b, err := gguf.F32.AppendRow(nil, convert.RopeDivisors(s.Config.RopeScaling, s.Config.RopeTheta, s.Config.HeadDim))
			if err == nil {
				_, err = w.Write(b)
			}
			told(t.NumElements())
			return err
		}
		source := from[t.Name]
		cols := t.RowLen()
		return stream(ctx, w, t.NumElements()/cols, cols, func(first, n int) ([]byte, error) { return s.rows(source, t.Type, first, n) }, told)
	})
	if err != nil {
		return err
	}
	return buffered.Flush()
}

// rows makes n rows of a GGUF tensor from row first on.
func (s *Source) rows(t tensor, kind gguf.Type, first, n int) (b []byte, err error) {
	w, _ := s.weights.Tensor(t.name)
	cols := t.shape[len(t.shape)-1]
	b = make([]byte, 0, n*kind.RowBytes(cols))
	if !t.rotated {
		x, err := s.merged(w, first, n)
		if err != nil {
			return nil, err
		}
		for ; len(x) > 0; x = x[cols:] {
			if b, err = kind.AppendRow(b, x[:cols]); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	for i := first; i < first+n; i++ {
		x, err := s.merged(w, convert.RotatedRow(s.Config.HeadDim, i), 1)
		if err != nil {
			return nil, err
		}
		if b, err = kind.AppendRow(b, x); err != nil {
			return nil, err
		}
	}
	return b, nil
}
