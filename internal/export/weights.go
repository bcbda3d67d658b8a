package export

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"cria/internal/adapter"
	"cria/internal/convert"
	"cria/internal/half"
	"cria/internal/safetensors"
)

// tensor is one weight of a Llama.
type tensor struct {
	name    string // Hugging Face's
	gguf    string // llama.cpp's
	shape   []int
	layer   int  // -1: outside the layers
	rotated bool // llama.cpp has the rows in another order, see convert.RotatedRow
}

// tensors lists a model's weights from the embedding to the head.
func (s *Source) tensors() []tensor {
	c := s.Config
	hidden, ffn, q, kv := c.HiddenSize, c.IntermediateSize, c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	shapes := map[string][]int{"attn_q": {q, hidden}, "attn_k": {kv, hidden}, "attn_v": {kv, hidden}, "attn_output": {hidden, q},
		"ffn_gate": {ffn, hidden}, "ffn_up": {ffn, hidden}, "ffn_down": {hidden, ffn}, "attn_norm": {hidden}, "ffn_norm": {hidden}}
	list := []tensor{{"model.embed_tokens.weight", "token_embd.weight", []int{c.VocabSize, hidden}, -1, false}}
	for i := range c.NumHiddenLayers {
		for _, t := range convert.LayerTensors {
			list = append(list, tensor{fmt.Sprintf("model.layers.%d.%s.weight", i, t.Name), fmt.Sprintf("blk.%d.%s.weight", i, t.GGUF), shapes[t.GGUF], i, t.Rotated})
		}
	}
	list = append(list, tensor{"model.norm.weight", "output_norm.weight", []int{hidden}, -1, false})
	if !c.TieWordEmbeddings {
		list = append(list, tensor{"lm_head.weight", "output.weight", []int{c.VocabSize, hidden}, -1, false})
	}
	return list
}

// merged returns n rows of a weight from row first on, with the adapter's part: W + scale·(B A), every sum and product in
// float32. A vector is one row.
func (s *Source) merged(w safetensors.Tensor, first, n int) ([]float32, error) {
	cols := w.Shape[len(w.Shape)-1]
	size := len(w.Data) / max(1, w.NumElements()) * cols
	rows, err := safetensors.Tensor{Name: w.Name, DType: w.DType, Shape: []int{n, cols}, Data: w.Data[first*size : (first+n)*size]}.Float32s()
	if err != nil {
		return nil, err
	}
	m := s.modules[w.Name]
	if m == nil {
		return rows, nil
	}
	sum := make([]float32, cols)
	for i := range n {
		product(sum, m, first+i)
		for j, x := range rows[i*cols:][:cols] {
			rows[i*cols+j] = x + float32(float32(m.Scale)*sum[j])
		}
	}
	return rows, nil
}

// product sets sum to row i of B A.
func product(sum []float32, m *adapter.Module, i int) {
	clear(sum)
	for r, b := range m.B[i*m.R:][:m.R] {
		a := m.A[r*m.In:][:len(sum)]
		for j := range sum {
			sum[j] += float32(b * a[j])
		}
	}
}

// appendRounded appends x in the storage of a model's weights, rounded to the nearest, ties to even.
func appendRounded(dst []byte, dtype safetensors.DType, x []float32) ([]byte, error) {
	le := binary.LittleEndian
	for _, v := range x {
		switch dtype {
		case safetensors.F32:
			dst = le.AppendUint32(dst, math.Float32bits(v))
		case safetensors.BF16:
			dst = le.AppendUint16(dst, half.ToBFloat16(v))
		default:
			h := half.ToFloat16(v)
			if v-v == 0 && h&0x7c00 == 0x7c00 {
				return dst, fmt.Errorf("%v does not fit in float16", v)
			}
			dst = le.AppendUint16(dst, h)
		}
		if v-v != 0 {
			return dst, fmt.Errorf("%v among the merged weights: the model or the adapter is damaged", v)
		}
	}
	return dst, nil
}

// Rows are made in pieces of about this many elements, on all processors, and written in order: the memory for it does not
// depend on the size of a weight.
const pieceElements = 1 << 18

// stream writes rows·cols elements that make turns into bytes. told is called after each turn with the number of elements.
func stream(ctx context.Context, w io.Writer, rows, cols int, make func(first, n int) ([]byte, error), told func(elements int)) error {
	group := max(1, pieceElements/cols)
	workers := runtime.GOMAXPROCS(0)
	type piece struct {
		bytes []byte
		err   error
	}
	pieces := [256]piece{}
	workers = min(workers, len(pieces))
	for first := 0; first < rows; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var wait sync.WaitGroup
		n := 0
		start := first
		for ; n < workers && first < rows; n++ {
			at, size, p := first, min(group, rows-first), &pieces[n]
			wait.Go(func() { p.bytes, p.err = make(at, size) })
			first += size
		}
		wait.Wait()
		for _, p := range pieces[:n] {
			if p.err != nil {
				return p.err
			}
			if _, err := w.Write(p.bytes); err != nil {
				return err
			}
		}
		told((first - start) * cols)
	}
	return nil
}
