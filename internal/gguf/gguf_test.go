package gguf

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"reflect"
	"slices"
	"testing"
)

// small.gguf and small.f32 were made by testdata/make.py with gguf-py.
func TestSmall(t *testing.T) {
	f, err := Open("testdata/small.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Version() != 3 {
		t.Errorf("version %d", f.Version())
	}
	for key, want := range map[string]any{
		"general.architecture": "llama", "general.alignment": uint32(64),
		"t.u8": uint8(255), "t.i8": int8(-128), "t.u16": uint16(65535), "t.i16": int16(-32768),
		"t.u32": uint32(math.MaxUint32), "t.i32": int32(math.MinInt32), "t.u64": uint64(math.MaxUint64), "t.i64": int64(math.MinInt64),
		"t.f32": float32(0.1), "t.f64": 0.1, "t.bool": true, "t.string": "grüße\x00\n",
		"t.strings": []string{"a", "", "ccc"}, "t.ints": []int32{1, -2, 3}, "t.floats": []float32{1.5, -2.5}, "t.bools": []bool{true, false},
	} {
		if got, ok := f.Value(key); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %#v, want %#v", key, got, want)
		}
	}
	if n := len(f.Keys()); n != 18 {
		t.Errorf("%d keys: %v", n, f.Keys())
	}
	raw, err := os.ReadFile("testdata/small.f32")
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range f.Tensors() {
		if tensor.Name == "q6_k.weight" { // of random bits, scales too: TestDequantize has better ones
			if !slices.Equal(tensor.Shape, []int{2, 256}) || len(tensor.Data) != 420 {
				t.Errorf("%s: %v, %d bytes", tensor.Name, tensor.Shape, len(tensor.Data))
			}
			continue
		}
		got, err := tensor.Float32s()
		if err != nil {
			t.Error(err)
			continue
		}
		for i, v := range got {
			if want := binary.LittleEndian.Uint32(raw[4*i:]); math.Float32bits(v) != want {
				t.Errorf("%s %v: element %d is %v, want %v", tensor.Name, tensor.Shape, i, v, math.Float32frombits(want))
				break
			}
		}
		raw = raw[4*len(got):]
		row := make([]float32, tensor.RowLen())
		for i := range len(got) / len(row) {
			if err := tensor.Rows(row, i); err != nil {
				t.Errorf("%s: row %d: %v", tensor.Name, i, err)
			} else if want := got[i*len(row) : (i+1)*len(row)]; !slices.Equal(row, want) {
				t.Errorf("%s: row %d is %v, want %v", tensor.Name, i, row, want)
			}
		}
	}
	if len(raw) != 0 {
		t.Errorf("%d bytes of expected values left over", len(raw))
	}
	four, ok := f.Tensor("four.dims")
	if !ok || !slices.Equal(four.Shape, []int{2, 3, 5, 7}) {
		t.Errorf("four.dims: %v %v", ok, four.Shape)
	}
}

func TestRowsRefuses(t *testing.T) {
	tensor := Tensor{Name: "w", Type: Q8_0, Shape: []int{2, 32}, Data: make([]byte, 68)}
	for _, c := range []struct{ length, first int }{{31, 0}, {33, 0}, {32, 2}, {64, 1}, {96, 0}, {32, -1}, {0, 3}, {32, math.MaxInt}} {
		if err := tensor.Rows(make([]float32, c.length), c.first); err == nil {
			t.Errorf("%d elements from row %d were read", c.length, c.first)
		}
	}
}

func TestAccessors(t *testing.T) {
	f, err := Open("testdata/small.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]int{"t.u8": 255, "t.i8": -128, "t.u16": 65535, "t.i16": -32768, "t.i32": math.MinInt32} {
		if n, err := f.Int(key); err != nil || n != want {
			t.Errorf("%s = %d, %v", key, n, err)
		}
	}
	if x, err := f.Float("t.f32"); err != nil || x != float64(float32(0.1)) {
		t.Errorf("t.f32 = %v, %v", x, err)
	}
	if x, err := f.Float("t.f64"); err != nil || x != 0.1 {
		t.Errorf("t.f64 = %v, %v", x, err)
	}
	if s, err := Get[string](f, "general.architecture"); err != nil || s != "llama" {
		t.Errorf("architecture %q, %v", s, err)
	}
	_, missingInt := f.Int("no")
	_, missingFloat := f.Float("no")
	_, missing := Get[string](f, "no")
	for _, err := range []error{missingInt, missingFloat, missing} {
		if !errors.Is(err, ErrMissing) {
			t.Errorf("missing key: %v", err)
		}
	}
	_, tooLarge := f.Int("t.u64")
	_, notInt := f.Int("t.string")
	_, notFloat := f.Float("t.u8")
	_, wrong := Get[int32](f, "t.u32")
	for _, err := range []error{tooLarge, notInt, notFloat, wrong} {
		if err == nil || errors.Is(err, ErrMissing) {
			t.Errorf("wrong type: %v", err)
		}
	}
}
