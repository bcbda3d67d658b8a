package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// KeyValue is one metadata entry to be written: a uint32, float32, bool, string, []string or []int32.
type KeyValue struct {
	Key   string
	Value any
}

// alignment of the data in written files: the format's default.
const alignment = 32

// Write writes a whole file of version 3: metadata and tensors in the order given. It ignores the tensors' Data and calls data
// for each of them in turn, which must write exactly the tensor's bytes, little-endian.
func Write(w io.Writer, values []KeyValue, tensors []Tensor, data func(w io.Writer, t Tensor) error) error {
	header, sizes, err := layOut(values, tensors)
	if err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for i, t := range tensors {
		left := &limitedWriter{w: w, left: sizes[i]}
		if err := data(left, t); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		if left.left != 0 {
			return fmt.Errorf("tensor %s: %d of %d bytes missing", t.Name, left.left, sizes[i])
		}
		if _, err := w.Write(make([]byte, -sizes[i]&(alignment-1))); err != nil {
			return err
		}
	}
	return nil
}

// Size is the number of bytes that Write writes.
func Size(values []KeyValue, tensors []Tensor) (int64, error) {
	header, sizes, err := layOut(values, tensors)
	n := int64(len(header))
	for _, size := range sizes {
		n += (int64(size) + alignment - 1) &^ (alignment - 1)
	}
	return n, err
}

// layOut makes everything in front of the data, and the tensors' sizes in bytes. What Open would refuse is an error.
func layOut(values []KeyValue, tensors []Tensor) (header []byte, sizes []int, err error) {
	seen := map[string]bool{}
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(values)))
	for _, v := range values {
		if v.Key == "" || len(v.Key) > maxKey || seen[v.Key] || v.Key == "general.alignment" {
			return nil, nil, fmt.Errorf("metadata key %q is not usable or comes twice", v.Key)
		}
		seen[v.Key] = true
		if b, err = appendValue(appendString(b, v.Key), v.Value); err != nil {
			return nil, nil, fmt.Errorf("metadata %s: %w", v.Key, err)
		}
	}
	offset := uint64(0)
	clear(seen)
	for _, t := range tensors {
		if t.Name == "" || len(t.Name) > maxName || seen[t.Name] || len(t.Shape) < 1 || len(t.Shape) > maxDims {
			return nil, nil, fmt.Errorf("tensor %q of shape %v is not possible or comes twice", t.Name, t.Shape)
		}
		seen[t.Name] = true
		size, err := t.size()
		if err != nil {
			return nil, nil, err
		}
		if size > math.MaxInt64/4 || offset > math.MaxInt64/4 {
			return nil, nil, fmt.Errorf("tensor %q: the sizes overflow", t.Name)
		}
		b = le.AppendUint32(appendString(b, t.Name), uint32(len(t.Shape)))
		for _, d := range slices.Backward(t.Shape) {
			b = le.AppendUint64(b, uint64(d))
		}
		b = le.AppendUint64(le.AppendUint32(b, uint32(t.Type)), offset)
		sizes = append(sizes, int(size))
		offset += (size + alignment - 1) &^ (alignment - 1)
	}
	return append(b, make([]byte, -len(b)&(alignment-1))...), sizes, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue appends the value's type and the value.
func appendValue(b []byte, v any) ([]byte, error) {
	le := binary.LittleEndian
	list := func(kind uint32, n int) []byte {
		return le.AppendUint64(le.AppendUint32(le.AppendUint32(b, typeArray), kind), uint64(n))
	}
	switch v := v.(type) {
	case uint32:
		return le.AppendUint32(le.AppendUint32(b, typeUint32), v), nil
	case float32:
		return le.AppendUint32(le.AppendUint32(b, typeFloat32), math.Float32bits(v)), nil
	case bool:
		return binary.Append(le.AppendUint32(b, typeBool), le, v)
	case string:
		return appendString(le.AppendUint32(b, typeString), v), nil
	case []string:
		b = list(typeString, len(v))
		for _, s := range v {
			b = appendString(b, s)
		}
		return b, nil
	case []int32:
		return binary.Append(list(typeInt32, len(v)), le, v)
	}
	return nil, fmt.Errorf("a %T cannot be written", v)
}

// limitedWriter passes on at most left bytes and refuses more.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("%d bytes more than type and shape say", len(p)-l.left)
	}
	n, err := l.w.Write(p)
	l.left -= n
	return n, err
}
