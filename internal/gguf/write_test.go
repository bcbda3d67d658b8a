package gguf

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestWriteAndParse(t *testing.T) {
	values := []KeyValue{{"general.architecture", "llama"}, {"t.u32", uint32(7)}, {"t.f32", float32(0.1)}, {"t.bool", true},
		{"t.strings", []string{"a", "", "ccc"}}, {"t.ints", []int32{1, -2}}, {"t.none", []string{}}}
	tensors := []Tensor{{Name: "q", Type: Q8_0, Shape: []int{3, 64}}, {Name: "f", Type: F32, Shape: []int{5}},
		{Name: "k", Type: Q6_K, Shape: []int{1, 2, 256}}}
	fill := func(w io.Writer, t Tensor) error {
		size, _ := t.size()
		_, err := w.Write(bytes.Repeat([]byte(t.Name), int(size)))
		return err
	}
	var b bytes.Buffer
	if err := Write(&b, values, tensors, fill); err != nil {
		t.Fatal(err)
	}
	if n, err := Size(values, tensors); err != nil || n != int64(b.Len()) {
		t.Errorf("Size says %d (%v), %d were written", n, err, b.Len())
	}
	f, err := parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if got, _ := f.Value(v.Key); !reflect.DeepEqual(got, v.Value) {
			t.Errorf("%s: %#v, want %#v", v.Key, got, v.Value)
		}
	}
	for i, got := range f.Tensors() {
		want := tensors[i]
		size, _ := want.size()
		if got.Name != want.Name || got.Type != want.Type || !slices.Equal(got.Shape, want.Shape) ||
			!bytes.Equal(got.Data, bytes.Repeat([]byte(want.Name), int(size))) {
			t.Errorf("tensor %d: %v %v %v of %d bytes", i, got.Name, got.Type, got.Shape, len(got.Data))
		}
	}
	if f.Version() != 3 || len(f.Tensors()) != len(tensors) || b.Len()%alignment != 0 {
		t.Errorf("version %d, %d tensors, %d bytes", f.Version(), len(f.Tensors()), b.Len())
	}
}

func TestWriteRefuses(t *testing.T) {
	one := []Tensor{{Name: "w", Type: F32, Shape: []int{2}}}
	full := errors.New("disk full")
	for what, c := range map[string]struct {
		values  []KeyValue
		tensors []Tensor
		data    func(io.Writer) error
		want    string
	}{
		"key twice":       {values: []KeyValue{{"a", true}, {"a", true}}, want: "comes twice"},
		"no key":          {values: []KeyValue{{"", true}}, want: "not usable"},
		"value of a type": {values: []KeyValue{{"a", 1}}, want: "a int cannot be written"},
		"tensor twice":    {tensors: append(one, one...), want: "comes twice"},
		"name too long":   {tensors: []Tensor{{Name: strings.Repeat("n", 65), Type: F32, Shape: []int{1}}}, want: "not possible"},
		"no shape":        {tensors: []Tensor{{Name: "w", Type: F32}}, want: "not possible"},
		"not whole rows":  {tensors: []Tensor{{Name: "w", Type: Q4_K, Shape: []int{576}}}, want: "whole blocks"},
		"too little":      {tensors: one, data: func(w io.Writer) error { return nil }, want: "8 of 8 bytes missing"},
		"too much":        {tensors: one, data: func(w io.Writer) error { _, err := w.Write(make([]byte, 9)); return err }, want: "1 bytes more"},
		"error":           {tensors: one, data: func(w io.Writer) error { return full }, want: "disk full"},
	} {
		err := Write(io.Discard, c.values, c.tensors, func(w io.Writer, _ Tensor) error { return c.data(w) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", what, err, c.want)
		}
	}
}
