// Package gguf reads and writes model files in ggml's GGUF format: versions 2 and 3 are read, 3 is written.
//
// The format is described in docs/gguf.md of https://github.com/ggml-org/ggml:
//
//	"GGUF" | version u32 | tensor count u64 | metadata count u64
//	metadata: key string | value type u32 | value                 (repeated)
//	tensor:   name string | n_dims u32 | ne u64... | type u32 | offset u64 (repeated)
//	padding to general.alignment (32 where it is not said)
//	data: every tensor at its offset, each padded to the alignment
//
// All numbers are little-endian, strings are a u64 length and bytes. The file
// is mapped, and every size in it is checked against the real file before it
// is used.
package gguf

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"cria/internal/mmap"
)

// Tensor is one named array, row-major.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int  // outermost first, as in PyTorch: the reverse of ggml's ne
	Data  []byte // mapped, read-only, valid until Close
}

// NumElements is the product of the shape.
func (t Tensor) NumElements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// RowLen is the number of elements of a row, the innermost size.
func (t Tensor) RowLen() int { return t.Shape[len(t.Shape)-1] }

// File is an open GGUF file.
type File struct {
	m        *mmap.File
	version  int
	metadata map[string]any
	tensors  []Tensor
	byName   map[string]int
}

// Open maps the file at path and checks its metadata and tensor table.
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := parse(m.Bytes())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), m.Close())
	}
	f.m = m
	return f, nil
}

// Close removes the mapping; no tensor's Data may be used afterwards.
func (f *File) Close() error { return f.m.Close() }

// Version is the format's version, 2 or 3.
func (f *File) Version() int { return f.version }

// Tensors lists the tensors in the file's order. The caller must not change it.
func (f *File) Tensors() []Tensor { return f.tensors }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Keys lists the metadata keys in alphabetical order.
func (f *File) Keys() []string { return slices.Sorted(maps.Keys(f.metadata)) }

// Value returns the value of a key in Go's type for it: uint8 to int64,
// float32, float64, bool, string, or a slice of one of these. The caller must
// not change it.
func (f *File) Value(key string) (any, bool) {
	v, ok := f.metadata[key]
	return v, ok
}

// ErrMissing is wrapped by the errors of Get, Int and Float for a key that is
// not in the file.
var ErrMissing = errors.New("not in the file")

// Get returns the value of a key that must have exactly type T.
func Get[T any](f *File, key string) (T, error) {
	var zero T
	v, ok := f.metadata[key]
	if !ok {
		return zero, fmt.Errorf("metadata %s: %w", key, ErrMissing)
	}
	t, ok := v.(T)
	if !ok {
		return zero, fmt.Errorf("metadata %s is of type %T where %T belongs", key, v, zero)
	}
	return t, nil
}

// Int returns the value of a key that may have any integer type.
func (f *File) Int(key string) (int, error) {
	v, ok := f.metadata[key]
	if !ok {
		return 0, fmt.Errorf("metadata %s: %w", key, ErrMissing)
	}
	var n int64
	switch v := v.(type) {
	case uint8:
		n = int64(v)
	case int8:
		n = int64(v)
	case uint16:
		n = int64(v)
	case int16:
		n = int64(v)
	case uint32:
		n = int64(v)
	case int32:
		n = int64(v)
	case uint64:
		if v > math.MaxInt64 {
			return 0, fmt.Errorf("metadata %s: %d is too large", key, v)
		}
		n = int64(v)
	case int64:
		n = v
	default:
		return 0, fmt.Errorf("metadata %s is of type %T where an integer belongs", key, v)
	}
	if int64(int(n)) != n {
		return 0, fmt.Errorf("metadata %s: %d is too large", key, n)
	}
	return int(n), nil
}

// Float returns the value of a key that is a float32 or float64.
func (f *File) Float(key string) (float64, error) {
	switch v := f.metadata[key].(type) {
	case float32:
		return float64(v), nil
	case float64:
		return v, nil
	case nil:
		return 0, fmt.Errorf("metadata %s: %w", key, ErrMissing)
	default:
		return 0, fmt.Errorf("metadata %s is of type %T where a float belongs", key, v)
	}
}
