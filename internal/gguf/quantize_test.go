package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"strings"
	"testing"
)

var written = []Type{Q4_0, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K}

// quants opens quants.gguf, which testdata/quants.py made with its companions.
func quants(t testing.TB) *File {
	t.Helper()
	f, err := Open("testdata/quants.gguf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func source(t testing.TB) (x []float32, rowLen int) {
	t.Helper()
	tensor, ok := quants(t).Tensor("source")
	if !ok {
		t.Fatal("no tensor source")
	}
	x, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return x, tensor.RowLen()
}

// Every bit of gguf-py's dequantize, for blocks of random bits.
func TestDequantize(t *testing.T) {
	want, err := os.ReadFile("testdata/quants.f32")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, tensor := range quants(t).Tensors() {
		if !strings.HasPrefix(tensor.Name, "random.") {
			continue
		}
		got, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range got {
			if w := math.Float32frombits(binary.LittleEndian.Uint32(want[4*(n+i):])); math.Float32bits(x) != math.Float32bits(w) {
				t.Errorf("%s: element %d is %v, want %v", tensor.Name, i, x, w)
				break
			}
		}
		n += len(got)
	}
	if 4*n != len(want) {
		t.Errorf("%d values of %d", n, len(want)/4)
	}
}

// Every bit of ggml's reference quantisation, on rows with zeros, constants, outliers, ties and subnormal scales.
func TestQuantize(t *testing.T) {
	want, err := os.ReadFile("testdata/quants.bin")
	if err != nil {
		t.Fatal(err)
	}
	x, rowLen := source(t)
	for _, kind := range written {
		size := kind.RowBytes(rowLen)
		for r := range len(x) / rowLen {
			got, err := kind.AppendRow(nil, x[r*rowLen:][:rowLen])
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want[:size]) {
				i := 0
				for got[i] == want[i] {
					i++
				}
				t.Errorf("%v: row %d differs from byte %d of %d on", kind, r, i, size)
			}
			want = want[size:]
		}
	}
	if len(want) != 0 {
		t.Errorf("%d bytes left over", len(want))
	}
}

func TestFloatRows(t *testing.T) {
	row := []float32{1, -2.5, 1.0 / 3, 65504, 1e-7}
	for _, c := range []struct {
		kind Type
		want []float32
	}{
		{F32, row},
		{BF16, []float32{1, -2.5, 0.333984375, 65536, 1.0011717677116394e-07}},
		{F16, []float32{1, -2.5, 0.333251953125, 65504, 1.1920928955078125e-07}},
	} {
		b, err := c.kind.AppendRow([]byte{9}, row)
		if err != nil || b[0] != 9 {
			t.Fatalf("%v: %v", c.kind, err)
		}
		got, err := Tensor{Name: "w", Type: c.kind, Shape: []int{len(row)}, Data: b[1:]}.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%v: %v became %v, want %v", c.kind, row[i], got[i], c.want[i])
			}
		}
	}
}

func TestAppendRowRefuses(t *testing.T) {
	inf := float32(math.Inf(1))
	row := func(n int, x float32) []float32 { r := make([]float32, n); r[n-1] = x; return r }
	for what, c := range map[string]struct {
		kind Type
		row  []float32
		want string
	}{
		"31 of 32":          {Q8_0, row(31, 1), "whole blocks of 32"},
		"576 in K":          {Q4_K, row(576, 1), "whole blocks of 256"},
		"too large for F16": {F16, row(2, 65520), "does not fit in F16"},
		"scale too large":   {Q8_0, row(32, 1e7), "does not fit in Q8_0"},
		"infinity":          {F32, row(1, inf), "damaged"},
		"NaN":               {BF16, row(1, inf-inf), "damaged"},
		"NaN in a block":    {Q6_K, row(256, inf-inf), "damaged"},
		"type not written":  {Q4_1, row(32, 1), "does not write"},
		"unknown type":      {4, row(32, 1), "type 4"},
	} {
		if _, err := c.kind.AppendRow(nil, c.row); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", what, err, c.want)
		}
	}
}

func BenchmarkQuantize(b *testing.B) {
	x, rowLen := source(b)
	for _, kind := range written {
		b.Run(kind.String(), func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			var dst []byte
			for b.Loop() {
				for r := 0; r < len(x); r += rowLen {
					dst, _ = kind.AppendRow(dst[:0], x[r:][:rowLen])
				}
			}
		})
	}
}
