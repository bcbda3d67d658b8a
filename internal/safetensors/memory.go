package safetensors

import (
	"fmt"
	"maps"
	"slices"
)

// InMemory returns a File of tensors that no file holds; their Data must be as long as dtype and shape say. Closing it
// releases nothing.
func InMemory(tensors []Tensor) (*File, error) {
	f := &File{tensors: map[string]Tensor{}, metadata: map[string]string{}}
	for _, t := range tensors {
		size, err := t.size()
		if err != nil {
			return nil, err
		}
		if size != len(t.Data) {
			return nil, fmt.Errorf("tensor %q: %s %v needs %d bytes, has %d", t.Name, t.DType, t.Shape, size, len(t.Data))
		}
		if _, ok := f.tensors[t.Name]; ok {
			return nil, fmt.Errorf("two tensors are named %q", t.Name)
		}
		f.tensors[t.Name] = t
	}
	f.names = slices.Sorted(maps.Keys(f.tensors))
	return f, nil
}
