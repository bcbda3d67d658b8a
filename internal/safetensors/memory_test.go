package safetensors

import (
	"slices"
	"strings"
	"testing"
)

func TestInMemory(t *testing.T) {
	f, err := InMemory([]Tensor{FromFloat32s("b", []int{2}, []float32{1, 2}), FromBFloat16s("a", []int{1, 1}, []uint16{0x3F80})})
	if err != nil {
		t.Fatal(err)
	}
	x, ok := f.Tensor("b")
	if v, err := x.Float32s(); !ok || err != nil || !slices.Equal(v, []float32{1, 2}) || !slices.Equal(f.Names(), []string{"a", "b"}) {
		t.Errorf("%v, %v, %v, %v", ok, v, err, f.Names())
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	one := FromFloat32s("a", []int{1}, []float32{1})
	for want, tensors := range map[string][]Tensor{
		"needs 8 bytes": {{Name: "a", DType: F32, Shape: []int{2}, Data: one.Data}},
		"two tensors":   {one, one},
		"unknown dtype": {{Name: "a", DType: "F31", Shape: []int{1}}},
		"negative size": {{Name: "a", DType: F32, Shape: []int{-1}}},
	} {
		if _, err := InMemory(tensors); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
